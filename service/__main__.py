"""`python -m service`: serve, check, openapi, compile, new-key."""

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
    new_key = commands.add_parser("new-key", help="print a new API key, and its line for LATENTSERVE_API_KEYS_FILE")
    new_key.add_argument("--id", required=True, help="name of the key, for the log")
    new_key.add_argument("--rate", help="requests per second; no limit by default")
    new_key.add_argument("--burst", help="requests that may come at once; the rate by default")
    new_key.add_argument("--concurrency", help="requests that may run at one time; no limit by default")
    new_key.add_argument(
        "--paths", help="paths that it opens, with all below them, such as /gan,/em/register; all by default"
    )
    options = parser.parse_args(arguments)
    if options.command == "new-key":
        return _new_key(options)
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


def _new_key(options: argparse.Namespace) -> int:
    from .errors import InvalidInput
    from .web import keys

    names = ("rate", "burst", "concurrency", "paths")
    given = [f"{name}={value}" for name in names if (value := getattr(options, name)) is not None]
    secret = keys.new_secret()
    try:
        line = keys.line_of(secret, options.id, given)
    except InvalidInput as error:
        print(f"no key was made: {error.detail}", file=sys.stderr)
        return 2
    print(f"# The key, for the client. It is not stored anywhere, and is shown only now:\n{secret}")
    print(f"# The line for the file that LATENTSERVE_API_KEYS_FILE names:\n{line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
