"""BentoML: HTTP processes that also compute, with adaptive batching inside each. It accepts POST only."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import bentoml
from starlette.responses import Response

from benchmarks.serving.digits import Digits
from benchmarks.serving.peers.options import Options, one_thread, options

# BentoML imports this module again in its own processes, which get the options by the environment.
VARIABLE = "BENCHMARK_OPTIONS"


class Picture(bentoml.IODescriptor):  # type: ignore[misc]  # BentoML's types are those of an untyped package
    """The answer: one picture instead of JSON. A batch gives each request a list of one."""

    @classmethod
    async def to_http_response(cls, obj: list[bytes], serde: Any) -> Response:
        """The picture as a response."""
        return Response(obj[0], media_type="image/png")

    @classmethod
    def mime_type(cls) -> str:
        """The media type."""
        return "image/png"


def service(chosen: Options) -> Any:
    """The service with the given settings."""

    class Draw:
        def __init__(self) -> None:
            self._digits = Digits(by_torch=bool(chosen.by_torch))

        @bentoml.api(  # type: ignore[untyped-decorator]
            batchable=chosen.batch > 1,
            max_batch_size=max(chosen.batch, 2),  # without batches the number has no effect, but 1 is refused
            max_latency_ms=int(chosen.wait) or 1,
            output_spec=Picture,
            route="/generate",
        )
        async def generate(self, seeds: list[int]) -> list[bytes]:
            return self._digits(seeds)

    return bentoml.service(
        workers=chosen.workers,
        traffic={"timeout": 60, "max_concurrency": 4096},
        logging={"access": {"enabled": False}},
        metrics={"enabled": False},
    )(Draw)


if VARIABLE in os.environ:
    application = service(Options(*(int(float(value)) for value in os.environ[VARIABLE].split())))

if __name__ == "__main__":
    chosen = options()
    one_thread()
    os.environ |= {
        VARIABLE: " ".join(map(str, chosen)),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(Path(tempfile.gettempdir()) / "latentserve-benchmark-bentoml"),
    }
    name = f"{__spec__.name}:application"
    address = ["--host", "127.0.0.1", "--port", str(chosen.port)]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", name, *address])  # noqa: S606
