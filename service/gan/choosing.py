"""Choosing latents: candidates of a seed's own stream, screened for a digit, and judged by rejection sampling.

Candidate 0 of an image is its plain latent, the others follow in its own Philox stream, and the uniform numbers that
decide come from another stretch of it. So a choice depends on (seed, index), the truncation, the digit and the sampler
alone, never on what else is in the batch: screening always multiplies matrices of the same shape, and the networks of
images give a row the same bits in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from . import sampling
from .classifier import probabilities
from .companions import Companions
from .critic import acceptance
from .networks import LATENT_DIM, Generator
from .sampling import Float32, to_input

# Latents that are screened at once. A digit is one in ten, so that one chunk mostly holds several that pass.
CHUNK_ROWS = 16
MAX_CHUNKS = 128
# Images that rejection sampling looks at, for one image to be kept, and how many of them in one round.
MAX_TRIES = 64
ROUND_TRIES = 2


def never() -> bool:
    """The cancellation hook of a wish that is never cancelled."""
    return False


class Wish(NamedTuple):
    """One image to be: number `image` of `seed`, of one digit or any, and whether candidates may be rejected.

    `cancelled` is asked before every chunk and every round; once true, the best latent until then is taken.
    """

    seed: int
    image: int
    truncation: float = 1.0
    digit: int | None = None
    rejection: bool = False
    cancelled: Callable[[], bool] = never


class Choice(NamedTuple):
    """The latent (128,) of one image; whether it passed, or is the best of those that did not; how many were tried."""

    latent: Float32
    accepted: bool
    attempts: int


class _Candidate(NamedTuple):
    latent: Float32
    passed: bool
    attempts: int


class _Stream:
    """The candidates of one image, in order: all of them, or those that look like its digit."""

    def __init__(self, wish: Wish, companions: Companions) -> None:
        self._wish = wish
        self._companions = companions
        self._normals = sampling.normals(wish.seed, wish.image)
        self._chunks = 0
        self._ready: list[_Candidate] = []
        self._best = _Candidate(np.empty(0, np.float32), False, 0)
        self._best_probability = -1.0
        self._any_passed = False

    @property
    def looked_at(self) -> int:
        """How many latents were drawn."""
        return self._chunks * CHUNK_ROWS

    def take(self, count: int) -> list[_Candidate]:
        """Up to `count` more candidates; fewer, or none, where the stream's bound is reached."""
        # One chunk is always drawn: what is cancelled ends with a latent too.
        while len(self._ready) < count and self._chunks < MAX_CHUNKS and not (self._chunks and self._wish.cancelled()):
            rows = self._draw()
            self._ready += rows if self._wish.digit is None else self._screen(rows, self._wish.digit)
        if not self._ready and not self._any_passed and self._best_probability >= 0:
            # No candidate passed, so the likeliest one is taken.
            self._any_passed = True
            return [self._best._replace(attempts=self.looked_at)]
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    def _draw(self) -> list[_Candidate]:
        rows = self._normals.standard_normal((CHUNK_ROWS, LATENT_DIM), np.float32)
        if self._wish.truncation != 1:
            rows = sampling.truncate(rows, self._wish.truncation)
        first = self._chunks * CHUNK_ROWS + 1
        self._chunks += 1
        return [_Candidate(row, True, first + place) for place, row in enumerate(rows)]

    def _screen(self, rows: list[_Candidate], digit: int) -> list[_Candidate]:
        scores = screen(self._companions, np.stack([row.latent for row in rows]))[:, digit]
        best = int(scores.argmax())
        if scores[best] > self._best_probability:
            self._best, self._best_probability = rows[best]._replace(passed=False), float(scores[best])
        passed = [row for row, score in zip(rows, scores, strict=True) if score >= self._companions.thresholds[digit]]
        self._any_passed = self._any_passed or bool(passed)
        return passed


@torch.inference_mode()
def screen(companions: Companions, rows: Float32) -> Float32:
    """Probabilities (16, 10) of the digits for a chunk of latents (16, 128), always computed on the CPU."""
    # A copy by torch is aligned as kernels like it, wherever numpy's array began.
    return probabilities(companions.latent_classifier(torch.from_numpy(rows).clone()).numpy())


def choose(wishes: Sequence[Wish], generator: Generator, companions: Companions, device: torch.device) -> list[Choice]:
    """A latent for each of `wishes`; networks are on `device`, but for the classifier of latents.

    Without rejection the first candidate that passes the screen is taken. With it candidates are drawn, judged by the
    critic and kept with the calibrated probability, in rounds over all images that still wait; after 64 tries the one
    that the critic likes best is taken.
    """
    streams = [_Stream(wish, companions) for wish in wishes]
    chosen: list[Choice | None] = [None] * len(wishes)
    pending = []
    for place, (wish, stream) in enumerate(zip(wishes, streams, strict=True)):
        if wish.rejection:
            pending.append(_Trial(place, stream, sampling.uniforms(wish.seed, wish.image), wish.cancelled))
        else:
            (candidate,) = stream.take(1)
            chosen[place] = Choice(candidate.latent, candidate.passed, candidate.attempts)
    while pending:
        offers = [trial.stream.take(min(ROUND_TRIES, MAX_TRIES - trial.tries)) for trial in pending]
        rows = [candidate.latent for offer in offers for candidate in offer]
        scores = iter(_criticise(np.stack(rows), generator, companions, device) if rows else ())
        waiting = []
        for trial, offer in zip(pending, offers, strict=True):
            choice = trial.judge(offer, [next(scores) for _ in offer])
            if choice is None:
                waiting.append(trial)
            else:
                chosen[trial.place] = choice
        pending = waiting
    return [choice for choice in chosen if choice is not None]


class _Trial:
    """Rejection sampling for one image."""

    def __init__(
        self, place: int, stream: _Stream, uniforms: np.random.Generator, cancelled: Callable[[], bool]
    ) -> None:
        self.place = place
        self.stream = stream
        self.tries = 0
        self._uniforms = uniforms
        self._cancelled = cancelled
        self._best: _Candidate | None = None
        self._best_log = -np.inf

    def judge(self, offer: list[_Candidate], logs: list[float]) -> Choice | None:
        """The choice, once there is one."""
        for candidate, log in zip(offer, logs, strict=True):
            self.tries += 1
            if self._best is None or log > self._best_log:
                self._best, self._best_log = candidate, log
            if self._uniforms.random() < acceptance(log):
                return Choice(candidate.latent, candidate.passed, candidate.attempts)
            last = candidate.attempts
        if self._best is not None and (not offer or self.tries >= MAX_TRIES or self._cancelled()):
            return Choice(self._best.latent, False, last if offer else self.stream.looked_at)
        return None


def _criticise(rows: Float32, generator: Generator, companions: Companions, device: torch.device) -> list[float]:
    # Levels are judged, as they are everywhere.
    images = to_input(sampling.generate(generator, rows, device))
    return [float(log) for log in sampling.logits(companions.judge, images, device)]
