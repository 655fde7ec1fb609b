"""Divergences with their gradients, for many requests at once: Gaussian against Gaussian, label against logistic model.

Ragged jobs run as one tensor computation in which no job can change a bit of another's result (batch invariance):

- each job's elements are flattened into one buffer and padded to whole tiles, so that every SIMD vector holds the
  elements of one job alone, in the same lanes, whoever else is in the batch;
- beyond IEEE arithmetic only exp, expm1, log and log1p are used. Torch's own sigmoid, softplus and logaddexp take
  other code for the last elements of a buffer than for its body, and differ there in the last bit;
- sums over the last axis add in an order that depends on the row alone, never on how many rows there are.

`docs/mathematics-vae.md` derives the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import starmap
from typing import Literal, NamedTuple, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from service.errors import InvalidInput

Array = NDArray[np.float64]
Real = NDArray[np.float64] | torch.Tensor
Device = torch.device | str
GaussianScale = Literal["sigma", "log_variance"]

# Elements in a tile: four times the sixteen doubles that the widest unrolled loop (AVX-512) takes at once.
TILE = 64
# Padding of ones is a valid value of every column (mean, σ, log σ², noise, x, w, y), so pads never look like errors.
_PADS = [np.ones(gap) for gap in range(TILE + 1)]
# Below this |x|, x - log(1 + x) is summed as a series; above, the subtraction loses four bits at most.
_NEAR = 0.125
_FLOAT64 = np.dtype(np.float64)

Job = TypeVar("Job")
Result = TypeVar("Result")
Key = TypeVar("Key", bound=Hashable)


# Ragged batches


class Layout(NamedTuple):
    """Where flattened jobs lie in one buffer of `total` elements: job k at starts[k]:stops[k], then 1 to TILE pads."""

    starts: list[int]
    stops: list[int]
    total: int


def lay_out(sizes: Sequence[int]) -> Layout:
    """The layout of jobs with `sizes` elements each; every job starts at a multiple of TILE."""
    starts, stops, at = [], [], 0
    for size in sizes:
        starts.append(at)
        stops.append(at + size)
        at += (size // TILE + 1) * TILE
    return Layout(starts, stops, at)


def pack(columns: Sequence[Sequence[Array]], layout: Layout) -> torch.Tensor:
    """Several arrays of each job, `columns[c][k]`, as a (C, total) float64 tensor on the CPU, padded with ones."""
    # Torch aligns its own allocations to 64 bytes and numpy does not: aligned, a tile is a whole number of vectors.
    buffer = torch.empty((len(columns), layout.total), dtype=torch.float64)
    pads = [_PADS[start - stop] for start, stop in zip([*layout.starts[1:], layout.total], layout.stops, strict=True)]
    pieces: list[Array] = pads * 2
    pieces[1::2] = pads
    for row, column in zip(buffer.numpy(), columns, strict=True):
        pieces[::2] = column
        np.concatenate(pieces, axis=None, out=row)
    return buffer


def unpack(values: Array, layout: Layout, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Each job's part of a flat buffer (total,), as views in the jobs' own shapes."""
    parts = zip(layout.starts, layout.stops, shapes, strict=True)
    return [
        values[start:stop] if len(shape) == 1 else values[start:stop].reshape(shape) for start, stop, shape in parts
    ]


def row_starts(layout: Layout, widths: Sequence[int]) -> NDArray[np.int64]:
    """Where each row (`widths[k]` elements) of each job begins, and after a job's last row where its pads begin."""
    starts, stops, steps = np.array(layout.starts), np.array(layout.stops), np.array(widths)
    counts = (stops - starts) // steps + 1
    firsts = np.cumsum(counts) - counts
    # Row i of all rows is row i - first of its job.
    begins: NDArray[np.int64] = np.arange(counts.sum()) * np.repeat(steps, counts)
    begins += np.repeat(starts - firsts * steps, counts)
    return begins


