"""The VAE's computation for a batch of jobs: list[Job] -> list[Result]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import InvalidInput
from .gaussian_kl import GaussianDivergence, GaussianPair, gaussian_kl_batch
from .inputs import Array
from .logistic import LabelledPoint, LogisticDivergence, logistic_divergence_batch
from .noise import draw_noise
from .parts import in_parts
from .reparameterization import (
    Parametrization,
    Reparameterization,
    ReparameterizationJob,
    reparameterize_batch,
)


class ReparameterizeJob(NamedTuple):
    """One reparameterization. If `noise` is None, it is drawn from `seed`.

    Arrays have the shape (D,) or (B, D); `scale` may be (D, D) or (B, D, D), as in `ReparameterizationJob`.
    """

    mu: Array
    scale: Array
    parametrization: Parametrization
    grad_z: Array
    noise: Array | None
    seed: int
    kl_weight: float | None


class Reparameterized(NamedTuple):
    """A reparameterization, and the noise, (D,) or (B, D), that it used."""

    noise: Array
    result: Reparameterization


Job = ReparameterizeJob | GaussianPair | LabelledPoint
Result = Reparameterized | GaussianDivergence | LogisticDivergence


_ONE = np.ones(1)
WARM_UP: list[Job] = [
    ReparameterizeJob(_ONE, _ONE, "sigma", _ONE, None, 0, 1.0),
    GaussianPair(_ONE, _ONE, _ONE, _ONE),
    LabelledPoint(_ONE, _ONE, np.array(1.0)),
]


def cost(job: Job | ReparameterizationJob) -> float:
    """Number of elements of the job's largest array."""
    arrays = (job.x, job.w) if isinstance(job, LabelledPoint) else job[:2]
    return max(np.size(array) for array in arrays)


def key(job: Job) -> str:
    """Jobs of one type share a batch."""
    return type(job).__name__


class VaeWorker:
    """Computes divergences and reparameterizations on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, jobs: Sequence[Job]) -> Sequence[Result | Exception]:
        """Outcomes of `jobs`, in order; all jobs have the same type."""
        return COMPUTE[type(jobs[0])](jobs, self._device)


def reparameterize(jobs: Sequence[ReparameterizeJob], device: torch.device) -> list[Reparameterized | InvalidInput]:
    """Outcomes of `jobs`, in order. Noise that was not given is drawn from the job's seed, in the shape of `mu`."""
    noises = [job.noise if job.noise is not None else draw_noise(job.seed, job.mu.shape) for job in jobs]
    outcomes = _compute(
        reparameterize_batch,
        [
            ReparameterizationJob(job.mu, job.scale, job.parametrization, noise, job.grad_z, job.kl_weight)
            for job, noise in zip(jobs, noises, strict=True)
        ],
        device,
    )
    return [
        outcome if isinstance(outcome, InvalidInput) else Reparameterized(noise, outcome)
        for outcome, noise in zip(outcomes, noises, strict=True)
    ]


def _compute(batch: Callable[..., Sequence[Any]], jobs: Sequence[Any], device: torch.device) -> Sequence[Any]:
    """`batch(jobs)`, on a processor in parts."""
    compute = partial(batch, device=device)
    return in_parts(compute, jobs, cost) if device.type == "cpu" else compute(jobs)


COMPUTE: dict[type[Job], Callable[..., Sequence[Result | Exception]]] = {
    ReparameterizeJob: reparameterize,
    GaussianPair: partial(_compute, gaussian_kl_batch),
    LabelledPoint: partial(_compute, logistic_divergence_batch),
}
