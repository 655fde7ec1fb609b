"""Laws of the passes on a CUDA device. The first ones replace the device by the processor."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from service.formats.images import to_uint8
from service.gan import cuda
from service.gan.cuda import CudaFunction
from service.gan.networks import Generator
from service.gan.sampling import latents

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
ROWS = 8


class _Event:
    """An event of a stream whose work is done at once."""

    def record(self, stream: object) -> None:
        """Do nothing."""

    def synchronize(self) -> None:
        """Do nothing."""


def captured(run: Callable[[], None], _: object) -> Callable[[], None]:
    """Runs again what was captured. As a graph, it keeps neither the tensors nor the networks that it uses."""
    reference = weakref.ref(run)

    @torch.inference_mode()
    def replay() -> None:
        run = reference()
        assert run is not None, "the memory that the graph uses may belong to others"
        run()

    return replay


@pytest.fixture
def as_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces streams, graphs and page-locked memory by what the processor has."""

    @contextlib.contextmanager
    def stream(_: object) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.cuda, "device", stream)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: None)
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(cuda, "_captured", captured)
    monkeypatch.setattr(cuda, "_page_locked", torch.clone)


def function(compute: Callable[[Tensor], Tensor], device: torch.device = CPU, rows: int = ROWS) -> CudaFunction:
    """Images in grey levels of latents."""
    return CudaFunction(compute, (128,), (32, 32), torch.uint8, device, rows)


def drawing(generator: Generator) -> Callable[[Tensor], Tensor]:
    """The levels of the images of latents."""
    return lambda rows: cuda.levels(generator(rows)[:, 0])


def test_levels_are_those_of_the_processor() -> None:
    images = np.concatenate([np.linspace(-1, 1, 100_001), (np.arange(256) + 0.5) / 127.5 - 1]).astype(np.float32)
    images = images[np.abs(images) < 1]
    assert cuda.levels(torch.from_numpy(images)).numpy().tobytes() == to_uint8(images).tobytes()


@pytest.mark.usefixtures("as_cuda")
@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 17, 24, 41])
def test_each_image_is_at_its_place_and_the_passes_have_one_shape(count: int) -> None:
    shapes = []

    class Recorded(Generator):
        def forward(self, rows: Tensor) -> Tensor:
            shapes.append(tuple(rows.shape))
            return super().forward(rows)

    generator = Recorded()
    rows = latents(3, count)
    images = function(drawing(generator))(rows)
    assert shapes == [(ROWS, 128)] * -(-count // ROWS)
    with torch.inference_mode():
        expected = [generator(torch.from_numpy(row[None])).numpy()[0, 0] for row in rows]
    # The shape of a pass may change the last bits, and thereby one level.
    assert np.abs(images.astype(int) - to_uint8(np.stack(expected))).max() <= 1


@pytest.mark.usefixtures("as_cuda")
def test_after_errors_the_next_images_are_right() -> None:
    draw = function(drawing(Generator()))
    expected = draw(latents(5, 20))
    for _ in range(2 * cuda.PASSES):  # more than there are passes, so none is lost
        with pytest.raises(ValueError, match="broadcast"):
            draw(np.zeros((3 * ROWS, 127), np.float32))
    assert draw(latents(5, 20)).tobytes() == expected.tobytes()


@pytest.mark.usefixtures("as_cuda")
def test_threads_share_the_passes_and_get_their_own_images() -> None:
    draw = function(drawing(Generator()))
    expected = {seed: draw(latents(seed, 20)).tobytes() for seed in range(8)}
    with ThreadPoolExecutor(8) as pool:
        drawn = list(pool.map(lambda seed: draw(latents(seed % 8, 20)).tobytes(), range(64)))
    assert drawn == [expected[seed % 8] for seed in range(64)]


@pytest.mark.gpu
def test_on_a_device_the_bytes_do_not_depend_on_the_batch_nor_on_other_threads() -> None:
    draw = function(drawing(Generator().to(CUDA)), CUDA, 64)
    together = draw(latents(7, 300))
    alone = np.concatenate([draw(row[None]) for row in latents(7, 300)])
    assert alone.tobytes() == together.tobytes()
    with ThreadPoolExecutor(4) as pool:
        assert all(images.tobytes() == together.tobytes() for images in pool.map(draw, [latents(7, 300)] * 16))


@pytest.mark.gpu
def test_a_device_draws_what_the_module_computes() -> None:
    generator = Generator().to(CUDA)
    rows = latents(11, 64)
    drawn = function(drawing(generator), CUDA, 64)(rows)
    with torch.inference_mode():
        expected = to_uint8(generator(torch.from_numpy(rows).to(CUDA))[:, 0].cpu().numpy())
    assert drawn.tobytes() == expected.tobytes()
