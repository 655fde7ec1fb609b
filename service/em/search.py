"""A global search for the translation, when the centroids do not settle it: partial overlap, outliers, heavy noise.

Several candidates are annealed: EM with a uniform prior and one outlier bin, whose width h falls geometrically from
where the candidate is trusted to where the target's points are told apart. Each is scored by its log-likelihood
at that last width, the same for all, and the best wins. Candidates are the centroids (from a width as large as the
clouds), the identity, and the modes of a vote: every difference y_j - x_i votes for its cell of a grid, and the
true translation collects a vote from every matched pair while the others scatter. The search is deterministic: no
random numbers, subsamples are strided, ties go to the earlier candidate.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from service.em.distances import Workspace, squared_distances
from service.em.padding import PADDING_COST, Group
from service.em.posterior import posterior
from service.em.transforms import fit_translation, translate

# Search is done on at most so many source-target pairs, with at least so many source points.
PAIRS = 1 << 20
ROWS = 256
# The grid of votes: cells in all, on at most three axes, the widest ones. More axes would have too few cells each.
CELLS = 1 << 15
AXES = 3
LEVELS = 12
SIGNIFICANT = 2.0


class Found(NamedTuple):
    """The winners: t (B, D) in centred coordinates, the rms residual per axis (B,), and the start's name."""

    translation: Tensor
    sigma: Tensor
    name: list[str]


def search(group: Group, given: Tensor, space: Workspace) -> Found:
    """The best of all candidates for each problem. `given` (B,) is σ where it is known and 0 where not."""
    B, D = len(given), group.dimension
    thin = _thinned(group)
    spread = ((group.source_variance + group.target_variance) / D).sqrt()
    spacing = _spacing(thin, space)
    last = torch.maximum(torch.maximum(spacing / 4, given), group.floor)
    near = torch.maximum(torch.maximum(2 * spacing, last), group.floor)
    votes, width = _votes(thin, torch.maximum(spacing, 2 * given))
    zero = torch.zeros_like(votes[0])
    candidates = [("anneal", zero, torch.maximum(spread, last)), ("identity", group.to_centred(zero), near)]
    candidates += [("vote", vote, torch.maximum(width, last)) for vote in votes]
    many = thin.select(torch.arange(B, device=given.device).repeat(len(candidates)))
    t, sigma, score = _anneal(
        many,
        torch.cat([c[1] for c in candidates]),
        torch.cat([c[2] for c in candidates]),
        last.repeat(len(candidates)),
        space,
    )
    totals = score.sum(-1)
    best, winner = totals[:B].clone(), torch.zeros(B, dtype=torch.int64, device=given.device)
    for c in range(1, len(candidates)):
        better = totals[c * B : (c + 1) * B] > best
        best = torch.where(better, totals[c * B : (c + 1) * B], best)
        winner = torch.where(better, c, winner)
    at = winner * B + torch.arange(B, device=given.device)
    _, _, raw = _evaluate(thin, zero, last, space)
    gain = score[at] - raw
    stay = (group.source_count == group.target_count) & (gain.sum(-1) < SIGNIFICANT * gain.square().sum(-1).sqrt())
    t = torch.where(stay[:, None], zero, t[at])
    sigma = torch.where(stay, spread, sigma[at])
    names = [candidates[c][0] for c in winner.tolist()]
    return Found(t, sigma, ["centroid" if s else n for n, s in zip(names, stay.tolist())])


