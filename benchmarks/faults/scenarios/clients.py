"""Clients that hang up, are slow, or hold what they were given."""

from __future__ import annotations

import asyncio
import time

import uvloop

from benchmarks.faults.judging import Client, Known, known_calls, learn
from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.faults.running import service
from benchmarks.faults.scenarios.outcome import Outcome, seconds_until, small
from benchmarks.faults.traffic import Traffic, hang_up
from benchmarks.serving.connection import Call, to_bytes

# Settings of the scenarios, in seconds and bytes, and the time after which a slow client is surely gone.
HEADER, BODY_IDLE, KEEPALIVE, SLACK = 2, 2, 3, 6
INFLIGHT = 8 << 20


def hang_ups(quick: bool) -> Outcome:
    """Clients that hang up: their work stops at once, and known requests are answered meanwhile."""
    ledger = Ledger()
    with service(2) as server:
        lines = uvloop.run(_hang_ups(server.port, ledger, 200 if quick else 1000))
    return Outcome(ledger, lines)


async def _hang_ups(port: int, ledger: Ledger, count: int) -> list[str]:
    cloud = [[float(i % 97), float(i % 89), float(i % 83)] for i in range(600)]
    options = {"init": "identity", "sigma": 5.0, "tolerance": 0, "max_iterations": 9999}
    heavy = Known(
        "heavy",
        to_bytes(Call("POST", "/em/register", {"source": cloud, "target": cloud, **options})),
        (0, b"", b"", b""),
    )
    light = Known("light", to_bytes(Call("GET", "/gan/generate?seed=1&count=64")), (0, b"", b"", b""))
    traffic = Traffic(port, await small(port), ledger, 4, 0.05, is_polite=True)
    traffic.start()
    for start in range(0, count, 100):
        await asyncio.gather(
            *(hang_up(port, heavy if i % 5 == 0 else light, ledger, 0.05 * (i % 3)) for i in range(start, start + 100))
        )
    await traffic.stop()
    ledger.close()
    idle = max([await seconds_until(port, f"latentserve_queue_{name}", 0, 20) for name in ("items", "cost")])
    ledger.claim(idle < 5, f"the queues are empty {idle:.1f} s after the last hang-up, at most 5 s later")
    return [f"queues empty {idle:.2f} s after the last of {count:,} hang-ups"]


def slow_loris(quick: bool) -> Outcome:
    """Heads that never end, silent connections and idle ones are closed in time; known requests are answered."""
    ledger = Ledger()
    with service(1, header_seconds=HEADER, keepalive_seconds=KEEPALIVE) as server:
        lines = uvloop.run(_slow_loris(server.port, ledger, 20 if quick else 200))
    return Outcome(ledger, lines)


async def _slow_loris(port: int, ledger: Ledger, count: int) -> list[str]:
    whole = to_bytes(Call("GET", "/livez"))
    kinds = {
        "a byte a second": (b"GET /livez HTTP/1.1\r\n" + b"x: " + b"y" * 60, 1.0, HEADER),
        "half a head": (b"", 0.0, HEADER),
        "silent": (b"", 0.0, max(HEADER, KEEPALIVE)),
        "idle after an answer": (b"", 0.0, KEEPALIVE),
    }
    first = {"half a head": b"GET /livez HTTP/1.1\r\nhost: x\r\n", "idle after an answer": whole}
    traffic = Traffic(port, await small(port), ledger, 4, 0.05, is_polite=True)
    traffic.start()
    lines = []
    for name, (slowly, pause, allowed) in kinds.items():
        ends = await asyncio.gather(*(_dawdle(port, first.get(name, b""), slowly, pause) for _ in range(count)))
        worst = max(ends)
        ledger.claim(worst < allowed + SLACK, f"{name}: closed within {allowed} s; the last after {worst:.1f} s")
        lines.append(f"{name}: {count} connections closed within {worst:.1f} s, {allowed} s are allowed")
    await traffic.stop()
    ledger.close()
    return lines


async def _dawdle(port: int, first: bytes, slowly: bytes, pause: float) -> float:
    """Seconds until the service closes a connection that sends `first`, and then a byte of `slowly` at a time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    start = time.monotonic()

    async def send() -> None:
        for place in range(len(slowly)):
            writer.write(slowly[place : place + 1])
            await asyncio.sleep(pause)

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(HEADER + KEEPALIVE + 2 * SLACK):
            while await reader.read(1 << 16):
                pass
    except (TimeoutError, ConnectionError):
        pass
    finally:
        sending.cancel()
        writer.transport.abort()
    return time.monotonic() - start


def held_bodies(quick: bool) -> Outcome:
    """Unfinished bodies up to the limit of all bodies deny no other body for longer than the pause they may make."""
    ledger = Ledger()
    with service(1, body_idle_seconds=BODY_IDLE, max_inflight_bytes=INFLIGHT) as server:
        lines = uvloop.run(_held(server.port, ledger, 1 if quick else 3))
    return Outcome(ledger, lines)


async def _held(port: int, ledger: Ledger, rounds: int) -> list[str]:
    posts = await learn(
        port, known_calls([Call("POST", "/vae/kl", {"q": {"mu": [i], "sigma": [1]}}) for i in range(20)])
    )
    size = INFLIGHT // 4
    head = b"POST /vae/kl HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % size
    client = Client(port, ledger)
    longest = 0.0
    for _ in range(rounds):
        held = []
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + b"[" * (size - 2))  # fewer bytes are left than any other body has
            held.append(writer)
        start = denied = time.monotonic()
        while time.monotonic() - start < BODY_IDLE + SLACK:
            for one in posts[:5]:
                if await client.ask(one) is Fate.REFUSED:
                    denied = time.monotonic()
            await asyncio.sleep(0.05)
        longest = max(longest, denied - start)
        for writer in held:
            writer.transport.abort()
    client.close()
    ledger.close()
    ledger.claim(
        longest < BODY_IDLE + SLACK / 2, f"others are denied for at most {BODY_IDLE} s; it was {longest:.1f} s"
    )
    return [f"others were denied for {longest:.1f} s at most; a body may pause for {BODY_IDLE} s"]
