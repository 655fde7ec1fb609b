"""The standard streams of a service, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_closed_streams_are_opened_on_the_null_device_before_anything_else_gets_their_numbers(tmp_path: Path) -> None:
    script = f"""
import os, sys
from service.runtime import streams
for descriptor in (0, 2):
    os.close(descriptor)
sys.stderr = None
streams.prepare()
print(*(os.readlink(f"/proc/self/fd/{{descriptor}}") for descriptor in (0, 2)), flush=True)
print("kept nowhere", file=sys.stderr)
assert open({str(tmp_path / "other")!r}, "w").fileno() > 2
"""
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert ended.stdout.split() == [os.devnull, os.devnull]


def test_stderr_never_blocks_and_the_mode_of_the_shells_pipe_does_not_change() -> None:
    script = """
import os, sys
from service.runtime import streams
streams.prepare()
try:
    while True:
        os.write(2, b"x" * 4096)
except BlockingIOError:
    print("went on")
"""
    read, write = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=write, text=True
    ) as process:
        assert process.communicate(timeout=60)[0] == "went on\n"
    assert os.get_blocking(write)
    for end in (read, write):
        os.close(end)
