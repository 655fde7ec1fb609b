"""A training step as one CUDA graph.

A step of these small networks has hundreds of kernels of a few microseconds each. Launching a kernel from Python takes
longer than computing it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Number of steps before the capture.
WARM_UP = 3


class CapturedStep:
    """`step(*inputs)`, captured once and replayed for other inputs of the same shapes.

    `changed` lists the tensors that the step writes in place. A capture needs a few real steps before it, and their
    effect on these tensors is undone. Needs a CUDA device.
    """

    def __init__(self, step: Callable[..., None], inputs: Sequence[Tensor], changed: Sequence[Tensor]) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        before = [tensor.detach().clone() for tensor in changed]
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no type for it
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                step(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            step(*self._inputs)
        with torch.no_grad():
            for tensor, value in zip(changed, before, strict=True):
                tensor.copy_(value)

    @property
    def rows(self) -> int:
        """Length of the first input at the capture."""
        return len(self._inputs[0])

    def __call__(self, *inputs: Tensor) -> None:
        """Run one step on `inputs`, in the shapes of the capture."""
        for tensor, value in zip(self._inputs, inputs, strict=True):
            tensor.copy_(value, non_blocking=True)
        self._graph.replay()
