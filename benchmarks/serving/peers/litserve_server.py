"""LitServe: FastAPI processes in front of worker processes, with a queue between.

LitServe reads the annotations of these methods, so they must be types and not strings.
"""

from typing import Any

from fastapi import Request, Response
from litserve import LitAPI, LitServer

from benchmarks.serving.digits import Digits
from benchmarks.serving.peers.options import Options, one_thread, options


class Draw(LitAPI):  # type: ignore[misc]  # LitServe has no types
    """Draws the picture of the seed in the body."""

    def __init__(self, chosen: Options) -> None:
        super().__init__(max_batch_size=chosen.batch, batch_timeout=chosen.wait / 1000)
        self._by_torch = bool(chosen.by_torch)

    def setup(self, device: str) -> None:
        """Load the generator."""
        self._digits = Digits(by_torch=self._by_torch)

    def decode_request(self, request: Request) -> int:
        """The seed."""
        return int(request["seed"])

    def predict(self, seeds: Any) -> Any:
        """One batch, or one picture if batching is off."""
        return self._digits(seeds) if isinstance(seeds, list) else self._digits([seeds])[0]

    def unbatch(self, output: list[bytes]) -> list[bytes]:
        """The pictures of a batch."""
        return output

    def encode_response(self, output: bytes) -> Response:
        """The picture."""
        return Response(output, media_type="image/png")


if __name__ == "__main__":
    chosen = options()
    one_thread()
    server = LitServer(Draw(chosen), accelerator="cpu", workers_per_device=chosen.workers, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=chosen.port,
        num_api_servers=chosen.servers,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
