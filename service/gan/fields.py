"""Field types of the GAN's requests: their bounds, and how a query string spells them."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from ..formats.arrays import Rank
from ..web.seeds import MAX_SEED

MAX_DIGITS = 64
MAX_KEYS = 16
# Minimum number of leading digits of a sha256 that name a checkpoint.
CHECKPOINT_DIGITS = 12

Latents = Annotated[NDArray[np.float64], Rank((2,), ge=-1000, le=1000)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Format = Literal["png", "webp", "json", "npy"]
AnimationFormat = Literal["gif", "webp", "apng"]
Digit = Annotated[int, Field(ge=0, le=9)]
Truncation = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


def _read_flag(value: object, info: ValidationInfo) -> object:
    """A JSON boolean in a strict schema, or else true or false in a query string."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "false": False}
    is_strict = bool((info.config or {}).get("strict"))
    # Clients write booleans as their language does: Python sends True.
    if not is_strict and isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    allowed = list(words.values()) if is_strict else list(words)
    raise PydanticCustomError("flag", "must be true or false", {"allowed": allowed})


def _check_text(value: object) -> object:
    if isinstance(value, str):
        return value
    raise PydanticCustomError(
        "digits_text", "digits must be a string, so that leading zeros are kept", {"allowed": 'a string, as "2026"'}
    )


def _read_digits(value: str) -> str:
    if not all(character in "0123456789" for character in value):
        reason = "must contain decimal digits only"
    elif not value:
        reason = "must have at least one digit"
    elif len(value) > MAX_DIGITS:
        reason = f"has {len(value)} digits; at most {MAX_DIGITS} are drawn"
    else:
        return value
    allowed = f"1 to {MAX_DIGITS} characters of 0 to 9"
    raise PydanticCustomError("digits", "{reason}", {"reason": reason, "allowed": allowed})


def _read_seeds(value: object) -> list[int]:
    words = value.split(",") if isinstance(value, str) else []
    seeds = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) <= 19]
    allowed = f"2 to {MAX_KEYS} seeds, 0 to {MAX_SEED}, separated by commas"
    if not seeds or len(seeds) < len(words) or max(seeds) > MAX_SEED:
        raise PydanticCustomError("seeds", "must be a list of seeds", {"allowed": allowed})
    if not 2 <= len(seeds) <= MAX_KEYS:
        bound = f"at most {MAX_KEYS} are allowed" if len(seeds) > MAX_KEYS else "at least 2 are needed"
        message = f"has {len(seeds)} seed{'s' if len(seeds) > 1 else ''}; {bound}"
        raise PydanticCustomError("seeds", "{message}", {"message": message, "allowed": allowed})
    if any(one == other for one, other in pairwise(seeds)):
        raise PydanticCustomError(
            "equal_seeds", "consecutive seeds must differ", {"allowed": "seeds that differ from their neighbours"}
        )
    return seeds


Flag = Annotated[bool, BeforeValidator(_read_flag, json_schema_input_type=bool)]
# Any string passes here: one that names no checkpoint being served is a 404, not a 422.
CheckpointName = Annotated[
    str, WithJsonSchema({"type": "string", "pattern": f"^[0-9A-Fa-f]{{{CHECKPOINT_DIGITS},64}}$"})
]
DigitString = Annotated[
    str,
    BeforeValidator(_check_text, json_schema_input_type=str),
    AfterValidator(_read_digits),
    WithJsonSchema({"type": "string", "pattern": f"^[0-9]{{1,{MAX_DIGITS}}}$"}),
]
Seeds = Annotated[
    list[int],
    BeforeValidator(_read_seeds),
    WithJsonSchema({"type": "string", "pattern": f"^[0-9]{{1,19}}(,[0-9]{{1,19}}){{1,{MAX_KEYS - 1}}}$"}),
]
