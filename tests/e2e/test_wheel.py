"""The wheel: one top-level package, complete, and independent of the checkout."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT

SOURCES = sorted((ROOT / "service").rglob("*.py"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """A wheel of a copy of the sources: a build leaves files behind."""
    copy, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("service", "training", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(built), "."]
    ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (path,) = built.iterdir()
    return zipfile.Path(path)


@pytest.fixture(scope="module")
def installed(wheel: zipfile.Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    wheel.root.extractall(folder)
    return folder


def run(installed: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python with the installed wheel, outside the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LATENTSERVE_")}
    environment = kept | {"PYTHONPATH": str(installed)} | environment
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=installed.parent, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def test_the_only_top_level_package_is_latentserve(wheel: zipfile.Path) -> None:
    folders = {folder.name for folder in wheel.iterdir()}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"latentserve"}


def test_the_wheel_has_every_module_of_the_service_and_its_type_marker(wheel: zipfile.Path) -> None:
    names = {name for name in wheel.root.namelist() if name.startswith("latentserve/") and not name.endswith("/")}
    modules = {f"latentserve/{path.relative_to(ROOT / 'service').as_posix()}" for path in SOURCES}
    assert len(modules) > 50
    assert names == modules | {"latentserve/py.typed"}


def test_the_installed_package_imports_nothing_of_the_checkout(installed: Path) -> None:
    program = (
        "import sys, latentserve.app, latentserve.__main__\n"
        "print(latentserve.__file__)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} & {'service', 'training'}))"
    )
    ended = run(installed, "-c", program)
    assert ended.returncode == 0, ended.stderr
    place, foreign = ended.stdout.splitlines()
    assert Path(place) == installed / "latentserve" / "__init__.py"
    assert foreign == ""


def test_an_installation_without_a_checkpoint_names_the_setting(installed: Path) -> None:
    ended = run(installed, "-m", "latentserve", "check")
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "manifest.json" in line
    assert "LATENTSERVE_CHECKPOINTS" in line


def test_an_installation_with_a_checkpoint_would_start(installed: Path) -> None:
    ended = run(installed, "-m", "latentserve", "check", LATENTSERVE_CHECKPOINTS=str(ROOT / "checkpoints"))
    assert (ended.returncode, ended.stdout) == (0, "ok\n"), ended.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_service_imports_neither_itself_nor_training_by_absolute_names(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(str(node.module).partition(".")[0])
    assert not imported & {"service", "training", "tests", "benchmarks", "latentserve"}
