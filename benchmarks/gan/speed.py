"""Images a second of a plain float32 loop over a DataLoader, as in tutorials, and of the steps of `training`."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import v2

from service.gan.networks import LATENT_DIM, Discriminator, Generator
from training.config import RECIPES, GanConfig
from training.learning.steps import advance
from training.learning.train_state import init_state

BATCH_SIZE = 64


def plain_loop(source: Path) -> Iterator[None]:
    """The original objective in float32, with batches from a DataLoader. Each `next` takes one step."""
    transform = v2.Compose(
        [v2.ToImage(), v2.Resize((32, 32)), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.5])]
    )
    dataset = MNIST(str(source), transform=transform)
    generator, discriminator = Generator(), Discriminator()
    optimizers = [torch.optim.Adam(module.parameters(), 2e-4, (0.5, 0.999)) for module in (generator, discriminator)]
    criterion = nn.BCELoss()
    while True:
        for real, _ in DataLoader(dataset, BATCH_SIZE, shuffle=True, drop_last=True):
            fake = generator(torch.randn(BATCH_SIZE, LATENT_DIM))
            optimizers[1].zero_grad()
            loss = criterion(discriminator(real), torch.ones(BATCH_SIZE))
            loss = loss + criterion(discriminator(fake.detach()), torch.zeros(BATCH_SIZE))
            torch.autograd.backward(loss)
            optimizers[1].step()
            optimizers[0].zero_grad()
            torch.autograd.backward(criterion(discriminator(fake), torch.ones(BATCH_SIZE)))
            optimizers[0].step()
            yield


def our_loop(images: Tensor, config: GanConfig) -> Iterator[None]:
    """The steps of `training` on `images` (N, 1, 32, 32). Each `next` takes one step."""
    state = init_state(config)
    order = torch.randperm(len(images))
    while True:
        for batch in torch.split(order, config.batch_size):
            advance(state, images[batch], config, config.learning_rate)
            yield


def images_a_second(loops: dict[str, Callable[[], Iterator[None]]], steps: int, rounds: int) -> dict[str, list[float]]:
    """Images per second of processor time, by loop, one number a round. Rounds alternate between the loops."""
    running = {name: start() for name, start in loops.items()}
    found: dict[str, list[float]] = {name: [] for name in loops}
    for loop in running.values():
        for _ in range(5):
            next(loop)
    for _ in range(rounds):
        for name, loop in running.items():
            start = time.process_time()
            for _ in range(steps):
                next(loop)
            # Other processes do not affect processor time.
            found[name].append(steps * BATCH_SIZE / (time.process_time() - start))
    return found


def compare(source: Path, images: Tensor, precision: str, steps: int = 20, rounds: int = 7) -> dict[str, float]:
    """Median images per second on one thread: the plain loop, and two recipes in float32 and in `precision`."""
    torch.set_num_threads(1)
    configs = {
        f"{name}, {kind}": dataclasses.replace(
            RECIPES[name], precision=kind, device="cpu", threads=1, batch_size=BATCH_SIZE
        )
        for name in ("minimax", "default")
        for kind in dict.fromkeys(("float32", precision))
    }
    loops: dict[str, Callable[[], Iterator[None]]] = {"plain loop": partial(plain_loop, source)}
    loops |= {name: partial(our_loop, images, config) for name, config in configs.items()}
    return {name: statistics.median(rates) for name, rates in images_a_second(loops, steps, rounds).items()}
