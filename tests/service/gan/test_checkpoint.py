"""Laws of checkpoints: files are read back bit for bit, and damaged ones are refused by name."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from service.errors import CheckpointError
from service.gan import checkpoint
from service.gan.checkpoint import Manifest
from service.gan.networks import Discriminator, Generator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A valid checkpoint folder."""
    modules: dict[str, nn.Module] = {
        checkpoint.GENERATOR_FILE: Generator(),
        checkpoint.DISCRIMINATOR_FILE: Discriminator(),
    }
    for name, module in modules.items():
        checkpoint.save(tmp_path / name, module.state_dict())
    checkpoint.write_manifest(tmp_path, manifest({name: checkpoint.sha256(tmp_path / name) for name in modules}))
    return tmp_path


def manifest(files: dict[str, str]) -> Manifest:
    return Manifest(
        format_version=1,
        files=files,
        recipe={"loss": "minimax", "betas": [0.5, 0.999]},
        seed=3,
        data_sha256="0" * 64,
        epochs=2,
        steps=20,
        metrics={"frechet": 1.5},
        created="2025-01-31",
        torch="2.13.0",
    )


def rewrite(path: Path, **changes: Tensor | None) -> None:
    """Save the tensors of `path` again with some replaced, or left out if None."""
    tensors, _ = checkpoint.read(path)
    merged = {**tensors, **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
    checkpoint.save(path, {name: tensor for name, tensor in merged.items() if tensor is not None})


def test_tensors_and_metadata_survive_the_file_bit_for_bit(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).T,
        "channels_last": torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "scalar": torch.tensor(1 / 3, dtype=torch.float64),
    }
    checkpoint.save(tmp_path / "file", tensors, {"note": "σ"})
    read, metadata = checkpoint.read(tmp_path / "file")
    assert metadata == {"note": "σ"}
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_the_same_tensors_make_the_same_bytes(tmp_path: Path) -> None:
    state = Generator().state_dict()
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name, state)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_write_that_fails_leaves_the_old_file_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    checkpoint.save(path, {"old": torch.zeros(3)})

    def fail(_: int) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            checkpoint.save(path, {"new": torch.ones(3)})
    assert list(checkpoint.read(path)[0]) == ["old"]
    checkpoint.save(path, {"new": torch.ones(3)})
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_loaded_in_eval_mode_with_its_manifest(folder: Path) -> None:
    generator, discriminator, read = checkpoint.load(folder)
    assert not generator.training
    assert not discriminator.training
    for name, module in ((checkpoint.GENERATOR_FILE, generator), (checkpoint.DISCRIMINATOR_FILE, discriminator)):
        tensors, _ = checkpoint.read(folder / name)
        state = module.state_dict()
        assert tensors.keys() == state.keys()
        assert all(torch.equal(tensor, tensors[key]) for key, tensor in state.items())
    assert read == manifest(read.files)


def test_the_digest_is_sha256_of_the_files_bytes(folder: Path) -> None:
    path = folder / checkpoint.GENERATOR_FILE
    assert checkpoint.sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_one_changed_byte_is_refused_with_both_digests_and_the_module_stays_unchanged(folder: Path) -> None:
    path, module = folder / checkpoint.GENERATOR_FILE, Generator()
    expected, before = checkpoint.sha256(path), {k: v.clone() for k, v in module.state_dict().items()}
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = checkpoint.sha256(path)
    with pytest.raises(CheckpointError, match=f"{path}: sha256 is {found}, expected {expected}"):
        checkpoint.load_module(path, module, expected)
    with pytest.raises(CheckpointError, match=f"{path}: sha256 is {found}, expected {expected}"):
        checkpoint.load(folder)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"linear__bias": None}, r"missing tensors \['linear.bias'\], unknown tensors \[\]"),
        ({"extra": torch.zeros(1)}, r"missing tensors \[\], unknown tensors \['extra'\]"),
        ({"linear__bias": torch.zeros(2)}, r"linear.bias has shape \(2,\), expected \(1,\)"),
        (
            {"linear__bias": torch.zeros(1, dtype=torch.float64)},
            r"linear.bias is torch.float64, expected torch.float32",
        ),
        ({"linear__bias": torch.tensor([float("nan")])}, r"linear.bias holds numbers that are not finite"),
        ({"linear__bias": torch.tensor([float("inf")])}, r"linear.bias holds numbers that are not finite"),
    ],
)
def test_tensors_that_differ_from_the_module_are_refused(
    folder: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    path = folder / checkpoint.DISCRIMINATOR_FILE
    rewrite(path, **changes)
    with pytest.raises(CheckpointError, match=f"{path}: .*{message}"):
        checkpoint.load_module(path, Discriminator())


def test_the_file_of_the_other_network_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="not a Discriminator"):
        checkpoint.load_module(folder / checkpoint.GENERATOR_FILE, Discriminator())


@pytest.mark.parametrize("content", [b"", b"\x80\x04}.", b"PK\x03\x04", b"\xff" * 100])
def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    for attempt in (lambda: checkpoint.read(path), lambda: checkpoint.load_module(path, Generator())):
        with pytest.raises(CheckpointError, match=f"{path}: not a safetensors file, or a damaged one"):
            attempt()


@pytest.mark.parametrize("name", [checkpoint.GENERATOR_FILE, checkpoint.DISCRIMINATOR_FILE, checkpoint.MANIFEST_FILE])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{folder / name}: cannot be read: No such file"):
        checkpoint.load(folder)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_a_manifest_that_is_not_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / checkpoint.MANIFEST_FILE).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"manifest\.json: not JSON"):
        checkpoint.load(folder)


@pytest.mark.parametrize("key", Manifest._fields[: -len(Manifest._field_defaults)])
def test_a_manifest_without_one_of_its_keys_is_refused(folder: Path, key: str) -> None:
    path = folder / checkpoint.MANIFEST_FILE
    fields = json.loads(path.read_text())
    del fields[key]
    path.write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=rf"manifest\.json: missing keys \['{key}'\]"):
        checkpoint.read_manifest(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version is 2, expected 1"),
        ({"seed": True}, "seed is True, expected int"),
        ({"files": []}, r"files is \[\], expected dict"),
        ({"files": {}}, r"files has no sha256 for generator\.safetensors"),
    ],
)
def test_a_manifest_with_invalid_values_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    path = folder / checkpoint.MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_a_manifest_that_is_not_an_object_is_refused(folder: Path) -> None:
    (folder / checkpoint.MANIFEST_FILE).write_text("[1]")
    with pytest.raises(CheckpointError, match="expected a JSON object, found list"):
        checkpoint.read_manifest(folder)
