"""`python -m benchmarks.gan.drawing`: the generator on one thread, as torch's module and as the service draws.

Prints the processor time of a batch, and the share of pixels whose level differs between the two.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from service.formats.images import UINT8, to_uint8
from service.gan import checkpoint, sampling
from service.gan.networks import Generator
from service.gan.packing import Float32

ROUNDS, SECONDS = 9, 0.1
PASS = 64


def module_levels(generator: Generator, rows: Float32) -> UINT8:
    """Images (B, 32, 32), in grey levels, of latents `rows` (B, 128), by passes of 64 through the module."""
    with torch.inference_mode():
        images = [generator(part)[:, 0] for part in torch.split(torch.from_numpy(rows), PASS)]
    return to_uint8(torch.cat(images).numpy())


def milliseconds(call: Callable[[], object]) -> float:
    """Processor time of one call, from as many calls as fit into `SECONDS`."""
    count, start = 0, time.thread_time()
    while (spent := time.thread_time() - start) < SECONDS:
        call()
        count += 1
    return spent / count * 1000


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gan.drawing", description=__doc__)
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--images", type=int, default=100_000, help="images to compare (default: 100,000)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    generator, _, _ = checkpoint.load(chosen.checkpoints)
    sampler = sampling.Sampler(generator)
    print(f"{'images':>7} {'module, ms':>11} {'compiled, ms':>13} {'ratio':>6}")
    for count in (1, 8, 64):
        rows = sampling.latents(0, count)
        calls: list[Callable[[], object]] = [lambda: module_levels(generator, rows), lambda: sampler(rows)]  # noqa: B023
        pairs = [[milliseconds(call) for call in calls] for _ in range(ROUNDS)]
        module, compiled = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{count:>7} {module:>11.3f} {compiled:>13.3f} {ratio:>6.1f}")
    differing = largest = total = 0
    for seed, start in enumerate(range(0, chosen.images, 1000)):
        rows = sampling.latents(seed, min(1000, chosen.images - start))
        gap = np.abs(sampler(rows).astype(np.int16) - module_levels(generator, rows))
        differing, largest, total = differing + int((gap > 0).sum()), max(largest, int(gap.max())), total + gap.size
    print(f"\nof {total:,} pixels {differing:,} differ, a share of {differing / total:.2g}, by at most {largest} level")


if __name__ == "__main__":
    main()
