"""Compilation before the first request: what is compiled, and in which order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.compilation import find_calls, ranks, tasks_of

ROOT = Path(__file__).resolve().parents[2]

# Prints the variants that were used, but not found in advance.
SCRIPT = """
from service import compilation
calls = compilation.find_calls()
compilation.warm_up()
functions = {variant.function for variant in calls}
found = {(variant.function, variant.types) for variant in calls}
used = {(function, types) for function in functions for types in function.signatures}
print(len(found), [(function.__name__, types) for function, types in used - found])
"""


def run(script: str, **environment: str) -> str:
    """What the script prints, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_the_interpreter_finds_all_variants_that_the_registrations_use() -> None:
    found, rest = run(SCRIPT).split(maxsplit=1)
    assert int(found) > 30
    assert rest == "[]\n"


def test_loops_that_are_not_in_the_cache_are_not_compiled_by_load(tmp_path: Path) -> None:
    assert run("from service import compilation; print(compilation.load())", NUMBA_CACHE_DIR=str(tmp_path)) == "False\n"
    assert list(tmp_path.rglob("*.nbc")) == []


def test_a_function_comes_after_all_that_it_calls_and_before_less_urgent_ones() -> None:
    calls = find_calls()
    rank = ranks(calls)
    for caller, called in calls.items():
        assert all(rank[variant] > rank[caller] for variant in called - {caller})
    tasks = tasks_of(calls)
    assert len(tasks) == len(calls) + 1
    # Run in order, every task finds what it needs.
    assert all(max(task.needs, default=-1) < index for index, task in enumerate(tasks))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no signal tells of the parent's end")
def test_a_process_that_compiles_ends_with_the_one_that_started_it() -> None:
    script = """
import time
from service import compilation

compiler = compilation._fork([compilation.Task(lambda: time.sleep(600), frozenset())], [])
compilation.os.write(compiler.tasks, bytes(2))
print(compiler.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        compiler = Path("/proc") / parent.stdout.readline().strip() / "stat"
        assert runs(compiler)
        parent.kill()
    deadline = time.monotonic() + 60
    while runs(compiler):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runs(stat: Path) -> bool:
    """Whether the process is running. A zombie has ended."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
