"""The decompression of LAZ stops at the request's deadline, or if the client disconnects."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from service.em.uploads import read_form
from service.errors import DeadlineExceeded, InvalidInput
from service.formats.clouds import las
from service.formats.clouds.deadline import Deadline
from service.formats.clouds.reading import read_cloud
from tests.service.formats.clouds.builders import read_points
from tests.service.formats.clouds.test_las import write
from tests.service.http import assert_problem

# The limit of a test in seconds. The decompression itself would end only after `2 * las.SECONDS`.
LIMIT = 45


class Processes:
    """The decompressions that a test has started. They hang, and do not read their input."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        self.any = threading.Event()

    def assert_killed(self, count: int) -> None:
        assert [process.returncode for process in self.started] == [-signal.SIGKILL] * count


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Processes:
    script = tmp_path / "hang.py"
    script.write_text("import time\ntime.sleep(600)\n")
    processes, start = Processes(), subprocess.Popen

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = start(command, **options)
        processes.started.append(process)
        processes.any.set()
        return process

    monkeypatch.setattr(las, "SCRIPT", script)
    monkeypatch.setattr(subprocess, "Popen", popen)
    return processes


def in_thread(function: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Run the function on a thread of its own. The list receives its error."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, errors


@pytest.mark.parametrize("repeat", [1, 300_000])
def test_the_process_is_killed_at_the_deadline(hanging: Processes, repeat: int) -> None:
    data = write(compress=True, repeat=repeat)
    thread, errors = in_thread(lambda: read_cloud(data, deadline=Deadline(0.5)))
    thread.join(LIMIT)
    (error,) = errors
    assert isinstance(error, DeadlineExceeded)
    hanging.assert_killed(1)


def test_the_process_is_killed_when_the_deadline_is_cancelled(hanging: Processes) -> None:
    data, deadline = write(compress=True), Deadline()
    thread, errors = in_thread(lambda: read_cloud(data, deadline=deadline))
    assert hanging.any.wait(LIMIT)
    deadline.cancel()
    thread.join(LIMIT)
    (error,) = errors
    assert isinstance(error, DeadlineExceeded)
    hanging.assert_killed(1)


def test_a_cancelled_deadline_starts_no_process(hanging: Processes) -> None:
    deadline = Deadline()
    deadline.cancel()
    with pytest.raises(DeadlineExceeded):
        read_cloud(write(compress=True), deadline=deadline)
    assert not hanging.started


def test_a_request_whose_file_hangs_is_a_504(client: TestClient, hanging: Processes) -> None:
    clouds = {name: (f"{name}.laz", write(compress=True)) for name in ("source", "target")}
    late = client.post("/em/register", files=clouds, headers={"X-Timeout-Seconds": "1"})
    assert_problem(late, 504)
    hanging.assert_killed(len(hanging.started))


def test_a_client_that_disconnects_ends_the_process(hanging: Processes) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="source"; filename="a.laz"\r\n\r\n'
    body = head + write(compress=True) + b"\r\n--x--"
    scope = {"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=x")]}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def story() -> None:
        reading = asyncio.create_task(read_form(Request(scope, receive), max_elements=1_000_000))
        assert await asyncio.to_thread(hanging.any.wait, LIMIT)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.to_thread(hanging.started[0].wait)

    asyncio.run(asyncio.wait_for(story(), LIMIT))
    hanging.assert_killed(1)


def test_off_linux_the_error_of_laz_names_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(las, "sys", SimpleNamespace(platform="darwin"))
    assert len(read_points(write())) == 3
    with pytest.raises(InvalidInput, match="only on Linux") as caught:
        read_points(write(compress=True), pointer="/source")
    assert caught.value.pointer == "/source"
