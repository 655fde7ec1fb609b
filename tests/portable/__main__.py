"""Run the numeric tests under ceilings: with fewer processor instructions than the machine has.

    python -m tests.portable [--quick] [--workers N]

Each ceiling lowers what torch, oneDNN, NumPy and Numba may use, and prints one line. The exit status is 1 if a test
fails under any of them. `--quick` runs tests/service alone, and only under the two lowered ceilings: `make test`
covers the machine's own.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
# Numba's caches, one for each ceiling; `make clean` removes them.
CACHES = ROOT / ".portable_cache"
QUICK, FULL = ("tests/service",), ("tests/service", "tests/training")


class Ceiling(NamedTuple):
    """A limit on the processor's instructions."""

    name: str
    environment: dict[str, str]
    # Why this machine cannot run under the ceiling; empty if it can.
    skipped: str = ""


def numpy_features() -> str:
    """The optional instruction sets that NumPy uses on this machine. NumPy warns when asked to disable any other."""
    return " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))


def ceilings() -> list[Ceiling]:
    """The ceilings, highest first."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    avx2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    least = {"ATEN_CPU_CAPABILITY": "default", "NUMBA_CPU_FEATURES": ""}
    least["NPY_DISABLE_CPU_FEATURES"] = numpy_features()
    least |= {"ONEDNN_MAX_CPU_ISA": "SSE41", "NUMBA_CPU_NAME": "x86-64-v2"} if x86 else {"NUMBA_CPU_NAME": "generic"}
    reason = "" if torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") else "this processor has no AVX2"
    return [
        Ceiling("own", {}),
        Ceiling("avx2", avx2, reason),
        Ceiling("x86-64-v2" if x86 else "generic", least),
    ]


def counts(report: Path) -> tuple[int, int]:
    """The numbers of tests that passed and that failed, from a JUnit `report`."""
    suites = ElementTree.parse(report).getroot().iter("testsuite")  # noqa: S314 - pytest wrote it just now
    passed = failed = 0
    for suite in suites:
        bad = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
        failed += bad
        passed += int(suite.attrib["tests"]) - bad - int(suite.attrib["skipped"])
    return passed, failed


def run(ceiling: Ceiling, targets: tuple[str, ...], workers: str) -> bool:
    """Run `targets` under the `ceiling` and print its line. Whether all tests passed."""
    if ceiling.skipped:
        print(f"ceiling {ceiling.name}: skipped, {ceiling.skipped}", flush=True)
        return True
    environment = os.environ | ceiling.environment | {"NUMBA_CACHE_DIR": str(CACHES / ceiling.name)}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # Numba compiles once here, before two workers would do so at the same time.
        compiling = [sys.executable, "-m", "service", "compile"]
        testing = [sys.executable, "-m", "pytest", "-q", "-m", "not compose", "-n", workers, "--dist", "worksteal"]
        testing += ["-p", "no:cacheprovider", f"--junitxml={report}", *targets]
        for command in (compiling, testing):
            ended = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if ended.returncode != 0:
                print(ended.stdout, flush=True)
                break
        passed, failed = counts(report) if report.exists() else (0, 0)
    seconds = time.monotonic() - started
    stopped = f", exit status {ended.returncode}" if ended.returncode else ""
    print(f"ceiling {ceiling.name}: passed {passed}, failed {failed}, {seconds:.0f} seconds{stopped}", flush=True)
    return ended.returncode == 0


def main() -> int:
    """Run the ceilings in turn. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.portable", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only tests/service, under the lowered ceilings")
    parser.add_argument("--workers", default="2", help="test processes at a time")
    arguments = parser.parse_args()
    chosen, targets = (ceilings()[1:], QUICK) if arguments.quick else (ceilings(), FULL)
    passed = [run(ceiling, targets, arguments.workers) for ceiling in chosen]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
