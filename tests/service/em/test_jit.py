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

# Registers three noisy clouds and prints a digest of all bits of the transforms.
SCRIPT = """
import hashlib
import numpy as np
import torch
from tests.problems.tight import tight
from service.em.problem import Problem
from service.em.register import register

torch.set_num_threads(1)
digest = hashlib.sha256()
rng = np.random.default_rng(0)
for dimension, transform, normalize in ((2, "affine", "columns"), (3, "rigid", "columns"), (3, "similarity", "rows")):
    source = rng.normal(size=(80, dimension)) * (1 + np.arange(dimension))
    target = rng.permutation(source + 0.02 * rng.normal(size=source.shape) + 0.1)
    problem = tight(
        source,
        target,
        transform=transform,
        normalize=normalize,
        init="centroid",
        outlier_weight="auto",
        max_iterations=100,
        tolerance=1e-6,
    )
    outcome = register(problem)
    for values in (outcome.linear, outcome.translation, outcome.matching_probability):
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
