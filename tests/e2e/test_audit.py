"""The audit of the image's packages, with a stub in the place of pip-audit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ROOT

SOUND = {"name": "sound", "version": "1.0", "vulns": []}
SICK = {"name": "sick", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": []}]}
SKIPPED = {"name": "own", "skip_reason": "Dependency not found and could not be audited: own (1.0)"}
LAST_LINE = "requests.exceptions.ConnectionError: Max retries exceeded"


def audit(folder: Path, *, output: str = "", error: str = "", status: int = 0) -> subprocess.CompletedProcess[str]:
    """The audit with a pip-audit that prints the given texts and ends with `status`."""
    stub = f"import sys\nprint({output!r})\nprint({error!r}, file=sys.stderr)\nopen({str(folder / 'asked')!r}, 'w')"
    stub += f".write(' '.join(sys.argv))\nsys.exit({status})\n"
    (folder / "pip_audit.py").write_text(stub)
    return subprocess.run(
        [sys.executable, "deploy/audit.py"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(folder)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def result(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_it_passes_if_all_packages_were_looked_up_and_none_is_vulnerable(tmp_path: Path) -> None:
    ended = audit(tmp_path, output=result(SOUND, SOUND))
    assert ended.returncode == 0
    assert "2 packages have no known vulnerability" in ended.stdout
    assert ended.stderr == ""
    assert "deploy/constraints.txt" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize("others", [[], [SOUND], [SKIPPED]])
def test_it_fails_on_a_known_vulnerability_and_names_the_cure(tmp_path: Path, others: list[dict[str, Any]]) -> None:
    ended = audit(tmp_path, output=result(*others, SICK), status=1)
    assert ended.returncode == 1
    assert "sick 2.0: PYSEC-1, fixed in: 2.1" in ended.stderr


@pytest.mark.parametrize(
    ("output", "error", "status"),
    [
        ("", f"Traceback (most recent call last):\n{LAST_LINE}", 1),
        ("", "ERROR:pip_audit._cli:Could not connect to the vulnerability feed", 1),
        (result(SKIPPED, SKIPPED), "", 0),
    ],
)
def test_without_the_vulnerabilities_it_passes_but_says_loudly_that_nothing_was_audited(
    tmp_path: Path, output: str, error: str, status: int
) -> None:
    ended = audit(tmp_path, output=output, error=error, status=status)
    assert ended.returncode == 0
    assert "NOT AUDITED: " in ended.stderr
    assert (error or "2 of 2 packages").rpartition("\n")[2] in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize("output", ["", "[]", "{}", "nonsense"])
def test_any_other_failure_of_the_audit_fails(tmp_path: Path, output: str) -> None:
    ended = audit(tmp_path, output=output, error="usage: pip-audit: unrecognized arguments", status=2)
    assert ended.returncode == 1
    assert "unrecognized arguments" in ended.stderr


def test_the_check_includes_the_audit() -> None:
    planned = subprocess.run(["make", "-n", "check"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert "deploy/audit.py" in planned.stdout
