"""API keys: how one is made, the file that lists them, and how the key of a request is found."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import InvalidInput
from ..runtime.quotas import Allowance

# A prefix that scanners for leaked secrets can search for, and 256 random bits. A fast hash suffices for these: unlike
# a password, such a key cannot be guessed. bcrypt would only slow down each request.
PREFIX = "latentserve_"
_RANDOM_BYTES = 32
_HASH = re.compile(r"sha256:([0-9a-f]{64})")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATH = re.compile(r"/[A-Za-z0-9/_-]*")
MOST_KEYS = 2048
_MOST_FILE_BYTES = 1 << 20
# Bytes of a digest by which keys are looked up, before all its bytes are compared in constant time.
_INDEX_BYTES = 8
FORMAT = "ID sha256:HASH [rate=REQUESTS_PER_SECOND] [burst=REQUESTS] [concurrency=REQUESTS] [paths=/PATH,/PATH]"
CURE = f"`python -m {__package__.partition('.')[0]} new-key --id NAME` prints a valid line"


class Key(NamedTuple):
    """One line of the file."""

    id: str
    digest: bytes
    """SHA-256 of the key, 32 bytes."""
    allowance: Allowance
    paths: tuple[str, ...]
    """The paths that the key opens, with all below them; empty for all."""

    def opens(self, path: str) -> bool:
        """Whether the key may call `path`, which has no root path before it."""
        return not self.paths or any(path == allowed or path.startswith(allowed + "/") for allowed in self.paths)


class Keys:
    """The keys of a file."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = tuple(keys)
        self._index: dict[bytes, list[Key]] = {}
        for key in keys:
            self._index.setdefault(key.digest[:_INDEX_BYTES], []).append(key)

    def find(self, secret: bytes) -> Key | None:
        """The key whose secret this is; None if there is none."""
        digest = hashlib.sha256(secret).digest()
        for key in self._index.get(digest[:_INDEX_BYTES], ()):
            if hmac.compare_digest(key.digest, digest):
                return key
        return None


def new_secret() -> str:
    """A new key, for the client alone."""
    return PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)


def line_of(secret: str, id: str, options: Sequence[str] = ()) -> str:  # noqa: A002
    """The line of the file for a key.

    Raises:
        InvalidInput: the id or an option is not valid.
    """
    line = " ".join((id, f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}", *options))
    _key(line, lambda cause: InvalidInput(cause))
    return line


def read(path: Path) -> Keys:
    """The keys of a file.

    Raises:
        InvalidInput: it cannot be read, or a line is not valid. The message names the line, but does not quote it,
            because someone may have written a key there.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_FILE_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise InvalidInput(f"LATENTSERVE_API_KEYS_FILE: {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"LATENTSERVE_API_KEYS_FILE: {path}: the file is not UTF-8; {CURE}") from None
    if len(content) > _MOST_FILE_BYTES:
        raise InvalidInput(f"LATENTSERVE_API_KEYS_FILE: {path}: the file has more than {_MOST_FILE_BYTES} bytes")
    keys: list[Key] = []
    lines_of_ids: dict[str, int] = {}
    lines_of_digests: dict[bytes, int] = {}
    for number, line in enumerate(text.split("\n"), 1):

        def invalid(cause: str, number: int = number) -> InvalidInput:
            return InvalidInput(f"LATENTSERVE_API_KEYS_FILE: {path}, line {number}: {cause}")

        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key = _key(line, invalid)
        if key.id in lines_of_ids:
            raise invalid(f"the id {key.id} is that of line {lines_of_ids[key.id]}; each key needs an id of its own")
        if key.digest in lines_of_digests:
            raise invalid(f"the key is that of line {lines_of_digests[key.digest]}; each id needs a key of its own")
        lines_of_ids[key.id] = lines_of_digests[key.digest] = number
        keys.append(key)
        if len(keys) > MOST_KEYS:
            raise invalid(f"the file has more than {MOST_KEYS} keys")
    return Keys(keys)


def _key(line: str, invalid: Callable[[str], InvalidInput]) -> Key:
    """The key of one line. `invalid` makes the error that states a cause."""
    id, *rest = line.split()  # noqa: A001
    if not _ID.fullmatch(id):
        raise invalid("the id must be 1 to 64 letters, digits and ._- that begin with a letter or digit; " + CURE)
    found = _HASH.fullmatch(rest[0]) if rest else None
    if found is None:
        raise invalid(f"after the id, sha256: and 64 hexadecimal digits must follow, as in {FORMAT}; {CURE}")
    values: dict[str, str] = {}
    for option in rest[1:]:
        name, equals, value = option.partition("=")
        if name not in {"rate", "burst", "concurrency", "paths"} or not equals:
            raise invalid(f"an option is not one of rate=, burst=, concurrency= and paths=, as in {FORMAT}")
        if name in values:
            raise invalid(f"{name} is given twice")
        values[name] = value
    return Key(id, bytes.fromhex(found[1]), _allowance(values, invalid), _paths(values, invalid))


def _allowance(values: dict[str, str], invalid: Callable[[str], InvalidInput]) -> Allowance:
    if "burst" in values and "rate" not in values:
        raise invalid("burst needs a rate")
    rate, burst, concurrency = math.inf, 1, math.inf
    if "rate" in values:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", values["rate"]) or not 1e-4 <= float(values["rate"]) <= 1e6:
            raise invalid("rate must be a number of requests per second, from 0.0001 to 1000000")
        rate = float(values["rate"])
        burst = math.ceil(rate)
    for name in ("burst", "concurrency"):
        if name in values and (not re.fullmatch(r"[0-9]{1,7}", values[name]) or not 1 <= int(values[name]) <= 10**6):
            raise invalid(f"{name} must be a number of requests, from 1 to 1000000")
    burst = int(values.get("burst", burst))
    concurrency = int(values["concurrency"]) if "concurrency" in values else concurrency
    return Allowance(rate, burst, concurrency)


def _paths(values: dict[str, str], invalid: Callable[[str], InvalidInput]) -> tuple[str, ...]:
    if "paths" not in values:
        return ()
    paths = values["paths"].split(",")
    if not all(map(_PATH.fullmatch, paths)):
        raise invalid("paths must begin with /, with commas between them, such as paths=/gan,/em/register")
    return () if "/" in paths else tuple(path.rstrip("/") for path in paths)
