"""A line of the log that cannot be formatted is lost, and what it tells of goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import logging
from service.runtime.line_buffer import LINES
from service.settings import Settings
from service.web.observability import configure_logging, log

class Silent(Exception):
    def __repr__(self):
        raise MemoryError
    __str__ = __repr__

configure_logging(Settings())
log.error("lost", value=Silent())
logging.getLogger("library").error("%s", Silent())
log.error("kept", file="\\udcff")
print(LINES.lost)
"""


def test_values_without_a_text_cost_their_lines_only() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert ended.stdout == "2\n"
    events = [json.loads(line)["event"] for line in ended.stderr.splitlines()]
    assert events == ["kept", "log lines were lost"]
