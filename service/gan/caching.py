"""HTTP caching of generated pictures: the checkpoint that a URL names, `ETag` and `Cache-Control`.

An answer depends on its request, and also on the checkpoint, the version, the libraries and the processor. The ETag
covers all of them, so a cache that revalidates always has the right bytes. A cache may skip revalidation only if the
URL alone determines the picture. This holds if `checkpoint=` names the generator and no other network is involved, as
in a plain draw from a seed. The companions choose latents and the discriminator judges images. Both can be retrained
while the generator stays, so answers that need them are always revalidated.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache

import isal
import numba
import numpy as np
import PIL
import scipy
import torch

from ..errors import UnknownCheckpoint
from . import drawing
from .fields import CHECKPOINT_DIGITS
from .schemas import GenerateQuery, InterpolateQuery

# Without `public`: shared caches may store it all the same, unless the request had an API key (RFC 9111, 3.5).
IMMUTABLE = "max-age=31536000, immutable"
REVALIDATE = "no-cache"
NO_STORE = "no-store"

# Descriptions of the headers, for the OpenAPI document.
CHECKPOINT = {"X-Checkpoint": "sha256 of the generator that is served; the parameter checkpoint accepts it"}
CACHING = {
    "ETag": "strong; changes with the request, the checkpoint, the version, the libraries and the processor. Absent "
    "without a seed",
    "Cache-Control": "no-store without a seed; immutable for a year if checkpoint names the generator and the answer "
    "depends on nothing else of the checkpoint (no digit, digits, rejection, scores or json); otherwise no-cache: "
    "revalidate with If-None-Match",
}


def build_tag(digests: Mapping[str, str], version: str, processor: str) -> str:
    """Everything except the request that determines the bytes of an answer; `digests` are the checkpoint's sha256."""
    libraries = torch.__version__, np.__version__, scipy.__version__, numba.__version__, PIL.__version__
    sources = version, str(drawing.REVISION), *libraries, zlib.ZLIB_RUNTIME_VERSION, isal.__version__
    return " ".join([*(digests[name] for name in sorted(digests)), *sources, processor])


def check_checkpoint(named: str | None, served: str) -> None:
    """Check that `named`, the request's `checkpoint` if it has one, is the generator whose sha256 is `served`.

    Raises:
        UnknownCheckpoint: `named` is neither the sha256 nor a prefix of at least 12 hexadecimal digits.
    """
    if named is not None and (len(named) < CHECKPOINT_DIGITS or not served.startswith(named.lower())):
        what = (
            f"has {len(named)} characters, and a sha256 has {len(served)}"
            if len(named) > len(served)
            else f"{named!r} is not being served"
        )
        raise UnknownCheckpoint(
            f"checkpoint {what}; the generator being served is {served}: name it by its "
            f"sha256 or at least its first {CHECKPOINT_DIGITS} digits, or leave out checkpoint",
            pointer="/checkpoint",
            allowed=[served, served[:CHECKPOINT_DIGITS]],
        )


def headers(query: GenerateQuery | InterpolateQuery, build: str) -> dict[str, str]:
    """`ETag` and `Cache-Control` of the answer to a seeded query; call `check_checkpoint` first."""
    fixed = query.checkpoint is not None and query.needs_generator_only
    return {"Cache-Control": IMMUTABLE if fixed else REVALIDATE, "ETag": etag(build, query)}


def etag(build: str, query: GenerateQuery | InterpolateQuery) -> str:
    """The strong ETag of an answer: a digest of what determines its bytes, so a 304 costs no computation."""
    # `checkpoint` is a condition, not an input: the build tag already has the digests of the networks. The other fields
    # are numbers, strings and lists of numbers. Validated, equal ones are also written equally.
    request = {**query.__dict__, "checkpoint": None}
    digest = _of_build(build).copy()
    digest.update(str(request).encode())
    return f'"{digest.hexdigest()}"'


@lru_cache(4)
def _of_build(build: str) -> hashlib.blake2b:
    """The digest of what all answers of a build begin with. It is to be copied."""
    return hashlib.blake2b(f"{build} ".encode(), digest_size=16)


def is_fresh(if_none_match: Sequence[str], etag: str) -> bool:
    """Whether the lines of `If-None-Match` match `etag`, by weak comparison or by `*` (RFC 9110, 13.1.2 and 5.3)."""
    if not if_none_match:
        return False
    names = [name.strip().removeprefix("W/") for line in if_none_match for name in line.split(",")]
    return etag in names or names == ["*"]
