"""A global search for the translation if the centroids do not determine it: partial overlap, outliers, heavy noise.

Candidates are annealed by EM with a uniform prior and an outlier bin. The width falls geometrically, from the
candidate's uncertainty to a width that separates the target's points. Each candidate is scored by its log-likelihood
at that last width, and the best wins. The candidates are: the centroids, from a width as large as the clouds
("anneal"); T = 0, from twice the spacing of the target ("identity"); the cells of `votes`, from their own width
("vote"). For N = M the difference of centroids itself ("centroid") is kept unless the winner is significantly better,
because for a bijection no other estimate of T is better.

There are no random numbers, and subsamples are strided. Scores are rounded, so that of candidates with equal scores the
one with the larger first different coordinate wins. All elementwise functions give the same bits wherever an element is
in its tensor: arithmetic, sqrt, exp, log, log1p. pow, sigmoid and logaddexp do not, because their vector and scalar
paths differ.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cancellation import Poll
from ..problem import Problem
from .distances import squared_distances
from .padding import PADDING_COST, Group, pack
from .posterior import Posterior, posterior
from .transforms import fit_sigma, fit_translation, translate
from .votes import votes

# Maximum points of each cloud in the search. The target is complete if possible: a source point without its partner
# carries no information, whereas fewer source points only make the same vote weaker.
SOURCE_POINTS = 256
TARGET_POINTS = 4096
# Maximum pairs of all problems that are searched at once, unless one has more. A step on all their candidates takes
# milliseconds, and other jobs may have their turn after it.
PAIRS = 1 << 16
# Widths in the annealing. Twelve, from the clouds' size to a quarter of the spacing, differ by 1.3 to 1.6 each.
LEVELS = 12
# EM steps of the winner after the annealing, which also estimate the width.
POLISH = 4
# Standard errors by which a candidate must beat the centroids of clouds of equal size.
SIGNIFICANT = 2.0
# Target points whose nearest neighbours determine the spacing.
NEIGHBOURS = 64
# A candidate farther than ELSEWHERE widths from the winner is distinct. It is a rival if it is within RIVAL_GAP nats.
ELSEWHERE = 3.0
RIVAL_GAP = 12.0
# Scores are equal, except for rounding, if their difference is at most TIE of them.
TIE = 1e-6
# Every annealing begins NUDGE widths beside its candidate. Between two equal places EM stays exactly in the middle, or
# rounding decides where it goes.
NUDGE = 1e-6


class Found(NamedTuple):
    """The winners: t (B, D) in centred coordinates, a first estimate of σ (B,), and the name of the start."""

    translation: Tensor
    sigma: Tensor
    name: list[str]
    rival: list[Tensor | None]  # (D,) another translation that fits about as well, if any


class TranslationCandidate(NamedTuple):
    """A translation (B, D) for each problem, and the width (B,) at which its annealing starts."""

    name: str
    translation: Tensor
    width: Tensor


@torch.inference_mode()
def search_one(
    source: NDArray[np.float64], target: NDArray[np.float64], sigma: float, poll: Poll
) -> list[NDArray[np.float64]]:
    """The winner for one problem, source (N, D) and target (M, D), and its rival, if any: T (D,) each.

    `sigma` is σ if it is known, else 0. The arrays are as `checks.check` returns them. `poll` is called repeatedly, and
    may raise.
    """
    group = pack([Problem(source, target)])
    found = search(group, torch.tensor([sigma], dtype=torch.float64), poll)
    shifts = [found.translation, *(rival[None] for rival in found.rival if rival is not None)]
    return [group.to_original(shift)[0].numpy() for shift in shifts]


def search(group: Group, given: Tensor, poll: Poll) -> Found:
    """The best of all candidates for each problem. `given` (B,) is σ if it is known, else 0.

    `poll` is called before each part of the search, and may raise.
    """
    equal = group.source_count == group.target_count
    group = _thinned(group)
    items = max(1, PAIRS // (group.rows.shape[1] * group.cost.shape[2]))
    chunks = [torch.arange(i, min(i + items, len(given))) for i in range(0, len(given), items)]
    found = [_search(group.select(chunk), given[chunk], equal[chunk], poll) for chunk in chunks]
    translations, sigmas, names, rivals = zip(*found, strict=True)
    return Found(torch.cat(translations), torch.cat(sigmas), list(chain(*names)), list(chain(*rivals)))


def _search(group: Group, given: Tensor, equal: Tensor, poll: Poll) -> Found:
    """The search on problems that are already thinned. `equal` (B,) marks those with N = M before that."""
    poll()
    B = len(given)
    every = torch.arange(B)
    centroid = group.centroid
    spread = ((group.source_variance + group.target_variance) / group.dimension).sqrt()
    spacing = torch.minimum(_spacing(group), spread)
    last = torch.maximum(torch.maximum(spacing / 4, given), group.floor)
    modes, width = votes(group, torch.maximum(torch.maximum(spacing, 2 * given), group.floor), poll)
    candidates = [
        TranslationCandidate("anneal", centroid, torch.maximum(spread, last)),
        TranslationCandidate(
            "identity", group.to_centred(torch.zeros_like(centroid)), torch.maximum(2 * spacing, last)
        ),
        *(TranslationCandidate("vote", mode, torch.maximum(width, last)) for mode in modes),
    ]
    copies = group.select(every.repeat(len(candidates)))
    narrow = last.repeat(len(candidates))
    translation = _anneal(
        copies,
        torch.cat([candidate.translation for candidate in candidates]),
        torch.cat([candidate.width for candidate in candidates]),
        narrow,
        poll,
    )
    poll()
    score = _score(copies, translation, narrow)
    score_of = score.sum(-1).view(-1, B)
    winner = _best(score_of, translation.view(len(score_of), B, -1), last)
    at = winner * B + every
    gain = score[at] - _score(group, centroid, last)
    doubtful = gain.sum(-1) <= SIGNIFICANT * gain.square().sum(-1).sqrt() + _tie(score[at].sum(-1))
    stay = equal & doubtful
    names = [candidates[k].name for k in winner.tolist()]
    rival = _rivals(translation.view(len(score_of), B, -1), score_of, winner, last)
    translation, sigma = _polish(group, translation[at], last, torch.maximum(given, group.floor), poll)
    return Found(
        torch.where(stay[:, None], centroid, translation),
        torch.where(stay, spread, sigma),
        ["centroid" if stays else name for name, stays in zip(names, stay.tolist(), strict=True)],
        [None if stays else other for other, stays in zip(rival, stay.tolist(), strict=True)],
    )


def _rivals(translation: Tensor, score: Tensor, winner: Tensor, width: Tensor) -> list[Tensor | None]:
    """For each problem the best candidate that is distinct from the winner and scores about as well.

    `translation` (C, B, D) and `score` (C, B) belong to the candidates. `winner` (B,) has indices into them.
    """
    every = torch.arange(len(winner))
    apart = (translation - translation[winner, every]).square().sum(-1).sqrt()
    others = torch.where(apart > ELSEWHERE * width, score, -torch.inf)
    rival = _best(others, translation, width)
    near = others[rival, every] > score[winner, every] - RIVAL_GAP
    return [translation[k, b] if is_near else None for b, (k, is_near) in enumerate(zip(rival, near, strict=True))]


def _best(score: Tensor, translation: Tensor, width: Tensor) -> Tensor:
    """For each problem the candidate (B,) with the largest score (C, B).

    Of equal candidates it is the one with the larger first coordinate (C, B, D) that differs by more than `width` (B,),
    and the first of those that do not differ.
    """
    largest = score.amax(0)
    left = score >= largest - _tie(largest)
    for coordinate in translation.unbind(-1):
        along = torch.where(left, coordinate, -torch.inf)
        left = along >= along.amax(0) - width
    return left.to(torch.uint8).argmax(0)


def _tie(score: Tensor) -> Tensor:
    """The difference from a score (B,) up to which another is equal."""
    return TIE * (1 + score.abs())


def nudge(dimension: int) -> NDArray[np.float64]:
    """A short step (D,), in widths, that is along no axis or diagonal of a regular cloud."""
    golden = (math.sqrt(5) - 1) / 2
    return NUDGE * (1 - np.arange(dimension) * golden % 1 / 2)


def _robust(group: Group, translation: Tensor, width: Tensor) -> tuple[Posterior, Tensor]:
    """An E-step at `width` (B,), and the odds (B, N) that each source point is an inlier.

    The outlier bin dominates if no target is within a squared distance of D + 4 √(2D) squared widths, which is four
    standard deviations of a chi-square above its mean.
    """
    D = group.dimension
    moved = translate(group.source, translation)
    post = posterior(moved, group.target, group.cost, 0.5 / width.square())
    return post, torch.exp((post.log_evidence + (D + 4 * math.sqrt(2 * D)) / 2).clamp(-700, 700))


def _anneal(group: Group, translation: Tensor, first: Tensor, last: Tensor, poll: Poll) -> Tensor:
    """t (B, D) after one robust EM step at each of LEVELS widths from `first` to `last` (B,)."""
    falls = [ratio ** (1 / (LEVELS - 2)) for ratio in (last / first).tolist()]
    fall = torch.tensor(falls, dtype=torch.float64)
    width = first
    translation = translation + torch.from_numpy(nudge(group.dimension)) * width[:, None]
    for level in range(LEVELS):
        poll()
        post, odds = _robust(group, translation, width)
        translation = fit_translation(group.source, post.matched, _inliers(group, odds))
        width = torch.maximum(width * fall, last) if level < LEVELS - 3 else last
    return translation


def _polish(group: Group, translation: Tensor, width: Tensor, least: Tensor, poll: Poll) -> tuple[Tensor, Tensor]:
    """t (B, D) after robust EM steps that estimate the width, at least `least` (B,), and σ (B,) over all points."""
    for _ in range(POLISH):
        poll()
        post, odds = _robust(group, translation, width)
        weights, before = _inliers(group, odds), translation
        translation = fit_translation(group.source, post.matched, weights)
        sigma = fit_sigma(post.residual, group.rows, translation - before, group.floor)
        width = fit_sigma(post.residual, weights, translation - before, least)
    return translation, sigma


def _inliers(group: Group, odds: Tensor) -> Tensor:
    """The weight (B, N) of each source point: its probability to be an inlier, or 1 for all if there are no inliers."""
    inlier = odds / (1 + odds) * group.rows
    return torch.where((inlier.sum(-1) > 1e-9)[:, None], inlier, group.rows)


def _score(group: Group, translation: Tensor, width: Tensor) -> Tensor:
    """Each source point's log-likelihood (B, N), up to a constant."""
    _, odds = _robust(group, translation, width)
    return torch.log1p(odds) * group.rows


