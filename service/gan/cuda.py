"""Functions of rows on a CUDA device.

Every pass has the same number of rows, so that a row's result does not depend on its batch. A pass is a CUDA graph: the
processor starts its copies and kernels by one call, which takes half as long as starting each. Two passes are on their
way at a time: while the device computes one, the inputs and results of the other are copied.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .packing import Float32

# Passes of one function that are on their way at the same time.
PASSES = 2
# Runs before a graph is captured: the first ones choose kernels and reserve memory.
WARM_UPS = 3


class CudaFunction:
    """A function on a CUDA device whose result has a row for each row of its input. Several threads may call it.

    Args:
        compute: maps a tensor (rows, *row) on the device to one whose rows have the shape `result`.
        row: shape of an input row, which is float32.
        result: shape of a row of the result.
        dtype: type of the result.
        device: of type "cuda".
        rows: of one pass. Missing ones are zeros.
    """

    def __init__(
        self,
        compute: Callable[[Tensor], Tensor],
        row: tuple[int, ...],
        result: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
        rows: int,
    ) -> None:
        self._rows = rows
        self._free: queue.SimpleQueue[_Pass] = queue.SimpleQueue()
        # A capture would otherwise also use the first device, which may be another one.
        with torch.cuda.device(device):
            # The streams of passes do not wait for the copies of weights, which are in the default stream.
            torch.cuda.synchronize(device)
            for _ in range(PASSES):
                inputs, results = torch.empty((rows, *row)), torch.empty((rows, *result), dtype=dtype)
                self._free.put(_Pass(compute, inputs, results, device))
        self._result = result
        self._dtype = torch.empty(0, dtype=dtype).numpy().dtype

    def __call__(self, rows: Float32) -> NDArray[Any]:
        """Results (B, *result) of `rows` (B, *row)."""
        results = np.empty((len(rows), *self._result), self._dtype)
        begun: deque[_Pass] = deque()
        try:
            for start in range(0, len(rows), self._rows):
                turn = self._next(begun)
                begun.append(turn)
                turn.begin(rows[start : start + self._rows], results[start : start + self._rows])
            for turn in begun:
                turn.finish()
        finally:
            for turn in begun:
                turn.forget()  # after an error, no later call may write to these results
                self._free.put(turn)
        return results

    def _next(self, begun: deque[_Pass]) -> _Pass:
        """A pass that is free, or else the oldest of `begun`, once it is done."""
        try:
            return self._free.get(block=not begun)
        except queue.Empty:
            begun[0].finish()
            return begun.popleft()


def levels(images: Tensor) -> Tensor:
    """The grey levels, 0 to 255, of `images` in (-1, 1) of any shape: the bytes of `formats.images.to_uint8`."""
    return ((images + 1) * 127.5).round().to(torch.uint8)


class _Pass:
    """One pass at a time, in a stream of its own, with page-locked memory for its inputs and results.

    The processor continues while the device copies from and to page-locked memory.
    """

    def __init__(
        self, compute: Callable[[Tensor], Tensor], inputs: Tensor, results: Tensor, device: torch.device
    ) -> None:
        self._inputs, self._results = _page_locked(inputs), _page_locked(results)
        self._wanted: NDArray[Any] | None = None
        # A thread that waits for it does not sleep: a pass takes a fifth of a millisecond.
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        on_device = torch.empty(inputs.shape, device=device)

        def run() -> None:
            on_device.copy_(self._inputs, non_blocking=True)
            self._results.copy_(compute(on_device), non_blocking=True)

        # A graph uses addresses. It does not keep the tensors there, nor the weights.
        self._used = run
        self._start = _captured(run, self._stream)

    def begin(self, rows: Float32, results: NDArray[Any]) -> None:
        """Start the pass of `rows` (b, *row), whose results `finish` writes to `results` (b, *result)."""
        self._done.synchronize()  # after an error, the device may still read the inputs
        inputs = self._inputs.numpy()
        inputs[: len(rows)] = rows
        inputs[len(rows) :] = 0
        with torch.cuda.stream(self._stream):
            self._start()
            self._done.record(self._stream)
        self._wanted = results

    def finish(self) -> None:
        """Wait for the pass, and write its results, if one has begun."""
        results, self._wanted = self._wanted, None
        if results is not None:
            self._done.synchronize()
            results[:] = self._results.numpy()[: len(results)]

    def forget(self) -> None:
        """Leave the results of a pass that has begun as they are."""
        self._wanted = None


@torch.inference_mode()
def _captured(run: Callable[[], None], stream: torch.cuda.Stream) -> Callable[[], None]:
    """A function that starts what `run` started, as a CUDA graph."""
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            run()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the device meanwhile.
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        run()
    return graph.replay


def _page_locked(tensor: Tensor) -> Tensor:
    return tensor.pin_memory()
