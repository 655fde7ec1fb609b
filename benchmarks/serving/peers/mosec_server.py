"""mosec: a Rust server in front of worker processes, batched between the two. It accepts POST only."""

from __future__ import annotations

import os
import sys

from mosec import Server, Worker

from benchmarks.serving.digits import Digits
from benchmarks.serving.peers.options import one_thread, options

# mosec's workers are processes that get no arguments.
BY_TORCH = "BENCHMARK_BY_TORCH"


class Draw(Worker):  # type: ignore[misc]  # mosec has no types
    """Draws the picture of the seed in the body."""

    def __init__(self) -> None:
        super().__init__()
        self._digits = Digits(by_torch=os.environ.get(BY_TORCH) == "1")
        self.resp_mime_type = "image/png"

    def deserialize(self, data: bytes) -> int:
        """The seed."""
        return int(data)

    def serialize(self, data: bytes) -> bytes:
        """The picture."""
        return data

    def forward(self, data: list[int]) -> list[bytes]:
        """One batch."""
        return self._digits(data)


class DrawOne(Draw):
    """The same without batches: mosec then hands over one item instead of a list."""

    def forward(self, data: int) -> bytes:  # type: ignore[override]
        """One picture."""
        return self._digits([data])[0]


if __name__ == "__main__":
    chosen = options()
    one_thread()
    os.environ |= {"MOSEC_PORT": str(chosen.port), "MOSEC_ADDRESS": "127.0.0.1", "MOSEC_LOG_LEVEL": "warning"}
    os.environ[BY_TORCH] = str(chosen.by_torch)
    sys.argv = sys.argv[:1]  # mosec reads the command line too
    server = Server()
    if chosen.batch == 1:
        server.append_worker(DrawOne, num=chosen.workers)
    else:
        # mosec counts whole milliseconds, and 0 means its default of 10.
        server.append_worker(Draw, num=chosen.workers, max_batch_size=chosen.batch, max_wait_time=int(chosen.wait) or 1)
    server.run()
