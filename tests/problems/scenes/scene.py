"""Two scans of one scene with the true motion between them: q = R p + T."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

Sort = Literal["sound", "degenerate", "hopeless"]


class Freedom(NamedTuple):
    """A motion of the source that leaves the fit as good as it was: along the axis, or about it."""

    kind: Literal["translation", "rotation"]
    axis: Float64  # (3,) unit vector, in the frame of the target


class Scene(NamedTuple):
    """Two clouds and the true R and T. Lengths are in metres, or in sizes of an object.

    sound: the clouds determine the motion. degenerate: they determine it up to `free`. hopeless: no motion is right, so
    R and T mean nothing.
    """

    kind: str
    sort: Sort
    source: Float64  # (N, 3)
    target: Float64  # (M, 3)
    rotation: Float64  # (3, 3)
    translation: Float64  # (3,)
    free: tuple[Freedom, ...] = ()


class Place(NamedTuple):
    """Where a sensor stands: w = R p + o takes its coordinates p into those of the world."""

    rotation: Float64  # (3, 3)
    origin: Float64  # (3,)


class Error(NamedTuple):
    """How far off a motion is."""

    degrees: float
    length: float  # the distance at the source's centroid, in the unit of the clouds


def error(scene: Scene, rotation: Float64, translation: Float64) -> Error:
    """The error of q = R p + T. The angle comes from the chord ‖R - R'‖_F = 2√2 sin(θ/2)."""
    chord = float(np.linalg.norm(rotation - scene.rotation))
    centre = scene.source.mean(0)
    # Differences first: 500 km from the origin, R c and T are large and nearly cancel.
    off = (rotation - scene.rotation) @ centre + (translation - scene.translation)
    return Error(math.degrees(2 * math.asin(min(chord / math.sqrt(8), 1.0))), float(np.linalg.norm(off)))


def turn(vector: Float64) -> Float64:
    """The rotation (3, 3) by the length of `vector` (rad) about its direction, by Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    if angle == 0:
        return np.eye(3)
    x, y, z = vector / angle
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + math.sin(angle) * skew + (1 - math.cos(angle)) * skew @ skew)


def direction(rng: np.random.Generator) -> Float64:
    """A random unit vector (3,)."""
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def any_rotation(rng: np.random.Generator) -> Float64:
    """A rotation (3, 3), uniform over all rotations: a random unit quaternion's."""
    quaternion = rng.normal(size=4)
    w, *v = quaternion / np.linalg.norm(quaternion)
    sine = float(np.linalg.norm(v))
    return turn(2 * math.atan2(sine, w) * np.asarray(v) / sine)


def seen_from(kind: str, source: Float64, target: Float64, later: Place, earlier: Place) -> Scene:
    """The scene of two scans, each in the coordinates of its sensor: R = R₁ᵀR₂, T = R₁ᵀ(o₂ - o₁)."""
    rotation = earlier.rotation.T @ later.rotation
    return Scene(kind, "sound", source, target, rotation, earlier.rotation.T @ (later.origin - earlier.origin))


def displaced(scene: Scene, rotation: Float64, shift: Float64) -> Scene:
    """The scene with its target moved: q becomes R' q + t'."""
    free = tuple(one._replace(axis=rotation @ one.axis) for one in scene.free)
    return scene._replace(
        target=scene.target @ rotation.T + shift,
        rotation=rotation @ scene.rotation,
        translation=rotation @ scene.translation + shift,
        free=free,
    )


def offset(scene: Scene, origin: Float64) -> Scene:
    """The scene with both clouds moved by `origin`, as map coordinates are: T becomes T + o - R o."""
    return scene._replace(
        source=scene.source + origin,
        target=scene.target + origin,
        translation=scene.translation + origin - scene.rotation @ origin,
    )


def shuffled(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with both clouds in random order."""
    return scene._replace(source=rng.permutation(scene.source), target=rng.permutation(scene.target))
