"""The kinds of transform: one record for each, which all stages of a registration read.

Every transform is an affine map (D, D + 1), x = A p + t; a nonrigid one adds a displacement of each point. The records
differ in which A are allowed and in the defaults that follow from that.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from .choices import Normalize, Transform

# Codes, by which compiled loops distinguish the kinds. `kernel.fitting.fit` has the M-step of each.
TRANSLATION, RIGID, SIMILARITY, AFFINE = range(4)

# Rotations are fitted, and searched for, in the plane and in space only.
ROTATION_DIMENSIONS = 2, 3


class TransformKind(NamedTuple):
    """What the stages need to know of one kind of transform. No field has a default, so that none is forgotten."""

    # The map.
    code: int  # of its M-step; a nonrigid transform has that of its global part
    dimensions: tuple[int, ...] | None  # the D that it is defined for; None for all
    rotates: bool  # whether A contains a rotation, whose second derivative the observed information includes
    scales: bool  # whether A may shrink the source to a point, which searches and starts must prevent
    shears: bool  # whether A is any matrix; otherwise it is a rotation times a scale, and answers state both
    deforms: bool  # whether a displacement of each point follows, shaped by `beta` and `stiffness`

    # What it needs of the caller.
    missing_rank: int | None  # the clouds must span at least D minus this many dimensions; None for no condition
    given_linear: Literal["identity", "rotation", "scaled rotation", "proper", "nonzero"]  # the A that `init` may have

    # Defaults.
    normalize: Normalize
    outlier_weight: float | Literal["auto"]  # unless the normalisation is sinkhorn, which always estimates it
    literal: bool  # whether a given σ without outliers selects the literal model, prior free

    batched: bool  # whether the batched engine computes it

    @property
    def fits_linear(self) -> bool:
        """Whether A is estimated; answers of the others have no `linear`."""
        return self.rotates or self.shears

    @property
    def one_unit(self) -> bool:
        """Whether both clouds have one unit of length, because the map keeps distances."""
        return not (self.scales or self.deforms)

    def allows(self, dimension: int) -> bool:
        """Whether the transform is defined for points of D coordinates."""
        return self.dimensions is None or dimension in self.dimensions

    def rank(self, dimension: int) -> int:
        """The number of dimensions that each cloud of D coordinates must span to determine the transform."""
        return 0 if self.missing_rank is None else dimension - self.missing_rank

    def numbers(self, dimension: int) -> int:
        """The number of parameters of the map: those of A, and D of the translation."""
        if self.shears:
            return dimension * dimension + dimension
        turns = dimension * (dimension - 1) // 2 if self.rotates else 0
        return turns + self.scales + dimension


KINDS: dict[Transform, TransformKind] = {
    "translation": TransformKind(
        code=TRANSLATION,
        dimensions=None,
        rotates=False,
        scales=False,
        shears=False,
        deforms=False,
        missing_rank=None,
        given_linear="identity",
        normalize="rows",
        outlier_weight=0.0,
        literal=True,
        batched=True,
    ),
    "rigid": TransformKind(
        code=RIGID,
        dimensions=ROTATION_DIMENSIONS,
        rotates=True,
        scales=False,
        shears=False,
        deforms=False,
        missing_rank=1,
        given_linear="rotation",
        normalize="rows",
        outlier_weight="auto",
        literal=False,
        batched=False,
    ),
    "similarity": TransformKind(
        code=SIMILARITY,
        dimensions=ROTATION_DIMENSIONS,
        rotates=True,
        scales=True,
        shears=False,
        deforms=False,
        missing_rank=1,
        given_linear="scaled rotation",
        normalize="columns",
        outlier_weight="auto",
        literal=False,
        batched=False,
    ),
    "affine": TransformKind(
        code=AFFINE,
        dimensions=None,
        rotates=False,
        scales=True,
        shears=True,
        deforms=False,
        missing_rank=0,
        given_linear="nonzero",
        normalize="columns",
        outlier_weight="auto",
        literal=False,
        batched=False,
    ),
    "nonrigid": TransformKind(
        code=RIGID,
        dimensions=ROTATION_DIMENSIONS,
        rotates=True,
        scales=False,
        shears=False,
        deforms=True,
        missing_rank=1,
        given_linear="proper",
        normalize="columns",
        outlier_weight="auto",
        literal=False,
        batched=False,
    ),
}

# The maps without a displacement, in the order of their codes.
MAPS = tuple(sorted((kind for kind in KINDS.values() if not kind.deforms), key=lambda kind: kind.code))
# `MAPS[code].rotates` and `MAPS[code].scales`, which compiled loops can read.
ROTATES = tuple(kind.rotates for kind in MAPS)
SCALES = tuple(kind.scales for kind in MAPS)
