"""The observed information equals minus the Hessian by automatic differentiation, everywhere and not only at peaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from service.em.choices import Normalize, Transform
from service.em.climbing.information import generators
from service.em.climbing.mixture import Mixture
from service.em.coordinates import frame
from service.em.model import Model, Parameters
from tests.problems.clouds import linear, log_likelihood
from tests.problems.codes import CODES
from tests.service.em.test_climb import directions

ROOM = 5.0


@pytest.mark.parametrize("kind", ["translation", "rigid", "similarity", "affine"])
@pytest.mark.parametrize("normalize", ["rows", "columns"])
@pytest.mark.parametrize("outliers", [0.0, 0.2])
@pytest.mark.parametrize("prior", ["even", "weights", "matrix"])
@pytest.mark.parametrize(("dimension", "count"), [(2, 25), (3, 20), (3, 400)])
def test_it_is_minus_the_hessian_in_motion_translation_and_log_sigma(
    kind: Transform, normalize: Normalize, outliers: float, prior: str, dimension: int, count: int
) -> None:
    if prior == "matrix":
        normalize = "rows"
    D, sigma = dimension, 0.25 if count < 100 or prior == "matrix" else 0.1
    rng = np.random.default_rng(count)
    points = frame(rng.normal(size=(count, D)), rng.normal(size=(count + 5, D)), one_unit=True)
    transform = np.hstack([linear(kind, D, 0.4, rng), 0.1 * rng.normal(size=(D, 1))])
    others = count if normalize == "columns" else count + 5
    given = rng.exponential(size=(count, others) if prior == "matrix" else others)
    given = np.log(given / given.sum(-1, keepdims=True))
    model = Model(CODES[kind], normalize, mixing=prior == "weights")
    at = Parameters(transform, sigma, outliers, np.exp(given) if prior == "weights" else np.empty(0))
    if prior == "matrix":
        model = model._replace(log_prior=given)
    mixture = Mixture(points, model, ROOM)
    mixture.step(at)
    found, value = mixture.measure(at)
    p, q = (torch.from_numpy(np.ascontiguousarray(cloud[:D].T)) for cloud in (points.source, points.target))
    A, T = torch.from_numpy(transform[:, :D].copy()), torch.from_numpy(transform[:, D].copy())
    basis = directions(kind, D)
    K = len(basis)
    log_prior = None if prior == "even" else torch.from_numpy(given)

    def likelihood(theta: Tensor) -> Tensor:
        B = (theta[:K, None, None] * basis).sum(0)
        turn = torch.eye(D, dtype=torch.float64) + B
        if kind in {"rigid", "similarity"}:
            turn = turn + B @ B / 2  # exp to second order
        # The whole motion x → exp(B) x + t acts on the point as it is now.
        x = (p @ A.T + T) @ turn.T + theta[K : K + D]
        y = q
        if normalize == "columns":
            x, y = y, x
        scale = sigma * torch.exp(theta[-1])
        return log_likelihood(x, y, scale, exponent=D, outliers=outliers, volume=ROOM, log_prior=log_prior)

    zero = torch.zeros(K + D + 1, dtype=torch.float64)
    expected = -torch.autograd.functional.hessian(likelihood, zero)  # type: ignore[no-untyped-call]
    assert value == pytest.approx(likelihood(zero).item(), rel=1e-10)
    assert found == pytest.approx(expected.numpy(), rel=1e-8, abs=1e-8 * expected.abs().max().item())


def test_generators_are_rotations_about_each_axis_in_the_order_of_the_rotation_vector() -> None:
    for k, axis in enumerate(np.eye(3)):
        x = np.array([0.3, -1.0, 2.0])
        assert generators(CODES["rigid"], 3)[k] @ x == pytest.approx(np.cross(axis, x))
    assert generators(CODES["rigid"], 2).tolist() == [[[0, -1], [1, 0]]]
    assert [len(generators(kind, 3)) for kind in range(4)] == [0, 3, 4, 9]
