"""Choice of latents among the candidates of an image: screening for a digit, and rejection sampling.

Candidate 0 of an image is its plain latent. Further candidates follow in the same Philox stream, and the uniform
numbers of rejection sampling come from another part of it. A choice therefore depends only on seed, image, truncation,
digit and sampler, and not on its batch: the screen always multiplies matrices of the same shape, and the networks of
images give a row the same bits in any batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..formats.images import UINT8
from . import sampling
from .classifier import probabilities
from .companions import Companions
from .critic import acceptance
from .networks import LATENT_DIM
from .packing import Float32
from .sampling import to_input

# Latents screened at once. About one latent in ten shows a given digit, so a chunk usually contains one that passes.
CHUNK_ROWS = 16
# Maximum chunks per image.
MAX_CHUNKS = 128
# Maximum candidates that the critic judges per image, and candidates per round.
MAX_TRIES = 64
ROUND_TRIES = 2


def never() -> bool:
    """The `cancelled` of a request that cannot be cancelled."""
    return False


class ChoiceRequest(NamedTuple):
    """A request for the latent of image number `image` of `seed`, of one digit or any, with or without rejection.

    `cancelled` is called before each chunk and each round. Once it returns true, the best latent so far is chosen.
    """

    seed: int
    image: int
    truncation: float = 1.0
    digit: int | None = None
    rejection: bool = False
    cancelled: Callable[[], bool] = never


class Choice(NamedTuple):
    """The chosen latent of one image."""

    latent: Float32
    """(128,)"""
    accepted: bool
    """Whether it passed. If not, no candidate did, and it is the best of those examined."""
    attempts: int
    """Candidates examined, up to the chosen one."""


class _Candidate(NamedTuple):
    """A latent (128,), whether it passed the screen, and its number in the stream, counted from 1."""

    latent: Float32
    passed: bool
    attempts: int


class _Stream:
    """The candidates of one image, in order: all of them, or those that pass the screen for its digit."""

    def __init__(self, request: ChoiceRequest, companions: Companions) -> None:
        self._request = request
        self._companions = companions
        self._normals = sampling.normals(request.seed, request.image)
        self._chunks = 0
        self._ready: list[_Candidate] = []
        self._best = _Candidate(np.empty(0, np.float32), False, 0)
        self._best_probability = -1.0
        self._any_passed = False

    @property
    def drawn(self) -> int:
        """Number of latents drawn so far."""
        return self._chunks * CHUNK_ROWS

    def take(self, count: int) -> list[_Candidate]:
        """Up to `count` more candidates; fewer or none once the maximum of chunks is drawn."""
        # One chunk is always drawn, so that a cancelled choice also ends with a latent.
        while (
            len(self._ready) < count and self._chunks < MAX_CHUNKS and not (self._chunks and self._request.cancelled())
        ):
            rows = self._draw()
            self._ready += rows if self._request.digit is None else self._screen(rows, self._request.digit)
        if not self._ready and not self._any_passed and self._best_probability >= 0:
            # No candidate passed, so the most likely one is taken, once.
            self._any_passed = True
            return [self._best._replace(attempts=self.drawn)]
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    def _draw(self) -> list[_Candidate]:
        rows = self._normals.standard_normal((CHUNK_ROWS, LATENT_DIM), np.float32)
        if self._request.truncation != 1:
            rows = sampling.truncate(rows, self._request.truncation)
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
    """Probabilities (16, 10) of the digits for a chunk of latents `rows` (16, 128), always computed on the CPU."""
    # torch aligns its own copy, so the choice of the kernel does not depend on numpy's alignment.
    return probabilities(companions.latent_classifier(torch.from_numpy(rows).clone()).numpy())


def at_once(compute: Callable[[Float32], Float32], rows: Float32) -> Float32:
    """`compute(rows)`."""
    return compute(rows)


def choose(
    requests: Sequence[ChoiceRequest],
    companions: Companions,
    draw: Callable[[Float32], UINT8],
    judge: Callable[[Float32], Float32],
    in_parts: Callable[[Callable[[Float32], Float32], Float32], Float32] = at_once,
) -> list[Choice]:
    """One choice for each of `requests`, in order.

    Without rejection, the first candidate that passes the screen is chosen. With rejection, the critic judges
    candidates in rounds over all undecided images, and each candidate is kept with the calibrated probability. After 64
    tries without success, the candidate with the highest score is chosen. On a tie of scores, the first candidate is
    the best.

    `draw` returns images (B, 32, 32) in grey levels of latents (B, 128), and `judge` the logs (B,) of the critic for
    images (B, 32, 32) in [-1, 1]. `in_parts(compute, rows)` returns `compute(rows)`, and may compute some of the rows
    at a time.
    """
    streams = [_Stream(request, companions) for request in requests]
    chosen: list[Choice | None] = [None] * len(requests)
    pending = []

    def critic(rows: Float32) -> Float32:
        # The critic judges 8-bit levels, as all networks of images do.
        return judge(to_input(draw(rows)))

    for place, (request, stream) in enumerate(zip(requests, streams, strict=True)):
        if request.rejection:
            pending.append(_Trial(place, stream, sampling.uniforms(request.seed, request.image), request.cancelled))
        else:
            (candidate,) = stream.take(1)
            chosen[place] = Choice(candidate.latent, candidate.passed, candidate.attempts)
    while pending:
        offers = [trial.stream.take(min(ROUND_TRIES, MAX_TRIES - trial.tries)) for trial in pending]
        rows = [candidate.latent for offer in offers for candidate in offer]
        scores = iter(in_parts(critic, np.stack(rows)).tolist() if rows else ())
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
    """The state of rejection sampling for one image."""

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
        """The choice, or None to continue. `logs` are the critic's scores of the candidates in `offer`."""
        for candidate, log in zip(offer, logs, strict=True):
            self.tries += 1
            if self._best is None or log > self._best_log:
                self._best, self._best_log = candidate, log
            if self._uniforms.random() < acceptance(log):
                return Choice(candidate.latent, candidate.passed, candidate.attempts)
            last = candidate.attempts
        if self._best is not None and (not offer or self.tries >= MAX_TRIES or self._cancelled()):
            return Choice(self._best.latent, False, last if offer else self.stream.drawn)
        return None
