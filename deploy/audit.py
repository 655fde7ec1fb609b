"""Compares the image's packages with the published vulnerabilities, by pip-audit.

Exits with 1 if a package has a known vulnerability. If the vulnerabilities cannot be looked up, it says so and exits
with 0. Arguments go to pip-audit; `--ignore-vuln ID` accepts a vulnerability.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).resolve().parent / "constraints.txt"
# Each package is looked up by itself.
SECONDS = 300
# What pip-audit writes when it ends because a server cannot be reached or does not answer as it should.
UNREACHABLE = ("requests.exceptions.", "ConnectionError", "ServiceError", "Could not connect")
LOUD = "!" * 72


def main(arguments: list[str]) -> int:
    """Print the result. Returns the exit status."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return _unknown(f"pip-audit did not end in {SECONDS} seconds")
    try:
        packages = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = ended.stderr.strip().rpartition("\n")[2]
        if any(text in ended.stderr for text in UNREACHABLE):
            return _unknown(last)
        print(ended.stderr, file=sys.stderr)
        print(f"the audit failed: pip-audit ended with status {ended.returncode} and no result", file=sys.stderr)
        return 1
    return _report(packages)


def _report(packages: list[dict[str, Any]]) -> int:
    found = [(package, one) for package in packages for one in package.get("vulns", [])]
    for package, one in found:
        versions = ", ".join(one["fix_versions"]) or "none yet"
        print(f"{package['name']} {package['version']}: {one['id']}, fixed in: {versions}", file=sys.stderr)
    skipped = [package for package in packages if "skip_reason" in package]
    if skipped:
        _unknown(f"{len(skipped)} of {len(packages)} packages; of the first, {skipped[0]['skip_reason']}")
    if found:
        print(f"{len(found)} known vulnerabilities in {CONSTRAINTS.name}: raise these versions", file=sys.stderr)
        return 1
    if len(skipped) < len(packages):
        print(f"{len(packages) - len(skipped)} packages have no known vulnerability")
    return 0


def _unknown(reason: str) -> int:
    cure = "Run `make audit` where the package index and its list of vulnerabilities can be reached."
    print(f"{LOUD}\nNOT AUDITED: {reason}\n{cure}\n{LOUD}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
