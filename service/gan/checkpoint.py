"""Checkpoints: safetensors files, and a manifest that records their origin. Nothing is pickled.

A checkpoint folder contains `generator.safetensors`, `discriminator.safetensors` and `manifest.json`. Each safetensors
file is exactly the `state_dict()` of its module, in float32.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .networks import Discriminator, Generator

FORMAT_VERSION = 1
GENERATOR_FILE = "generator.safetensors"
DISCRIMINATOR_FILE = "discriminator.safetensors"
MANIFEST_FILE = "manifest.json"


class Manifest(NamedTuple):
    """The contents of `manifest.json`."""

    format_version: int
    files: dict[str, str]
    """sha256 of each file, in hexadecimal."""
    recipe: dict[str, Any]
    """All settings of the training run."""
    seed: int
    data_sha256: str
    """Digest of the training images' raw bytes."""
    epochs: int
    steps: int
    metrics: dict[str, Any]
    created: str
    """Date of publication, UTC, as YYYY-MM-DD."""
    torch: str
    """Version of torch that trained the model."""
    version: str | None = None
    """Version of Latentserve that published the folder; None where an earlier version did not record it."""


KINDS: dict[str, type] = {
    "format_version": int,
    "files": dict,
    "recipe": dict,
    "seed": int,
    "data_sha256": str,
    "epochs": int,
    "steps": int,
    "metrics": dict,
    "created": str,
    "torch": str,
}


def write_atomic(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically: readers see the old file or the new one, even after a crash.

    Raises:
        OSError: the file cannot be written. An old file is then unchanged.
    """
    # The temporary file has a fixed name, so that the next write replaces one that a crash left behind.
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write `tensors`, of any shapes, as one safetensors file, atomically. Tensors on a GPU are copied to the CPU.

    Raises:
        OSError: the file cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(path, safetensors.torch.save(contiguous, dict(metadata or {})))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, of any shapes, and metadata of one safetensors file.

    Raises:
        CheckpointError: the file cannot be read, or is not a safetensors file.
    """
    content = _read_bytes(path)
    tensors = _parse(path, content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return tensors, header.get("__metadata__", {})


def sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal.

    Raises:
        CheckpointError: the file cannot be read.
    """
    return hashlib.sha256(_read_bytes(path)).hexdigest()


def load_module(path: Path, module: nn.Module, sha256: str | None = None) -> None:
    """Copy the tensors of `path` into `module`, after checking that they are exactly its `state_dict()`.

    The check covers the names, the shapes, the dtype float32, that all numbers are finite, and the file's digest, if
    `sha256` is given.

    Raises:
        CheckpointError: a check fails; the message names the file and the reason. `module` is then unchanged.
    """
    content = _read_bytes(path)
    if sha256 is not None:
        found = hashlib.sha256(content).hexdigest()
        if found != sha256:
            raise CheckpointError(
                f"{path}: sha256 is {found}, expected {sha256}; "
                "the file is damaged or does not belong to this manifest; publish or copy the folder again"
            )
    tensors = _parse(path, content)
    expected = module.state_dict()
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{path}: not a {type(module).__name__}; missing tensors {missing}, unknown tensors {unknown}"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
            )
        if tensor.dtype != torch.float32:
            raise CheckpointError(f"{path}: {name} is {tensor.dtype}, expected torch.float32")
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite")
    module.load_state_dict(tensors)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into `folder`, atomically.

    Raises:
        OSError: the file cannot be written.
        ValueError: a number of the manifest is not finite.
    """
    content = json.dumps(manifest._asdict(), indent=2, allow_nan=False) + "\n"
    write_atomic(folder / MANIFEST_FILE, content.encode())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint folder.

    Raises:
        CheckpointError: the manifest is missing, is not JSON, lacks a key, or has a format that this version cannot
        read.
    """
    path = folder / MANIFEST_FILE
    try:
        fields = json.loads(_read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"{path}: expected a JSON object, found {type(fields).__name__}")
    fields = Manifest._field_defaults | fields
    if missing := [name for name in Manifest._fields if name not in fields]:
        raise CheckpointError(f"{path}: missing keys {missing}")
    for name, kind in KINDS.items():
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            raise CheckpointError(f"{path}: {name} is {fields[name]!r}, expected {kind.__name__}")
    if not isinstance(fields["version"], str | None):
        raise CheckpointError(f"{path}: version is {fields['version']!r}, expected str or null")
    if fields["format_version"] != FORMAT_VERSION:
        raise CheckpointError(f"{path}: format_version is {fields['format_version']}, expected {FORMAT_VERSION}")
    return Manifest(**{name: fields[name] for name in Manifest._fields})


def load(folder: Path) -> tuple[Generator, Discriminator, Manifest]:
    """Both networks of a checkpoint folder, in eval mode on the CPU, and its manifest.

    Raises:
        CheckpointError: a file is missing or damaged, or differs from the manifest.
    """
    manifest = read_manifest(folder)
    generator, discriminator = Generator(), Discriminator()
    modules: dict[str, nn.Module] = {GENERATOR_FILE: generator, DISCRIMINATOR_FILE: discriminator}
    for name, module in modules.items():
        digest = manifest.files.get(name)
        if not isinstance(digest, str):
            raise CheckpointError(f"{folder / MANIFEST_FILE}: files has no sha256 for {name}")
        load_module(folder / name, module, sha256=digest)
    return generator.eval(), discriminator.eval(), manifest


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error


def _parse(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file, or a damaged one: {error}") from error
