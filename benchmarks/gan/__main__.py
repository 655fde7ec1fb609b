"""`python -m benchmarks.gan`: what each ingredient of the recipe is worth, and whether it ever fails; prints tables.

Everything is measured on held-out training images by a classifier of its own, never on the test images. Runs are kept
under --runs, so that a command that was cut goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import torch

from benchmarks.gan import ablations, runner, speed, story
from service.errors import LatentserveError
from training.config import RECIPES

RESULTS = Path(__file__).parent


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gan", description=__doc__)
    parser.add_argument("scenario", choices=("ablations", "seeds", "story", "speed"))
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data set (default: data)")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), help="folder of the runs")
    parser.add_argument("--epochs", type=int, help="default: 3 for ablations, 2 for seeds, 10 for the story")
    parser.add_argument("--seeds", type=int, default=10, help="of the scenario `seeds` (default: 10)")
    parser.add_argument(
        "--published", type=Path, nargs="+", default=[], metavar="RUN", help="the published model's runs, for the story"
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--only", nargs="+", choices=ablations.VARIANTS, metavar="VARIANT", help="of the ablations")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bench = runner.prepare(chosen.data, chosen.runs)
    print(f"validating classifier: {bench.validator.accuracy:.2%} right, floor {bench.validator.floor:.4f}\n")
    settings = {"precision": chosen.precision, "threads": 1, "device": "cpu"}
    match chosen.scenario:
        case "ablations":
            entries = []
            for name in chosen.only or ablations.VARIANTS:
                config = dataclasses.replace(ablations.variant(name, chosen.epochs or 3), **settings)
                entries.append(runner.measure(bench, f"ablation {name}", config)._replace(name=name))
                runner.keep(RESULTS / "ablations.json", entries[-1])
            print(runner.summary(entries))
        case "seeds":
            entries = []
            for seed in range(chosen.seeds):
                config = dataclasses.replace(RECIPES["default"], epochs=chosen.epochs or 2, seed=seed, **settings)
                entries.append(runner.measure(bench, f"seed {seed}", config))
                runner.keep(RESULTS / "seeds.json", entries[-1])
            print(runner.summary(entries))
            sound = [e for e in entries if e.quality and e.quality.ratio <= 100 and e.quality.class_kl <= 0.1]
            print(f"\n{len(sound)} of {len(entries)} are sound")
        case "story":
            print(story.tell(bench, chosen.epochs or 10, settings, chosen.published, RESULTS / "story.png"))
        case "speed":
            rates = speed.compare(chosen.data, bench.images, chosen.precision)
            base = rates["plain loop"]
            rows = [(name, f"{rate:,.0f}", f"{rate / base:.2f}") for name, rate in rates.items()]
            print(runner.table(("", "images a second", "ratio"), rows))


if __name__ == "__main__":
    try:
        main()
    except LatentserveError as error:
        sys.exit(f"benchmarks.gan: {error.detail}")
