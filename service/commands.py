"""The commands of `python -m service`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from . import compilation
from .app import create_app
from .errors import LatentserveError
from .runtime import sizing
from .serving import serve
from .settings import Settings, nearest_variable, service_links, variable
from .web.observability import configure_logging, log


def compile_loops() -> int:
    """Compile all loops, on all processors. Returns the exit status."""
    compilation.compile_all(sizing.processors())
    return 0


def run(command: str, given: Mapping[str, Any]) -> int:
    """Run serve, check or openapi, with the settings `given` and those of the environment.

    Returns the exit status: 0, or 2 with one line on stderr for each mistake.
    """
    try:
        settings = Settings(**given)
        configure_logging(settings)
        if links := service_links(os.environ):
            log.info("ignored Kubernetes' service links", variables=links)
        if command == "serve":
            status, reason = serve(settings)
            if reason:
                print(f"latentserve does not start: {reason}", file=sys.stderr)
            return status
        app = create_app(settings)
    except LatentserveError as error:
        print(f"latentserve does not start: {error.detail}", file=sys.stderr)
        return 2
    except ValidationError as error:
        for mistake in error.errors():
            print(f"latentserve does not start: {_explained(mistake)}", file=sys.stderr)
        return 2
    print(json.dumps(app.openapi(), indent=2) if command == "openapi" else "ok")
    return 0


def _explained(mistake: Mapping[str, Any]) -> str:
    """One line about an invalid setting."""
    name = variable("_".join(map(str, mistake["loc"])))
    if mistake["type"] == "extra_forbidden":
        near = nearest_variable(name)
        return f"{name}: unknown setting" + (f"; the nearest known one is {near}" if near else "")
    return f"{name}: {mistake['msg']} (given: {mistake['input']!r})"
