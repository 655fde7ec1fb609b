"""The VAE's endpoints: read the request, submit a job, encode the result."""

from __future__ import annotations

from typing import Any, NamedTuple, overload

import numpy as np
from fastapi import APIRouter, Request, Response

from ..errors import InvalidInput
from ..formats.arrays import Float64
from ..runtime.batching import Batcher
from ..web import npz_body
from ..web.json_body import read_json
from ..web.media import media_type
from ..web.negotiation import accepted, negotiate
from ..web.parts import part
from ..web.routing import (
    COMPUTED,
    READ,
    StrictRoute,
    answer,
    json_content,
    operation,
    read_query,
    read_timeout,
)
from ..web.seeds import random_seed
from ..web.threads import off_loop
from .encoder import encoder_size
from .gaussian_kl import GaussianDivergence, GaussianPair, to_standard_normal
from .inputs import all_finite
from .logistic import LabelledPoint, LogisticDivergence
from .reparameterization import Parametrization
from .schemas import (
    Divergence,
    EncoderSizeAnswer,
    EncoderSizeQuery,
    Gaussian,
    GaussianRequest,
    KLRequest,
    LogisticRequest,
    Reparameterized,
    ReparameterizeRequest,
    errors_beside,
)
from .worker import Job, ReparameterizeJob, Result
from .worker import Reparameterized as Computed


class VaeEngine(NamedTuple):
    """The batcher of the VAE's jobs, with the type of the result for each type of job."""

    batcher: Batcher[Job, Result]

    @overload
    async def submit(self, job: ReparameterizeJob, timeout: float | None) -> Computed: ...
    @overload
    async def submit(self, job: GaussianPair, timeout: float | None) -> GaussianDivergence: ...
    @overload
    async def submit(self, job: LabelledPoint, timeout: float | None) -> LogisticDivergence: ...
    async def submit(self, job: Job, timeout: float | None) -> Result:
        """The job's result; see `Batcher.submit`."""
        return await self.batcher.submit(job, timeout)


def engine(request: Request) -> VaeEngine:
    """The application's VAE engine."""
    return part(request, VaeEngine)


router = APIRouter(prefix="/vae", tags=["vae"], route_class=StrictRoute)
# The most arrays of an answer that are as large as those of the request.
FIELDS = 6
FORMS = ("application/json", npz_body.MEDIA_TYPE)
MODELS = (ReparameterizeRequest, Reparameterized, KLRequest, Divergence, EncoderSizeAnswer)


@router.post(
    "/reparam-grad",
    **operation(
        json_content(Reparameterized) | npz_body.CONTENT,
        description="z, the noise, and the gradients",
        body=json_content(ReparameterizeRequest) | npz_body.CONTENT,
        errors=(*READ, 406, *COMPUTED),
        sent={"Vary": "Accept"},
    ),
)
async def reparameterize(request: Request) -> Response:
    """z = μ + σ∘v, and the gradients of a loss L in μ and the scale, given ∂L/∂z."""
    kind = negotiate(accepted(request), FORMS, "a reparameterization")
    if media_type(request) == npz_body.MEDIA_TYPE:
        body = npz_body.validate(await npz_body.read_npz(request), ReparameterizeRequest, errors_beside)
    else:
        body = await read_json(request, ReparameterizeRequest, FORMS, errors_beside)
    found = await _reparameterized(engine(request), body, read_timeout(request))
    as_arrays = kind == npz_body.MEDIA_TYPE
    if as_arrays:
        response = await npz_body.answer_npz(lambda: npz_body.flatten(found), FIELDS * body.grad_z.size)
    else:
        response = answer(found)
    response.headers["Vary"] = "Accept"
    return response


async def _reparameterized(vae: VaeEngine, body: ReparameterizeRequest, timeout: float | None) -> dict[str, Any]:
    """The fields of `schemas.Reparameterized`, with ndarrays for lists of numbers."""
    name = body.parametrization
    drawn = body.noise is None
    seed = random_seed() if body.seed is None else body.seed
    job = ReparameterizeJob(body.mu, getattr(body, name), name, body.grad_z, body.noise, seed, body.kl_weight)
    computed = await vae.submit(job, timeout)
    return await off_loop(job.scale.size, _gradients, computed, name, seed if drawn else None)


def _gradients(computed: Computed, name: Parametrization, seed: int | None) -> dict[str, Any]:
    """The fields of an answer, with the sums of the gradients. Raises InvalidInput if a sum overflows."""
    noise, result = computed
    always: dict[str, Any] = {"z": result.z, "noise": noise, "seed": seed}
    if result.kl_grad_mu is None or result.kl_grad_scale is None:
        return always | {"grad_mu": result.grad_mu, f"grad_{name}": result.grad_scale}
    with np.errstate(over="ignore"):
        grad_mu, grad_scale = result.grad_mu + result.kl_grad_mu, result.grad_scale + result.kl_grad_scale
    if not all_finite(grad_mu, grad_scale):
        detail = "the sum of the gradients overflows float64"
        raise InvalidInput(detail, pointer="/kl_weight", allowed="a smaller value")
    return always | {
        "grad_mu": grad_mu,
        f"grad_{name}": grad_scale,
        "kl": result.kl,
        "kl_grad_mu": result.kl_grad_mu,
        f"kl_grad_{name}": result.kl_grad_scale,
    }


@router.post(
    "/kl",
    **operation(
        Divergence, description="the divergence in nats, with gradients", body=KLRequest, errors=(*READ, *COMPUTED)
    ),
)
async def kl(request: Request) -> Response:
    """KL of two diagonal Gaussians, or of a label against the logistic model, with gradients."""
    body, timeout = (await read_json(request, KLRequest)).root, read_timeout(request)
    vae = engine(request)
    if isinstance(body, LogisticRequest):
        return answer((await vae.submit(LabelledPoint(body.x, body.w, body.y), timeout))._asdict())
    pair = await off_loop(np.size(body.q.mu), _pair, body)
    divergence = await vae.submit(pair, timeout)
    return answer(
        {
            "divergence": divergence.divergence,
            "grad_q": {"mu": divergence.grad_mu_q, pair.parametrization_q: divergence.grad_scale_q},
            "grad_p": {"mu": divergence.grad_mu_p, pair.parametrization_p: divergence.grad_scale_p},
        }
    )


@router.get(
    "/encoder-size", **operation(EncoderSizeAnswer, description="the size and its explanation", query=EncoderSizeQuery)
)
async def size(request: Request) -> Response:
    """The number of outputs of an encoder for a d-dimensional latent, with an explanation."""
    query = read_query(request, EncoderSizeQuery)
    return answer(encoder_size(query.dimension, query.covariance)._asdict())


def _pair(request: GaussianRequest) -> GaussianPair:
    q, p = request.q, request.p
    if p is None:
        return to_standard_normal(q.mu, _scale(q), q.parametrization)
    return GaussianPair(q.mu, _scale(q), p.mu, _scale(p), q.parametrization, p.parametrization)


def _scale(gaussian: Gaussian) -> Float64:
    scale: Float64 = getattr(gaussian, gaussian.parametrization)
    return scale
