"""Train the networks, measure them, publish them."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from pathlib import Path

from service.errors import LatentserveError
from training.config import CHOICES, RECIPES, ConfigError

# Settings of a run that the command line can change.
SETTINGS = ("recipe", "epochs", "batch_size", "held_out", "seed", "device", "threads", "precision")
CHECKPOINTS = Path("checkpoints")
EVALUATORS = CHECKPOINTS / "evaluators"
CLASSIFIER = CHECKPOINTS / "classifier.safetensors"


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
    gan.add_argument("--held-out", type=int, help="training images not to learn from (default: the last 10,000)")
    gan.add_argument("--seed", type=int)
    gan.add_argument("--device", choices=CHOICES["device"])
    gan.add_argument("--threads", type=int, help="0 takes torch's own choice")
    gan.add_argument("--precision", choices=CHOICES["precision"], help="auto times a few steps of each")
    gan.add_argument("--start", type=Path, metavar="RUN", help="begin with the networks of this run")
    gan.add_argument(
        "--classifier",
        type=Path,
        help=f"what the feature critic of `refined` sees through (default: {CLASSIFIER})",
    )
    gan.add_argument("--resume", type=Path, metavar="RUN", help="continue this run's folder, with its own settings")

    publish = commands.add_parser("publish", help="write a run's networks and samples for serving")
    publish.set_defaults(action=publish_run)
    publish.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    publish.add_argument("--to", type=Path, default=CHECKPOINTS, help=f"folder (default: {CHECKPOINTS})")

    evaluate = commands.add_parser("evaluate", help="measure published networks, and compare with their model card")
    evaluate.set_defaults(action=evaluate_checkpoint)
    evaluate.add_argument(
        "folder", type=Path, nargs="?", default=CHECKPOINTS, help=f"published folder (default: {CHECKPOINTS})"
    )
    evaluate.add_argument("--evaluators", type=Path, default=EVALUATORS, help=f"folder (default: {EVALUATORS})")
    evaluate.add_argument("--write", action="store_true", help="write what was measured, and the model card")

    evaluators = commands.add_parser("evaluators", help="train the classifiers that measure, and nothing else")
    evaluators.set_defaults(action=train_evaluators)
    evaluators.add_argument("--to", type=Path, default=EVALUATORS, help=f"folder (default: {EVALUATORS})")

    companions = commands.add_parser("companions", help="train what chooses and names a published generator's digits")
    companions.set_defaults(action=make_companions)
    companions.add_argument("--checkpoint", type=Path, default=CHECKPOINTS, help=f"folder (default: {CHECKPOINTS})")
    companions.add_argument("--seed", type=int, default=0)
    companions.add_argument("--retrain-classifier", action="store_true", help="even where the folder has one")

    for command in (evaluate, evaluators, companions):
        command.add_argument("--threads", type=int, default=1, help="numbers hold for one count (default: 1)")
    for command in (gan, evaluate, evaluators, companions):
        command.add_argument("--data", type=Path, help="folder of the data set (default: data, or the run's own)")
        command.add_argument("--no-download", action="store_true", help="fail when the data set is missing")
    return parser.parse_args(arguments)


def train_gan(options: argparse.Namespace) -> None:
    """Start a run, or continue one, and train it to its end. Under torchrun every process comes here."""
    # Here and below, torch is imported only by commands that run, so that --help and mistakes answer at once.
    _check_beginning(options)
    from training import data, loop
    from training.learning import distributed
    from training.runs.run import check_data, open_run

    own = None if options.resume is None else open_run(options.resume).config.device
    with distributed.joined(own or options.device or "auto") as group:
        # The first process prepares the folder, and the data where they have to be downloaded; the others read it.
        folder = _prepare(options, group.size) if group.leads else _folder(options)
        group.wait()
        run = open_run(folder)
        digits = data.load(options.data or run.data, download=False)
        check_data(run, digits.sha256)
        loop.train(run, data.resize(digits.images), group)
        if group.leads:
            print(f"done: {run.folder}; next: python -m training publish {run.folder}")


def _prepare(options: argparse.Namespace, processes: int) -> Path:
    """The folder of the run that `options` name, made where it is a new one, for so many processes."""
    from training import data
    from training.runs import probe
    from training.runs.run import create_run, open_run

    given = {name: value for name in SETTINGS if (value := getattr(options, name)) is not None}
    folder = _folder(options)
    if options.resume is not None:
        run = open_run(folder)
        _check_same(run.config.to_json(), given)
        data.load(options.data or run.data, download=not options.no_download)
        return folder
    config = dataclasses.replace(RECIPES[given.pop("recipe", "default")], **given)
    source = options.data or Path("data")
    digits = data.load(source, download=not options.no_download)
    start = None if options.start is None else open_run(options.start)
    config = probe.resolve(config, data.resize(digits.images), processes)
    create_run(folder, config, source, digits.sha256, start=start, classifier=options.classifier or CLASSIFIER)
    return folder


def _folder(options: argparse.Namespace) -> Path:
    if options.resume is not None:
        return Path(options.resume)
    recipe = options.recipe or "default"
    seed = RECIPES[recipe].seed if options.seed is None else options.seed
    return Path(options.runs) / (options.name or f"{recipe}-seed-{seed}")


def publish_run(options: argparse.Namespace) -> None:
    """Publish a run's networks."""
    from training.runs import publish
    from training.runs.run import open_run

    publish.publish(open_run(options.run), options.to)
    print(f"published: {options.to}; next: python -m training companions --checkpoint {options.to}")


