"""Registration by EM: each problem by the engine of its plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .batched.registration import register_translations
from .checks import check
from .mirrored import against_mirror_image
from .outcome import Outcome
from .plan import Engine, Plan, plan
from .problem import Problem
from .quality.undetermined import widened
from .solving.weighted import register_weighted
from .transposed import doubted


def register(problem: Problem) -> Outcome:
    """Register one problem. Raises InvalidInput where `check` does."""
    return register_batch([problem])[0]


def register_batch(problems: Sequence[Problem]) -> list[Outcome]:
    """Check, plan and register all problems; each outcome has the same bits as the problem's alone.

    Raises InvalidInput where `check` does, for the first problem that is not computable.
    """
    return register_plans([plan(check(problem)) for problem in problems])


def register_plans(plans: Sequence[Plan]) -> list[Outcome]:
    """Register problems that are planned, the batched ones of one `group_key` together.

    Raises InvalidInput where the points do not determine a transform.
    """
    outcomes: dict[int, Outcome] = {}
    for engine, compute in ENGINES.items():
        chosen = [i for i, one in enumerate(plans) if one.engine == engine]
        found = compute([plans[i].problem for i in chosen])
        for i, one in zip(chosen, found, strict=True):
            problem = plans[i].problem
            outcomes[i] = doubted(problem, widened(problem, against_mirror_image(problem, one)))
    return [outcomes[i] for i in range(len(plans))]


def _register_poses(problems: Sequence[Problem]) -> list[Outcome]:
    return [register_weighted(problem) for problem in problems]


ENGINES: dict[Engine, Callable[[Sequence[Problem]], list[Outcome]]] = {
    "climbing": _register_poses,
    "batched": register_translations,
}
