"""The start of the iteration: the first translation, and the first σ if σ is estimated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cancellation import Poll
from ..problem import Problem
from .distances import Workspace
from .padding import Group
from .posterior import nearest
from .search import search
from .transforms import translate

# If the nearest targets of the source points cover this share of the target, the clouds match one to one. At a wrong
# translation the nearest targets of N points cover about 1 - 1/e of N.
COVERAGE = 0.9


class Start(NamedTuple):
    """First T in centred coordinates (B, D), first σ (B,), and the name of each problem's start."""

    translation: Tensor
    sigma: Tensor
    name: list[str]
    rival: dict[int, NDArray[np.float64]]  # (D,) another T, in the caller's coordinates, that fits about as well


def start(group: Group, problems: Sequence[Problem], space: Workspace, poll: Poll) -> Start:
    """The start of problems that share one kind of `init`.

    "identity" is T = 0 and "centroid" is T = mean(q) - mean(p). If σ is estimated, it starts from the mean over all
    pairs, σ² = mean_ij ‖p_i + T - q_j‖² / D. For "auto" it starts from the width of the best candidate. `poll` is
    called during the search, and may raise.
    """
    init = problems[0].init
    given = torch.tensor([p.sigma or 0.0 for p in problems], dtype=torch.float64)
    if isinstance(init, str) and init == "auto":
        found = _auto(group, given, space, poll)
        return found._replace(sigma=torch.where(given > 0, given, torch.maximum(found.sigma, group.floor)))
    if not isinstance(init, str):
        offsets = np.stack([p.init for p in problems if isinstance(p.init, np.ndarray)])
        translation, name = group.to_centred(torch.from_numpy(offsets)), "given"
    elif init == "identity":
        translation, name = group.to_centred(torch.zeros_like(group.shift[:, 0])), init
    else:
        translation, name = group.centroid, init
    apart = (translation - group.centroid).square().sum(-1)
    variance = group.source_variance + group.target_variance + apart
    sigma = torch.maximum((variance / group.dimension).sqrt(), group.floor)
    return Start(translation, torch.where(given > 0, given, sigma), [name] * len(problems), {})


def _auto(group: Group, given: Tensor, space: Workspace, poll: Poll) -> Start:
    """The difference of centroids if it makes the clouds a bijection, else the best of a search.

    For a bijection that difference is within about σ / √N of the answer, whatever the shift.
    """
    index, distance = nearest(translate(group.source, group.centroid), group.target, group.cost, space)
    hits = torch.zeros_like(group.target[:, -1]).scatter_add_(1, index, group.rows)
    covered = (hits > 0).to(torch.float64).sum(-1)
    bijective = (group.source_count == group.target_count) & (covered >= COVERAGE * group.target_count)
    translation = group.centroid.clone()
    sigma = ((distance * group.rows).sum(-1) / (group.source_count * group.dimension)).sqrt()
    name = ["centroid"] * len(given)
    rival: dict[int, NDArray[np.float64]] = {}
    rest = torch.nonzero(~bijective)[:, 0]
    if len(rest):
        found = search(group.select(rest), given[rest], poll)
        translation[rest], sigma[rest] = found.translation, found.sigma
        for i, winner in zip(rest.tolist(), found.name, strict=True):
            name[i] = winner
        for i, other in zip(rest.tolist(), found.rival, strict=True):
            if other is not None:
                rival[i] = group.select(rest.new_tensor([i])).to_original(other[None])[0].numpy()
    return Start(translation, sigma, name, rival)
