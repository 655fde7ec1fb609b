"""The documents say what the code does."""

from __future__ import annotations

import re

from service.settings import Settings
from tests.e2e.conftest import ROOT


def test_operations_lists_every_setting_with_its_default() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for name, field in Settings.model_fields.items():
        default = "`checkpoints/` of the source tree" if name == "checkpoints" else f"`{field.default}`"
        assert field.description
        assert f"| `LATENTSERVE_{name.upper()}` | {default} | {field.description} |" in text


def test_every_relative_link_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
