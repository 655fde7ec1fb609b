"""Train the networks, publish them, and measure the published ones."""

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
    """Parse the command line. A setting that was not given is None, so that `--resume` can compare only those given."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    gan = commands.add_parser("gan", help="train the generator and the discriminator on MNIST")
    gan.set_defaults(action=train_gan)
    gan.add_argument("--recipe", choices=sorted(RECIPES), help="named settings (default: default)")
    gan.add_argument("--runs", "--out", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    gan.add_argument("--name", help="the run's folder under --runs (default: RECIPE-seed-SEED)")
    gan.add_argument("--epochs", type=int, help="number of epochs (default: the recipe's)")
    gan.add_argument("--batch-size", type=int, help="images in a batch (default: the recipe's)")
    gan.add_argument(
        "--held-out", type=int, help="number of training images to hold out, the last ones (default: 10,000)"
    )
    gan.add_argument("--seed", type=int, help="seed of the initial weights, the noise and the order (default: 0)")
    gan.add_argument("--device", choices=CHOICES["device"], help="auto takes a GPU if there is one (default: auto)")
    gan.add_argument("--threads", type=int, help="threads of one operation; 0 leaves the number to torch")
    gan.add_argument(
        "--precision", choices=CHOICES["precision"], help="auto times a few steps with each and takes the faster"
    )
    gan.add_argument("--start", type=Path, metavar="RUN", help="start from the networks of this finished run")
    gan.add_argument(
        "--classifier",
        type=Path,
        help=f"classifier whose features the critic of `refined` uses (default: {CLASSIFIER})",
    )
    gan.add_argument("--resume", type=Path, metavar="RUN", help="continue this run with its own settings")

    publish = commands.add_parser("publish", help="write a run's networks and samples for serving")
    publish.set_defaults(action=publish_run)
    publish.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    publish.add_argument("--to", type=Path, default=CHECKPOINTS, help=f"folder (default: {CHECKPOINTS})")

    evaluate = commands.add_parser(
        "evaluate", help="measure published networks and compare the numbers with their model card"
    )
    evaluate.set_defaults(action=evaluate_checkpoint)
    evaluate.add_argument(
        "folder", type=Path, nargs="?", default=CHECKPOINTS, help=f"published folder (default: {CHECKPOINTS})"
    )
    evaluate.add_argument("--evaluators", type=Path, default=EVALUATORS, help=f"folder (default: {EVALUATORS})")
    evaluate.add_argument(
        "--write", action="store_true", help="write the measurements and the model card into the folder"
    )

    evaluators = commands.add_parser("evaluators", help="train the classifiers that measure samples")
    evaluators.set_defaults(action=train_evaluators)
    evaluators.add_argument("--to", type=Path, default=EVALUATORS, help=f"folder (default: {EVALUATORS})")

    companions = commands.add_parser(
        "companions", help="train the networks for digits on request, rejection and class probabilities"
    )
    companions.set_defaults(action=make_companions)
    companions.add_argument("--checkpoint", type=Path, default=CHECKPOINTS, help=f"folder (default: {CHECKPOINTS})")
    companions.add_argument(
        "--seed", type=int, default=0, help="seed of the weights, the noise and the order (default: 0)"
    )
    companions.add_argument(
        "--retrain-classifier", action="store_true", help="train a new image classifier, even if the folder has one"
    )

    for command in (evaluate, evaluators, companions):
        command.add_argument(
            "--threads", type=int, default=1, help="number of threads; results depend on it (default: 1)"
        )
    for command in (gan, evaluate, evaluators, companions):
        command.add_argument(
            "--data", type=Path, help="folder of MNIST (default: data, or the folder that the run used)"
        )
        command.add_argument(
            "--no-download", action="store_true", help="fail if MNIST is missing, instead of downloading it"
        )
    return parser.parse_args(arguments)


def train_gan(options: argparse.Namespace) -> None:
    """Train a new or a continued run to its end. Under torchrun every process calls this.

    Raises a LatentserveError for wrong options, wrong data, or a run that was stopped.
    """
    # Commands import torch only when they run, so that --help and wrong options are answered at once.
    _check_options(options)
    from training import data, loop
    from training.learning import distributed
    from training.runs.run import check_data, open_run

    own = None if options.resume is None else open_run(options.resume).config.device
    with distributed.process_group(own or options.device or "auto") as group:
        # The first process downloads the data if necessary and creates the folder. The others only read.
        folder = _prepare(options, group.size) if group.leads else _folder(options)
        group.wait()
        run = open_run(folder)
        digits = data.load(options.data or run.data, download=False)
        check_data(run, digits.sha256)
        loop.train(run, data.resize(digits.images), group)
        if group.leads:
            print(f"done: {run.folder}; next: python -m training publish {run.folder}")


def _prepare(options: argparse.Namespace, processes: int) -> Path:
    """Return the folder of the run that `options` name. A new run is created, for that number of processes."""
    from training import data
    from training.runs import probe
    from training.runs.run import create_run, open_run

    given = {name: value for name in SETTINGS if (value := getattr(options, name)) is not None}
    folder = _folder(options)
    if options.resume is not None:
        run = open_run(folder)
        _check_unchanged(run.config.to_json(), given)
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
    """Write the networks of a run to a folder that the service can load."""
    from training.runs import publish
    from training.runs.run import open_run

    publish.publish(open_run(options.run), options.to)
    print(f"published: {options.to}; next: python -m training companions --checkpoint {options.to}")


def train_evaluators(options: argparse.Namespace) -> None:
    """Train new evaluators and write them to a folder."""
    from training.evaluation import evaluators

    _set_threads(options.threads)
    evaluators.publish(options.to, options.data or Path("data"), download=not options.no_download)
    print(f"evaluators: {options.to}")


def evaluate_checkpoint(options: argparse.Namespace) -> None:
    """Measure a published folder and print the tables. Then write them, or compare them with the folder's card."""
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
    """Train the companions of a published generator and write them to its folder."""
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
    """Run one command and return its exit code: 0, 2 for an error, or 128 + n if signal n stopped it."""
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


def _check_options(options: argparse.Namespace) -> None:
    """Raise ConfigError if options of a new run contradict --resume, the recipe, or one another."""
    if options.resume is not None:
        for name in ("start", "classifier", "name"):
            if (value := getattr(options, name)) is not None:
                raise ConfigError(
                    f"--{name} {value} is for a new run, and --resume {options.resume} continues an existing one; "
                    "leave one of the two out"
                )
        return
    recipe = RECIPES[options.recipe or "default"]
    # Without a rising decay, half of the final average is still the initial weights.
    if options.start is None and not recipe.ema_rise:
        raise ConfigError(f"--recipe {recipe.recipe} continues a finished run; name the run with --start RUN")
    if options.classifier is not None and recipe.feature_weight == 0:
        raise ConfigError(f"--recipe {recipe.recipe} has no feature critic; leave --classifier out")


def _check_unchanged(own: dict[str, object], given: dict[str, object]) -> None:
    for name, value in given.items():
        if value not in (own[name], "auto"):
            raise ConfigError(
                f"--{name.replace('_', '-')} {value} differs from the run's own {own[name]}; "
                "a continued run keeps its settings, so leave the option out"
            )


if __name__ == "__main__":
    sys.exit(main())
