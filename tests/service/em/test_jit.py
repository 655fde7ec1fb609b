"""Compiled code: a process that compiles the loops computes the same bits as one that loads them from the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.em import jit
from service.jit import compiled_sources, source_digest

ROOT = Path(__file__).resolve().parents[3]

# Takes an E-step and M-steps of three kinds, and prints a digest of all bits. Among their loops are those of
# exponentials, sums and rotations; all loops together would take minutes to compile.
SCRIPT = """
import hashlib
import numpy as np
from tests.problems.codes import CODES
from service.em.kernel.cells import cells
from service.em.kernel.fitting import fit, sums_of_columns
from service.em.kernel.expectation import expect
from service.em.kernel.truncated import empty_e_step

digest = hashlib.sha256()
source = np.random.default_rng(0).normal(size=(3, 80)) * [[1], [2], [3]]
target = source + 0.02 * np.random.default_rng(1).normal(size=source.shape) + 0.1
found, mass, grid = empty_e_step(3, 80), np.zeros(80), cells(source, 0.5)
expect(target, grid, np.zeros(80), np.ascontiguousarray(source[:, grid.order]), 10.0, 0.1, 30.0, found, mass)
sums = sums_of_columns(source, target, 3, found, mass)
fits = [fit(CODES[kind], np.eye(3, 4), sums) for kind in ("rigid", "similarity", "affine")]
for values in (*found, mass, *fits):
    digest.update(np.asarray(values).tobytes())
print(digest.hexdigest())
"""


def test_a_process_that_compiles_computes_the_bits_of_one_that_loads_the_cache(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}

    def digest() -> str:
        command = [sys.executable, "-c", SCRIPT]
        return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout

    compiling = digest()
    assert any(tmp_path.rglob("*.nbc"))
    assert digest() == compiling


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with the compiled loops."""
    copy = tmp_path / "em"
    shutil.copytree(Path(jit.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


# `problem` and `tuning` compile nothing, but compiled functions read their constants.
@pytest.mark.parametrize("module", ["jit.py", "model.py", "problem.py", "starting/tuning.py", "kernel/truncated.py"])
def test_a_change_of_a_module_that_compiled_functions_read_from_changes_the_cache(package: Path, module: str) -> None:
    before = source_digest(package)
    path = package / module
    path.write_text(path.read_text("utf-8") + "\nMIN_SIGMA = 2.0\n", "utf-8")
    assert source_digest(package) != before


def test_a_change_of_an_endpoint_keeps_the_cache(package: Path) -> None:
    before = source_digest(package)
    path = package / "routes.py"
    path.write_text(path.read_text("utf-8") + "\n# changed\n", "utf-8")
    assert source_digest(package) == before


def test_modules_are_followed_through_every_form_of_relative_import(tmp_path: Path) -> None:
    files = {
        "jit.py": "",
        "loops.py": "from .jit import compiled\nfrom . import one\nfrom .room.two import (\n    x,\n    y,\n)\n",
        "one.py": "from .room import three\nfrom ..outside import z\n",
        "room/__init__.py": "",
        "room/two.py": "",
        "room/three.py": "from ..four import x\n",
        "four.py": "",
        "apart.py": "from .loops import x\n",
    }
    package = tmp_path / "package"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    found = {path.relative_to(package).as_posix() for path in compiled_sources(package)}
    assert found == files.keys() - {"apart.py"}
