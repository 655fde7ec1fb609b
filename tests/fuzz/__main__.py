"""`python -m tests.fuzz`: coverage-guided fuzzing of the readers of clouds, images, archives and numbers, by atheris.

Each target runs in a process of its own for some seconds. What a fuzzer has found useful is kept in build/fuzz and used
again. The exit status is 1 if an input breaks a law of its target; the input then lies in the folder of the corpus, as
`found-...`, and the replay of the corpus fails with it until it is mended.
"""

from __future__ import annotations

import argparse
import importlib
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS, GROWN = Path(__file__).parent / "corpus", ROOT / "build" / "fuzz"
NAMES = ("clouds", "images", "archives", "numbers")
# Longer inputs are slower and find no more: the largest file of the corpus has 2,000 bytes.
MAX_BYTES = 4096
# Resident memory of the fuzzer, most of which is the libraries, and seconds of one input.
MAX_MEGABYTES, MAX_SECONDS = 2048, 10


def main() -> int:
    """Fuzz the targets one after the other. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*NAMES, []], help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="seconds of each target")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        fuzz(chosen.targets[0], chosen.seconds)
    broken = []
    for name in chosen.targets or NAMES:
        print(f"{name}: {chosen.seconds} s", flush=True)
        command = [sys.executable, "-m", "tests.fuzz", name, "--inside", "--seconds", str(chosen.seconds)]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            broken.append(name)
    print(f"broken: {', '.join(broken)}" if broken else "no input breaks a law")
    return 1 if broken else 0


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process, which ends with status 0 if no input breaks its law."""
    import atheris

    # Instrumented code cannot be compiled by Numba, so what is compiled is imported before.
    importlib.import_module("service.formats.json_numbers.reading")
    with atheris.instrument_imports(include=["service", "zipfile", "PIL"]):
        from tests.fuzz.targets import TARGETS
    from tests.fuzz.repair import repaired

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        changed = bytes(atheris.Mutate(data, most))
        return repaired(changed)[:most] if random.Random(seed).random() < 0.5 else changed

    grown = GROWN / name
    grown.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_BYTES}",
        f"-rss_limit_mb={MAX_MEGABYTES}",
        f"-timeout={MAX_SECONDS}",
        f"-artifact_prefix={CORPUS / name}/found-",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(grown), str(CORPUS / name)], TARGETS[name], custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