def _thinned(group: Group) -> Group:
    """The same problems on every k-th point, so that a pass is at most PAIRS pairs."""
    M = min(group.target.shape[2], PAIRS // ROWS)
    N = min(group.source.shape[2], ROWS)
    source, rows, n = _strided(torch.cat([group.source, group.rows[:, None]], 1), group.source_count, N)
    target, columns, m = _strided(group.target, group.target_count, M)
    return group._replace(
        source=source[:, :-1],
        rows=rows,
        source_count=n,
        target=target,
        target_count=m,
        cost=((1 - columns) * PADDING_COST)[:, None],
    )


def _strided(points: Tensor, count: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """`size` of the points (B, K, N) at equal strides, or all; which are real (B, size); and how many (B,)."""
    kept = count.clamp(max=size)
    position = torch.arange(size, dtype=torch.float64, device=points.device).expand(len(points), size)
    real = (position < kept[:, None]).to(torch.float64)
    index = (position * (count / kept)[:, None]).floor().to(torch.int64).clamp(max=points.shape[2] - 1)
    taken = points.gather(2, index[:, None].expand(-1, points.shape[1], -1))
    return taken * real[:, None], real, kept


def _spacing(group: Group, space: Workspace) -> Tensor:
    """The median distance (B,) from a target point to its nearest other one, over a strided sample.

    A single point has no neighbour; then the clouds' spread stands in.
    """
    B, D, M = group.target.shape[0], group.dimension, group.target.shape[2]
    size = min(M, 64)
    sample, real, kept = _strided(group.target, group.target_count, size)
    own = torch.arange(size, dtype=torch.float64, device=real.device) * (group.target_count / kept)[:, None]
    found = torch.empty(B, size, dtype=torch.float64, device=real.device)
    for item in range(B):
        out = torch.empty(1, size, M, dtype=torch.float64, device=real.device)
        at = slice(item, item + 1)
        squared_distances(
            sample[at, :D, :, None], group.target[at, :, None], group.cost[at], out, torch.empty_like(out)
        )
        out.scatter_(2, own[at].floor().to(torch.int64).clamp(max=M - 1)[..., None], PADDING_COST)
        found[at] = out.amin(-1)
    found = torch.where(real > 0, found, torch.inf).sort(-1).values
    median = found.gather(1, ((kept - 1) / 2).floor().to(torch.int64)[:, None])[:, 0].sqrt()
    spread = ((group.source_variance + group.target_variance) / D).sqrt()
    return torch.minimum(median, spread)


def _votes(group: Group, least: Tensor) -> tuple[list[Tensor], Tensor]:
    """Candidate translations (B, D), best first, and the width (B,) of the cells that they were found in."""
    D = group.dimension
    d = min(D, AXES)
    side = math.floor(CELLS ** (1 / d))
    real = group.target[:, D:]
    y = torch.where(real > 0, group.target[:, :D], torch.nan)
    x = torch.where(group.rows[:, None] > 0, group.source, torch.nan)
    axes = (
        (group.source.square().sum(-1) / group.source_count[:, None])
        + (group.target[:, :D].square().sum(-1) / group.target_count[:, None])
    ).argsort(dim=-1, descending=True, stable=True)[:, :d]
    x, y = (
        x.gather(1, axes[..., None].expand(-1, -1, x.shape[2])),
        y.gather(1, axes[..., None].expand(-1, -1, y.shape[2])),
    )
    low = y.nan_to_num(nan=torch.inf).amin(-1) - x.nan_to_num(nan=-torch.inf).amax(-1)
    high = y.nan_to_num(nan=-torch.inf).amax(-1) - x.nan_to_num(nan=torch.inf).amin(-1)
    width = torch.maximum(((high - low) / (side - 1)).amax(-1), least)
    votes = []
    for offset in (0.0, 0.5):
        code = torch.zeros(len(x), x.shape[2], y.shape[2], dtype=torch.float64, device=x.device)
        for a in range(d):
            cell = (y[:, a, None, :] - x[:, a, :, None] - low[:, a, None, None]) / width[:, None, None] + offset
            code = code * side + cell.floor().clamp(0, side - 1)
        weight = ~code.isnan()
        index = code.nan_to_num(nan=0.0).to(torch.int64).flatten(1)
        counts = torch.zeros(len(x), side**d, dtype=torch.int64, device=x.device)
        counts.scatter_add_(1, index, weight.flatten(1).to(torch.int64))
        order = counts * side**d + torch.arange(side**d, device=x.device).flip(0)
        for top in order.topk(min(2, side**d), -1).indices.unbind(1):
            members = (code == top[:, None, None]).to(torch.float64)
            per_row, per_column = members.sum(-1), members.mT.contiguous().sum(-1)
            total = per_row.sum(-1)
            votes.append(
                ((group.target[:, :D] * per_column[:, None]).sum(-1) - (group.source * per_row[:, None]).sum(-1))
                / total.clamp(min=1)[:, None]
            )
    return votes, width


def _anneal(
    group: Group, translation: Tensor, first: Tensor, last: Tensor, space: Workspace
) -> tuple[Tensor, Tensor, Tensor]:
    """EM with an outlier bin while the width falls from `first` to `last`: t, rms residual per axis, score."""
    D = group.dimension
    # The bin takes a point over where no target is within D + 4 standard deviations of a chi-square of D.
    outlier = -(D + 4 * math.sqrt(2 * D)) / 2
    ratios = (last / first).tolist()
    fall = torch.tensor([ratio ** (1 / (LEVELS - 1)) for ratio in ratios], dtype=torch.float64, device=last.device)
    width = first
    for level in range(LEVELS):
        post, inlier, _ = _robust(group, translation, width, space)
        mass = inlier.sum(-1)
        inlier = torch.where((mass > 1e-9)[:, None], inlier, group.rows)
        translation = fit_translation(group.source, post.matched, inlier)
        width = torch.maximum(width * fall, last) if level < LEVELS - 2 else last
    return _evaluate(group, translation, last, space)


def _robust(group, translation, width, space):
    D = group.dimension
    outlier = -(D + 4 * math.sqrt(2 * D)) / 2
    precision = 0.5 / width.square()
    post = posterior(translate(group.source, translation), group.target, group.cost, precision, space, residual=True)
    odds = torch.exp((post.log_evidence - outlier).clamp(-700, 700))
    inlier = odds / (1 + odds) * group.rows
    return post, inlier, torch.log1p(odds) * group.rows


def _evaluate(group, translation, width, space):
    post, inlier, score = _robust(group, translation, width, space)
    sigma = ((post.residual * inlier).sum(-1) / (inlier.sum(-1) * group.dimension).clamp(min=1e-300)).sqrt()
    return translation, sigma, score
