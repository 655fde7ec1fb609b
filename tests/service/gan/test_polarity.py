"""The hint that an uploaded digit is dark on light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.formats.images import UINT8, encode
from service.gan import checkpoint, sampling
from service.gan.polarity import MAX_LISTED, is_dark_on_light, polarity_warnings, uniform_warnings
from tests.e2e.conftest import ROOT


def inverted(images: UINT8) -> UINT8:
    return np.uint8(255) - images


def strokes(size: int, count: int = 50) -> UINT8:
    """Light strokes of random width, place and level, clear of the margin, as digits are."""
    rng = np.random.default_rng(size)
    images = np.zeros((count, size, size), np.uint8)
    for image in images:
        for _ in range(int(rng.integers(1, 4))):
            row, column = rng.integers(3, size - 8, 2)
            height, width = rng.integers(2, 5), rng.integers(4, 14)
            if rng.random() < 0.5:
                height, width = width, height
            image[row : min(row + height, size - 3), column : min(column + width, size - 3)] = rng.integers(64, 256)
    return images


@pytest.mark.parametrize("size", [28, 32])
def test_light_strokes_on_black_are_never_flagged_and_their_inverses_always(size: int) -> None:
    images = strokes(size)
    assert not is_dark_on_light(images).any()
    assert is_dark_on_light(inverted(images)).all()


@pytest.mark.parametrize("size", [28, 32])
def test_the_hint_does_not_depend_on_brightness_or_contrast(size: int) -> None:
    images = strokes(size)
    for contrast, brightness in ((0.6, 0), (0.6, 100), (1.0, 0)):
        changed = (images * contrast + brightness).astype(np.uint8)
        assert not is_dark_on_light(changed).any()
        assert is_dark_on_light(inverted(changed)).all()


@pytest.mark.parametrize("size", [28, 32])
def test_blank_pages_and_noise_are_not_flagged(size: int) -> None:
    rng = np.random.default_rng(0)
    for level in (0, 128, 255):
        assert not is_dark_on_light(np.full((1, size, size), level, np.uint8)).any()
    assert not is_dark_on_light(rng.integers(0, 256, (1000, size, size), np.uint8)).any()
    assert not is_dark_on_light(rng.integers(250, 256, (1000, size, size), np.uint8)).any()


@pytest.mark.real_data
@pytest.mark.parametrize("enlarged", [False, True])
def test_no_image_of_mnist_is_flagged_and_every_inverted_one_is(real_data: Path, enlarged: bool) -> None:
    from training import data

    images = data.load(real_data, "test", download=False).images.numpy()
    if enlarged:
        images = np.rint((sampling.to_input(images) + 1) * 127.5).astype(np.uint8)
    assert len(images) == 10_000
    assert is_dark_on_light(images).sum() == 0
    assert is_dark_on_light(inverted(images)).sum() == 10_000


@pytest.mark.parametrize("truncation", [1.0, 0.5])
def test_images_of_the_published_generator_are_not_flagged_and_their_inverses_are(truncation: float) -> None:
    generator, _, _ = checkpoint.load(ROOT / "checkpoints")
    images = sampling.Sampler(generator)(sampling.latents(5, 1000, truncation))
    assert not is_dark_on_light(images).any()
    assert is_dark_on_light(inverted(images)).all()


def test_the_warning_counts_the_images_and_lists_the_first_ones() -> None:
    images = strokes(28)
    assert polarity_warnings(images) == []
    some = images.copy()
    some[[3, 7]] = inverted(images[[3, 7]])
    (warning,) = polarity_warnings(some)
    assert "2 of 50 images" in warning
    assert "index 3, 7)" in warning
    (warning,) = polarity_warnings(inverted(images))
    assert f"{MAX_LISTED - 1}, ...)" in warning


@pytest.mark.parametrize("level", [0, 128, 255])
def test_images_of_one_grey_level_have_a_warning(client: TestClient, level: int) -> None:
    images = strokes(32, 3)
    assert uniform_warnings(images) == []
    images[1] = level
    (warning,) = uniform_warnings(images)
    assert warning.startswith("1 of 3 images have one grey level only")
    assert "(index 1)" in warning
    for path in ("/gan/discriminate", "/gan/invert"):
        assert client.post(path, json={"images": images.tolist()}).json()["warnings"] == [warning]


@pytest.mark.parametrize("path", ["/gan/discriminate", "/gan/invert"])
def test_an_answer_warns_of_dark_on_light_and_its_scores_do_not_change(client: TestClient, path: str) -> None:
    image = strokes(32, 1)
    light = client.post(path, json={"images": image.tolist()}).json()
    dark = client.post(path, json={"images": inverted(image).tolist()}).json()
    assert light["warnings"] == []
    (warning,) = dark["warnings"]
    assert "dark on light" in warning
    assert "invert: 255 - level" in warning
    uploaded = client.post(path, files=[("images", encode(inverted(image)[0], "png"))]).json()
    assert uploaded == dark
    both = client.post(path, json={"images": np.concatenate([image, inverted(image)]).tolist()}).json()
    for name in ("probability", "residual"):
        if name in light:
            assert both[name] == light[name] + dark[name]
    assert "1 of 2 images are dark on light (index 1)" in both["warnings"][0]
