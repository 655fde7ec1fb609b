"""Objects of about unit size: cuts of a surface with a known overlap, views from two sides, key points."""

from __future__ import annotations

import numpy as np

from tests.problems.poses import cloud, posed
from tests.problems.scenes.scene import (
    Float64,
    Place,
    Scene,
    any_rotation,
    direction,
    displaced,
    shuffled,
    turn,
)
from tests.problems.scenes.sensors import looking
from tests.problems.scenes.solids import Figure, figure, sampled, seen


def cut(seed: int, *, overlap: float = 0.3, degrees: float = 30, noise: float = 0.002) -> Scene:
    """Two cuts of a closed surface that share `overlap` of their points, turned by up to `degrees`.

    Parallel planes of a random direction cut two samples of the surface. If each keeps a share a, the overlap is
    (2a - 1)/a. Even seeds give figures with limbs, odd ones bumpy balls, of 2,000 to 8,000 points.
    """
    rng = np.random.default_rng([seed, 21])
    kept = 1 / (2 - overlap)
    count = int(2000 * 4 ** rng.uniform())
    whole = _surface(seed, 2 * round(count / kept), rng)
    across = direction(rng)
    one, other = (part[np.argsort(part @ across)] for part in (whole[::2], whole[1::2]))
    source, target = (part + noise * rng.normal(size=part.shape) for part in (one[:count], other[-count:]))
    scene = Scene("cut", "sound", source, target, np.eye(3), np.zeros(3))
    move = turn(np.radians(rng.uniform(0, degrees)) * direction(rng))
    return shuffled(displaced(scene, move, rng.uniform(0, 0.1) * direction(rng)), rng)


def views(seed: int, *, apart: float = 55, anywhere: bool = True) -> Scene:
    """An object seen by a depth camera from two directions `apart` degrees from one another.

    The later view is in coordinates of its own, at any rotation; or within 10° of the earlier one.
    """
    rng = np.random.default_rng([seed, 22])
    body = figure(np.random.default_rng([seed, 22, 1]))
    first = direction(rng) * [1, 1, 0.4]
    first /= np.linalg.norm(first)
    second = turn(np.radians(apart) * np.array([0, 0, rng.choice([-1.0, 1.0])])) @ first
    target, source = (seen(body, _orbit(body, where), rng) for where in (first, second))
    scene = Scene("views", "sound", source, target, np.eye(3), np.zeros(3))
    move = any_rotation(rng) if anywhere else turn(np.radians(rng.uniform(0, 10)) * direction(rng))
    return displaced(scene, move, rng.uniform(0, 0.1) * direction(rng))


def keypoints(seed: int) -> Scene:
    """80 to 400 points without a surface, at any pose, with 20 % of outliers and 70 to 100 % overlap."""
    rng = np.random.default_rng([seed, 23])
    family = ("cube", "gauss", "curve")[seed % 3]
    count, overlap = int(rng.integers(80, 400)), rng.uniform(0.7, 1)
    pair = posed(family, count, overlap=overlap, outliers=0.2, noise=0.004, seed=seed)
    return Scene("keypoints", "sound", pair.source, pair.target, pair.rotation, pair.translation)


def _orbit(body: Figure, where: Float64) -> Place:
    centre = (body.starts + body.ends).mean(0) / 2
    return looking(centre + 2 * where, centre)


def _surface(seed: int, count: int, rng: np.random.Generator) -> Float64:
    if seed % 2:
        return rng.permutation(cloud("shell", count, 3, rng))
    return rng.permutation(sampled(figure(rng), count, rng))