def sum_rows(terms: Array, layout: Layout, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Σ over the last axis of each job: from (total,) to one array of shape `shapes[k][:-1]` a job.

    `reduceat` sums each segment pairwise, in an order given by its length; torch's own sum picks its order by the
    shape of the whole tensor and by the number of threads.
    """
    with np.errstate(all="ignore"):  # what overflows is found, and named, afterwards
        sums = np.add.reduceat(terms, row_starts(layout, [shape[-1] for shape in shapes]))
    results, at = [], 0
    for start, stop, shape in zip(layout.starts, layout.stops, shapes, strict=True):
        count = (stop - start) // shape[-1]
        results.append(sums[at : at + count].reshape(shape[:-1]))
        at += count + 1
    return results


def spread_rows(values: Sequence[Array], layout: Layout, shapes: Sequence[tuple[int, ...]]) -> Array:
    """The reverse way: one number a row, `values[k]` of shape `shapes[k][:-1]`, repeated along the row: (total,)."""
    starts = row_starts(layout, [shape[-1] for shape in shapes])
    pieces: list[Array] = [_PADS[1]] * (2 * len(values))
    pieces[::2] = values
    return np.repeat(np.concatenate(pieces, axis=None), np.diff(starts, append=layout.total))


def run_batch(
    jobs: Sequence[Job],
    prepare: Callable[[Job], tuple[Key, Job]],
    compute: Callable[[Key, list[Job], torch.device], tuple[list[Result], bool]],
    diagnose: Callable[[Job, Result], None],
    device: Device,
) -> list[Result | InvalidInput]:
    """One outcome a job, in order: its result, or the error that it alone has.

    `prepare` normalises a job and gives the key of the group that it is computed with, or raises. `compute` runs a
    group and says whether all of it is sound. Only if not, `diagnose` looks at each job of the group, and raises for
    the bad ones; the others keep their results, which elementwise arithmetic has kept apart.
    """
    outcomes: dict[int, Result | InvalidInput] = {}
    groups: dict[Key, tuple[list[int], list[Job]]] = {}
    for index, job in enumerate(jobs):
        try:
            key, prepared = prepare(job)
        except InvalidInput as error:
            outcomes[index] = error
            continue
        indices, members = groups.setdefault(key, ([], []))
        indices.append(index)
        members.append(prepared)
    for key, (indices, members) in groups.items():
        results, sound = compute(key, members, torch.device(device))
        outcomes.update(zip(indices, results, strict=True))
        if sound:
            continue
        for index, member, result in zip(indices, members, results, strict=True):
            try:
                diagnose(member, result)
            except InvalidInput as error:
                outcomes[index] = error
    return [outcomes[index] for index in range(len(jobs))]


# What is wrong with an input


def as_array(value: Real) -> Array:
    """A float64 ndarray on the CPU, without a copy where it is one already."""
    if isinstance(value, np.ndarray) and value.dtype is _FLOAT64:
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value, dtype=np.float64)


def all_finite(*arrays: Array) -> bool:
    return all(bool(np.isfinite(array).all()) for array in arrays)


def require(holds: NDArray[np.bool_], field: str, values: Array, allowed: str, why: str = "") -> None:
    """InvalidInput at the first element of `values` for which `holds` is false, with its JSON pointer and value."""
    bad = np.flatnonzero(~holds)
    if bad.size:
        index = [int(i) for i in np.unravel_index(bad[0], holds.shape)]
        pointer = "/".join(["", field, *map(str, index)])
        name = field.replace("/", ".") + (str(index) if index else "")
        reason = why or f"it must be {allowed}"
        raise InvalidInput(f"{name} = {values[tuple(index)]!s}: {reason}", pointer=pointer, allowed=allowed)


def require_shape(field: str, array: Array, shape: tuple[int, ...], like: str) -> None:
    """InvalidInput unless `array` has `shape`, which the field `like` calls for."""
    if array.shape != shape:
        detail = f"{field} has shape {list(array.shape)}; the shape of {like} calls for {list(shape)}"
        raise InvalidInput(detail, pointer=f"/{field}", allowed=list(shape))


def require_vectors(field: str, array: Array) -> None:
    """InvalidInput unless `array` is (D,) or (B, D) and not empty."""
    if array.ndim not in (1, 2) or array.size == 0:
        detail = f"{field} has shape {list(array.shape)}; one vector (D,) or several (B, D) are needed, D and B ≥ 1"
        raise InvalidInput(detail, pointer=f"/{field}", allowed="shape (D,) or (B, D), not empty")


# Gaussian against Gaussian


class GaussianPair(NamedTuple):
    """q = N(mu_q, σ_q²) and p = N(mu_p, σ_p²), diagonal; four arrays of one shape, (D,) or (B, D).

    `scale_q` and `scale_p` are σ > 0 or log σ², as `parametrization_q` and `parametrization_p` say.
    """

    mu_q: Real
    scale_q: Real
    mu_p: Real
    scale_p: Real
    parametrization_q: GaussianScale = "sigma"
    parametrization_p: GaussianScale = "sigma"


class GaussianDivergence(NamedTuple):
    """KL(q‖p) in nats, () or (B,), and its gradients in the four arrays given, each (D,) or (B, D)."""

    divergence: Array
    grad_mu_q: Array
    grad_scale_q: Array
    grad_mu_p: Array
    grad_scale_p: Array


def excess(x: torch.Tensor, log1p_x: torch.Tensor) -> torch.Tensor:
    """x - log(1 + x), given both terms, elementwise for x ≥ -1: never negative, 0 only at 0, accurate near it.

    Near 0, with r = x/(2 + x), log(1 + x) = 2 artanh(r) = 2(r + r³/3 + r⁵/5 + ...) and x - 2r = x·r, hence
    r·(x - 2r²(1/3 + r²/5 + ...)): nothing cancels.
    """
    r = x / (x + 2)
    square = r * r
    series = square * (1 / 13)
    for odd in (11, 9, 7, 5, 3):
        series.add_(1 / odd).mul_(square)
    near = series.mul_(-2).add_(x).mul_(r)
    return torch.where(x.abs() < _NEAR, near, x - log1p_x)


def to_standard_normal(mu: Real, scale: Real, parametrization: GaussianScale = "sigma") -> GaussianPair:
    """The pair whose p is N(0, I)."""
    mu = as_array(mu)
    return GaussianPair(mu, scale, np.zeros_like(mu), np.zeros_like(mu), parametrization, "log_variance")


def gaussian_kl(pair: GaussianPair, *, device: Device = "cpu") -> GaussianDivergence:
    """KL(q‖p) of one job. Raises InvalidInput as `gaussian_kl_batch` answers it."""
    return only(gaussian_kl_batch([pair], device=device))


def gaussian_kl_batch(
    pairs: Sequence[GaussianPair], *, device: Device = "cpu"
) -> list[GaussianDivergence | InvalidInput]:
    """KL(q‖p) = ½ Σ_d (σ_q²/σ_p² - 1 - log(σ_q²/σ_p²) + (μ_q - μ_p)²/σ_p²) of each job, with gradients, in nats.

    Jobs may differ in B and D. A job's outcome is the same to the bit alone and in any batch. It is InvalidInput for
    shapes that differ, values that are not finite, σ ≤ 0, and where float64 cannot hold the answer; pointers are
    /q/mu, /q/sigma, /q/log_variance and the same under /p, with the index of the element.
    """
    return run_batch(pairs, _prepare_pair, _compute_pairs, _diagnose_pair, device)


def only(outcomes: list[Result | InvalidInput]) -> Result:
    """The one outcome of a batch of one, raised if it is an error."""
    (outcome,) = outcomes
    if isinstance(outcome, InvalidInput):
        raise outcome
    return outcome


def _prepare_pair(pair: GaussianPair) -> tuple[tuple[GaussianScale, GaussianScale], GaussianPair]:
    mu_q, scale_q, mu_p, scale_p = map(as_array, pair[:4])
    key = pair.parametrization_q, pair.parametrization_p
    for side, kind in zip("qp", key, strict=True):
        if kind not in get_args(GaussianScale):
            allowed = list(get_args(GaussianScale))
            raise InvalidInput(f"{side} cannot be given by {kind!r}", pointer=f"/{side}", allowed=allowed)
    require_vectors("q/mu", mu_q)
    for field, array in ((f"q/{key[0]}", scale_q), ("p/mu", mu_p), (f"p/{key[1]}", scale_p)):
        require_shape(field, array, mu_q.shape, "q/mu")
    return key, GaussianPair(mu_q, scale_q, mu_p, scale_p, *key)


def _compute_pairs(
    key: tuple[GaussianScale, GaussianScale], pairs: list[GaussianPair], device: torch.device
) -> tuple[list[GaussianDivergence], bool]:
    columns = [[as_array(array) for array in column] for column in list(zip(*pairs, strict=True))[:4]]
    shapes = [mu.shape for mu in columns[0]]
    layout = lay_out([mu.size for mu in columns[0]])
    packed = pack(columns, layout)
    mu_q, scale_q, mu_p, scale_p = packed.to(device)
    log_q, log_p = (2 * s.log() if kind == "sigma" else s for s, kind in zip((scale_q, scale_p), key, strict=True))
    precision = 1 / scale_p if key[1] == "sigma" else torch.exp(-0.5 * scale_p)  # 1/σ_p
    if key == ("sigma", "sigma"):
        # σ_q - σ_p is exact near equality, which exp of a difference of logarithms is not.
        u = (scale_q - scale_p) / scale_p
        x = u * (u + 2)
    else:
        x = torch.expm1(log_q - log_p)  # x = σ_q²/σ_p² - 1
    shift = mu_q - mu_p
    # Equal means cost nothing, even where 1/σ_p overflows: 0·∞ is 0 here.
    d = torch.where(shift == 0, shift, shift * precision)
    slope = torch.where(shift == 0, shift, d * precision)
    terms = 0.5 * (excess(x, log_q - log_p) + d * d)
    grad_q = x / scale_q if key[0] == "sigma" else 0.5 * x
    grad_p = -(x + d * d) / scale_p if key[1] == "sigma" else -0.5 * (x + d * d)
    gradients = [part.cpu().numpy() for part in (slope, grad_q, -slope, grad_p)]
    divergences = sum_rows(terms.cpu().numpy(), layout, shapes)
    sound = (
        all_finite(packed.numpy(), np.concatenate(divergences, axis=None), *gradients)
        and (key[0] != "sigma" or bool((packed[1] > 0).all()))
        and (key[1] != "sigma" or bool((packed[3] > 0).all()))
    )
    parts = (unpack(gradient, layout, shapes) for gradient in gradients)
    return list(starmap(GaussianDivergence, zip(divergences, *parts, strict=True))), sound


def _diagnose_pair(pair: GaussianPair, result: GaussianDivergence) -> None:
    mu_q, scale_q, mu_p, scale_p = map(as_array, pair[:4])
    name_q, name_p = f"q/{pair.parametrization_q}", f"p/{pair.parametrization_p}"
    for field, array in (("q/mu", mu_q), (name_q, scale_q), ("p/mu", mu_p), (name_p, scale_p)):
        require(np.isfinite(array), field, array, "a finite number")
        if field.endswith("sigma"):
            require(array > 0, field, array, "> 0")
    why, allowed = "the divergence, or its gradient, overflows float64", "values whose divergence fits float64"
    with np.errstate(all="ignore"):
        square = (mu_q - mu_p) ** 2
    require(np.isfinite(result.grad_scale_q), name_q, scale_q, allowed, why)
    require(np.isfinite(square), "q/mu", mu_q, allowed, why)
    require(np.isfinite(result.grad_mu_q) & np.isfinite(result.grad_scale_p), name_p, scale_p, allowed, why)
    # What is left: d² or a sum over elements that are finite one by one.
    rows = np.broadcast_to(np.isfinite(result.divergence)[..., None], mu_q.shape)
    require(rows, "q/mu", mu_q, allowed, why)


# Label against logistic model


class LabelledPoint(NamedTuple):
    """A label y in {0, 1} of a point x under weights w, in the model Q(y=0|x) = sigmoid(wᵀx).

    x (D,) or (B, D); w (D,), shared by all rows, or of x's shape; y () or (B,).
    """

    x: Real
    w: Real
    y: Real


class LogisticDivergence(NamedTuple):
    """-log Q(y|x) in nats and wᵀx, () or (B,); gradients of the rows' sum: grad_w like w, grad_x like x."""

    divergence: Array
    logit: Array
    grad_w: Array
    grad_x: Array


def logistic_divergence(point: LabelledPoint, *, device: Device = "cpu") -> LogisticDivergence:
    """The divergence of one job. Raises InvalidInput as `logistic_divergence_batch` answers it."""
    return only(logistic_divergence_batch([point], device=device))


def logistic_divergence_batch(
    points: Sequence[LabelledPoint], *, device: Device = "cpu"
) -> list[LogisticDivergence | InvalidInput]:
    """softplus((2y-1) wᵀx) of each row in nats, with gradients (y - 1 + sigmoid(wᵀx))·x in w and (...)·w in x.

    Jobs may differ in B and D. A job's outcome is the same to the bit alone and in any batch. It is InvalidInput for
    shapes that do not fit, values that are not finite, y outside {0, 1}, and a wᵀx, or a sum of gradients, that
    float64 cannot hold; pointers are /x, /w and /y with the index of the element.
    """
    return run_batch(points, _prepare_point, _compute_points, _diagnose_point, device)


def softplus_and_sigmoid(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log(1 + eᵃ) and 1/(1 + e⁻ᵃ), elementwise, to a few ulps for every finite a, both tails included."""
    e = torch.exp(-a.abs())
    return a.clamp_min(0) + torch.log1p(e), torch.where(a >= 0, torch.ones_like(e), e) / (1 + e)


def _prepare_point(point: LabelledPoint) -> tuple[None, LabelledPoint]:
    x, w, y = map(as_array, point)
    require_vectors("x", x)
    if w.shape != x.shape:
        require_shape("w", w, x.shape[-1:], "x")
    require_shape("y", y, x.shape[:-1], "x")
    return None, LabelledPoint(x, w, y)


def _compute_points(
    key: None, points: list[LabelledPoint], device: torch.device
) -> tuple[list[LogisticDivergence], bool]:
    xs, ws, ys = ([as_array(array) for array in column] for column in zip(*points, strict=True))
    shapes = [x.shape for x in xs]
    layout, rows = lay_out([x.size for x in xs]), lay_out([y.size for y in ys])
    wide = [w if w.shape == shape else np.broadcast_to(w, shape) for w, shape in zip(ws, shapes, strict=True)]
    packed = pack([xs, wide], layout)
    x, w = packed.to(device)
    packed_rows = pack([sum_rows((x * w).cpu().numpy(), layout, shapes), ys], rows)
    t, y = packed_rows.to(device)
    sign = 2 * y - 1
    divergence, sigmoid = softplus_and_sigmoid(sign * t)
    # y - 1 + sigmoid(t) = (2y-1)·sigmoid((2y-1)t), which keeps its relative accuracy where the left side cancels.
    residual = unpack((sign * sigmoid).cpu().numpy(), rows, [y.shape for y in ys])
    slope = torch.from_numpy(spread_rows(residual, layout, shapes)).to(device)
    grads_w = unpack((slope * x).cpu().numpy(), layout, shapes)
    grads_x = unpack((slope * w).cpu().numpy(), layout, shapes)
    with np.errstate(all="ignore"):
        # Rows are added one after the other: the order is the job's own.
        grads_w = [
            grad if w.shape == grad.shape else np.add.reduce(grad, axis=0) for w, grad in zip(ws, grads_w, strict=True)
        ]
    divergences = unpack(divergence.cpu().numpy(), rows, [y.shape for y in ys])
    logits = unpack(packed_rows[0].numpy(), rows, [y.shape for y in ys])
    labels = packed_rows[1]
    sound = all_finite(packed.numpy(), packed_rows.numpy(), np.concatenate(grads_w, axis=None)) and bool(
        ((labels == 0) | (labels == 1)).all()
    )
    return list(starmap(LogisticDivergence, zip(divergences, logits, grads_w, grads_x, strict=True))), sound


def _diagnose_point(point: LabelledPoint, result: LogisticDivergence) -> None:
    x, w, y = map(as_array, point)
    for field, array in (("x", x), ("w", w)):
        require(np.isfinite(array), field, array, "a finite number")
    require((y == 0) | (y == 1), "y", y, "0 or 1")
    why, allowed = "wᵀx, or a gradient, overflows float64", "values whose wᵀx fits float64"
    require(np.broadcast_to(np.isfinite(result.logit)[..., None], x.shape), "x", x, allowed, why)
    require(np.broadcast_to(np.isfinite(result.grad_w), w.shape), "w", w, allowed, why)
