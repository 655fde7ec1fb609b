"""The command line that all peers share."""

from __future__ import annotations

import argparse
import os
from typing import NamedTuple


class Options(NamedTuple):
    """Where to listen, and the settings of the peer."""

    port: int
    workers: int  # processes that compute
    servers: int  # processes that speak HTTP, where these differ from the workers
    batch: int  # pictures in a batch at most; 1 turns batching off
    wait: float  # milliseconds that a batch waits for more pictures
    by_torch: int  # 1 draws by torch instead of the compiled loops of the service


def options() -> Options:
    """The options of this process."""
    parser = argparse.ArgumentParser()
    for name, kind in Options.__annotations__.items():
        parser.add_argument(f"--{name}", type=float if kind == "float" else int, required=True)
    return Options(**vars(parser.parse_args()))


def one_thread() -> None:
    """Limit libraries to one thread, in this process and its children."""
    os.environ.update({f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")})
