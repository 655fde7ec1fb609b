"""The source as each iteration of a registration moves it."""

from __future__ import annotations

from ..formats.arrays import Float64

# Frames over which a nonrigid displacement grows to its full size.
UNFOLDING = 15


class Iterations:
    """Frames of a picture: the source (N, D) moved by each iteration's y = A·p + t, computed on access.

    Args:
        source: (N, D).
        translations: (K, D), t of each iteration.
        linear: (K, D, D), A of each iteration; None for the identity.
        displacement: (N, D), of a nonrigid transform, added after A and t; it grows over UNFOLDING frames at the end.
    """

    def __init__(
        self,
        source: Float64,
        translations: Float64,
        linear: Float64 | None = None,
        displacement: Float64 | None = None,
    ) -> None:
        self.source, self.translations, self.linear = source, translations, linear
        self.displacement = displacement

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.translations) + (UNFOLDING if self.displacement is not None else 0)

    def __getitem__(self, index: int, /) -> Float64:
        """Frame `index`, (N, D)."""
        beyond = max(0, index - len(self.translations) + 1)
        pose = index - beyond
        turned = self.source if self.linear is None else self.source @ self.linear[pose].T
        moved: Float64 = turned + self.translations[pose]
        if beyond and self.displacement is not None:
            moved = moved + self.displacement * (beyond / UNFOLDING)
        return moved
