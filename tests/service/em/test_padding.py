"""Padding and centring, before the iteration."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.em.batched.padding import bucket, group_key, pack
from tests.problems.registration import cloud
from tests.problems.tight import tight


@given(st.integers(1, 10**6))
@settings(deadline=None, derandomize=True)
def test_a_bucket_holds_its_points_with_little_waste(count: int) -> None:
    size = bucket(count)
    assert size % 8 == 0
    assert count <= size < max(count * 1.125, count + 8) + 1
    assert bucket(size) == size
    assert bucket(count + 1) >= size


def test_problems_that_cannot_share_tensors_have_different_keys() -> None:
    points = cloud(10, 2, np.random.default_rng(0))
    base = tight(points, points)
    assert group_key(base) == group_key(base._replace(source=points[:9], max_iterations=3, tolerance=0.0, trace=True))
    others = [
        base._replace(source=np.tile(points, (2, 1))),
        base._replace(target=np.tile(points, (2, 1))),
        base._replace(source=points[:, :1], target=points[:, :1]),
        base._replace(sigma=1.0),
        base._replace(prior="free"),
        base._replace(init="identity"),
        base._replace(init=points[0]),
    ]
    assert len({group_key(problem) for problem in [base, *others]}) == len(others) + 1


@given(st.integers(1, 20), st.integers(1, 20), st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_centred_coordinates_differ_from_the_callers_by_a_shift(n: int, m: int, a: float, b: float) -> None:
    generator = np.random.default_rng(n)
    p, q = cloud(n, 3, generator) + a, cloud(m, 3, generator) + b
    group = pack([tight(p, q)])
    zero = torch.zeros(1, 3, dtype=torch.float64)
    magnitude = abs(a) + abs(b) + 2
    # p + T - q by the centred coordinates at T = 0, against the difference itself.
    moved = group.source + group.to_centred(zero)[..., None]
    difference = moved[0, :, :n].mT[:, None] - group.target[0, :3, :m].mT
    # Three roundings on one side and one on the other, each at most ε/2 of the magnitude.
    rounding = 4 * torch.finfo(torch.float64).eps / 2
    torch.testing.assert_close(difference, torch.from_numpy(p[:, None] - q), rtol=0, atol=rounding * magnitude)
    torch.testing.assert_close(group.to_original(group.to_centred(zero)), zero, rtol=0, atol=1e-25 * magnitude)
