"""Processes that are killed, work that breaks its worker, and a stop under load."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from contextlib import suppress

import orjson
import uvloop

from benchmarks.faults.judging import PATIENCE, Client, Known, fate_of
from benchmarks.faults.launcher import HUNGRY, POISON
from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.faults.running import service
from benchmarks.faults.scenarios.outcome import Outcome, metric, replicas, seconds_until, small
from benchmarks.faults.traffic import Traffic
from benchmarks.serving.connection import Answer, Call, Caller, to_bytes
from benchmarks.serving.mixtures import essence
from benchmarks.serving.processes import Server

CLIENTS = 12
# A killed process is noticed at once; its successor serves within seconds, on a loaded machine later.
NOTICE, RESTART = 1.0, 30.0


def kill(quick: bool) -> Outcome:
    """SIGKILL to one of two processes under load: only requests on its connections are cut, and another is started."""
    ledger = Ledger()
    with service(2) as server:
        lines = uvloop.run(_kill(server, ledger, 2 if quick else 5))
    return Outcome(ledger, lines)


async def _kill(server: Server, ledger: Ledger, seconds: float) -> list[str]:
    traffic = Traffic(server.port, await small(server.port), ledger, CLIENTS, 0.01, is_polite=True)
    traffic.start()
    await asyncio.sleep(seconds)
    before = replicas(server.process.pid)
    traffic.expect_ends(Fate.CUT)
    os.kill(before[0], signal.SIGKILL)
    await asyncio.sleep(NOTICE)
    traffic.expect_ends(Fate.LOST)
    back = NOTICE + await seconds_until(server.port, "latentserve_replicas", 2, RESTART)
    await asyncio.sleep(seconds)
    await traffic.stop()
    ledger.close()
    ledger.claim(ledger.fates[Fate.CUT] <= CLIENTS, f"at most {CLIENTS} requests, one a connection, are cut")
    ledger.claim(back < RESTART, f"two processes serve again within {RESTART:g} s")
    return [f"cut are those on the connections of the killed process; two processes served again after {back:.1f} s"]


def poison(quick: bool) -> Outcome:
    """Pictures that break every batch they are in, and some that need a small batch: their batch-mates are right."""
    ledger = Ledger()
    with service(1, hook="poison") as server:
        lines = uvloop.run(_poison(server, ledger, 10 if quick else 50))
    return Outcome(ledger, lines)


async def _poison(server: Server, ledger: Ledger, rounds: int) -> list[str]:
    # Their scores are computed on the worker's thread, so that batches form.
    calls = [Call("GET", f"/gan/generate?seed={seed}&scores=true") for seed in (*range(20), HUNGRY)]
    caller = Caller(server.port)
    known = [
        Known(call.path, to_bytes(call), essence(await asyncio.wait_for(caller(call), PATIENCE))) for call in calls
    ]
    caller.close()
    clients = [Client(server.port, ledger) for _ in calls]
    ill = [Caller(server.port) for _ in range(3)]
    for _ in range(rounds):
        await asyncio.gather(
            *(client.ask(one) for client, one in zip(clients, known, strict=True)),
            *(_ask_poison(one, ledger) for one in ill),
        )
    for client in clients:
        client.close()
    for one in ill:
        one.close()
    ledger.close()
    failures = await metric(server.port, "latentserve_job_failures_total")
    ledger.claim(failures == 3 * rounds, f"{failures:.0f} jobs failed, and {3 * rounds} are poisonous")
    return [f"the right answer to a poisonous request is a 500 of its own; {failures:.0f} jobs failed"]


async def _ask_poison(caller: Caller, ledger: Ledger) -> None:
    ledger.offer()
    try:
        answer = await asyncio.wait_for(caller(Call("GET", f"/gan/generate?seed={POISON}&scores=true")), PATIENCE)
    except (TimeoutError, OSError) as error:
        ledger.settle(Fate.LOST, f"poison: {error!r}")
        return
    is_right = answer.status == 500 and orjson.loads(answer.body)["type"].endswith(":worker-failed")
    ledger.settle(Fate.ANSWERED if is_right else Fate.WRONG, f"poison: {answer.status} {answer.body[:200]!r}")


def sigterm(quick: bool) -> Outcome:
    """SIGTERM under load: each request sent before the connections are refused is answered, and the service ends."""
    ledger = Ledger()
    lines = []
    for _ in range(1 if quick else 3):
        with service(2, drain_seconds=1) as server:
            lines.append(uvloop.run(_sigterm(server, ledger)))
    ledger.close()
    return Outcome(ledger, lines)


async def _sigterm(server: Server, ledger: Ledger) -> str:
    known = await small(server.port)
    sending = [asyncio.create_task(_until_refused(server.port, known, ledger, place)) for place in range(CLIENTS)]
    await asyncio.sleep(1)
    start = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*sending)
    status: int | None = None
    with suppress(subprocess.TimeoutExpired):
        status = await asyncio.to_thread(server.process.wait, PATIENCE)
    ledger.claim(status == 0, f"the service ends with status 0; it ended with {status}")
    return f"ended with status {status}, {time.monotonic() - start:.1f} s after SIGTERM"


async def _until_refused(port: int, known: list[Known], ledger: Ledger, place: int) -> None:
    """Send without pauses, until a connection is refused. A connection that is open has never been idle."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        is_open = True
        while is_open:
            one = known[place % len(known)]
            place += CLIENTS + 1
            ledger.offer()
            is_open = await _asked(reader, writer, one, ledger)
        writer.transport.abort()


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one: Known, ledger: Ledger) -> bool:
    """Send one request and settle it. Returns whether the connection stays open."""
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(one.request)
            head = (await reader.readuntil(b"\r\n\r\n"))[:-4].lower()
            answer = Answer(int(head[9:12]), head, b"")
            has_body = not one.request.startswith(b"HEAD ") and answer.status != 304
            body = await reader.readexactly(int(answer.header(b"content-length"))) if has_body else b""
    except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
        ledger.settle(Fate.LOST, f"{one.name}: {error!r}")
        return False
    fate = fate_of(answer._replace(body=body), one.expected)
    ledger.settle(fate, f"{one.name}: {answer.status} {body[:200]!r}")
    return answer.header(b"connection") != b"close"
