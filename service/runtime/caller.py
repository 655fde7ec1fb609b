"""Who a request comes from. Engines and workers do not see it; queues use it to be fair."""

from __future__ import annotations

from contextvars import ContextVar

CALLER: ContextVar[str] = ContextVar("caller", default="")
"""`key:` and the id of the API key, else `peer:` and the address of the client; empty outside a request."""
# Key of an ASGI scope under which the connection notes the same.
SCOPE_CALLER = "latentserve.caller"
