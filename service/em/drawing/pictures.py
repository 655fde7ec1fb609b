"""Pictures of a registration: a PNG with before and after, or a GIF of the iterations."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial.distance import cdist

from ...formats.arrays import Float64
from .dots import PAPER, Colour, Dots, paint
from .projections import Projection, Window, projection, scale_bar, window

PictureKind = Literal["png", "gif"]

# Blue and vermilion of Okabe and Ito's palette, which are distinguishable with every kind of colour vision.
TARGET: Colour = (0, 114, 178)
SOURCE: Colour = (213, 94, 0)
INK: Colour = (45, 52, 60)
FAINT: Colour = (120, 128, 136)
FRAME: Colour = (218, 222, 227)

MAX_POINTS = 20_000
MAX_FRAMES = 60
# Durations in milliseconds: all iterations together, the shortest and longest iteration, the first and last frame.
RUN, SHORTEST, LONGEST, FIRST, LAST = 5000, 70, 350, 900, 2500
# Both panels of a PNG have one scale, unless their own scales differ by more than this factor.
SHARED = 2.5
# A GIF has one scale. It leaves out the start of the source if that would enlarge the window by more than this factor.
FAR = 4.0


class Frames(Protocol):
    """The source (N, D) after each iteration: a list, or an object that computes a frame on access."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Float64: ...


class Style(NamedTuple):
    """Lengths in pixels."""

    side: int
    gap: int
    head: int
    foot: int
    title: int
    text: int
    samples: int


PNG = Style(side=580, gap=24, head=56, foot=48, title=22, text=15, samples=4)
GIF = Style(side=480, gap=18, head=50, foot=44, title=18, text=14, samples=3)


class Scene(NamedTuple):
    """The data that all panels of a picture share."""

    target: Float64  # (m, 3) on the plane, thinned
    counts: tuple[int, int]  # N and M, before thinning
    dimension: int  # D
    projection: Projection
    style: Style


def draw(
    source: Float64, target: Float64, registered: Float64, frames: Frames = (), kind: PictureKind = "png"
) -> bytes:
    """A picture of a registration. The same input gives the same bytes.

    Args:
        source: (N, D), before registration.
        target: (M, D).
        registered: (N, D), the source after registration.
        frames: for a GIF. Fewer than `MAX_FRAMES` of them are used, evenly spaced; `registered` replaces the last.
        kind: png shows before and after side by side; gif shows source, frames and registered in turn.

    Raises:
        ValueError: the clouds are empty, differ in dimension, or have coordinates that are not finite.
    """
    if source.shape != registered.shape or source.shape[1:] != target.shape[1:] or not (source.size and target.size):
        raise ValueError(f"clouds of shapes {source.shape}, {target.shape} and {registered.shape} do not fit together")
    return _gif(source, target, registered, frames) if kind == "gif" else _png(source, target, registered)


def _png(source: Float64, target: Float64, registered: Float64) -> bytes:
    style = PNG
    scene, planes = _scene([source, registered], target, style)
    views = [window([scene.target, plane]) for plane in planes]
    small, large = sorted(view.half for view in views)
    if large <= SHARED * small or small == 0:
        views = [window([scene.target, *planes])] * 2
    sheet, pen = _sheet(2, style)
    for column, (title, plane, view) in enumerate(zip(("before", "after"), planes, views, strict=True)):
        _panel(sheet, scene, plane, view, column)
        pen.text((_left(column, style), _over(style)), title, INK, _font(style.title), anchor="ls")
    _legend(sheet, scene)
    out = io.BytesIO()
    sheet.save(out, "PNG", compress_level=6)
    return out.getvalue()


