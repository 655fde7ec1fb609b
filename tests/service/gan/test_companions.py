"""Laws of companions: a checkpoint has none, or a complete set for its own generator."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from service.errors import CheckpointError
from service.gan import checkpoint, companions
from service.gan.checkpoint import GENERATOR_FILE
from service.gan.companions import Companions
from service.gan.networks import Generator
from tests.service.gan.conftest import make_companions, write_companions


@pytest.fixture
def folder(furnished: Path, tmp_path: Path) -> Path:
    """A checkpoint folder with companions, for tests that damage it."""
    return Path(shutil.copytree(furnished, tmp_path / "checkpoints"))


def load(folder: Path) -> Companions | None:
    return companions.load(folder, checkpoint.read_manifest(folder))


def test_a_folder_without_companions_is_valid(checkpoints: Path) -> None:
    assert load(checkpoints) is None


def test_written_companions_are_read_back(folder: Path) -> None:
    made, found = make_companions(), load(folder)
    assert found is not None
    assert found.thresholds == made.thresholds
    for name in ("classifier", "latent_classifier", "critic"):
        state = getattr(found, name).state_dict()
        assert all(torch.equal(state[key], value) for key, value in getattr(made, name).state_dict().items())
        assert not getattr(found, name).training


def test_companions_of_another_generator_are_refused(folder: Path) -> None:
    torch.manual_seed(5)
    checkpoint.save(folder / GENERATOR_FILE, Generator().state_dict())
    manifest = checkpoint.read_manifest(folder)
    digest = checkpoint.sha256(folder / GENERATOR_FILE)
    checkpoint.write_manifest(folder, manifest._replace(files=manifest.files | {GENERATOR_FILE: digest}))
    checkpoint.load(folder)
    with pytest.raises(CheckpointError, match=f"made for the generator .*, but the checkpoint has {digest}"):
        load(folder)


@pytest.mark.parametrize("name", companions.FILES)
def test_an_incomplete_set_of_companions_is_refused(folder: Path, name: str) -> None:
    manifest = checkpoint.read_manifest(folder)
    files = {other: digest for other, digest in manifest.files.items() if other != name}
    checkpoint.write_manifest(folder, manifest._replace(files=files))
    with pytest.raises(CheckpointError, match=f"but not {name}"):
        load(folder)


@pytest.mark.parametrize("name", companions.FILES)
def test_a_damaged_companion_is_refused_with_both_digests(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: sha256 is"):
        load(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda made: made._replace(thresholds=made.thresholds[:9]),
        lambda made: made._replace(thresholds=(float("nan"),) * 10),
    ],
)
def test_invalid_thresholds_are_refused(folder: Path, spoil: Callable[[Companions], Companions]) -> None:
    write_companions(folder, spoil(make_companions()))
    with pytest.raises(CheckpointError, match=r"expected .* finite numbers"):
        load(folder)
