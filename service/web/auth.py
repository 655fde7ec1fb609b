"""The layer that refuses requests without an API key. It exists only if there is a file of keys."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import InvalidInput
from ..runtime.caller import CALLER
from ..runtime.quotas import Allowance, Ledger, Quotas, Refusal
from .keys import Key, Keys, read
from .observability import log
from .peers import Peers
from .problems import problem, responses
from .threads import when_unused

# Seconds between the looks at the file. A key that is removed is valid for as long, and then in no new request.
LOOK_SECONDS = 1.0
# Paths that need no key: the probes, and the document, which says nothing of this service in particular.
OPEN = frozenset(
    {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs", "/redoc"}
)  # fmt: skip
_BEARER = b"bearer "
_REALM = 'Bearer realm="latentserve"'
SCHEME = "apiKey"
STATUSES = (401, 403, 429)


class Entry(NamedTuple):
    """A key and where its limits are counted."""

    key: Key
    caller: str
    slot: int | None


class Unauthorized(NamedTuple):
    """Why a request has no valid key."""

    detail: str
    error: str = ""
    """The end of `WWW-Authenticate`."""


class Ring:
    """The keys of a file, which is read again when it has changed.

    Args:
        file: of keys.
        quotas: the memory of their limits, of all processes.
        peers: name the clients of requests without a valid key.

    Raises:
        InvalidInput: the file cannot be read, or is not valid.
    """

    def __init__(self, file: Path, quotas: Quotas, peers: Peers) -> None:
        self._file = file
        self._quotas = quotas
        self._peers = peers
        self._signature = _signature(file)
        self._load(read(file))
        self._look_at = time.monotonic() + LOOK_SECONDS

    def _load(self, keys: Keys) -> None:
        limited = {key.id for key in keys.keys if key.allowance != Allowance()}
        try:
            slots = {name: self._quotas.slot(name) for name in limited}
        except OverflowError as error:
            raise InvalidInput(f"LATENTSERVE_API_KEYS_FILE: {error}; restart it") from None
        self._keys = keys
        self._entries = {key.id: Entry(key, f"key:{key.id}", slots.get(key.id)) for key in keys.keys}

    def look(self, now: float) -> None:
        """Read the file again if it has changed, at most once a second. If it is not valid, the former keys stay."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        signature = _signature(self._file)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._load(read(self._file))
        except InvalidInput as error:
            log.error("the file of API keys is not valid; the former keys stay valid", reason=error.detail)
        else:
            if self._entries:
                log.info("API keys read", keys=len(self._entries))
            else:
                log.warning("the file of API keys has no keys: all requests but probes are refused")

    def entry(self, scope: Scope) -> Entry | Unauthorized:
        """The key of a request, or why it has none."""
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        # No answer quotes the header, whose value may be a key in a form that this service does not read.
        if not given:
            return Unauthorized("this service needs an API key: Authorization: Bearer KEY")
        if len(given) > 1:
            return Unauthorized(f"Authorization is given {len(given)} times; send it once")
        if given[0][: len(_BEARER)].lower() != _BEARER:
            return Unauthorized("Authorization must be the word Bearer, a blank and an API key")
        key = self._keys.find(given[0][len(_BEARER) :].strip())
        if key is None:
            return Unauthorized("the API key is unknown, or no longer valid", ', error="invalid_token"')
        return self._entries[key.id]

    def name(self, scope: Scope) -> str:
        """The caller of an ASGI scope: its key if that is valid, else the address of its client."""
        entry = self.entry(scope)
        return entry.caller if isinstance(entry, Entry) else self._peers.name(scope)


class Guard:
    """Answers requests without a valid key, and those beyond the key's limits, before their bodies are read.

    Args:
        app: the layers below.
        ring: the keys.
        ledger: counts their requests.
        root_path: prefix of all paths.
    """

    def __init__(self, app: ASGIApp, ring: Ring, ledger: Ledger, root_path: str = "") -> None:
        self._app = app
        self._ring = ring
        self._ledger = ledger
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        if scope["type"] != "http" or is_open(path := scope["path"].removeprefix(self._root_path)):
            await self._app(scope, receive, send)
            return
        now = time.monotonic()
        self._ring.look(now)
        entry = self._ring.entry(scope)
        if isinstance(entry, Unauthorized):
            await _unauthorized(scope, entry)(scope, receive, send)
            return
        CALLER.set(entry.caller)
        if not entry.key.opens(path):
            await _forbidden(scope, entry.key, path)(scope, receive, send)
        elif entry.slot is None:
            await self._app(scope, receive, send)
        elif refusal := self._ledger.enter(entry.slot, entry.key.allowance, now):
            await _limited(scope, entry.key, refusal)(scope, receive, send)
        else:
            try:
                await self._app(scope, receive, send)
            finally:
                when_unused(partial(self._ledger.leave, entry.slot))


def is_open(path: str) -> bool:
    """Whether requests to `path` need no key."""
    return path in OPEN or (path.startswith("/v2/models/") and path.endswith("/ready"))


def _signature(file: Path) -> tuple[int, int, int] | None:
    """What changes if the file does; None if it does not exist."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _refused(scope: Scope, status: int, slug: str, detail: str, headers: dict[str, str]) -> Response:
    if scope["method"] not in {"GET", "HEAD"}:
        headers["Connection"] = "close"  # otherwise the server would read the body
    return problem(status, slug, detail, headers=headers)


def _unauthorized(scope: Scope, cause: Unauthorized) -> Response:
    return _refused(scope, 401, "unauthorized", cause.detail, {"WWW-Authenticate": _REALM + cause.error})


def _forbidden(scope: Scope, key: Key, path: str) -> Response:
    detail = f"the API key {key.id} does not open {path}; it opens {', '.join(key.paths)}"
    headers = {"WWW-Authenticate": _REALM + ', error="insufficient_scope"'}
    return _refused(scope, 403, "forbidden", detail, headers)


def _limited(scope: Scope, key: Key, refusal: Refusal) -> Response:
    if refusal.limit == "rate":
        allowed = f"{key.allowance.rate:g} requests per second, and {key.allowance.burst} at once"
    else:
        allowed = f"{key.allowance.concurrency:g} requests at one time"
    detail = f"the API key {key.id} allows {allowed}; try again later"
    headers = {"Retry-After": str(max(1, math.ceil(refusal.retry_after)))}
    return _refused(scope, 429, "too-many-requests", detail, headers)


def describe(document: dict[str, Any]) -> None:
    """Add to an OpenAPI document what the layer does: the scheme, and its answers on all paths that need a key."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[SCHEME] = {"type": "http", "scheme": "bearer", "description": "an API key of this service"}
    document["security"] = [{SCHEME: []}]
    sent = {401: "WWW-Authenticate", 403: "WWW-Authenticate", 429: "Retry-After"}
    meaning = {"WWW-Authenticate": "the scheme, and the kind of error", "Retry-After": "seconds to wait"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if is_open(path):
                operation["security"] = []
                continue
            always = next(iter(operation["responses"].values()))["headers"]
            common = {name: always[name] for name in ("X-Request-Id", "X-Latentserve-Version")}
            for status, refusal in responses(*STATUSES).items():
                name = sent[int(status)]
                header = {name: {"description": meaning[name], "schema": {"type": "string"}}}
                operation["responses"][str(status)] = refusal | {"headers": header | common}
