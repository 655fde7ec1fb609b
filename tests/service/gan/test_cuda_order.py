"""The order of copies and computations on a device that works while the processor goes on.

A thread for each stream stands in for the device. What is started runs later, as slowly as a test wants.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from service.gan import cuda
from service.gan.cuda import CudaFunction

DEVICE, ROWS, SLOW_SECONDS = torch.device("cuda:1"), 4, 0.002
current = threading.local()
made_on: list[object] = []


class Stream:
    """A queue of work, which is done in its order. Once a piece of it fails, all later ones do, as on a device."""

    def __init__(self, device: object) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._error: Exception | None = None

    def start(self, work: Callable[[], object]) -> Future[None]:
        """Do `work` after all that was started before."""
        return self._thread.submit(self._do, work)

    def _do(self, work: Callable[[], object]) -> None:
        if self._error is not None:
            raise self._error
        try:
            work()
        except Exception as error:
            self._error = error
            raise

    def synchronize(self) -> None:
        """Wait for all that was started."""
        self.start(lambda: None).result()


class Event:
    """A place in a stream."""

    def __init__(self) -> None:
        self._reached: Future[None] | None = None

    def record(self, stream: Stream) -> None:
        """The place after all that was started."""
        self._reached = stream.start(lambda: None)

    def synchronize(self) -> None:
        """Wait until the stream comes to the place."""
        if self._reached is not None:
            self._reached.result()


def captured(run: Callable[[], None], stream: Stream) -> Callable[[], object]:
    """What the device does, later: it reads the inputs at the beginning, and writes the results at the end."""
    made_on.append(getattr(current, "device", None))

    def replay() -> None:
        time.sleep(SLOW_SECONDS)
        with torch.inference_mode():
            run()

    return lambda: stream.start(replay)


def page_locked(tensor: Tensor) -> Tensor:
    made_on.append(getattr(current, "device", None))
    return tensor.clone()


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the device by threads."""

    @contextlib.contextmanager
    def on(device: object) -> Iterator[None]:
        current.device = device
        yield
        current.device = None

    @contextlib.contextmanager
    def stream(_: object) -> Iterator[None]:
        yield

    empty = torch.empty
    made_on.clear()
    monkeypatch.setattr(torch.cuda, "device", on)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch, "empty", lambda *shape, device=None, **options: empty(*shape, **options))
    monkeypatch.setattr(cuda, "_captured", captured)
    monkeypatch.setattr(cuda, "_page_locked", page_locked)


def doubled(compute: Callable[[Tensor], Tensor] = lambda rows: 2 * rows[:, 0]) -> CudaFunction:
    """Twice the one number of each row."""
    return CudaFunction(compute, (1,), (), torch.float32, DEVICE, ROWS)


def numbers(count: int, first: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.arange(first, first + count, dtype=np.float32)[:, None]


def test_all_that_a_pass_uses_is_made_on_its_device() -> None:
    doubled()
    assert set(made_on) == {DEVICE}
    assert len(made_on) == 3 * cuda.PASSES


def test_inputs_stay_until_the_device_has_read_them_and_results_until_they_were_copied() -> None:
    double = doubled()
    with ThreadPoolExecutor(6) as pool:
        rows = [numbers(1 + seed % 23, 100 * seed) for seed in range(90)]
        for given, found in zip(rows, pool.map(double, rows), strict=True):
            assert found.tobytes() == (2 * given[:, 0]).tobytes()


def test_after_an_error_of_the_processor_no_pass_reads_or_writes_what_belongs_to_the_next_call() -> None:
    double = doubled()
    for first in range(0, 400, 40):
        with pytest.raises(ValueError, match="broadcast"):  # while a pass is on its way
            double(FaultyRows(numbers(2 * ROWS, 1000)))  # type: ignore[arg-type]
        rows = numbers(3 * ROWS, first)
        assert double(rows).tobytes() == (2 * rows[:, 0]).tobytes()


class FaultyRows:
    """Rows whose second part has another shape."""

    def __init__(self, rows: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, part: slice) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        rows = self._rows[part]
        return rows if part.start == 0 else np.zeros((len(rows), 2), np.float32)


def test_a_device_that_fails_for_good_fails_for_every_call_and_none_waits() -> None:
    def faulty(rows: Tensor) -> Tensor:
        if (rows == 13).any():
            raise torch.AcceleratorError("CUDA error: device-side assert triggered")
        return 2 * rows[:, 0]

    double = doubled(faulty)
    for _ in range(2 * cuda.PASSES):  # both streams meet the fault, and no pass is lost
        with pytest.raises(torch.AcceleratorError):
            double(np.full((2 * ROWS, 1), 13, np.float32))
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(double, numbers(9, 100)) for _ in range(8)]
        assert all(isinstance(call.exception(30), torch.AcceleratorError) for call in calls)
