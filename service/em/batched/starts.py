"""Where the iteration starts: the first translation, and the first σ where σ is estimated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..problem import Problem
from .distances import Workspace
from .padding import Group
from .posterior import nearest
from .search import search
from .transforms import translate

# A source whose nearest targets cover this share of the target is a bijection about the right translation: under a
# wrong one the nearest targets of N points cover about 1 - 1/e of N.
COVERAGE = 0.9


class Start(NamedTuple):
    """First T in centred coordinates (B, D), first σ (B,), and the name of the start that each problem took."""

    translation: Tensor
    sigma: Tensor
    name: list[str]
    rival: dict[int, Tensor]  # (D,) where another T, in the caller's coordinates, fits about as well


def start(group: Group, problems: Sequence[Problem], space: Workspace) -> Start:
    """The start that the problems, which share one kind of `init`, ask for.

    "identity" is T = 0 and "centroid" T = mean(q) - mean(p). A σ to be estimated starts from the mean over all pairs,
    σ² = mean_ij ‖p_i + T - q_j‖² / D; for "auto" it starts from the width at which the winning start was found.
    """
    init = problems[0].init
    given = torch.tensor([p.sigma or 0.0 for p in problems], dtype=torch.float64)
    if isinstance(init, str) and init == "auto":
        found = _auto(group, given, space)
        return found._replace(sigma=torch.where(given > 0, given, torch.maximum(found.sigma, group.floor)))
    if not isinstance(init, str):
        offsets = torch.stack([p.init for p in problems if isinstance(p.init, Tensor)])
        translation, name = group.to_centred(offsets), "given"
    elif init == "identity":
        translation, name = group.to_centred(torch.zeros_like(group.shift[:, 0])), init
    else:
        translation, name = group.centroid, init
    apart = (translation - group.centroid).square().sum(-1)
    variance = group.source_variance + group.target_variance + apart
    sigma = torch.maximum((variance / group.dimension).sqrt(), group.floor)
    return Start(translation, torch.where(given > 0, given, sigma), [name] * len(problems), {})


def _auto(group: Group, given: Tensor, space: Workspace) -> Start:
    """The difference of centroids where it makes the clouds a bijection; else the best of a search.

    Under a bijection that difference is the answer, whatever the shift, up to σ / √N.
    """
    index, distance = nearest(translate(group.source, group.centroid), group.target, group.cost, space)
    hits = torch.zeros_like(group.target[:, -1]).scatter_add_(1, index, group.rows)
    covered = (hits > 0).to(torch.float64).sum(-1)
    bijective = (group.source_count == group.target_count) & (covered >= COVERAGE * group.target_count)
    translation = group.centroid.clone()
    sigma = ((distance * group.rows).sum(-1) / (group.source_count * group.dimension)).sqrt()
    name = ["centroid"] * len(given)
    rival: dict[int, Tensor] = {}
    rest = torch.nonzero(~bijective)[:, 0]
    if len(rest):
        found = search(group.select(rest), given[rest])
        translation[rest], sigma[rest] = found.translation, found.sigma
        for i, winner in zip(rest.tolist(), found.name, strict=True):
            name[i] = winner
        for i, other in zip(rest.tolist(), found.rival, strict=True):
            if other is not None:
                rival[i] = group.select(rest.new_tensor([i])).to_original(other[None])[0]
    return Start(translation, sigma, name, rival)
