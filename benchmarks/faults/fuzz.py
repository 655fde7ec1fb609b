"""Fuzzed requests over HTTP: valid requests whose values, encodings and bytes are mutated.

No answer may have a status from 500 but 503 and 504; every request is answered; answers are well formed, and the same
when asked again; and requests whose right answers are known get them meanwhile. Request number n of a seed is the same
in every run.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

import uvloop

from benchmarks.faults.encoding import encoded, joined, split
from benchmarks.faults.forms import malformed
from benchmarks.faults.judging import PATIENCE, REFUSALS, Client, Known, known_calls, learn
from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.faults.log import tracebacks
from benchmarks.faults.mutation import damaged
from benchmarks.faults.running import BOUNDS, NOTHING, service
from benchmarks.faults.trees import mutated
from benchmarks.faults.valid import draft
from benchmarks.serving.connection import Answer, Call, Caller
from benchmarks.serving.mixtures import essence, pool
from benchmarks.serving.processes import ROOT

# Connections for whole requests; and bytes that may be no request, which wait on connections beside them.
CONNECTIONS, MOST_UNFRAMED = 8, 16
# Shares of the requests: with mutated fields, with damaged bodies, with damaged heads; and of the answers with status
# 200, those that are asked for again.
MUTATED, DAMAGED_BODY, DAMAGED_HEAD, REPEATED = 0.65, 0.05, 0.04, 0.03
# Share of the mutations that the schema is likely to refuse.
HOSTILE = 0.35
# Fuzzed requests between two requests whose answer is known, on one connection.
CONTROL_EVERY = 10
DEADLINE = 10
# Seconds without an answer after which bytes that may be no request are ended.
SILENCE = 1.0
# At least this share reaches an engine, or the mutations are too coarse to test anything behind the schema.
LEAST_AT_ENGINES = 0.3
SCRAPE_SECONDS = 5.0
FOLDER = ROOT / "build" / "faults"
_MOST_KEPT = 50
HEADERS = (
    b"x-timeout-seconds: 0.001", b"x-timeout-seconds: 1e400", b"accept: text/csv;q=0.1, */*;q=0", b"accept: \xff",
    b"content-type: application/json; charset=utf-16", b"content-type: multipart/form-data", b"expect: 100-continue",
    b"content-encoding: gzip", b"x-request-id: \xe9\x00", b"transfer-encoding: chunked", b"upgrade: h2c",
    b"range: bytes=0-1", b"if-none-match: *", b"cookie: " + b"a" * 5000, b"connection: close", b"host: other",
    b"content-length: 5",
)  # fmt: skip


class Fuzzed(NamedTuple):
    """One request: its bytes, and whether they are surely one whole request of HTTP."""

    number: int
    path: str
    request: bytes
    is_framed: bool


def request(seed: int, number: int) -> Fuzzed:
    """Request `number` of `seed`."""
    rng = random.Random(f"{seed}/{number}")  # noqa: S311
    found = draft(rng)
    if rng.random() < MUTATED:
        found = found._replace(fields=mutated(found.fields, rng, HOSTILE))
    whole = encoded(found, rng, plain=rng.random() < 0.6)
    head, body = split(whole)
    head += b"\r\nx-timeout-seconds: %d" % DEADLINE
    kind = rng.random()
    if kind < DAMAGED_BODY and body:
        body = damaged(body, rng)
    if kind < 1 - DAMAGED_HEAD:
        return Fuzzed(number, found.path, joined(head, body), True)
    if rng.random() < 0.5:
        head += b"\r\n" + rng.choice(HEADERS)
        return Fuzzed(number, found.path, joined(head, body), False)
    return Fuzzed(number, found.path, damaged(joined(head, body), rng), False)


class Report(NamedTuple):
    """The accounts of the fuzzed and of the known requests, and what is known about the former."""

    fuzzed: Ledger
    known: Ledger
    statuses: Counter[int]
    jobs: int  # of fuzzed requests that reached an engine
    slowest: float  # seconds, with its number
    slowest_number: int
    seconds: float


class _Fuzzer:
    def __init__(self, port: int, total: int, seed: int, first: int, known: list[Known]) -> None:
        self._port, self._seed, self._end = port, seed, first + total
        self._numbers = count(first)
        self._known = known
        self.fuzzed, self.controls = Ledger(), Ledger()
        self.statuses: Counter[int] = Counter()
        self.slowest, self.slowest_number = 0.0, -1
        self.repeats = self._kept = 0
        self._beside = asyncio.Semaphore(MOST_UNFRAMED)

    async def run(self) -> None:
        """Send all requests. Those that are not framed may be answered at their end only, so the others pass them."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CONNECTIONS):
                tasks.create_task(self._work(tasks))

    async def _work(self, tasks: asyncio.TaskGroup) -> None:
        """Send requests over one connection, and those that are not framed over connections of their own."""
        caller, again = Caller(self._port), Caller(self._port)
        control = Client(self._port, self.controls)
        while (number := next(self._numbers)) < self._end:
            if number % CONTROL_EVERY == 0:
                await control.ask(self._known[number // CONTROL_EVERY % len(self._known)])
            fuzzed = request(self._seed, number)
            self.fuzzed.offer()
            if not fuzzed.is_framed:
                await self._beside.acquire()
                tasks.create_task(self._unframed(fuzzed)).add_done_callback(lambda _: self._beside.release())
                continue
            start = time.perf_counter()
            try:
                answer = await asyncio.wait_for(caller.raw(fuzzed.request), PATIENCE)
            except TimeoutError:
                caller.close()
                self._fault(fuzzed, Fate.LOST, f"no answer in {PATIENCE:g} s")
                continue
            except OSError as error:
                self._fault(fuzzed, Fate.LOST, str(error))
                continue
            if answer.header(b"connection") == b"close":
                caller.close()
            if (seconds := time.perf_counter() - start) > self.slowest:
                self.slowest, self.slowest_number = seconds, number
            await self._judge(fuzzed, answer, again)
        for connection in (caller, again, control):
            connection.close()

    async def _judge(self, fuzzed: Fuzzed, answer: Answer, again: Caller) -> None:
        self.statuses[answer.status] += 1
        if wrong := malformed(answer):
            self._fault(fuzzed, Fate.WRONG, f"{wrong}: {answer.status} {answer.body[:300]!r}")
            return
        if answer.status == 200 and is_repeatable(fuzzed, answer) and fuzzed.number % 100 < 100 * REPEATED:
            self.repeats += 1
            try:
                second = await asyncio.wait_for(again.raw(fuzzed.request), PATIENCE)
            except (TimeoutError, OSError) as error:
                self._fault(fuzzed, Fate.LOST, f"asked again: {error!r}")
                again.close()
                return
            if second.status not in REFUSALS and essence(second) != essence(answer):
                self._fault(fuzzed, Fate.WRONG, f"another answer when asked again: {second.status}")
                return
        self.fuzzed.settle(Fate.REFUSED if answer.status in REFUSALS else Fate.ANSWERED)

    async def _unframed(self, fuzzed: Fuzzed) -> None:
        """Send bytes that may be no request, and end the sending if nothing comes back.

        The service answers or closes the connection. It may wait for more bytes, but not after their end.
        """
        answer = b""
        writer = None
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                with suppress(ConnectionError):
                    writer.write(fuzzed.request)
                    await writer.drain()
                    with suppress(TimeoutError):
                        answer = await asyncio.wait_for(reader.read(1 << 16), SILENCE)
                    writer.write_eof()
                    answer += await reader.read()
        except TimeoutError:
            self._fault(fuzzed, Fate.LOST, f"neither an answer nor an end in {PATIENCE:g} s")
            return
        except OSError as error:
            self._fault(fuzzed, Fate.LOST, str(error))
            return
        finally:
            if writer is not None:
                writer.close()
        for status in map(int, re.findall(rb"^HTTP/1\.1 (\d{3}) ", answer, re.MULTILINE)):
            self.statuses[status] += 1
            if status >= 500 and status not in REFUSALS:
                self._fault(fuzzed, Fate.WRONG, f"status {status}: {answer[:600]!r}")
                return
        self.fuzzed.settle(Fate.ANSWERED)

    def _fault(self, fuzzed: Fuzzed, fate: Fate, what: str) -> None:
        self.fuzzed.settle(fate, f"request {fuzzed.number} to {fuzzed.path}: {what}")
        if self._kept < _MOST_KEPT:
            self._kept += 1
            FOLDER.mkdir(parents=True, exist_ok=True)
            (FOLDER / f"{self._seed}-{fuzzed.number}.http").write_bytes(fuzzed.request)


def is_repeatable(fuzzed: Fuzzed, answer: Answer) -> bool:
    """Whether the request determines its answer: nothing was drawn from a seed that it does not name."""
    return fuzzed.path.startswith("/em/") or (bool(answer.header(b"etag")) and b"seed=" in fuzzed.request)


async def jobs(port: int) -> int:
    """Jobs that have reached an engine so far."""
    caller = Caller(port)
    text = (await caller(Call("GET", "/metrics"))).body.decode()
    caller.close()
    return sum(
        int(float(value)) for value in re.findall(r"^latentserve_batch_size_sum{.*?} (\S+)$", text, re.MULTILINE)
    )


async def _scrape(port: int) -> None:
    """Collect the metrics now and then, as Prometheus does. A process that dies loses what it counted since then."""
    while True:
        with suppress(OSError):
            await jobs(port)
        await asyncio.sleep(SCRAPE_SECONDS)


async def drive(port: int, total: int, seed: int, first: int = 0) -> Report:
    """Send requests `first` to `first` + `total` - 1 of `seed`, and known ones among them."""
    calls = random.Random(seed).sample(pool(), 100)  # noqa: S311
    known = await learn(port, known_calls(calls))
    fuzzer = _Fuzzer(port, total, seed, first, known)
    before, start = await jobs(port), time.perf_counter()
    scraping = asyncio.create_task(_scrape(port))
    await fuzzer.run()
    scraping.cancel()
    seconds = time.perf_counter() - start
    others = fuzzer.controls.fates[Fate.ANSWERED] + fuzzer.repeats
    fuzzer.fuzzed.close()
    fuzzer.controls.close()
    return Report(
        fuzzer.fuzzed,
        fuzzer.controls,
        fuzzer.statuses,
        await jobs(port) - before - others,
        fuzzer.slowest,
        fuzzer.slowest_number,
        seconds,
    )


def table(total: int, seed: int, first: int = 0, processes: int = 2, *, bounds: bool = False) -> tuple[str, bool]:
    """Send the requests to a service started for it. Returns the lines, and whether nothing is wrong or lost.

    With `bounds` its compiled loops check their indices.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    log = FOLDER / f"fuzz-{seed}.log"
    variables = BOUNDS if bounds else NOTHING
    with log.open("wb") as stderr, service(processes, "", stderr, variables, access_log_share=0) as server:
        report = uvloop.run(drive(server.port, total, seed, first))
    share = report.jobs / max(total, 1)
    report.fuzzed.claim(
        share >= LEAST_AT_ENGINES,
        f"{share:.1%} of the requests reached an engine, at least {LEAST_AT_ENGINES:.0%} must",
    )
    statuses = ", ".join(f"{status}: {number:,}" for status, number in sorted(report.statuses.items()))
    lines = [
        f"fuzzed   {report.fuzzed.equation()}",
        f"known    {report.known.equation()}",
        f"{share:.1%} reached an engine; statuses {statuses}",
        f"{total / report.seconds:.0f} a second; the slowest took {report.slowest:.1f} s: {report.slowest_number}",
        *(f"  {fault}" for ledger in (report.fuzzed, report.known) for fault in [*ledger.faults, *ledger.broken]),
        *(f"  in the log {times:,} times: {what}" for what, times in tracebacks(Path(log)).most_common()),
    ]
    return "\n".join(lines), report.fuzzed.is_clean and report.known.is_clean
