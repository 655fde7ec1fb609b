"""Bodies that take far more memory than bytes, if a parser lets them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import uvloop

from benchmarks.faults.judging import Client, Known, known_calls, learn
from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.faults.running import service
from benchmarks.faults.scenarios.outcome import Outcome
from benchmarks.serving.connection import Call, Caller, to_bytes
from benchmarks.serving.processes import Server, descendants
from benchmarks.serving.tables import claim, grid

# What no request may exceed: MB of memory beyond those before, and milliseconds for which others wait.
MEMORY, PAUSE = 1500.0, 50.0
PATIENCE = 120.0
PROBE_SECONDS = 0.005


def _nested(opened: str, inner: str, closed: str, depth: int) -> Callable[[int], bytes]:
    one = opened * depth + inner + closed * depth
    return lambda size: (f'{{"source":[{",".join([one] * (size // len(one)))}],"target":[[1,2]]}}').encode()


def _keys(size: int) -> bytes:
    names = ",".join(f'"k{number}":0' for number in range(size // 11))
    return f'{{"source":{{{names}}},"target":[[1,2]]}}'.encode()


def _numbers(size: int) -> bytes:
    rng = random.Random(0)  # noqa: S311
    rows = ",".join(f"[{rng.random():.5f},{rng.random():.5f}]" for _ in range(1000))
    # Of two and three dimensions, so that it is refused once it has been read.
    return f'{{"source":[{",".join([rows] * (size // len(rows)))}],"target":[[1,2,3]]}}'.encode()


def _words(size: int) -> bytes:
    return ('{"source":[' + ",".join(["null"] * (size // 5)) + '],"target":[[1,2]]}').encode()


BODIES: dict[str, Callable[[int], bytes]] = {
    "nested arrays": _nested("[", "1", "]", 150),
    "arrays 40 deep": _nested("[", "", "]", 40),
    "nested objects": _nested('{"a":', "1", "}", 100),
    "distinct keys": _keys,
    "words": _words,
    "empty arrays": _nested("[", "", "]", 1),
    "numbers": _numbers,
    "one string": lambda size: b'{"source":"' + b"x" * size + b'"}',
}


def greedy(quick: bool) -> Outcome:
    """Bodies of nested arrays, objects and keys: their memory is bounded, and others hardly wait for them."""
    ledger = Ledger()
    with service(1) as server:
        lines = uvloop.run(_greedy(server, ledger, (8 if quick else 56) << 20))
    return Outcome(ledger, lines)


async def _greedy(server: Server, ledger: Ledger, size: int) -> list[str]:
    (livez,) = await learn(server.port, known_calls([Call("GET", "/livez")]))
    lines = [["body", "MB", "status", "seconds", "more MB", "pause ms"]]
    most = worst = 0.0
    for name, body in BODIES.items():
        request = to_bytes(Call("POST", "/em/register", body(size), "application/json"))
        before = _peak(server.process.pid, reset=True)
        pauses: list[float] = []
        done = asyncio.Event()
        probing = asyncio.create_task(_probe(Client(server.port, ledger), livez, pauses, done))
        start = time.monotonic()
        status = await _sent(server.port, request, name, ledger)
        seconds = time.monotonic() - start
        done.set()
        await probing
        more = _peak(server.process.pid) - before
        most, worst = max(most, more), max(worst, *pauses)
        figures = (
            f"{len(request) / 1e6:.1f}",
            str(status),
            f"{seconds:.2f}",
            f"{more:.0f}",
            f"{1e3 * max(pauses):.0f}",
        )
        lines.append([name, *figures])
    ledger.claim(most <= MEMORY, f"no body takes more than {MEMORY:g} MB: {most:.0f} MB")
    ledger.close()
    return [*grid(lines).splitlines(), claim("longest pause of others in ms", 1e3 * worst, most=PAUSE)]


async def _sent(port: int, request: bytes, name: str, ledger: Ledger) -> int:
    """Send a body, which has to be refused, by whatever error of the request or of the load."""
    ledger.offer()
    caller = Caller(port)
    try:
        answer = await asyncio.wait_for(caller.raw(request), PATIENCE)
    except (TimeoutError, OSError) as error:
        ledger.settle(Fate.LOST, f"{name}: {error!r}"[:200])
        return 0
    finally:
        caller.close()
    is_refusal = 400 <= answer.status < 500
    fate = Fate.REFUSED if answer.status == 503 else Fate.ANSWERED if is_refusal else Fate.WRONG
    ledger.settle(fate, f"{name}: {answer.status} {answer.body[:200]!r}")
    return answer.status


async def _probe(client: Client, livez: Known, pauses: list[float], done: asyncio.Event) -> None:
    """Ask for /livez until `done`; `pauses` receives the seconds that each answer took."""
    while not done.is_set():
        start = time.monotonic()
        await client.ask(livez)
        pauses.append(time.monotonic() - start)
        await asyncio.sleep(PROBE_SECONDS)
    client.close()


def _peak(pid: int, *, reset: bool = False) -> float:
    """The largest resident memory of the processes so far, summed, in MB; `reset` begins anew with the present one."""
    return sum(_peaks(pid, reset)) / 1e6


def _peaks(pid: int, reset: bool) -> Iterator[float]:
    for one in descendants(pid):
        with suppress(OSError, StopIteration):
            if reset:
                Path(f"/proc/{one}/clear_refs").write_text("5")
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            yield int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
