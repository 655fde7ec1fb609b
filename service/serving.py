"""`serve`: one process that does everything, or a supervisor and its replicas."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch

from . import compilation
from .app import Networks, create_app, load_networks, new_board
from .errors import LatentserveError
from .gan import passes
from .runtime import background, devices, sizing
from .runtime.background import Background
from .runtime.board import Board, Seat
from .runtime.channel import Pair
from .runtime.device_client import DeviceLink
from .runtime.device_process import DeviceProcess
from .runtime.device_server import DeviceServer
from .runtime.device_state import DeviceState
from .runtime.forking import end_now
from .runtime.listening import address_of, connections_within, listen, raise_descriptor_limit
from .runtime.quotas import Quotas
from .runtime.sources import Listeners
from .runtime.supervised import Supervised
from .runtime.supervisor import Rules, Supervisor
from .runtime.watchdog import Watchdog
from .server import Server
from .settings import Settings
from .web import keys, threads
from .web.door import FULL
from .web.observability import log

# Descriptors of one process beside its connections.
SPARE_DESCRIPTORS = 512
# Seconds for the last line of a process that ends because its event loop stands still.
LAST_WORDS_SECONDS = 1.0


class Prepared(NamedTuple):
    """What all processes of the service share."""

    settings: Settings
    networks: Networks
    listeners: Sequence[socket.socket]
    board: Board
    compiling: Background | None
    quotas: Quotas | None
    link: DeviceLink | None = None


def serve(settings: Settings) -> tuple[int, str]:
    """Serve until a signal. Returns the exit status, and why the service could not start.

    Raises:
        LatentserveError: the checkpoint, the device, the address, the root path or the file of API keys is not usable.
    """
    if settings.api_keys_file is not None:
        keys.read(settings.api_keys_file)
    networks = load_networks(settings)
    listeners = listen(settings.host, settings.port)
    size = sizing.Size(settings.processes, "LATENTSERVE_PROCESSES")
    if not settings.processes:
        size = sizing.choose()
    settings = _within_descriptors(settings)
    quotas = None if settings.api_keys_file is None else Quotas(size.processes)
    log.info("listening", address=address_of(listeners), processes=size.processes, limited_by=size.limited_by)
    torch.set_num_threads(1)
    compiling = _compile_in_background(listeners)
    device = _device_process(settings, networks, size.processes)
    link = None if device is None else DeviceLink(device.address, device.state)
    prepared = Prepared(settings, networks, listeners, new_board(size.processes), compiling, quotas, link)
    # What exists now lives as long as the process, so the garbage collector need not visit it, nor copy its pages.
    gc.collect()
    gc.freeze()
    if size.processes == 1:
        return _serve_alone(prepared), ""
    rules = Rules(
        settings.connections,
        settings.drain_seconds,
        settings.shutdown_seconds,
        settings.stall_seconds,
        settings.hang_seconds,
    )
    supervisor = Supervisor(
        listeners, prepared.board, _replica(prepared), rules, FULL, log.warning, lambda: log.info("ready"), device
    )
    return supervisor.run(), supervisor.reason


def _within_descriptors(settings: Settings) -> Settings:
    """The settings, with fewer connections if the system allows fewer open files."""
    files = raise_descriptor_limit(settings.connections + SPARE_DESCRIPTORS)
    connections = connections_within(files, settings.connections, SPARE_DESCRIPTORS)
    if connections == settings.connections:
        return settings
    log.warning("fewer connections, because of the limit of open files", connections=connections, open_files=files)
    return settings.model_copy(update={"connections": connections})


def _compile_in_background(listeners: Sequence[socket.socket]) -> Background | None:
    """Load all loops; if some are not compiled, start to compile them."""
    compilation.compile_digits()
    if compilation.load():
        return None
    log.info("compiling", what="the loops of registration", takes="about 40 seconds on two idle cores")

    def close() -> None:
        for listener in listeners:
            listener.close()

    return background.start(lambda: compilation.compile_all(sizing.processors()), close)


def _device_process(settings: Settings, networks: Networks, replicas: int) -> DeviceProcess | None:
    """The process that computes on a GPU for all replicas; None if none is wanted, or one process is alone.

    Only that process asks CUDA whether there is a GPU, because a process that has used CUDA cannot be forked.
    """
    if replicas == 1 or settings.device == "cpu" or torch.version.cuda is None:
        return None

    def compute(listener: socket.socket, state: DeviceState) -> int:
        try:
            device = devices.prepare(settings.device)
        except LatentserveError as error:
            state.refused(error.detail)
            return 2
        if device.type == "cpu":
            state.unneeded()
            return 0
        generator, discriminator, _, companions = networks
        functions = passes.on_cuda(generator, discriminator, device, companions)
        server = DeviceServer(listener, passes.FUNCTIONS, functions, state, partial(devices.computes, device))
        state.ready(devices.describe(device))
        return server.run()

    return DeviceProcess(compute)


def _serve_alone(prepared: Prepared) -> int:
    """Serve until a signal, or until the process cannot go on. Returns the exit status: 0, or 1."""
    settings, networks, listeners, board, compiling, quotas, _ = prepared
    seat = board.seat(0)
    app = create_app(settings, networks, seat, compiling=compiling, quotas=quotas)
    server = Server(app, settings, Listeners(listeners, seat, settings.connections, FULL))
    watchdog = Watchdog(board, settings.hang_seconds, _end_hanging)
    watchdog.start()
    server.run()
    watchdog.stop()
    if server.failed:
        end_now(1)  # the interpreter's clean-up would wait for threads that hang, and use a device that is lost
    return 0


def _end_hanging(still_seconds: float) -> None:
    # The event loop may stand still in a write to the log, for which this thread would wait.
    last = threading.Timer(LAST_WORDS_SECONDS, os._exit, (1,))
    last.daemon = True
    last.start()
    log.critical("the event loop stands still and the process ends", still_seconds=round(still_seconds, 1))
    end_now(1)


def _replica(prepared: Prepared) -> Callable[[Seat, Pair], int]:
    def run(seat: Seat, pair: Pair) -> int:
        settings, networks, _, _, compiling, quotas, link = prepared
        source = Supervised(pair, seat)
        threads.share(seat.board.replicas)
        try:
            app = create_app(settings, networks, seat, source.collect, compiling, quotas, link)
        except LatentserveError as error:
            source.refuse(error.detail)
            return 2
        metrics = app.parts.health.metrics
        source.snapshot, source.measure = metrics.snapshot, metrics.measure
        Server(app, settings, source, has_signals=False).run()
        source.report()
        return 0

    return run
