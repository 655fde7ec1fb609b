"""Pictures of registrations: any cloud, correct scales, reproducible bytes, and frames computed only if shown."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from service.em.drawing.dots import PAPER, Dots, paint
from service.em.drawing.pictures import (
    GIF,
    MAX_FRAMES,
    MAX_POINTS,
    PNG,
    SOURCE,
    TARGET,
    PictureKind,
    chosen,
    draw,
)
from service.em.drawing.projections import projection, scale_bar, window
from service.formats.arrays import Float64

Pixels = NDArray[np.uint8]
KINDS: list[PictureKind] = ["png", "gif"]


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of the test's own, so that its points do not depend on other tests."""
    return np.random.default_rng(0)


def opened(data: bytes) -> Pixels:
    """(frames, height, width, 3)."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])


def panel(pixels: Pixels, column: int = 0) -> Pixels:
    """The inside of a PNG's panel."""
    left = PNG.gap + column * (PNG.side + PNG.gap)
    return pixels[PNG.head + 8 : PNG.head + PNG.side - 8, left + 8 : left + PNG.side - 8]


def centre(pixels: Pixels, colour: tuple[int, int, int]) -> Float64:
    """Mean position (x, y) of the pixels with nearly this colour."""
    near = np.abs(pixels.astype(int) - colour).sum(-1) < 60
    assert near.any()
    middle: Float64 = np.argwhere(near).mean(0)[::-1]
    return middle


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_clouds_of_any_dimension_are_drawn_and_the_same_input_gives_the_same_bytes(
    rng: np.random.Generator, kind: PictureKind, dimension: int
) -> None:
    source, target = rng.normal(size=(30, dimension)), rng.normal(size=(40, dimension))
    frames = [source + shift for shift in (0.5, 0.8)]
    data = draw(source, target, source + 1, frames, kind)
    assert data == draw(source.copy(), target.copy(), source + 1, tuple(frames), kind)
    pixels = opened(data)
    assert len(pixels) == (1 if kind == "png" else 3)
    for frame in pixels:
        assert (frame[0] == PAPER).all()
        assert (np.abs(frame.astype(int) - TARGET).sum(-1) < 60).sum() > 20
        assert (np.abs(frame.astype(int) - SOURCE).sum(-1) < 60).sum() > 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("source", "target", "registered"),
    [
        ([[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]]),
        ([[0.0]], [[0.0]], [[0.0]]),
        ([[0.0]], [[5.0]], [[5.0]]),
        ([[1.0, 1.0]] * 9, [[1.0, 1.0]] * 4, [[2.0, 2.0]] * 9),
        ([[0.0, 0.0, 0.0]] * 3, [[1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0]] * 3),
        ([[0.0, 0.0], [1e-9, 3e-9]], [[5e-9, 0.0]], [[5e-9, 0.0], [6e-9, 3e-9]]),
        ([[1e15, 0.0], [0.0, 1e15]], [[3e15, 0.0], [4e15, 1e15]], [[3e15, 0.0], [4e15, 1e15]]),
        ([[1e6, 1e6], [1e6 + 1, 1e6]], [[1e6, 1e6 + 1]], [[1e6, 1e6 + 1], [1e6 + 1, 1e6 + 1]]),
        ([[-1.7e308, 1.7e308, 0.0]], [[1.7e308, -1.7e308, 0.0]], [[1.7e308, -1.7e308, 0.0]]),
        ([[5e-324, 0.0]], [[0.0, 0.0]], [[0.0, 5e-324]]),
        ([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]),
    ],
)
def test_clouds_of_any_magnitude_and_extent_are_drawn(
    kind: PictureKind, source: list[list[float]], target: list[list[float]], registered: list[list[float]]
) -> None:
    p, q, r = np.array(source), np.array(target), np.array(registered)
    for frame in opened(draw(p, q, r, [r], kind)):
        assert (frame != 255).any()


def test_x_points_right_and_y_points_up() -> None:
    target = np.array([[0.0, 0.0], [4.0, 4.0]])
    data = draw(np.array([[4.0, 0.0]]), target, np.array([[0.0, 4.0]]))
    before, after = (centre(panel(opened(data)[0], column), SOURCE) for column in (0, 1))
    middle = PNG.side / 2
    assert before[0] > middle < before[1]
    assert after[0] < middle > after[1]


def test_panels_share_their_scale_unless_the_clouds_would_be_too_small_in_it() -> None:
    target = np.array([[0.0, 0.0], [1.0, 1.0]])
    near, far = (opened(draw(target + shift, target, target + 0.3))[0] for shift in (1.3, 50.0))
    places = [centre(panel(pixels, column), TARGET) for pixels in (near, far) for column in (0, 1)]
    assert np.allclose(places[0], places[1], atol=1)
    assert not np.allclose(places[2], places[3], atol=50)


