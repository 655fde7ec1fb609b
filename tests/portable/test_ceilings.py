"""The ceilings that a processor gets."""

from __future__ import annotations

import platform

import pytest
import torch

from tests.portable import __main__ as portable


def test_every_ceiling_but_the_highest_lowers_something() -> None:
    own, *lowered = portable.ceilings()
    assert own.environment == {}
    assert all(ceiling.environment for ceiling in lowered)


def test_another_processor_than_x86_skips_avx2_and_is_given_no_names_of_x86(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(portable, "numpy_features", lambda: "ASIMDHP")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    own, avx2, lowest = portable.ceilings()
    assert portable.run(avx2, ("tests/service",), "2")
    assert capsys.readouterr().out == "ceiling avx2: skipped, this processor has no AVX2\n"
    assert (own.skipped, lowest.skipped) == ("", "")
    values = " ".join(lowest.environment.values()).lower()
    assert not any(name in values for name in ("x86", "sse", "avx"))
