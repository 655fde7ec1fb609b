"""The lanes of the service: their workers, limits, threads and priorities."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from .em import worker as em_worker
from .gan import jobs as gan_jobs
from .gan.worker import GanWorker
from .runtime import devices
from .runtime.batch import JobT, ResultT
from .runtime.batching import Batcher, Limits
from .runtime.board import Seat
from .runtime.device_guard import DeviceGuard
from .settings import Settings
from .vae import worker as vae_worker
from .web.metrics import Metrics

# Its arrays come from JSON and go to JSON, and a GPU takes longer to copy them than a processor to compute.
CPU = torch.device("cpu")
# Predicted seconds of a batch. All of its results come at its end, so a longer one would miss deadlines. A registration
# of 100 x 100 points in 400 iterations takes 40 ms alone, 13 ms in batches of 8, 11 ms of 16 and 10 ms of 52.
BATCH_SECONDS = 0.2
# Batches of one lane that may have begun and not ended. They take turns.
TURNS = 4
# Registrations that cost as much as this many full batches, of about 65,000 points, take much memory: one at a time.
ALONE_BATCHES = 64
# How much the threads of lanes with long jobs lower their priority, so that short jobs and the event loop go first.
LARGE_NICE = 10


def batchers(
    settings: Settings, guard: DeviceGuard, gan_worker: GanWorker, metrics: Metrics, seat: Seat
) -> dict[str, Batcher[Any, Any]]:
    """The batcher of each lane, by its name. They are not started."""

    def batcher(
        name: str,
        worker: Callable[[list[JobT]], Sequence[ResultT | Exception]],
        batch_cost: float,
        cost: Callable[[JobT], float],
        key: Callable[[JobT], Hashable] = lambda _: None,
        size: Callable[[JobT], float] | None = None,
        cancel: Callable[[JobT], None] = lambda _: None,
        pass_seconds: Callable[[JobT], float] = lambda _: 0.0,
        threads: int = 1,
        is_short: Callable[[list[JobT]], bool] = lambda _: False,
        nice: int = 0,
        alone: float = math.inf,
    ) -> Batcher[JobT, ResultT]:
        return Batcher(
            name,
            guard.guarded(worker),
            limits=Limits(
                settings.batch_items,
                batch_cost,
                settings.queue_items,
                batch_cost * settings.queue_batches,
                BATCH_SECONDS,
            ),
            cost=cost,
            key=key,
            size=size or cost,
            cancel=cancel,
            is_out_of_memory=devices.is_out_of_memory,
            stall_seconds=settings.stall_seconds,
            pass_seconds=pass_seconds,
            observer=metrics.engine(name, seat.reporter(name)),
            elsewhere=seat.elsewhere(name),
            is_short=is_short,
            threads=threads,
            alone=alone,
            nice=nice,
        )

    registration = em_worker.EmWorker()
    em_rules = settings.batch_pairs, em_worker.cost, em_worker.key, em_worker.effort, em_worker.cancel
    gan_rules = gan_jobs.cost, gan_jobs.key, gan_jobs.size, gan_jobs.cancel
    # On a GPU, the event loop would wait for the device.
    is_short = gan_jobs.is_short if gan_worker.on_processor else lambda _: False
    # A batch of inversions is one image.
    batch_images = dict.fromkeys(gan_jobs.LANES, settings.batch_images) | {"gan-inversions": gan_jobs.INVERSION_COST}
    return {
        "em": batcher("em", registration, *em_rules, threads=TURNS),
        # A large registration has no time limit: it stops if its client leaves, its deadline passes or it stalls.
        "em-large": batcher(
            "em-large",
            registration,
            *em_rules,
            em_worker.pass_seconds,
            TURNS,
            nice=LARGE_NICE,
            alone=settings.batch_pairs * ALONE_BATCHES,
        ),
        "vae": batcher(
            "vae",
            vae_worker.VaeWorker(CPU),
            settings.batch_elements,
            vae_worker.cost,
            vae_worker.key,
            threads=TURNS,
        ),
        **{
            name: batcher(
                name,
                gan_worker,
                batch_images[name],
                *gan_rules,
                is_short=is_short,
                threads=TURNS,
                nice=0 if name == "gan" else LARGE_NICE,
            )
            for name in gan_jobs.LANES
        },
    }
