"""The warm-up compiles all loops of registrations: a request that waits for a compilation makes others wait too."""

from __future__ import annotations

import json
import subprocess
import sys

# Registers clouds of many kinds and sizes after the warm-up, and prints the loops that were compiled or loaded then.
SCRIPT = """
import itertools, json, sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from service import compilation
from service.em.kinds import KINDS
from service.em.problem import Problem
from service.em.worker import EmWorker, registration
from service.errors import InvalidInput

def variants():
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("service.em")]
    loops = {value for module in modules for value in vars(module).values() if isinstance(value, Dispatcher)}
    return {(loop.py_func.__qualname__, str(types)) for loop in loops for types in loop.signatures}

compilation.warm_up()
before, worker, rng = variants(), EmWorker(), np.random.default_rng(0)
sizes = (2, 2), (5, 7), (2, 501), (501, 2)
for (kind, record), dimension, (n, m), init in itertools.product(
    KINDS.items(), (1, 2, 3, 4), sizes, ("auto", "identity")
):
    if record.dimensions is not None and dimension not in record.dimensions:
        continue
    n = min(n, 40) if kind == "nonrigid" else n
    source, target = rng.normal(size=(n, dimension)), rng.normal(size=(m, dimension))
    plain = Problem(source, target, transform=kind, init=init, max_iterations=2)
    weights = rng.uniform(size=n), rng.uniform(size=m)
    zero = rng.permutation(n) > 0, rng.permutation(m) > 0
    problems = [plain]
    if kind != "nonrigid":
        problems += [
            plain._replace(normalize=way, source_weights=weights[0] * zero[0], target_weights=weights[1] * zero[1])
            for way in ("rows", "columns")
        ] + [
            plain._replace(normalize=way, pairs=np.array([[0, 1, np.inf], [1, 0, 2.0]]), refine=True)
            for way in ("rows", "columns")
        ]
    for problem in problems:
        try:
            worker([registration(problem)])
        except InvalidInput:  # too few points for the transform
            continue
# A scan, whose pose is found by features.
x, y = np.divmod(np.arange(1800.0), 45)
surface = np.stack([x, y, 4 * np.sin(x / 5) * np.cos(y / 6)], 1) + 0.05 * rng.normal(size=(1800, 3))
turned = surface[1::2] @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
worker([registration(Problem(surface[::2], turned, transform="rigid", noise="surface"))])
print(json.dumps(sorted(variants() - before)))
"""


def test_no_registration_compiles_a_loop_after_the_warm_up() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1]) == []
