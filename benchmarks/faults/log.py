"""What the log of a service says about failures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson


def tracebacks(path: Path) -> Counter[str]:
    """The errors with a traceback in a log of JSON lines: the last line of each, and where it was raised."""
    found: Counter[str] = Counter()
    for line in path.read_bytes().splitlines():
        try:
            entry = orjson.loads(line)
        except ValueError:
            if b"Error" in line or b"Traceback" in line:  # printed past the log
                found[line.decode(errors="replace")[:200]] += 1
            continue
        if isinstance(entry, dict) and isinstance(entry.get("exception"), str):
            lines = entry["exception"].strip().splitlines()
            places = [one.strip() for one in lines if one.lstrip().startswith('File "')]
            found[f"{lines[-1][:200]} ({places[-1] if places else 'no place'})"] += 1
    return found
