"""The codes of the transforms that are one map of all points."""

from __future__ import annotations

from service.em.kinds import KINDS

CODES: dict[str, int] = {name: kind.code for name, kind in KINDS.items() if not kind.deforms}