def test_a_registered_cloud_lies_in_the_rings_of_its_target() -> None:
    points = np.array([[0.0, 0, 0], [9, 0, 0], [0, 6, 0], [0, 0, 3]])  # dots that do not hide one another
    after = panel(opened(draw(points + 3, points, points))[0], 1)
    assert np.allclose(centre(after, SOURCE), centre(after, TARGET), atol=3)


class Counted:
    """Frames that record which of them are accessed."""

    def __init__(self, points: Float64, count: int) -> None:
        self.points, self.size, self.asked = points, count, [0]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> Float64:
        self.asked.append(index)
        moved: Float64 = self.points + index / self.size
        return moved


def test_a_gif_has_a_limited_number_of_frames_and_computes_no_others(rng: np.random.Generator) -> None:
    points = rng.normal(size=(20, 2))
    frames = Counted(points, 100_000)
    with Image.open(io.BytesIO(draw(points, points + 1, points + 1, frames, "gif"))) as picture:
        pauses = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
        assert picture.info["loop"] == 0
        assert picture.size == (GIF.side + 2 * GIF.gap, GIF.head + GIF.side + GIF.foot)
    assert len(pauses) == MAX_FRAMES
    assert pauses[-1] > 3 * max(pauses[1:-1])
    assert len(frames.asked) <= MAX_FRAMES
    assert frames.asked == sorted(frames.asked)


@pytest.mark.parametrize("count", [0, 1, 2, 57, 58, 59, 60, 61, 1000])
def test_chosen_frames_are_evenly_spaced_from_the_first_to_the_last(count: int) -> None:
    indices = chosen(count)
    assert len(indices) == min(count, MAX_FRAMES - 1)
    assert not count or (indices[0], indices[-1]) == (0, count - 1)
    assert count < 3 or max(np.diff(indices)) - min(np.diff(indices)) <= 1


def test_all_frames_of_a_gif_have_the_same_axes(rng: np.random.Generator) -> None:
    points = rng.normal(size=(15, 2))
    pixels = opened(draw(points, points + 2, points + 2, [points + shift for shift in (0.5, 1.0, 1.5, 2.0)], "gif"))
    assert len(pixels) == 5
    inside = pixels[:, GIF.head : GIF.head + GIF.side]
    # Only what no source ever covers has to stay; the first and the last frame are far apart.
    target = np.abs(inside.astype(int) - TARGET).sum(-1) < 40
    assert (target[0] == target[1]).mean() > 0.999
    sources = [centre(frame, SOURCE) for frame in inside]
    steps = np.diff(sources, axis=0)
    assert (steps[:, 0] > 0).all()
    assert (steps[:, 1] < 0).all()


def test_a_source_far_outside_does_not_shrink_the_iterations(rng: np.random.Generator) -> None:
    points = rng.normal(size=(15, 2))
    pixels = opened(draw(points + 1000, points, points, [points + 0.5, points], "gif"))
    inside = pixels[:, GIF.head + 8 : GIF.head + GIF.side - 8]
    assert not (np.abs(inside[0].astype(int) - SOURCE).sum(-1) < 60).any()
    for frame in inside:
        places = np.argwhere(np.abs(frame.astype(int) - TARGET).sum(-1) < 60)
        assert np.ptp(places, axis=0).max() > GIF.side / 2


def test_many_points_are_thinned_by_a_fixed_stride(rng: np.random.Generator) -> None:
    points = rng.normal(size=(2 * MAX_POINTS, 2))
    thinned = np.repeat(points[::2], 2, axis=0)
    one, other = (opened(draw(cloud, cloud, cloud))[0] for cloud in (points, thinned))
    assert np.array_equal(panel(one), panel(other))


@pytest.mark.parametrize(
    ("source", "target", "registered"),
    [((0, 2), (3, 2), (0, 2)), ((3, 2), (0, 2), (3, 2)), ((3, 2), (3, 3), (3, 2)), ((3, 2), (3, 2), (4, 2))],
)
def test_clouds_that_do_not_fit_together_are_refused(
    source: tuple[int, int], target: tuple[int, int], registered: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="do not fit together"):
        draw(np.zeros(source), np.zeros(target), np.zeros(registered))


def test_clouds_that_are_not_finite_are_refused() -> None:
    good, bad = np.zeros((2, 2)), np.full((2, 2), np.nan)
    for clouds in ((bad, good, good), (good, bad, good), (good, good, bad)):
        with pytest.raises(ValueError, match="not finite"):
            draw(*clouds)


