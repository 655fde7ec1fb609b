"""A jump of the system's clock changes no timeout."""

from __future__ import annotations

import ast
from pathlib import Path

SERVICE = Path(__file__).resolve().parents[3] / "service"
# They write dates, and measure nothing.
DATES = {
    "runtime/instruments.py",  # the time of an exemplar
    "runtime/line_buffer.py",  # the time of a line
    "runtime/usage.py",  # process_start_time_seconds
    "web/access_log.py",  # the time of a line
}
OF_THE_DAY = {"time", "time_ns", "gmtime", "localtime", "now", "utcnow", "today"}


def reads_the_time_of_day(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="time" | "datetime" | "date"), attr=name)):
            return name in OF_THE_DAY
        case ast.ImportFrom(module="time" | "datetime"):
            return any(alias.name in OF_THE_DAY for alias in node.names)
    return False


def test_only_dates_read_the_time_of_day() -> None:
    found = {
        path.relative_to(SERVICE).as_posix()
        for path in SERVICE.rglob("*.py")
        if any(map(reads_the_time_of_day, ast.walk(ast.parse(path.read_text()))))
    }
    assert found == DATES
