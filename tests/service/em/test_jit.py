"""Compiled code: a process that compiles the loops computes the same bits as one that loads them from the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
        torch.from_numpy(source),
        torch.from_numpy(target),
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
