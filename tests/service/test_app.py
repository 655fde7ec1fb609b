"""The composition of the application: its errors, its parts, and the checkpoints that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import pytest

from service import errors
from service.app import Parts, create_app
from service.errors import CheckpointError
from service.gan import checkpoint
from service.settings import Settings


def test_every_domain_error_has_a_row_in_the_table() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 8
    for kind in kinds:
        assert kind in errors.HTTP_STATUS, kind


@pytest.mark.parametrize("name", [checkpoint.GENERATOR_FILE, checkpoint.DISCRIMINATOR_FILE, checkpoint.MANIFEST_FILE])
def test_the_service_refuses_to_start_on_a_missing_or_tampered_file(
    checkpoints: Path, tmp_path: Path, name: str
) -> None:
    for file in checkpoints.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = Settings(checkpoints=tmp_path, device="cpu")
    content = bytearray((tmp_path / name).read_bytes())
    content[-10] ^= 1
    (tmp_path / name).write_bytes(content)
    if name != checkpoint.MANIFEST_FILE:
        with pytest.raises(CheckpointError) as refusal:
            create_app(settings)
        assert name in refusal.value.detail
        assert checkpoint.sha256(checkpoints / name) in refusal.value.detail
        assert checkpoint.sha256(tmp_path / name) in refusal.value.detail
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        create_app(settings)


def test_no_two_parts_have_the_same_type() -> None:
    types = list(get_type_hints(Parts).values())
    assert len(set(types)) == len(types)


def test_every_part_has_the_declared_type(checkpoints: Path) -> None:
    """A route finds a part by its exact type, so an instance of a subclass would not be found."""
    parts = create_app(Settings(checkpoints=checkpoints, device="cpu")).parts
    assert [type(found) for found in parts] == list(get_type_hints(Parts).values())
