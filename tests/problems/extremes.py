"""Registrations of small clouds whose numbers are as large, as small, or as far apart as floats allow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.em.choices import INITS, NORMALIZES, PRIORS, TRANSFORMS
from service.em.problem import Pose, Problem

Float64 = NDArray[np.float64]

SIZES = 1, 2, 3, 4, 5, 6, 8, 12, 20
DIMENSIONS = 1, 2, 2, 2, 3, 3, 3, 4, 7
SHAPES = "normal", "whole", "line", "plane", "one", "twins", "stray", "decades", "zeros", "scales"
PLACES = "plain", "ratio", "unit", "offset", "apart"


def extreme(seed: int) -> Problem:
    """A problem that depends on the seed alone."""
    rng = np.random.default_rng(seed)
    dimension = int(rng.choice(DIMENSIONS))
    source = _cloud(rng, int(rng.choice(SIZES)), dimension)
    if rng.uniform() < 0.5:
        turn, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
        target = source @ turn.T + rng.normal(size=dimension)
        target += rng.normal(size=target.shape) * _decade(rng, -16, 0)
    else:
        target = _cloud(rng, int(rng.choice(SIZES)), dimension)
    source, target = _placed(rng, source, target)
    return Problem(source, target, **_options(rng, source, target))


def _decade(rng: np.random.Generator, least: float, most: float) -> float:
    return float(10.0 ** rng.uniform(least, most))


def _cloud(rng: np.random.Generator, count: int, dimension: int) -> Float64:
    shape, points = rng.choice(SHAPES), rng.normal(size=(count, dimension))
    if shape == "whole":
        points = np.rint(2 * points)
    elif shape == "line":
        points = points[:, :1] * rng.normal(size=dimension)
    elif shape == "plane":
        points[:, -1] = points[:, 0] + float(rng.choice([0, 1e-12, 1e-7])) * points[:, -1]
    elif shape == "one":
        points = np.repeat(points[:1], count, 0)
    elif shape == "twins":
        points = points[rng.integers(max(1, count // 3), size=count)]
    elif shape == "stray":
        points[0] *= _decade(rng, 0, 70)
    elif shape == "decades":
        points *= 10.0 ** rng.uniform(-20, 20, points.shape)
    elif shape == "zeros":
        points *= rng.uniform(size=points.shape) < 0.3
    elif shape == "scales":
        points *= 10.0 ** rng.uniform(-12, 12, dimension)
    return points


def _placed(rng: np.random.Generator, source: Float64, target: Float64) -> tuple[Float64, Float64]:
    place = rng.choice(PLACES, p=(0.4, 0.25, 0.1, 0.15, 0.1))
    if place == "ratio":
        target = target * _decade(rng, -9, 9)
    elif place == "unit":
        unit = _decade(rng, -300, 74)
        source, target = source * unit, target * unit
    elif place == "offset":
        source, target = source + _decade(rng, 0, 16), target - _decade(rng, 0, 16)
    elif place == "apart":
        source, target = source * _decade(rng, -300, 74), target * _decade(rng, -300, 74)
    bound = 9e74
    return np.clip(source, -bound, bound), np.clip(target, -bound, bound)


def _options(rng: np.random.Generator, source: Float64, target: Float64) -> dict[str, Any]:
    dimension, options = source.shape[1], {"transform": str(rng.choice(TRANSFORMS))}
    chosen: dict[str, Any] = options | {"max_iterations": int(rng.choice([1, 2, 5, 30, 100]))}

    def sometimes(share: float, name: str, value: Any) -> None:
        if rng.uniform() < share:
            chosen[name] = value

    sigmas = 1e-50, 1e75, _decade(rng, -50, 75), max(1e-50, float(np.abs(target).max()) * _decade(rng, -12, 3))
    sometimes(0.4, "sigma", min(1e75, float(rng.choice(sigmas))))
    sometimes(0.4, "normalize", str(rng.choice(NORMALIZES)))
    sometimes(0.3, "prior", str(rng.choice(PRIORS)))
    sometimes(0.4, "outlier_weight", [0.0, "auto", 0.99, 0.1, 1e-300][int(rng.integers(5))])
    sometimes(0.3, "init", str(rng.choice(INITS)))
    sometimes(0.2, "init", rng.normal(size=dimension) * _decade(rng, -3, 20))
    turn, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
    turn[:, 0] *= np.linalg.det(turn)
    growth = 1.0 if options["transform"] in {"translation", "rigid"} else _decade(rng, -20, 20)
    sometimes(0.15, "init", Pose(turn * growth, np.asarray(rng.normal(size=dimension) * _decade(rng, -3, 20))))
    sometimes(0.3, "matching", "one_to_one")
    sometimes(0.2, "tolerance", float(rng.choice([0, 1e-300, 1e300])))
    if options["transform"] == "nonrigid":
        sometimes(0.4, "beta", _decade(rng, -6, 6))
        sometimes(0.4, "stiffness", _decade(rng, -20, 20))
    else:
        sometimes(0.3, "refine", True)
    for name in ("responsibilities", "registered", "trace", "path"):
        sometimes(0.3, name, True)
    return chosen