def test_iterations_that_overflow_are_omitted(rng: np.random.Generator) -> None:
    points = rng.normal(size=(9, 2))
    frames = [points + 0.5, points * np.inf, points + 0.7, points + 1]
    assert len(opened(draw(points, points + 1, points + 1, frames, "gif"))) == 4


@pytest.mark.parametrize("dimension", [3, 4, 7])
def test_projections_never_lengthen_and_preserve_lengths_in_their_plane(
    rng: np.random.Generator, dimension: int
) -> None:
    points = rng.normal(size=(50, dimension)) * np.arange(1, dimension + 1)
    project = projection([points], points)
    assert np.allclose(project.basis.T @ project.basis, np.eye(3))
    unit = 10**project.log_unit
    plane = project(points) * unit
    assert (
        np.linalg.norm(np.diff(plane, axis=0), axis=1) <= np.linalg.norm(np.diff(points, axis=0), axis=1) + 1e-9
    ).all()
    if dimension == 3:
        assert np.linalg.det(project.basis) == pytest.approx(1)


@pytest.mark.parametrize("exponent", [-300, -9, -4, -1, 0, 1, 3, 5, 6, 15, 300])
def test_scale_bars_are_round_lengths_of_a_tenth_to_a_quarter_of_the_window(exponent: int) -> None:
    for factor in (1.0, 1.9, 2.0, 3.7, 5.0, 9.99):
        half = 0.37
        bar = scale_bar(half, math.log10(factor) + exponent - math.log10(half))
        assert half / 6 < bar.length <= half / 2 * 1.0001
        assert bar.length / half * factor * 10.0**exponent == pytest.approx(float(bar.label), rel=1e-9)
        assert bar.label.strip("0.").partition("e")[0] in {"1", "2", "5"}


def test_the_scale_bar_of_a_picture_has_the_length_of_its_label() -> None:
    target = np.array([[0.0, 0.0], [10.0, 10.0]])
    pixels = opened(draw(target, target, target))[0]
    row = pixels[PNG.head + PNG.side + PNG.foot // 2, PNG.gap : PNG.gap + PNG.side // 3]
    bar = int((row.sum(-1) < 300).sum())
    ends = np.argwhere(np.abs(panel(pixels).astype(int) - TARGET).sum(-1) < 60)[:, 1]
    across = np.ptp(ends) - 2 * 5 * 1.3
    assert bar / across == pytest.approx(2 / 10, rel=0.05)


def test_dots_are_discs_and_rings_are_transparent_inside() -> None:
    centres, near = np.array([[20.0, 12.0]]), np.ones(1)
    disc = np.asarray(paint([Dots(centres, near, 5.0, (0, 0, 0))], 40)).astype(int)
    assert (255 - disc[..., 0]).sum() / 255 == pytest.approx(math.pi * 25, rel=0.03)
    assert np.allclose(np.average(np.argwhere(disc[..., 0] < 255), axis=0) + 0.5, (12, 20), atol=0.3)
    below, ring = Dots(centres, near, 2.0, (255, 0, 0)), Dots(centres, near, 6.0, (0, 0, 0), hole=4.0)
    both = np.asarray(paint([below, ring], 40))
    assert both[12, 20].tolist() == [255, 0, 0]
    assert both[12, 25].tolist() == [0, 0, 0]


def test_near_dots_cover_far_ones_and_far_ones_are_paler() -> None:
    place = np.array([[10.0, 10.0]])
    front, back = Dots(place, np.ones(1), 3.0, (255, 0, 0)), Dots(place, np.zeros(1), 3.0, (0, 0, 255))
    for layers in ([front, back], [back, front]):
        assert np.asarray(paint(layers, 20))[10, 10].tolist() == [255, 0, 0]
    assert np.asarray(paint([back], 20))[10, 10].min() > 100


def test_dots_outside_the_picture_do_not_change_it() -> None:
    centres = np.array([[-50.0, 10.0], [10.0, 1e9], [1e300, -1e300]])
    assert (np.asarray(paint([Dots(centres, np.ones(3), 4.0, (0, 0, 0))], 20)) == 255).all()


def test_windows_contain_all_points_with_a_margin(rng: np.random.Generator) -> None:
    planes = [rng.normal(size=(20, 3)) * 5, rng.normal(size=(9, 3)) - 7]
    view = window(planes)
    for plane in planes:
        assert (np.abs(plane[:, :2] - (view.x, view.y)) < view.half / 1.1).all()


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["fish", "bunny"])
def test_real_clouds_are_drawn(real_data: Path, name: str) -> None:
    source, target = (np.loadtxt(real_data / "registration" / f"{name}_{part}.txt") for part in ("source", "target"))
    moved = source + target.mean(0) - source.mean(0)
    for kind in KINDS:
        assert len(opened(draw(source, target, moved, [moved], kind))) == (1 if kind == "png" else 2)
