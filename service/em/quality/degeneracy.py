"""Motions of the source that the clouds leave undetermined: along a corridor, about the axis of a pipe.

A displacement of x changes its distance to the surface by the part along the normal n. With J_i the displacement of x_i
by each parameter of a rigid motion, Σ_i (J_iᵀ n_i)(J_iᵀ n_i)ᵀ is the information of point-to-plane registration
(Gelfand, Ikemoto, Rusinkiewicz and Levoy 2003). Directions of little information are then tried: the motion is
undetermined if a displacement by several spacings costs little of the evidence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..outcome import Freedom
from .discs import nearest
from .surfaces import Comparison, offsets
from .tuning import SURFACE, VERDICT

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Of a point's offset from its patch, in widths of the patch, within which it stays on the surface.
ON_SURFACE = 3.0
# The share of flat patches from which on all others count as badly sampled.
MOSTLY_FLAT = 0.85
# Squared sines below this are rounding.
NEGLIGIBLE = 1e-6


class Motion(NamedTuple):
    """A rigid motion about a centre: a step, and a turn."""

    step: Float64  # (D,) in lengths
    turn: Float64  # (k,) in lengths at the distance of the cloud's extent; k is 3 in space, 1 in the plane, or 0


def free_motions(found: Comparison, dimension: int, *, rotates: bool) -> tuple[Freedom, ...]:
    """The motions that leave the source on the surfaces of the target; turns only if the transform `rotates`."""
    D, target, patch = dimension, found.target, found.patches
    _, index = nearest(found.sample, target.grid, math.inf)
    # Points along a line, such as those of a single ring of a lidar, have no normal.
    usable = patch.flat if patch.flat[index].mean() > MOSTLY_FLAT else patch.wide
    agreeing = found.agreeing & usable[index]
    if agreeing.sum() < VERDICT.freedom_points:
        return ()
    some = found.sample[:D, agreeing].T
    centre = some.mean(0)
    extent = float(np.sqrt(np.square(some - centre).sum(1).mean()))
    normals = patch.normals[:D, index[agreeing]].T
    turns = _turns(some - centre, D) / extent if rotates else np.zeros((0, *some.shape))
    rows = np.concatenate([np.einsum("knd,nd->kn", turns, normals), normals.T])
    length, before = VERDICT.step * target.spacing, _kept(found, some, usable)
    return tuple(
        _freedom(motion, D)
        for motion in _candidates(rows @ rows.T / len(some), len(turns), VERDICT.weak)
        if max(_kept(found, _displaced(some, centre, extent, motion, way * length), usable) for way in (1, -1))
        > before * (VERDICT.kept_by_turn if motion.turn.any() else VERDICT.kept)
    )


def _candidates(information: Float64, turns: int, weak: float) -> list[Motion]:
    """Steps, and turns with the steps that go best with them, whose information (k + D, k + D) is below `weak`."""
    across, steps = information[:turns, turns:], information[turns:, turns:]
    values, along = np.linalg.eigh(steps)
    out = [Motion(step, np.zeros(turns)) for value, step in zip(values, along.T, strict=True) if value < weak]
    if turns:
        # Steps that are free themselves do not take part.
        known = np.where(values > NEGLIGIBLE, 1 / np.maximum(values, NEGLIGIBLE), 0.0)
        partner = -(along * known) @ along.T @ across.T
        values, axes = np.linalg.eigh(information[:turns, :turns] + across @ partner)
        out += [Motion(partner @ axis, axis) for value, axis in zip(values, axes.T, strict=True) if value < weak]
    return out


def _kept(found: Comparison, at: Float64, usable: Bool) -> float:
    """The share of points (n, D) that are on the surface, of those that displacement has not moved away from it."""
    target = found.target
    x = np.zeros((len(target.points), len(at)))
    x[: at.shape[1]] = at.T
    limit = (SURFACE.near + VERDICT.step) * target.spacing
    distance, index = nearest(x, target.grid, limit)
    near = (distance < limit) & usable[index]
    on = np.abs(offsets(x, target, index, found.patches.normals[:, index])) < ON_SURFACE * found.across
    return float((near & on).sum()) / max(int(near.sum()), 1)


def _turns(away: Float64, dimension: int) -> Float64:
    """The displacement (k, n, D) of points at `away` (n, D) from the centre, by each turn of 1 rad."""
    if dimension == 2:
        return np.stack([-away[:, 1], away[:, 0]], 1)[None]
    return np.stack([np.cross(axis, away) for axis in np.eye(3)])


def _displaced(x: Float64, centre: Float64, extent: float, motion: Motion, length: float) -> Float64:
    """The points (n, D) after the motion, scaled so that they move by about `length`."""
    away, D = x - centre, x.shape[1]
    turn = motion.turn * length / extent
    angle = float(np.linalg.norm(turn))
    if angle > 0:
        if D == 2:
            cosine, sine = np.cos(turn[0]), np.sin(turn[0])
            away = away @ np.array([[cosine, sine], [-sine, cosine]])
        else:
            axis = turn / angle  # Rodrigues' formula
            along = np.outer(away @ axis, axis)
            away = along + np.cos(angle) * (away - along) + np.sin(angle) * np.cross(axis, away)
    return np.asarray(centre + away + motion.step * length)


def _freedom(motion: Motion, dimension: int) -> Freedom:
    """The kind of the larger part. A turn in the plane is about the axis out of it, which has no coordinates there."""
    if not motion.turn.any():
        return Freedom("translation", _signed(motion.step))
    return Freedom("rotation", _signed(motion.turn) if dimension == 3 else np.zeros(2))


def _signed(axis: Float64) -> Float64:
    """The unit vector along an axis whose largest component is positive."""
    axis = axis / np.linalg.norm(axis)
    return np.asarray(axis * np.sign(axis[np.argmax(np.abs(axis))]))
