"""`python -m service`: serve, check, openapi, compile."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys

from .runtime import streams

# Set before anything imports NumPy. A library that computes a matrix product on several threads would sum in another
# order. Its threads would also compete with the other processes, and a process with threads cannot be forked.
ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, or 2 with one line on stderr for each mistake."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve until SIGTERM; settings come from LATENTSERVE_* and these flags")
    serve.add_argument("--host")
    serve.add_argument("--port", type=int)
    commands.add_parser("check", help="check settings and checkpoint, and report whether the service would start")
    commands.add_parser("openapi", help="print the OpenAPI document")
    commands.add_parser("compile", help="compile all loops into NUMBA_CACHE_DIR, for a faster start")
    options = parser.parse_args(arguments)
    if options.command == "serve":
        streams.prepare()
        # Until the service handles signals itself. Process 1 of a container would ignore those without a handler.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os._exit(128 + number))
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    # Imported objects live as long as the process. To search them for garbage would take a fifth of the start.
    gc.disable()
    from . import commands as implementation

    gc.freeze()
    gc.enable()
    if options.command == "compile":
        return implementation.compile_loops()
    given = {name: value for name, value in vars(options).items() if name in {"host", "port"} and value is not None}
    return implementation.run(options.command, given)


if __name__ == "__main__":
    sys.exit(main())
