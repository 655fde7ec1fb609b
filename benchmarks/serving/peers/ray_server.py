"""Ray Serve: a proxy process in front of replicas, with or without `@serve.batch`."""

from __future__ import annotations

import signal

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from benchmarks.serving.digits import Digits
from benchmarks.serving.peers.options import Options, one_thread, options


def application(chosen: Options) -> serve.Application:
    """The application with the given settings."""

    @serve.deployment(num_replicas=chosen.workers, max_ongoing_requests=1024, ray_actor_options={"num_cpus": 0.1})
    class Draw:
        def __init__(self) -> None:
            one_thread()
            self._digits = Digits(by_torch=bool(chosen.by_torch))

        @serve.batch(max_batch_size=chosen.batch, batch_wait_timeout_s=chosen.wait / 1000)  # type: ignore[untyped-decorator]
        async def draw(self, seeds: list[int]) -> list[bytes]:
            return self._digits(seeds)

        async def __call__(self, request: Request) -> Response:
            seed = int(request.query_params["seed"])
            picture = await self.draw(seed) if chosen.batch > 1 else self._digits([seed])[0]
            return Response(picture, media_type="image/png")

    return Draw.bind()  # type: ignore[attr-defined]  # the decorator is untyped


if __name__ == "__main__":
    chosen = options()
    one_thread()
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100 * 2**20,
        _system_config={"metrics_report_interval_ms": 60_000},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": chosen.port, "access_log": False})
    serve.run(application(chosen), route_prefix="/generate", logging_config={"enable_access_log": False})
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
