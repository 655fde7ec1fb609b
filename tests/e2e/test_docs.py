"""The documents match the code: settings, links, headings, paths and names."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from service.formats.clouds.reading import READ
from service.settings import Settings
from tests.e2e.conftest import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
# The changelog also has names of earlier versions.
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
CURRENT_PAGE = pytest.mark.parametrize("page", CURRENT, ids=lambda page: str(page.relative_to(ROOT)))
DOCS = sorted((ROOT / "docs").rglob("*.md"))
DECISIONS = ROOT / "docs" / "decisions"


def tracked() -> set[str]:
    """The repository's files, and those that are new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    files = listed.stdout.split() if listed.returncode == 0 else [str(f.relative_to(ROOT)) for f in ROOT.rglob("*.*")]
    return {name for name in files if (ROOT / name).exists()}


FILES = tracked()
FOLDERS = {str(parent) for name in FILES for parent in Path(name).parents}
# The modules by their last name, which several may share.
MODULES: dict[str, list[str]] = {}
for file in sorted(FILES):
    if re.match(r"(service|training|tests/portable)/.*\.py$", file):
        MODULES.setdefault(Path(file).parent.name if file.endswith("__init__.py") else Path(file).stem, []).append(file)


@cache
def defined(module: str) -> frozenset[str]:
    """The names that a module defines or imports: functions, classes, arguments, variables, fields and modules."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).rpartition(".")[2])
    if module.endswith("__init__.py"):
        names |= {Path(name).stem for name in FILES if Path(name).parent == Path(module).parent}
    return frozenset(names)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def quoted(page: Path) -> list[str]:
    """The texts in backticks, except for code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE))


def test_operations_lists_every_setting_with_its_default() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if field.default not in ("", ()) else "empty"
        if field.default is None:
            default = "none"
        if name == "checkpoints":
            default = "`checkpoints/` of the source tree"
        assert field.description
        assert f"| `LATENTSERVE_{name.upper()}` | {default} | {field.description} |" in text


@PAGE
def test_every_relative_link_has_a_target(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(#?)([^)\s]*)\)", page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), f"{target}#{anchor}"


@CURRENT_PAGE
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    for name in quoted(page):
        if re.fullmatch(r"(service|training|tests|benchmarks|docs|deploy|checkpoints)/[\w./-]*", name):
            assert name in FILES or name.rstrip("/") in FOLDERS, name


@CURRENT_PAGE
def test_every_python_file_that_a_page_names_exists(page: Path) -> None:
    for name in quoted(page):
        if re.fullmatch(r"[\w/]+\.py", name):
            assert any(f"/{file}".endswith(f"/{name}") for file in FILES), name


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_code_name_that_a_page_of_the_docs_uses_occurs_in_the_code(page: Path) -> None:
    sources = [name for name in FILES if name.endswith((".py", ".toml", ".yml", "Makefile", "Dockerfile"))]
    words = {word for name in sources for word in re.findall(r"\w+", (ROOT / name).read_text())}
    words |= {f"LATENTSERVE_{name.upper()}" for name in Settings.model_fields}
    words |= {folder.rpartition("/")[2] for folder in FOLDERS}
    for name in quoted(page):
        if re.fullmatch(r"[A-Za-z_][\w]*(\.[A-Za-z_]\w*)*(\(\))?", name):
            assert set(re.findall(r"\w+", name)) <= words, name


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_name_with_its_module_is_defined_there(page: Path) -> None:
    for name in quoted(page):
        match = re.fullmatch(r"(?:\w+\.)*(\w+)\.(\w+)(?:\(\))?", name)
        modules = MODULES.get(match[1], []) if match else []
        if match and modules and match[2] != "py":
            assert any(match[2] in defined(module) for module in modules), name


def test_every_name_that_the_glossary_gives_as_code_is_defined() -> None:
    known = set().union(*(defined(module) for modules in MODULES.values() for module in modules))
    known |= set(Settings.model_fields)
    text = (ROOT / "docs" / "glossary.md").read_text()
    names = [name for part in re.findall(r"Code:([^.]*)\.", text) for name in re.findall(r"`(\w+)`", part)]
    assert len(names) > 30
    assert [name for name in names if name not in known] == []


def test_decisions_are_numbered_without_gaps_and_listed() -> None:
    records = sorted(DECISIONS.glob("[0-9]*.md"))
    numbers = [int(record.name[:4]) for record in records]
    assert len(numbers) >= 10
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    index = (DECISIONS / "README.md").read_text()
    for record in records:
        text = record.read_text()
        assert text.startswith(f"# {int(record.name[:4])}. ")
        assert re.findall(r"^## .*", text, re.MULTILINE) == ["## Context", "## Decision", "## Consequences"]
        assert re.search(r"^Status: (accepted|superseded by \d+)$", text, re.MULTILINE)
        assert f"({record.name})" in index


def test_the_api_page_lists_every_format_of_clouds_that_is_read() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    listed = text[text.index("These formats are read:") : text.index("The content decides the format")]
    formats = re.findall(r"\b(?:npy|npz|[A-Z]{3})\b", READ)
    assert len(formats) > 5
    assert [name for name in formats if name not in listed] == []
