"""`python -m benchmarks.gan`: measure the effect of each setting of the recipe, and print tables.

All measurements use held-out training images and a separate classifier, never the test images. Runs are kept under
--runs, so that an interrupted command continues.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from pathlib import Path

import torch

from benchmarks.gan import ablations, runner, speed, story
from service.errors import LatentserveError
from training.config import RECIPES

RESULTS = Path(__file__).parent
# A run counts as collapsed above one of these bounds.
MAX_RATIO, MAX_CLASS_KL = 100, 0.1


def main() -> None:
    """Run the scenario that the command line selects."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gan", description=__doc__)
    parser.add_argument("scenario", choices=("ablations", "seeds", "story", "speed"))
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of MNIST (default: data)")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), help="folder of the runs")
    parser.add_argument(
        "--epochs", type=int, help="epochs of each run (default: 3 for ablations, 2 for seeds, 10 for the story)"
    )
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds of the scenario `seeds` (default: 10)")
    parser.add_argument(
        "--published",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="folders of the published model's runs, for the story",
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument(
        "--only", nargs="+", choices=ablations.VARIANTS, metavar="VARIANT", help="run only these ablations"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bench = runner.prepare(chosen.data, chosen.runs)
    print(
        f"classifier of the measurements: accuracy {bench.validator.accuracy:.2%}, floor {bench.validator.floor:.4f}\n"
    )
    settings = {"precision": chosen.precision, "threads": 1, "device": "cpu"}
    match chosen.scenario:
        case "ablations":
            entries = []
            for name in chosen.only or ablations.VARIANTS:
                config = dataclasses.replace(ablations.variant(name, chosen.epochs or 3), **settings)
                entries.append(runner.measure(bench, f"ablation {name}", config)._replace(name=name))
                runner.save(RESULTS / "ablations.json", entries[-1])
            print(runner.summary(entries))
        case "seeds":
            entries = []
            for seed in range(chosen.seeds):
                config = dataclasses.replace(RECIPES["default"], epochs=chosen.epochs or 2, seed=seed, **settings)
                entries.append(runner.measure(bench, f"seed {seed}", config))
                runner.save(RESULTS / "seeds.json", entries[-1])
            print(runner.summary(entries))
            print(spread(entries))
        case "story":
            print(story.compare(bench, chosen.epochs or 10, settings, chosen.published, RESULTS / "story.png"))
        case "speed":
            rates = speed.compare(chosen.data, bench.images, chosen.precision)
            base = rates["plain loop"]
            rows = [(name, f"{rate:,.0f}", f"{rate / base:.2f}") for name, rate in rates.items()]
            print(runner.table(("", "images a second", "ratio"), rows))


def spread(entries: list[runner.Entry]) -> str:
    """One line: the number of runs that did not collapse, and the mean and standard deviation of the runs' ratios."""
    finite = [entry.quality for entry in entries if entry.quality is not None]
    good = [quality for quality in finite if quality.ratio <= MAX_RATIO and quality.class_kl <= MAX_CLASS_KL]
    line = f"{len(good)} of {len(entries)} runs did not collapse"
    if len(finite) < 2:
        return line
    ratios = [quality.ratio for quality in finite]
    return f"{line}; over floor: mean {statistics.fmean(ratios):.2f}, standard deviation {statistics.stdev(ratios):.2f}"


if __name__ == "__main__":
    try:
        main()
    except LatentserveError as error:
        sys.exit(f"benchmarks.gan: {error.detail}")
