"""The passes over all pairs against the same sums with all N x M numbers at once."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from service.em.batched.distances import COLUMNS, workspace
from service.em.batched.padding import Group, pack
from service.em.batched.posterior import column_mass, log_weights, nearest, posterior
from tests.problems.registration import cloud
from tests.problems.tight import tight

# Less than a tile, many rows of one block, few rows of many blocks, and both.
SIZES = [(1, 1, 1), (20, 30, 2), (900, 40, 3), (9, 3 * COLUMNS + 5, 2), (300, COLUMNS + 1, 5)]


def packed(n: int, m: int, dimension: int) -> tuple[Group, Tensor, Tensor]:
    """Two problems of one size as a group, and the group's clouds without padding (B, N, D), (B, M, D)."""
    generator = np.random.default_rng(n)
    problems = [tight(cloud(n, dimension, generator), cloud(m, dimension, generator)) for _ in range(2)]
    group = pack(problems)
    return group, group.source[..., :n].mT, group.target[:, :dimension, :m].mT


@pytest.mark.parametrize(("n", "m", "dimension"), SIZES)
@pytest.mark.parametrize("precision", [0.3, 50.0, 1e9])
def test_the_sums_equal_those_over_the_full_matrix(n: int, m: int, dimension: int, precision: float) -> None:
    group, x, y = packed(n, m, dimension)
    weight = torch.tensor([precision, precision / 2], dtype=torch.float64)
    squares = (x[:, :, None] - y[:, None]).square().sum(-1)
    logits = -weight[:, None, None] * squares
    r = torch.softmax(logits, -1)
    post = posterior(group.source, group.target, group.cost, weight)
    close = torch.testing.assert_close
    close(post.matched[..., :n].mT, r @ y, rtol=0, atol=1e-12)
    close(post.log_evidence[:, :n], torch.logsumexp(logits, -1), rtol=1e-13, atol=1e-13)
    close(1 / post.weight[:, :n], r.amax(-1), rtol=1e-11, atol=0)
    close(post.residual[:, :n], (r * squares).sum(-1), rtol=1e-11, atol=1e-14)
    mass = column_mass(group.source, group.target, group.cost, weight, post.log_evidence, group.rows)
    close(mass[:, :m], r.sum(1), rtol=1e-9, atol=1e-12)
    index, distance = nearest(group.source, group.target, group.cost, workspace())
    assert torch.equal(index[:, :n], squares.argmin(-1))
    close(distance[:, :n], squares.amin(-1), rtol=1e-13, atol=0)
    logs = log_weights(group.source[0, :, :n], group.target[0, :dimension, :m], weight[0])
    close(logs, logits[0], rtol=1e-12, atol=0)


def test_of_equally_near_targets_the_first_is_taken() -> None:
    group = pack([tight(np.zeros((3, 2)), np.zeros((2 * COLUMNS, 2)))])
    index, _ = nearest(group.source, group.target, group.cost, workspace())
    assert index[0, :3].tolist() == [0, 0, 0]


MEMORY = """
import resource
import numpy as np
import torch
from service.em.batched.padding import pack
from tests.problems.tight import tight
from service.em.batched.recursion import Variant, initial_state, iterate
torch.set_num_threads(1)
points = np.random.default_rng(0).random((20_000, 1))
def run(count):
    group = pack([tight(points[:count], points[:count] + 1)])
    state = initial_state(torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, dtype=torch.float64), group.rows)
    assert iterate(group, state, Variant(free=True, estimated=True)).sigma < 1
run(100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(20_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_an_iteration_on_twenty_thousand_by_twenty_thousand_points_needs_no_matrix() -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 32 * 1024  # KiB; the matrix would be 3 GB
