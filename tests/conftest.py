"""Configuration of all tests: real data, Hypothesis, and a count of the skipped tests."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest
import torch

from tests.problems.mnist import write_small_mnist

# The markers that allow a test to be skipped. Any other skipped test fails the suite.
MAY_SKIP = ("gpu", "real_data")

skipped: Counter[str] = Counter()
skipped_without_reason: list[str] = []


def data_folder() -> Path | None:
    """The folder that LATENTSERVE_DATA names, or None if there is no such folder."""
    folder = os.environ.get("LATENTSERVE_DATA")
    return Path(folder) if folder and Path(folder).is_dir() else None


def pytest_configure(config: pytest.Config) -> None:
    # One intra-op thread, as in the service.
    torch.set_num_threads(1)
    # No limit on the time of an example, or of its generation: tests must pass on a loaded machine.
    hypothesis.settings.register_profile(
        "latentserve", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("latentserve")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
        if item.get_closest_marker("real_data") and data_folder() is None:
            item.add_marker(pytest.mark.skip(reason="LATENTSERVE_DATA names no folder"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    # Under pytest-xdist this runs in a worker; the report carries the markers to the process that counts.
    setattr(report, "may_skip", [name for name in MAY_SKIP if item.get_closest_marker(name)])  # noqa: B010
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reasons: list[str] = getattr(report, "may_skip", [])
        skipped.update(reasons)
        if not reasons:
            skipped_without_reason.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if skipped_without_reason and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name in MAY_SKIP:
        terminalreporter.write_line(f"skipped {skipped[name]} tests marked {name}")
    for test in skipped_without_reason:
        terminalreporter.write_line(f"skipped without one of the markers {', '.join(MAY_SKIP)}: {test}", red=True)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 training images and 96 test images in MNIST's format. Read-only."""
    return write_small_mnist(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data; only for tests marked `real_data`."""
    folder = data_folder()
    assert folder is not None
    return folder