def _thinned(group: Group) -> Group:
    """The same problems on points at equal strides."""
    source, rows, n = _strided(group.source, group.source_count, SOURCE_POINTS)
    target, columns, m = _strided(group.target, group.target_count, TARGET_POINTS)
    cost = ((1 - columns) * PADDING_COST)[:, None]
    return group._replace(source=source, rows=rows, source_count=n, target=target, target_count=m, cost=cost)


def _strided(points: Tensor, count: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """At most `limit` of the points (B, K, N) at equal strides, their mask (B, limit) and their number (B,)."""
    size = min(points.shape[2], limit)
    kept = count.clamp(max=size)
    index = _stride(count, kept, size).clamp(max=points.shape[2] - 1)
    real = (torch.arange(size) < kept[:, None]).to(torch.float64)
    taken = points.gather(2, index[:, None].expand(-1, points.shape[1], -1))
    return taken * real[:, None], real, kept


def _stride(count: Tensor, kept: Tensor, size: int) -> Tensor:
    """The indices floor(k · count / kept) (B, size)."""
    position = torch.arange(size, dtype=torch.float64)
    return (position * (count / kept)[:, None]).floor().to(torch.int64)


def _spacing(group: Group) -> Tensor:
    """The median distance (B,) from a target point to its nearest neighbour, over a strided sample; inf for one."""
    D, M = group.dimension, group.target.shape[2]
    sample, real, kept = _strided(group.target, group.target_count, NEIGHBOURS)
    own = _stride(group.target_count, kept, sample.shape[2]).clamp(max=M - 1)
    out = torch.empty(len(own), sample.shape[2], M, dtype=torch.float64)
    squared_distances(sample[:, :D, :, None], group.target[:, :, None], group.cost, out, torch.empty_like(out))
    nearest = out.scatter_(2, own[..., None], torch.inf).amin(-1)
    ordered = torch.where(real > 0, nearest, torch.inf).sort(-1).values
    return ordered.gather(1, ((kept - 1) / 2).to(torch.int64)[:, None])[:, 0].sqrt()