def _gif(source: Float64, target: Float64, registered: Float64, frames: Frames) -> bytes:
    style, last = GIF, len(frames)
    # `registered` replaces the last iteration: it may have been refined since.
    shown = chosen(last)[:-1]
    thinned = {index: _thinned(frames[index]) for index in shown}
    # An intermediate iteration may overflow. It is outside every picture, and omitted.
    shown = [index for index, frame in thinned.items() if np.isfinite(frame).all()]
    states = [source, *(thinned[index] for index in shown), registered]
    titles = ["before", *(f"iteration {index + 1} of {last}" for index in shown)]
    titles.append(f"after {last} iteration{'s' if last > 1 else ''}" if last else "after")
    scene, planes = _scene(states, target, style)
    view = window([scene.target, *planes])
    without = window([scene.target, *planes[1:]])
    far = 0 < without.half * FAR < view.half
    pictures = []
    for title, plane in zip(titles, planes, strict=True):
        sheet, pen = _sheet(1, style)
        _panel(sheet, scene, plane, without if far else view, 0)
        pen.text((style.gap, _over(style)), title, INK, _font(style.title), anchor="ls")
        _legend(sheet, scene)
        if far and plane is planes[0]:
            text = "the source starts outside this view"
            pen.text((sheet.width / 2, style.head + style.side - 14), text, FAINT, _font(style.text), anchor="ms")
        pictures.append(sheet)
    pause = min(max(RUN // max(len(shown), 1), SHORTEST), LONGEST)
    return _animate(pictures, [FIRST, *[pause] * len(shown), LAST])


def chosen(count: int) -> list[int]:
    """Indices of the frames that a GIF shows, evenly spaced among `count`, with the first and the last."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, MAX_FRAMES - 1)).tolist()})


def _scene(states: Sequence[Float64], target: Float64, style: Style) -> tuple[Scene, list[Float64]]:
    counts = len(states[0]), len(target)
    target, states = _thinned(target), [_thinned(state) for state in states]
    if not all(np.isfinite(cloud).all() for cloud in (target, *states)):
        raise ValueError("the clouds have coordinates that are not finite")
    to_plane = projection([target, *states], target)
    plane, planes = to_plane(target), [to_plane(state) for state in states]
    return Scene(plane, counts, target.shape[1], to_plane, style), planes


def _thinned(points: Float64) -> Float64:
    # A copy, because a view would keep all points of every frame in memory.
    return points[:: _stride(len(points))].copy() if len(points) > MAX_POINTS else points


def _stride(count: int) -> int:
    return math.ceil(count / MAX_POINTS)


def _sheet(columns: int, style: Style) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    size = columns * (style.side + style.gap) + style.gap, style.head + style.side + style.foot
    sheet = Image.new("RGB", size, PAPER)
    return sheet, ImageDraw.Draw(sheet)


def _over(style: Style) -> int:
    return style.head - 16


def _under(style: Style) -> int:
    return style.head + style.side + style.foot // 2


def _left(column: int, style: Style) -> int:
    return style.gap + column * (style.side + style.gap)


def _panel(sheet: Image.Image, scene: Scene, plane: Float64, view: Window, column: int) -> None:
    style, side, pen = scene.style, scene.style.side, ImageDraw.Draw(sheet)
    left, top, half = _left(column, style), style.head, view.half or 1.0
    # The radius follows from the area of the panel that the target covers.
    room = side * (window([scene.target]).half / half or 1.0) / math.sqrt(max(len(plane), len(scene.target)))
    radius = min(max(0.145 * room, 1.0), 5.0)
    # Clouds of one dimension would cover each other, so each has its own line.
    lane = 0.04 * side if scene.dimension == 1 else 0.0

    def placed(points: Float64, lane: float) -> tuple[Float64, Float64]:
        across = ((points[:, :2] - (view.x, view.y)) / half * (1, -1) + 1) * side / 2
        low, high = points[:, 2].min(), points[:, 2].max()
        return np.add(across, (0, lane)), (points[:, 2] - low) / (high - low) if high > low else np.ones(len(points))

    # The target's dots are rings, so that a source dot at the same place is visible, unless they are too small.
    ringed = radius > 1.8
    ring, hole, dot, edge = (1.3, 0.8, 0.8, 0.5) if ringed else (1.0, 0.0, 0.9, 0.0)
    layers = [
        Dots(*placed(scene.target, -lane), ring * radius, TARGET, hole * radius, edge),
        Dots(*placed(plane, lane), dot * radius, SOURCE, 0.0, edge),
    ]
    sheet.paste(paint(layers, side, style.samples), (left, top))
    pen.rounded_rectangle((left, top, left + side - 1, top + side - 1), 6, outline=FRAME)
    if view.half > 0:
        _scale(pen, scene, view, left)


def _scale(pen: ImageDraw.ImageDraw, scene: Scene, view: Window, left: int) -> None:
    style = scene.style
    bar = scale_bar(view.half, scene.projection.log_unit)
    right = left + round(bar.length / view.half * style.side / 2)
    y = _under(style)
    pen.line((left, y, right, y), INK, 2)
    for x in (left, right):
        pen.line((x, y - 5, x, y + 5), INK, 2)
    pen.text((right + 10, y), bar.label, INK, _font(style.text), anchor="lm")


def _legend(sheet: Image.Image, scene: Scene) -> None:
    style, pen, font = scene.style, ImageDraw.Draw(sheet), _font(scene.style.text)
    right, middle, size = sheet.width - style.gap, _under(style), style.text
    looks = (("target", TARGET, 5.2, 3.0), ("source", SOURCE, 4.2, 0.0))
    for (name, colour, radius, hole), count in zip(looks, reversed(scene.counts), strict=True):
        text = f"{name} {count:,}"
        right -= round(font.getlength(text))
        pen.text((right, middle), text, INK, font, anchor="lm")
        right -= size + 5
        mark = paint([Dots(np.full((1, 2), size / 2), np.ones(1), radius, colour, hole)], size)
        sheet.paste(mark, (right, middle - size // 2))
        right -= style.gap
    stride = _stride(max(scene.counts))
    if stride > 1:
        note = f"1 point in {stride} is drawn"
        pen.text((sheet.width - style.gap, _over(style)), note, FAINT, font, anchor="rs")


def _animate(pictures: Sequence[Image.Image], pauses: list[int]) -> bytes:
    # One palette for all frames prevents flicker. The first and the last picture together have all colours.
    both = Image.new("RGB", (pictures[0].width, 2 * pictures[0].height))
    both.paste(pictures[0], (0, 0))
    both.paste(pictures[-1], (0, pictures[0].height))
    found = both.quantize(127, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).getpalette()
    palette = np.array([*PAPER, *(found or ())], np.uint8).reshape(-1, 3)
    # The nearest colour of each cell of 8 levels a side. Pillow's own search is as coarse and misses white.
    cells = np.stack(np.meshgrid(*[np.arange(4, 256, 8)] * 3, indexing="ij"), -1).reshape(-1, 3)
    nearest = cdist(cells, palette.astype(np.float64), "sqeuclidean").argmin(1).astype(np.uint8).reshape(32, 32, 32)
    nearest[-1, -1, -1] = 0
    frames = []
    for picture in pictures:
        red, green, blue = np.moveaxis(np.asarray(picture) >> 3, 2, 0)
        frames.append(Image.fromarray(nearest[red, green, blue], "P"))
        frames[-1].putpalette(palette.tobytes())
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=pauses, loop=0)
    return out.getvalue()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("this build of Pillow has no FreeType")
    return font
