"""The lines of the log."""

from __future__ import annotations

import io
import sys

import pytest

from service.web.line_buffer import LineBuffer


class Full(io.StringIO):
    """A stream on a full disk, or on a pipe whose other end is closed."""

    def write(self, text: str) -> int:
        raise OSError("no space left on device")


def test_a_log_that_cannot_be_written_loses_only_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = LineBuffer()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Full())
        lines.write("lost")
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    lines.write("kept")
    assert written.getvalue() == "kept\n"
