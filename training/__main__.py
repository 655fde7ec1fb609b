"""Train the networks, measure them, publish them."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from pathlib import Path

from service.errors import LatentserveError
from training.config import CHOICES, RECIPES, ConfigError


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line. Settings that were not given are None, so that `--resume` can tell."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    gan = commands.add_parser("gan", help="train the generator and the discriminator on MNIST")
    gan.set_defaults(action=train_gan)
    gan.add_argument("--recipe", choices=sorted(RECIPES), help="named settings (default: default)")
    gan.add_argument("--runs", "--out", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    gan.add_argument("--name", help="the run's folder under --runs (default: RECIPE-seed-SEED)")
    gan.add_argument("--epochs", type=int)
    gan.add_argument("--batch-size", type=int)
    gan.add_argument("--seed", type=int)
    gan.add_argument("--device", choices=CHOICES["device"])
    gan.add_argument("--threads", type=int, help="0 takes torch's own choice")
    gan.add_argument("--precision", choices=CHOICES["precision"], help="auto times a few steps of each")
    gan.add_argument("--resume", type=Path, metavar="RUN", help="continue this run's folder, with its own settings")

    evaluate = commands.add_parser("evaluate", help="measure a run's samples against the test images")
    evaluate.set_defaults(action=evaluate_run)
    publish = commands.add_parser("publish", help="write a run's networks, measurements and samples for serving")
    publish.set_defaults(action=publish_run)
    publish.add_argument("--to", type=Path, default=Path("checkpoints"), help="folder (default: checkpoints)")
    for command in (evaluate, publish):
        command.add_argument("run", type=Path, metavar="RUN", help="the run's folder")

    companions = commands.add_parser("companions", help="train what chooses and names a published generator's digits")
    companions.set_defaults(action=make_companions)
    companions.add_argument(
        "--checkpoint", type=Path, default=Path("checkpoints"), help="folder (default: checkpoints)"
    )
    companions.add_argument("--seed", type=int, default=0)
    companions.add_argument("--threads", type=int, default=1)
    companions.add_argument("--retrain-classifier", action="store_true", help="even where the folder has one")
    for command in (gan, evaluate, publish, companions):
        command.add_argument("--data", type=Path, help="folder of the data set (default: data, or the run's own)")
        command.add_argument("--no-download", action="store_true", help="fail when the data set is missing")
    return parser.parse_args(arguments)


def train_gan(options: argparse.Namespace) -> None:
    """Start a run, or continue one, and train it to its end."""
    # Here and below, torch is imported only by commands that run, so that --help and mistakes answer at once.
    from training import data, loop, probe, runs

    given = {
        name: getattr(options, name)
        for name in ("recipe", "epochs", "batch_size", "seed", "device", "threads", "precision")
        if getattr(options, name) is not None
    }
    if options.resume is not None:
        run = runs.open_run(options.resume)
        _check_same(run.config.to_json(), given)
        digits = data.load(options.data or run.data, download=not options.no_download)
        runs.check_data(run, digits.sha256)
        images = data.resize(digits.images)
    else:
        config = dataclasses.replace(RECIPES[given.pop("recipe", "default")], **given)
        folder = options.runs / (options.name or f"{config.recipe}-seed-{config.seed}")
        source = options.data or Path("data")
        digits = data.load(source, download=not options.no_download)
        images = data.resize(digits.images)
        run = runs.create(folder, probe.resolve(config, images), source, digits.sha256)
    loop.train(run, images)
    print(f"done: {run.folder}; next: python -m training publish {run.folder}")


def evaluate_run(options: argparse.Namespace) -> None:
    """Measure a run as it is now, and print what was measured."""
    from training import evaluate, runs, state

    run = runs.open_run(options.run)
    current, _ = state.load(run.state, run.config, device="cpu")
    evaluation = evaluate.measure(run, current, options.data or run.data, download=not options.no_download)
    print(json.dumps(evaluation._asdict(), indent=2))


def publish_run(options: argparse.Namespace) -> None:
    """Measure a run where that was not done yet, and publish it."""
    from training import publish, runs

    run = runs.open_run(options.run)
    publish.publish(run, options.to, options.data or run.data, download=not options.no_download)
    print(f"published: {options.to}")


def make_companions(options: argparse.Namespace) -> None:
    """Train the companions of a published generator, and write them beside it."""
    import torch

    from training.companions import make

    torch.set_num_threads(options.threads)
    make.make(
        options.checkpoint,
        options.data or Path("data"),
        seed=options.seed,
        retrain=options.retrain_classifier,
        download=not options.no_download,
    )
    print(f"written: {options.checkpoint}")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for an error, 128 + the signal's number when stopped by one."""
    options = parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        options.action(options)
    except LatentserveError as error:
        print(f"{options.command}: {error.detail}", file=sys.stderr)
        signum: int | None = getattr(error, "signum", None)
        return 2 if signum is None else 128 + signum
    return 0


def _check_same(own: dict[str, object], given: dict[str, object]) -> None:
    for name, value in given.items():
        if value not in (own[name], "auto"):
            raise ConfigError(
                f"--{name.replace('_', '-')} {value} differs from the run's own {own[name]}; "
                "a run continues with the settings that it began with"
            )


if __name__ == "__main__":
    sys.exit(main())
