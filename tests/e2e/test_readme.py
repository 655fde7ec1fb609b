"""The README: its commands work, and the service gives the answers that it shows."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import ROOT, Live, free_port, wait_until_ready

ADDRESS = "http://127.0.0.1:8000"
# Seconds for one answer, on a busy machine too.
TIMEOUT = 60
TEXT = (ROOT / "README.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()


class Command(NamedTuple):
    """A command after `$ ` in a console block, and the output below it."""

    line: str
    output: str


def commands() -> Iterator[Command]:
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = part.partition("\n")
            yield Command(line, output.strip())


CURLS = [command for command in commands() if command.line.startswith("curl")]
OTHERS = [command.line for command in commands() if not command.line.startswith("curl")]


def curl(line: str, live: Live, folder: Path) -> bytes:
    """The README's curl line against `live`. By httpx2, so that the tests do not depend on an installed curl."""
    words = iter(shlex.split(line.replace(ADDRESS, live.address))[1:])
    body, files, headers, out, url = None, [], {}, None, ""
    for word in words:
        if word == "--json":
            body = next(words)
        elif word == "-F":
            name, _, value = next(words).partition("=")
            files.append((name, (value[1:], (folder / value[1:]).read_bytes()) if value[0] == "@" else (None, value)))
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-o":
            out = folder / next(words)
        elif word != "-s":
            assert word.startswith("http"), word
            url = word
    if files:
        content = httpx2.post(url, files=files, headers=headers, timeout=TIMEOUT).content
    elif body is not None:
        headers["content-type"] = "application/json"
        content = httpx2.post(url, content=body, headers=headers, timeout=TIMEOUT).content
    else:
        content = httpx2.get(url, timeout=TIMEOUT).content
    if out is not None:
        out.write_bytes(content)
        return b""
    return content


def assert_alike(found: object, shown: object) -> None:
    """Equal, except for the last digits of numbers, which other processors may round differently."""
    if isinstance(shown, dict):
        assert isinstance(found, dict)
        assert list(found) == list(shown)
        for name, value in shown.items():
            assert_alike(found[name], value)
    elif isinstance(shown, list):
        assert isinstance(found, list)
        assert len(found) == len(shown)
        for a, b in zip(found, shown, strict=True):
            assert_alike(a, b)
    elif isinstance(shown, float):
        assert found == pytest.approx(shown, rel=1e-5, abs=1e-9)
    else:
        assert found == shown


def test_every_curl_gets_the_answer_that_the_readme_shows(live: Live, tmp_path: Path) -> None:
    assert len(CURLS) > 10
    for command in CURLS:
        answer = curl(command.line, live, tmp_path)
        if command.output:
            assert_alike(json.loads(answer), json.loads(command.output))
        else:
            assert answer == b"", command.line
    for name, side in (("digits.png", 256), ("drawn.png", 32)):
        assert Image.open(io.BytesIO((tmp_path / name).read_bytes())).size == (side, side)
    assert (tmp_path / "a.ply").read_bytes().startswith(b"ply")
    assert Image.open(io.BytesIO((tmp_path / "after.png").read_bytes())).format == "PNG"
    assert np.load(io.BytesIO((tmp_path / "digits.npy").read_bytes())).shape == (2, 32, 32)


@pytest.mark.parametrize("page", [TEXT, API], ids=["README", "api"])
def test_every_python_example_prints_what_its_comment_says(page: str, live: Live) -> None:
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert examples
    for example in examples:
        program = example.replace(ADDRESS, live.address)
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert ended.stdout.splitlines() == re.findall(r"^print\(.*\)  # (.*)$", example, re.MULTILINE), ended.stderr


def test_every_endpoint_that_computes_has_a_curl(live: Live) -> None:
    paths = httpx2.get(f"{live.address}/openapi.json").json()["paths"]
    for path, operations in paths.items():
        if path.startswith(("/em/", "/vae/", "/gan/")):
            assert any(f"{ADDRESS}{path}" in command.line for command in CURLS), path
            assert operations


def test_every_other_command_has_a_test() -> None:
    """make serve, make test and the training have tests here; docker compose has its own in test_compose.py."""
    assert [line for line in OTHERS if not line.startswith(".venv/bin/python -m training")] == [
        "make serve", "make test", "docker compose up", "make train", "make evaluate",
    ]  # fmt: skip
    assert len(OTHERS) == 7


def make(*arguments: str) -> list[str]:
    # make would build the environment that runs this test. Its stamp exists, so nothing is installed.
    return ["make", "--no-print-directory", *arguments]


@pytest.fixture(scope="module")
def checkout() -> Path:
    """This checkout. Its environment must exist, so that `make` only uses it."""
    if not (ROOT / ".venv" / "complete").exists() or Path(sys.prefix) != ROOT / ".venv":
        pytest.fail("run the tests with `make test`: it builds the environment that the README's commands use")
    return ROOT


def test_make_serve_runs_the_service(checkout: Path) -> None:
    port = free_port()
    environment = os.environ | {"LATENTSERVE_DRAIN_SECONDS": "0"}
    with subprocess.Popen(
        make("serve", f"PORT={port}"), cwd=checkout, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            picture = httpx2.get(f"http://127.0.0.1:{port}/gan/generate").content
            assert Image.open(io.BytesIO(picture)).size == (32, 32)
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def test_make_test_runs_tests(checkout: Path) -> None:
    """One test file suffices, because the whole suite is running now."""
    ended = subprocess.run(
        make("test", "TESTS=tests/service/formats/test_images.py"),
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "skipped 0 tests marked gpu" in ended.stdout


def test_make_help_lists_every_target(checkout: Path) -> None:
    text = subprocess.run(make("help"), cwd=checkout, capture_output=True, text=True, check=True).stdout
    for target in ("serve", "test", "test-portable", "check", "train", "evaluate", "venv", "bench", "test-compose"):
        assert f"make {target} " in text


def test_the_training_commands_train_and_publish(checkout: Path, tmp_path: Path, small_data: Path) -> None:
    """The commands of the README, with less data and fewer epochs."""
    train, publish = (line for line in OTHERS if line.startswith(".venv"))
    runs, published = tmp_path / "runs", tmp_path / "published"
    train = train.replace("--data data", f"--data {small_data}").replace("--epochs 60", "--epochs 1")
    train += f" --runs {runs} --threads 1 --held-out 0"
    publish = publish.replace("runs/default-seed-0", f"{runs}/default-seed-0").replace(
        "--to published", f"--to {published}"
    )
    for line in (train, publish):
        ended = subprocess.run(shlex.split(line), cwd=checkout, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
    assert (published / "generator.safetensors").exists()
    dry = subprocess.run(
        make("-n", "train", f"DATA={small_data}"), cwd=checkout, capture_output=True, text=True, check=True
    )
    assert f"-m training gan --recipe default --data {small_data}" in dry.stdout


def test_make_evaluate_measures_a_published_folder(checkout: Path, tmp_path: Path) -> None:
    """tests/training/evaluation tests the command itself; this test covers the variables of make."""
    variables = (f"CHECKPOINTS={tmp_path / 'none'}", f"DATA={tmp_path}")
    ended = subprocess.run(make("evaluate", *variables), cwd=checkout, capture_output=True, text=True, check=False)
    assert f"-m training evaluate {tmp_path / 'none'} --data {tmp_path}" in ended.stdout
    assert "manifest.json: cannot be read" in ended.stderr
    assert ended.returncode == 2
