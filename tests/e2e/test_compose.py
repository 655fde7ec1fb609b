"""The image, as `docker compose up` runs it: it builds, answers, is confined, and stops cleanly."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from PIL import Image

from tests.e2e.conftest import ROOT, free_port

pytestmark = pytest.mark.compose
PROJECT = "latentserve-test"


def compose_command() -> list[str]:
    """`docker compose`, or the older docker-compose."""
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.fail("neither `docker compose` nor docker-compose is installed")


class Stack:
    """The compose project, with its own name and port."""

    def __init__(self) -> None:
        self.command = [*compose_command(), "-p", PROJECT]
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"

    def __call__(self, *arguments: str) -> str:
        ended = subprocess.run(
            [*self.command, *arguments],
            cwd=ROOT,
            env=os.environ | {"PORT": str(self.port)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{arguments}\n{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
        return ended.stdout

    def inspect(self) -> dict[str, Any]:
        """The description of the container by the Docker engine."""
        container = self("ps", "-q", "latentserve").strip()
        text = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True).stdout
        (found,) = json.loads(text)
        return dict(found)

    def inside(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the container."""
        command = [*self.command, "exec", "-T", "latentserve", "python3", "-c", script]
        environment = os.environ | {"PORT": str(self.port)}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    stack = Stack()
    stack("build")
    try:
        stack("up", "-d")
        deadline = time.monotonic() + 120
        while (health := stack.inspect()["State"]["Health"]["Status"]) != "healthy":
            assert time.monotonic() < deadline, health
            time.sleep(1)
        yield stack
    finally:
        stack("down", "--volumes")


def test_all_three_engines_answer(stack: Stack) -> None:
    picture = httpx2.get(f"{stack.address}/gan/generate?seed=7&count=4")
    assert Image.open(io.BytesIO(picture.content)).size == (64, 64)
    registered = httpx2.post(
        f"{stack.address}/em/register", json={"source": [[0, 0], [1, 0], [0, 2]], "target": [[5, 9], [5, 7], [6, 7]]}
    ).json()
    assert registered["translation"] == pytest.approx([5, 7])
    assert registered["matching"] == [1, 2, 0]
    gradient = httpx2.post(
        f"{stack.address}/vae/reparam-grad", json={"mu": [1.0], "sigma": [2.0], "grad_z": [3.0], "noise": [0.5]}
    ).json()
    assert (gradient["z"], gradient["grad_sigma"]) == ([2.0], [1.5])


def test_the_container_is_confined(stack: Stack) -> None:
    config = stack.inspect()["HostConfig"]
    assert config["ReadonlyRootfs"]
    assert config["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in config["SecurityOpt"]
    assert config["Memory"] > 0
    assert config["PidsLimit"] > 0
    assert not config["Privileged"]
    assert {"size=256m", "noexec", "nosuid", "nodev"} <= set(config["Tmpfs"]["/tmp"].split(","))  # noqa: S108
    assert config["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "50m", "max-file": "3"}}
    who = stack.inside("import os; print(os.getuid())")
    assert who.stdout.strip() == "10001"
    assert stack.inside("open('/srv/x', 'w')").returncode != 0
    assert stack.inside("open('/tmp/x', 'w')").returncode == 0
    status = dict(
        line.split(":", 1)
        for line in stack.inside("print(open('/proc/1/status').read())").stdout.splitlines()
        if ":" in line
    )
    assert status["NoNewPrivs"].strip() == "1"
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}


def test_the_image_carries_no_build_tools_and_no_training(stack: Stack) -> None:
    tools = stack.inside("import shutil; print([t for t in ('gcc', 'cc', 'make', 'git') if shutil.which(t)])")
    assert tools.stdout.strip() == "[]"
    for module in ("training", "torchvision", "pytest"):
        assert stack.inside(f"import {module}").returncode != 0


def test_stopping_drains_and_ends_with_0(stack: Stack) -> None:
    started = time.monotonic()
    container = stack.inspect()["Id"]
    stack("stop")
    assert time.monotonic() - started < 25
    text = subprocess.run(["docker", "inspect", container], capture_output=True, text=True, check=True).stdout
    assert json.loads(text)[0]["State"]["ExitCode"] == 0
    logs = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True)
    assert "draining" in logs.stderr
