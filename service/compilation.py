"""Compilation of all loops before the first request that needs them, on several processors.

The loop that draws digits takes a second. Those of registration take a minute on one processor. Therefore the
interpreter first runs one small registration of every kind. This finds the compiled functions, the types of their
arguments, and which of them call one another. Processes then compile the functions into Numba's cache, each as soon as
those that it calls are there.
"""

from __future__ import annotations

import itertools
import os
import selectors
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

from numba.core import event
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher

from .em import worker as em_worker
from .formats.json_numbers import reading as json_numbers
from .gan import drawing
from .runtime.forking import end_with

_EM = em_worker.__name__.rpartition(".")[0]


class Variant(NamedTuple):
    """A compiled function for arguments of certain types."""

    function: Any
    types: tuple[Any, ...]


Calls = dict[Variant, set[Variant]]
"""For each variant, those that it calls."""


class _MissingError(Exception):
    """A function is not in the cache."""


class _Refuse(event.Listener):
    """Stops Numba where it begins to compile."""

    def on_start(self, event: Any) -> None:
        raise _MissingError

    def on_end(self, event: Any) -> None:
        """Nothing: it never comes to that."""


def compile_digits() -> None:
    """Load the loop that draws digits, or compile it within a second or two."""
    drawing.warm_up()


def warm_up() -> None:
    """Load all other loops, or compile them: those that read JSON, and those of registration."""
    json_numbers.warm_up()
    _register()


def _register(*, interpreted: bool = False) -> None:
    """Run every kind of registration once, which needs all loops of registration; nearly all if `interpreted`."""
    worker = em_worker.EmWorker()
    for job in em_worker.warm_up_jobs(interpreted=interpreted):
        worker([job])


def load() -> bool:
    """Load all loops from the cache into this process. Returns False, after a part of them, if one is missing."""
    with suppress(_MissingError), event.install_listener("numba:compile", _Refuse()):
        warm_up()
        return True
    return False


def compile_all(processes: int) -> None:
    """Compile all loops but that of digits into the cache, on Linux in several processes at a time.

    This process must have one thread. Loops that are not found in advance are compiled at the end, one by one.
    """
    if sys.platform == "linux" and processes > 1 and not load():
        _compile(tasks_of(find_calls()), processes)
    warm_up()


# -- what to compile ----------------------------------------------------------------------------------------------


def find_calls() -> Calls:
    """The variants that all but the largest registration of the warm-up use, in the order of their first calls."""
    calls: Calls = {}
    stack: list[Variant] = []

    def recorder(function: Any) -> Callable[..., Any]:
        """The interpreted function, which notes the types of its arguments."""
        python: Callable[..., Any] = function.py_func
        if isinstance(function._cache, NullCache):  # it is compiled with its callers
            return python

        def call(*arguments: Any) -> Any:
            variant = Variant(function, tuple(map(function.typeof_pyval, arguments)))
            calls.setdefault(variant, set())
            if stack:
                calls[stack[-1]].add(variant)
            stack.append(variant)
            try:
                return python(*arguments)
            finally:
                stack.pop()

        return call

    with _replaced(recorder):
        _register(interpreted=True)
    return calls


@contextmanager
def _replaced(replacement: Callable[[Any], Any]) -> Iterator[None]:
    """Replace all compiled functions, in the modules that define or import them, while the block runs."""
    found = [
        (module, name, value)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith(_EM)
        for name, value in vars(module).items()
        if isinstance(value, Dispatcher)
    ]
    for module, name, value in found:
        setattr(module, name, replacement(value))
    try:
        yield
    finally:
        for module, name, value in found:
            setattr(module, name, value)


def ranks(calls: Calls) -> dict[Variant, int]:
    """For each variant, the code on the longest way to it from a variant that nothing calls, in bytes of bytecode.

    What has the highest rank delays most others, so it is compiled first.
    """
    callers: dict[Variant, list[Variant]] = {variant: [] for variant in calls}
    for caller, called in calls.items():
        for variant in called - {caller}:
            callers[variant].append(caller)
    found: dict[Variant, int] = {}

    def rank(variant: Variant) -> int:
        if variant not in found:
            size = len(variant.function.py_func.__code__.co_code)
            found[variant] = size + max(map(rank, callers[variant]), default=0)
        return found[variant]

    for variant in calls:
        rank(variant)
    return found


class Task(NamedTuple):
    """A part of the compilation. `needs` are the indices of the tasks that come before it."""

    run: Callable[[], object]
    needs: frozenset[int]


def tasks_of(calls: Calls) -> list[Task]:
    """One task for each variant of `calls`, most urgent first, after one for the loops that read JSON."""
    rank = ranks(calls)
    variants = sorted(calls, key=rank.__getitem__, reverse=True)
    number = {variant: index for index, variant in enumerate(variants, 1)}
    tasks = [Task(json_numbers.warm_up, frozenset())]
    for variant in variants:
        needs = frozenset(number[called] for called in calls[variant] - {variant})
        tasks.append(Task(partial(variant.function.compile, variant.types), needs))
    return tasks


# -- the processes ------------------------------------------------------------------------------------------------


class _Compiler(NamedTuple):
    """A process that compiles: its id, the pipe of its tasks and that of its results."""

    pid: int
    tasks: int
    results: int


def _compile(tasks: Sequence[Task], processes: int) -> None:
    """Run the tasks in `processes` processes."""
    missing = {index: set(task.needs) for index, task in enumerate(tasks)}
    compilers: list[_Compiler] = []
    for _ in range(processes):
        compilers.append(_fork(tasks, compilers))
    idle, busy = list(compilers), 0
    with selectors.DefaultSelector() as selector:
        for compiler in compilers:
            selector.register(compiler.results, selectors.EVENT_READ, compiler)
        while True:
            for index in [index for index, needs in missing.items() if not needs][: len(idle)]:
                del missing[index]
                os.write(idle.pop().tasks, index.to_bytes(2, "big"))
                busy += 1
            if not busy:
                break
            for key, _ in selector.select():
                result = os.read(key.fd, 2)
                busy -= 1
                if not result:  # the process died; `warm_up` compiles what it had
                    selector.unregister(key.fd)
                    continue
                for needs in missing.values():
                    needs.discard(int.from_bytes(result, "big"))
                idle.append(key.data)
    for compiler in compilers:
        os.close(compiler.tasks)
        os.close(compiler.results)
    for compiler in compilers:
        os.waitpid(compiler.pid, 0)


def _fork(tasks: Sequence[Task], others: Sequence[_Compiler]) -> _Compiler:
    """Start a process that runs the tasks whose indices it reads, until the pipe ends."""
    read, give = os.pipe()
    take, results = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        os.close(read)
        os.close(results)
        return _Compiler(pid, give, take)
    try:
        end_with(parent)
        for descriptor in (give, take, *itertools.chain.from_iterable(other[1:] for other in others)):
            os.close(descriptor)
        while index := os.read(read, 2):
            tasks[int.from_bytes(index, "big")].run()
            os.write(results, index)
    finally:
        os._exit(0)
