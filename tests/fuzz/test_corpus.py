"""The corpus and a fixed batch of mutations, without a fuzzer: no input breaks the law of its target."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable

import pytest
from PIL import Image

from benchmarks.faults.mutation import damaged
from service.errors import LatentserveError
from service.formats.clouds.reading import read_cloud
from service.formats.images import decode
from service.formats.npz import read_arrays
from tests.fuzz import corpus
from tests.fuzz.__main__ import NAMES
from tests.fuzz.repair import repaired
from tests.fuzz.targets import MAX_ELEMENTS, MAX_PIXELS, TARGETS

MUTATIONS = 3000
# Valid files that the service refuses.
REFUSED = {"picture.gif", "animated.png", "animated.webp", "interlaced.png"}


@pytest.mark.parametrize("target", TARGETS)
def test_no_file_of_the_corpus_breaks_its_law(target: str) -> None:
    for content in corpus.read(target).values():
        TARGETS[target](content)


@pytest.mark.parametrize("target", TARGETS)
def test_no_mutation_of_the_corpus_breaks_its_law(target: str) -> None:
    rng = random.Random(20)
    files = list(corpus.read(target).values())
    for number in range(MUTATIONS):
        content = damaged(rng.choice(files), rng)
        TARGETS[target](repaired(content) if number % 2 else content)


def test_the_folder_has_the_files_that_the_script_writes() -> None:
    assert set(NAMES) == set(TARGETS)
    for target, contents in corpus.files().items():
        found = {name for name in corpus.read(target) if not name.startswith(corpus.FOUND)}
        assert found == set(contents)


def test_the_files_are_valid_so_that_their_mutations_reach_deep_code() -> None:
    refused = set()
    readers: dict[str, Callable[[bytes], object]] = {
        "clouds": lambda content: read_cloud(content, max_elements=MAX_ELEMENTS),
        "images": lambda content: decode(content, MAX_PIXELS),
        "archives": lambda content: read_arrays(content, MAX_ELEMENTS),
    }
    for target, read in readers.items():
        for name, content in corpus.read(target).items():
            try:
                read(content)
            except LatentserveError:
                refused.add(name)
    assert {name for name in refused if not name.startswith(corpus.FOUND)} <= REFUSED


def test_a_repaired_picture_and_a_repaired_archive_have_right_checksums() -> None:
    picture = bytearray(corpus.read("images")["L.png"])
    picture[19] ^= 1  # the width
    with pytest.raises((SyntaxError, OSError)), Image.open(io.BytesIO(picture)) as opened:
        opened.verify()
    with Image.open(io.BytesIO(repaired(bytes(picture)))) as opened:
        opened.verify()

    data = bytearray(corpus.read("archives")["request.npz"])
    data[data.find(b"\x93NUMPY") + 140] ^= 1
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is not None
    with zipfile.ZipFile(io.BytesIO(repaired(bytes(data)))) as archive:
        assert archive.testzip() is None
