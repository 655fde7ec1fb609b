"""The contenders: Latentserve, its peers, and the floors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.serving import processes
from benchmarks.serving.load import Seeds
from benchmarks.serving.processes import Server
from service.settings import Settings


class Setting(NamedTuple):
    """The settings of a server. Those that a contender does not have stay at their defaults."""

    workers: int = 1
    servers: int = 1
    batch: int = 1
    wait: float = 0  # milliseconds
    by_torch: int = 0  # 1: draws by torch instead of the compiled loops of the service


class Contender(NamedTuple):
    """A server that draws the digit of a seed."""

    package: str  # name of the distribution
    module: str  # `python -m module` runs it
    settings: tuple[Setting, ...]  # the first is the best of those that were tried on two cores
    alone: Setting | None = None  # the best for one connection, if it is another
    post: bytes = b""  # body of its requests, with SEED for the seed; empty for GET
    path: bytes = b"/generate?seed=SEED"
    argument: str = ""
    peer: bool = True
    variables: Mapping[str, str] = MappingProxyType({})  # of its environment
    patience: float = 60.0  # maximum seconds until it is ready

    def seeds(self, first: int) -> Seeds:
        """Requests for one picture each, of the seeds from `first` on."""
        request = self.post or self.path
        before, _, after = request.partition(b"SEED")
        if not self.post:
            return Seeds(b"GET " + before, after + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", first)
        head = b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        # A seed has ten digits.
        return Seeds(head % (self.path, len(before + after) + 10) + before, after, first)


# Seeds of ten digits begin here.
FIRST_SEED = 10**9
READY = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n"
OURS = "Latentserve"
ONE_PROCESS, TWO_PROCESSES = f"{OURS}, 1 process", f"{OURS}, 2 processes"
BARE = "bare ASGI, batched"


def _grid(best: Setting, *sizes: tuple[int, int], batches: tuple[tuple[int, float], ...]) -> tuple[Setting, ...]:
    """The best settings, then all combinations of workers and HTTP servers with batch sizes and waits."""
    every = (Setting(workers, servers, *batch) for workers, servers in sizes for batch in batches)
    return tuple(dict.fromkeys((best, *every)))


def _latentserve(processes: int) -> Contender:
    return Contender(
        "latentserve",
        "service",
        (Setting(processes),),
        path=b"/gan/generate?seed=SEED",
        peer=False,
        patience=300.0,  # its first start on a machine compiles the loops of registration
    )


CONTENDERS: dict[str, Contender] = {
    OURS: _latentserve(0),
    ONE_PROCESS: _latentserve(1),
    TWO_PROCESSES: _latentserve(2),
    "mosec": Contender(
        "mosec",
        "benchmarks.serving.peers.mosec_server",
        _grid(Setting(2, 1, 16, 1), (2, 1), (1, 1), batches=((64, 1), (32, 1), (64, 5), (1, 0))),
        alone=Setting(2),
        post=b"SEED",
        path=b"/inference",
    ),
    "mosec, torch": Contender(
        "mosec",
        "benchmarks.serving.peers.mosec_server",
        (Setting(2, batch=64, wait=1, by_torch=1), Setting(1, batch=64, wait=1, by_torch=1)),
        post=b"SEED",
        path=b"/inference",
    ),
    "LitServe": Contender(
        "litserve",
        "benchmarks.serving.peers.litserve_server",
        _grid(Setting(2, 1, 64, 1), (2, 1), (1, 1), (2, 2), batches=((64, 0), (64, 1), (1, 0))),
        alone=Setting(1),
        post=b'{"seed":SEED}',
        path=b"/predict",
    ),
    "BentoML": Contender(
        "bentoml",
        "benchmarks.serving.peers.bentoml_server",
        _grid(Setting(2), (2, 1), (1, 1), batches=((64, 100), (64, 1000), (1, 0))),
        post=b'{"seeds":[SEED]}',
    ),
    "Ray Serve": Contender(
        "ray",
        "benchmarks.serving.peers.ray_server",
        _grid(Setting(1), (1, 1), (2, 1), batches=((64, 0), (64, 2), (1, 0))),
        alone=Setting(1, 1, 64, 0),
        # Its HAProxy in front would listen on all interfaces, so Ray's own proxy serves.
        variables={"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_USAGE_STATS_ENABLED": "0"},
    ),
    "FastAPI": Contender("fastapi", "benchmarks.serving.peers.fastapi_server", (Setting(2), Setting(1))),
    "FastAPI, batched": Contender(
        "fastapi",
        "benchmarks.serving.peers.fastapi_server",
        _grid(Setting(2, 1, 64, 1), (2, 1), (1, 1), batches=((64, 0), (64, 1))),
        alone=Setting(2, 1, 64, 0),
    ),
    BARE: Contender("uvicorn", "benchmarks.serving.floors", (Setting(batch=64),), argument="bare", peer=False),
    "FastAPI, constant bytes": Contender(
        "fastapi", "benchmarks.serving.floors", (Setting(),), argument="fastapi", peer=False
    ),
    "ASGI, constant bytes": Contender(
        "uvicorn", "benchmarks.serving.floors", (Setting(),), argument="constant", peer=False
    ),
}


def is_ours(name: str) -> bool:
    """Whether the contender is Latentserve itself, with whatever number of processes."""
    return CONTENDERS[name].module == "service"


def has_processes() -> bool:
    """Whether this version of Latentserve has a setting for the number of its processes."""
    return "processes" in Settings.model_fields


def describe(name: str, setting: Setting) -> str:
    """The settings in words."""
    if is_ours(name):
        return f"{setting.workers or 'default'} processes" if setting.workers != 1 else "1 process"
    batch = f"batches of {setting.batch}, {setting.wait:g} ms" if setting.batch > 1 else "no batches"
    servers = f", {setting.servers} HTTP servers" if setting.servers > 1 else ""
    servers += ", torch" if setting.by_torch else ""
    return f"{setting.workers} worker{'s' * (setting.workers > 1)}{servers}, {batch}"


@contextmanager
def running(
    name: str,
    setting: Setting | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
    probe: bytes | None = None,
) -> Iterator[Server]:
    """Run a contender, with its best settings by default, until the end of the block.

    Args:
        name: the contender.
        setting: its settings.
        variables: further variables of its environment.
        probe: the request after whose first answer the block begins; by default the contender is then ready.

    Raises:
        NotStarted: it ended before its first answer, or gave none in time.
    """
    contender = CONTENDERS[name]
    setting = setting or contender.settings[0]
    port = processes.free_port()
    command = [sys.executable, "-m", contender.module]
    environment = dict(os.environ)
    # Latentserve draws digits before it is ready for registrations.
    probe = probe or (READY if is_ours(name) else next(contender.seeds(FIRST_SEED).stream(0)))
    if is_ours(name):
        command += ["serve", "--port", str(port)]
        environment["LATENTSERVE_DRAIN_SECONDS"] = "0"
        if setting.workers and has_processes():
            environment["LATENTSERVE_PROCESSES"] = str(setting.workers)
    else:
        command += [contender.argument] if contender.argument else []
        command += [f"--{key}={value}" for key, value in {"port": port, **setting._asdict()}.items()]
    with processes.running(
        command, port, probe, {**environment, **contender.variables, **variables}, contender.patience
    ) as server:
        yield server
