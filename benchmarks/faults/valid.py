"""Random valid requests to every endpoint that computes: small ones, and with numbers of every size."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from service.em.choices import INITS, MATCHINGS, NORMALIZES, PRIORS, TRANSFORMS

# Points, iterations and images of one request. They keep a request within milliseconds, so that many can be sent.
MAX_POINTS, MAX_ITERATIONS, MAX_IMAGES = 12, 40, 12


class Draft(NamedTuple):
    """A request before its encoding: the fields of a body, or the parameters of a query."""

    method: str
    path: str
    fields: dict[str, Any]


def draft(rng: random.Random) -> Draft:
    """A random request. Registrations are half of all, because they have the most ways to go wrong."""
    return rng.choices(_KINDS, _WEIGHTS)[0](rng)


def _size(rng: random.Random) -> float:
    """A magnitude: often about 1, sometimes any that float64 has."""
    power = rng.uniform(-1, 1) if rng.random() < 0.6 else rng.choice((rng.uniform(-8, 8), rng.uniform(-300, 300)))
    return math.pow(10.0, power)


def _array(rng: random.Random, *shape: int) -> Any:
    """Normal numbers, whole numbers, or many equal ones, of one magnitude."""
    numbers = np.random.default_rng(rng.getrandbits(32)).normal(size=shape)
    kind = rng.random()
    if kind < 0.2:
        numbers = np.rint(numbers * 2)
    elif kind < 0.3:
        numbers = np.sign(numbers)
    elif kind < 0.35:
        numbers = np.zeros(shape)
    return (numbers * _size(rng)).tolist()


def _clouds(rng: random.Random) -> dict[str, Any]:
    """Two clouds: unrelated, or one a moved, turned, scaled and thinned copy of the other."""
    dimension = rng.choice((1, 2, 2, 2, 3, 3, 4, 7))
    many = [rng.randint(1, MAX_POINTS) for _ in range(2)]
    source = _array(rng, many[0], dimension)
    if rng.random() < 0.4:
        return {"source": source, "target": _array(rng, many[1], dimension)}
    numbers = np.random.default_rng(rng.getrandbits(32))
    turned = np.linalg.qr(numbers.normal(size=(dimension, dimension)))[0]
    with np.errstate(all="ignore"):
        target = np.asarray(source) @ turned * _size(rng) + numbers.normal(size=dimension) * _size(rng)
        target += rng.choice((0, 1e-9, 1e-3, 0.1)) * np.abs(target).max() * numbers.normal(size=target.shape)
    return {"source": source, "target": np.nan_to_num(target)[: many[1]].tolist()}


def _some(rng: random.Random, fields: dict[str, Any], share: float = 0.3) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if rng.random() < share}


def _registration(rng: random.Random) -> dict[str, Any]:
    clouds = _clouds(rng)
    dimension = len(clouds["source"][0])
    rows = np.abs(np.asarray(_array(rng, len(clouds["source"]), len(clouds["target"])))) + 1e-3
    given = [
        {"matrix": np.eye(dimension + 1).tolist()},
        {"translation": _array(rng, dimension), "scale": _size(rng)},
        {"rotation": np.eye(dimension).tolist()},
    ]
    options = {
        "sigma": _size(rng),
        "prior": rng.choice((*PRIORS, (rows / rows.sum(1, keepdims=True)).tolist())),
        "outlier_weight": rng.choice((0, 0.1, 0.9, "auto")),
        "normalize": rng.choice(NORMALIZES),
        "init": rng.choice((*INITS, _array(rng, dimension), *given)),
        "max_iterations": rng.randint(1, MAX_ITERATIONS),
        "tolerance": rng.choice((0, 1e-8, 1e-3, 1)),
        "matching": rng.choice(MATCHINGS),
        "refine": rng.random() < 0.5,
        "include": rng.sample(["responsibilities", "trace", "registered"], rng.randint(0, 3)),
    }
    # The search for a pose takes longest.
    cheap = {} if rng.random() < 0.2 else {"init": rng.choice(("identity", "centroid"))}
    fields = clouds | {"transform": rng.choice(TRANSFORMS)} | cheap | _some(rng, options)
    if fields["transform"] == "nonrigid":
        fields |= _some(rng, {"beta": _size(rng), "stiffness": _size(rng)})
    return fields


def _register(rng: random.Random) -> Draft:
    return Draft("POST", "/em/register", _registration(rng))


def _batch(rng: random.Random) -> Draft:
    return Draft("POST", "/em/register/batch", {"problems": [_registration(rng) for _ in range(rng.randint(1, 4))]})


def _step(rng: random.Random) -> Draft:
    name = rng.choice(("expectation", "maximization", "log-likelihood"))
    fields = _clouds(rng)
    n, m, dimension = len(fields["source"]), len(fields["target"]), len(fields["source"][0])
    uniform = np.full((n, m), 1 / m).tolist()
    if name == "maximization":
        fields["responsibilities"] = uniform
    else:
        fields |= {"sigma": _size(rng)} | _some(rng, {"translation": _array(rng, dimension), "prior": uniform})
        if name == "log-likelihood":
            fields |= _some(rng, {"assignment": np.eye(m)[[rng.randrange(m) for _ in range(n)]].tolist()})
        else:
            fields |= _some(rng, {"at": {"translation": _array(rng, dimension), "sigma": _size(rng)}})
    return Draft("POST", f"/em/{name}", fields)


def _gradient(rng: random.Random) -> Draft:
    dimension, batch = rng.randint(1, 8), rng.randint(1, 4)
    shape = rng.choice(((dimension,), (batch, dimension)))
    kind = rng.choice(("sigma", "log_variance", "softplus", "scale_tril"))
    scale = _array(rng, *shape)
    if kind == "sigma":
        scale = (np.abs(np.asarray(scale)) + 1e-300).tolist()
    elif kind == "scale_tril":
        lower = np.tril(np.asarray(_array(rng, *shape, dimension)))
        diagonal = np.arange(dimension)
        lower[..., diagonal, diagonal] = np.abs(lower[..., diagonal, diagonal]) + 1e-3
        scale = lower.tolist()
    fields = {"mu": _array(rng, *shape), kind: scale, "grad_z": _array(rng, *shape)}
    fields |= rng.choice(({"seed": rng.randrange(2**53)}, {"noise": _array(rng, *shape)}))
    return Draft("POST", "/vae/reparam-grad", fields | _some(rng, {"kl_weight": _size(rng)}))


def _divergence(rng: random.Random) -> Draft:
    dimension = rng.randint(1, 8)
    if rng.random() < 0.3:
        x, w = _array(rng, dimension), _array(rng, dimension)
        return Draft("POST", "/vae/kl", {"x": x, "w": w, "y": rng.randint(0, 1)})

    def gaussian() -> dict[str, Any]:
        scale = rng.choice(("sigma", "log_variance"))
        values = np.asarray(_array(rng, dimension))
        return {"mu": _array(rng, dimension), scale: (np.abs(values) + 1e-300 if scale == "sigma" else values).tolist()}

    return Draft("POST", "/vae/kl", {"q": gaussian()} | _some(rng, {"p": gaussian()}, 0.5))


def _size_of_encoder(rng: random.Random) -> Draft:
    fields = {"dimension": rng.randint(1, 2**31), "covariance": rng.choice(("identity", "diagonal", "full"))}
    return Draft("GET", "/vae/encoder-size", fields)


def _drawing(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(("png", "webp", "json", "npy"))
    fields: dict[str, Any] = {"format": kind, "seed": rng.randrange(2**53)}
    fields |= rng.choice(({}, {"count": rng.randint(1, MAX_IMAGES)}, {"digits": str(rng.randrange(10**6))}))
    if "digits" not in fields:
        fields |= _some(rng, {"digit": rng.randint(0, 9)})
    if kind in {"png", "webp"}:
        fields |= _some(rng, {"columns": rng.randint(1, 9), "scale": rng.randint(1, 3)})
    return fields | _some(rng, {"truncation": rng.uniform(0.5, 1), "sampler": "rejection", "scores": True}, 0.2)


def _picture(rng: random.Random) -> Draft:
    return Draft("GET", "/gan/generate", _drawing(rng))


def _drawn_by_post(rng: random.Random) -> Draft:
    if rng.random() < 0.5:
        return Draft("POST", "/gan/generate", _drawing(rng))
    numbers = np.random.default_rng(rng.getrandbits(32)).normal(size=(rng.randint(1, 3), 128))
    return Draft("POST", "/gan/generate", {"latents": np.clip(numbers * _size(rng), -1000, 1000).tolist()})


def _animation(rng: random.Random) -> Draft:
    seeds = ",".join(str(seed) for seed in rng.sample(range(10**6), rng.randint(2, 3)))
    more = {"loop": False, "fps": rng.uniform(1, 50), "format": rng.choice(("gif", "webp", "apng"))}
    return Draft("GET", "/gan/interpolate", {"seeds": seeds, "frames": rng.randint(1, 4)} | _some(rng, more))


def _levels(rng: random.Random) -> Draft:
    side = rng.choice((28, 32))
    levels = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (rng.randint(1, 3), side, side))
    return Draft("POST", "/gan/discriminate", {"images": levels.tolist()})


_KINDS: tuple[Callable[[random.Random], Draft], ...] = (
    _register, _batch, _step, _gradient, _divergence, _size_of_encoder, _picture, _drawn_by_post, _animation, _levels,
)  # fmt: skip
_WEIGHTS = (40, 5, 10, 12, 8, 2, 12, 5, 2, 4)