def train_evaluators(options: argparse.Namespace) -> None:
    """Train the evaluators anew, and write them."""
    from training.evaluation import evaluators

    _set_threads(options.threads)
    evaluators.publish(options.to, options.data or Path("data"), download=not options.no_download)
    print(f"evaluators: {options.to}")


def evaluate_checkpoint(options: argparse.Namespace) -> None:
    """Measure a checkpoint, print the tables, and write them or compare them with those of its card."""
    from training.evaluation import publication
    from training.evaluation.evaluation import EvaluationSettings
    from training.evaluation.tables import tables

    _set_threads(options.threads)
    evaluation, failures = publication.evaluate_folder(
        options.folder,
        options.evaluators,
        options.data or Path("data"),
        EvaluationSettings(),
        download=not options.no_download,
    )
    for table in tables(evaluation).values():
        print(f"{table.title}\n\n{table.to_markdown()}\n")
    if options.write:
        publication.write(options.folder, evaluation, failures)
        print(f"written: {options.folder}")
    else:
        print(publication.compare(options.folder, evaluation))


def make_companions(options: argparse.Namespace) -> None:
    """Train the companions of a published generator, and write them beside it."""
    from training.companions import make

    _set_threads(options.threads)
    make.make(
        options.checkpoint,
        options.data or Path("data"),
        seed=options.seed,
        retrain=options.retrain_classifier,
        download=not options.no_download,
    )
    print(f"written: {options.checkpoint}; next: python -m training evaluate {options.checkpoint} --write")


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


def _set_threads(threads: int) -> None:
    import torch

    if threads < 1:
        raise ConfigError(f"--threads is {threads}, expected at least 1")
    torch.set_num_threads(threads)


def _check_beginning(options: argparse.Namespace) -> None:
    """Raise ConfigError for options of a run's beginning that have no meaning together."""
    if options.resume is not None:
        for name in ("start", "classifier", "name"):
            if (value := getattr(options, name)) is not None:
                raise ConfigError(
                    f"--{name} {value} is for a new run, and --resume {options.resume} continues one with what it "
                    "began with; leave one of the two out"
                )
        return
    recipe = RECIPES[options.recipe or "default"]
    # An average that does not rise still holds half of what the run began with at its end.
    if options.start is None and not recipe.ema_rise:
        raise ConfigError(f"--recipe {recipe.recipe} goes on from a finished run; name one with --start RUN")
    if options.classifier is not None and recipe.feature_weight == 0:
        raise ConfigError(f"--recipe {recipe.recipe} has no feature critic; leave --classifier out")


def _check_same(own: dict[str, object], given: dict[str, object]) -> None:
    for name, value in given.items():
        if value not in (own[name], "auto"):
            raise ConfigError(
                f"--{name.replace('_', '-')} {value} differs from the run's own {own[name]}; "
                "a run continues with the settings that it began with"
            )


if __name__ == "__main__":
    sys.exit(main())
