"""The accounts of requests, and the slopes of a soak."""

from __future__ import annotations

import os

import numpy as np
import pytest

from benchmarks.faults.judging import fate_of
from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.faults.resources import Resources, resources
from benchmarks.faults.slope import fit
from benchmarks.faults.soak import BOUNDS, slopes
from benchmarks.serving.connection import Answer
from benchmarks.serving.mixtures import essence


def answer(status: int, body: bytes = b"x", more: bytes = b"") -> Answer:
    head = b"http/1.1 %d x\r\ncontent-type: text/plain\r\ncontent-length: %d%b" % (status, len(body), more)
    return Answer(status, head, body)


def test_every_request_has_one_fate_and_an_open_one_is_lost() -> None:
    ledger = Ledger()
    for _ in range(5):
        ledger.offer()
    for fate in (Fate.ANSWERED, Fate.REFUSED, Fate.WITHDRAWN):
        ledger.settle(fate)
    assert (ledger.open, ledger.is_clean) == (2, False)
    ledger.settle(Fate.ANSWERED)
    ledger.close()
    assert ledger.equation() == "offered 5 = answered 2 + refused 1 + wrong 0 + lost 1 + withdrawn 1"
    assert ledger.offered == ledger.fates.total()
    assert not ledger.is_clean
    with pytest.raises(ValueError, match="more requests"):
        ledger.settle(Fate.ANSWERED)


def test_a_ledger_is_clean_only_without_wrong_lost_and_broken_claims() -> None:
    for fate in Fate:
        ledger = Ledger()
        ledger.offer()
        ledger.settle(fate, "why")
        assert ledger.is_clean == (fate not in {Fate.WRONG, Fate.LOST})
        assert ledger.faults == ([] if ledger.is_clean else [f"{fate}: why"])
    for holds in (True, False):
        ledger = Ledger()
        ledger.claim(holds, "a claim")
        assert ledger.is_clean == holds
        assert ledger.broken == ([] if holds else ["a claim"])


def test_an_answer_is_right_refused_or_wrong() -> None:
    expected = essence(answer(200, b"right"))
    later = b"\r\nretry-after: 1"
    assert fate_of(answer(200, b"right"), expected) is Fate.ANSWERED
    assert fate_of(answer(200, b"other"), expected) is Fate.WRONG
    assert fate_of(answer(500), expected) is Fate.WRONG
    assert fate_of(answer(422), expected) is Fate.WRONG
    assert fate_of(answer(504), expected) is Fate.REFUSED
    assert fate_of(answer(503, more=later), expected) is Fate.REFUSED
    assert fate_of(answer(429, more=later), expected) is Fate.REFUSED
    assert fate_of(answer(503), expected) is Fate.WRONG  # it does not say when to come again
    # The right answer to a bad request is its error.
    assert fate_of(answer(422), essence(answer(422))) is Fate.ANSWERED


def test_the_slope_of_a_line_is_exact() -> None:
    seconds = np.arange(0.0, 3600.0, 5.0)
    slope = fit(seconds, 100 + 7 * seconds / 3600)
    assert slope.per_hour == pytest.approx(7)
    assert slope.error == pytest.approx(0, abs=1e-9)
    assert slope.exceeds(6.9)
    assert not slope.exceeds(7.1)


def test_the_interval_of_a_slope_holds_the_truth_also_if_samples_are_like_their_predecessors() -> None:
    rng = np.random.default_rng(0)
    seconds = np.arange(0.0, 3600.0, 5.0)
    true, missed = 3.0, 0
    for _ in range(200):
        noise = np.convolve(rng.normal(size=len(seconds) + 9), np.ones(10) / 10, "valid")
        slope = fit(seconds, true * seconds / 3600 + noise)
        missed += abs(slope.per_hour - true) > slope.error
    assert missed <= 12  # 1 % of 200 would be 2


def test_few_samples_prove_nothing() -> None:
    for count in range(3):
        assert not fit(np.arange(count, dtype=float), np.arange(count, dtype=float) * 1e9).exceeds(0)


def test_the_start_of_a_soak_does_not_count_and_a_leak_after_it_does() -> None:
    grown = [(t, Resources(200.0 + min(t, 60.0), 1.0, 9, 5, 2)) for t in np.arange(0.0, 600.0, 5.0).tolist()]
    assert slopes(grown, 600)["pss"].per_hour == pytest.approx(0, abs=1e-6)
    leaking = [(t, Resources(200.0 + t / 10, 1.0, 9, 5, 2)) for t, _ in grown]
    slope = slopes(leaking, 600)["pss"]
    assert slope.per_hour == pytest.approx(360)
    assert slope.exceeds(BOUNDS["pss"].over(500 / 3600))


def test_a_process_has_memory_descriptors_and_a_thread() -> None:
    found = resources(os.getpid())
    assert 1 < found.pss <= found.rss * 1.01
    assert found.descriptors >= 3
    assert found.threads >= found.processes >= 1
