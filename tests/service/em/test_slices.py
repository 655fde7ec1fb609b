"""A long registration stops between its slices, and no byte of its outcome depends on where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.em import slices
from service.em.batched import loops
from service.em.choices import Transform
from service.em.kernel.cells import cells
from service.em.kernel.expectation import expect
from service.em.kernel.truncated import empty_e_step
from service.em.outcome import Outcome
from service.em.problem import Problem
from service.em.register import register
from service.em.slices import blocks, in_slices, pause, sliced
from tests.problems.clouds import posed
from tests.problems.tight import tight

Float64 = NDArray[np.float64]
N, M = 60, 70
NONE = np.empty(0)


class Stopped(Exception):
    """The end of a computation that a test stops."""


def problem(**options: Any) -> Problem:
    """Two clouds in space, and more targets than sources."""
    instance = posed(N, sigma=0.02, angle=0.2, seed=1)
    more = np.random.default_rng(2).normal(size=(M - N, instance.source.shape[1]))
    options = {"max_iterations": 20} | options
    return tight(instance.source, np.vstack([instance.target, more]), **options)


def fields(outcome: Outcome) -> list[bytes | str]:
    """The bytes of each array, and the text of everything else."""
    return [one.tobytes() if isinstance(one, np.ndarray) else repr(one) for one in outcome]


PRIOR = np.random.default_rng(3).dirichlet(np.ones(M), N)
VARIANTS: dict[str, dict[str, Any]] = {
    "searched": {},
    "from identity": {"init": "identity", "outlier_weight": 0.1},
    "columns": {"init": "identity", "normalize": "columns", "outlier_weight": 0.1},
    "sinkhorn": {"init": "identity", "normalize": "sinkhorn"},
    "a given prior": {"init": "identity", "prior": PRIOR, "responsibilities": True},
    "a literal prior": {"init": "identity", "prior": "free", "sigma": 0.1, "outlier_weight": 0.0},
    "one to one": {"init": "identity", "matching": "one_to_one", "responsibilities": True},
    "one to one, with outliers": {"init": "identity", "matching": "one_to_one", "outlier_weight": 0.1},
}
CASES: list[tuple[Transform, str]] = [
    *(("rigid", name) for name in VARIANTS),
    ("translation", "searched"),
    ("translation", "from identity"),
    ("similarity", "from identity"),
    ("affine", "searched"),
    ("nonrigid", "from identity"),
]


@pytest.mark.parametrize(("transform", "variant"), CASES)
def test_no_byte_of_an_outcome_depends_on_the_size_of_the_slices(
    transform: Transform, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = VARIANTS[variant] | ({"normalize": "columns"} if transform == "nonrigid" else {})
    whole = fields(register(problem(transform=transform, **options)))
    calls = 0

    def hook() -> bool:
        nonlocal calls
        calls += 1
        return False

    register(problem(transform=transform, cancelled=hook, **options))
    before, calls = calls, 0
    with monkeypatch.context() as patch:
        patch.setattr(slices, "SLICE_PAIRS", 300)
        patch.setattr(slices, "BLOCK_ELEMENTS", 300)
        parts = fields(register(problem(transform=transform, cancelled=hook, **options)))
    assert parts == whole
    assert calls > before


@pytest.mark.parametrize("side", [np.inf, 0.5])
def test_an_e_step_stops_about_as_often_as_its_pairs_fill_a_slice(side: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_PAIRS", 10_000)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 400)), rng.normal(size=(3, 500))
    found, grid = empty_e_step(3, 400), cells(y, side)
    stops = 0

    def stop() -> None:
        nonlocal stops
        stops += 1

    with sliced(stop):
        # A kernel as wide as the cloud: each point reaches all targets, through cells or not.
        expect(x, grid, NONE, grid.points, 0.01, 0.0, 40.0, found, NONE)
    assert stops >= 400 * 500 // 10_000 - 1
    assert stops <= 3 * 400 * 500 // 10_000


def test_a_computation_ends_in_the_middle_of_an_e_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE_PAIRS", 1000)
    y = np.random.default_rng(0).normal(size=(3, 500))
    found, grid = empty_e_step(3, 500), cells(y, np.inf)
    found.mass[:] = -1.0

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped), sliced(stop):
        expect(y, grid, NONE, grid.points, 1.0, 0.0, 40.0, found, NONE)
    assert (found.mass[:1] > 0).all()
    assert (found.mass[10:] == -1).all()
    pause()  # outside of `sliced` it does nothing


@pytest.mark.parametrize("pairs", [1, 37, 100, 10**9])
def test_the_rows_of_a_batch_may_be_computed_in_any_slices(pairs: int) -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(3, 2, 5)), rng.normal(size=(3, 3, 7))
    target[:, 2] = 1.0
    cost, precision = np.zeros((3, 1, 7)), np.array([1.0, 2.0, 3.0])

    def computed(pairs: int) -> list[bytes]:
        out = np.full((3, 2, 5), -1.0), *(np.full((3, 5), -1.0) for _ in range(3))
        in_slices(15, lambda first, _: loops.posterior(first, pairs, source, target, cost, precision, *out))
        mass = np.zeros((3, 7))
        rows = np.ones((3, 5))
        in_slices(
            15, lambda first, _: loops.column_mass(first, pairs, source, target, cost, precision, out[1], rows, mass)
        )
        assert mass.sum(1) == pytest.approx([5.0, 5.0, 5.0])
        return [one.tobytes() for one in (*out, mass)]

    assert computed(pairs) == computed(10**12)


def test_blocks_cover_all_rows_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "BLOCK_ELEMENTS", 100)
    for rows, columns in ((0, 5), (1, 1000), (7, 30), (40, 5), (3, 0)):
        assert [i for some in blocks(rows, columns) for i in range(rows)[some]] == list(range(rows))
