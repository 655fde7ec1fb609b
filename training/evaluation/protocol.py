"""The evaluation protocol: samples, training images and faulty images, equally many, are compared with test images."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from training import data
from training.evaluation import controls, digits
from training.evaluation.classification import classification_accuracy
from training.evaluation.classifier import CLASSES, Predictions, predict
from training.evaluation.evaluation import DigitRow, Estimate, Evaluation, EvaluationSettings, Judge, Row, estimate
from training.evaluation.evaluators import Evaluator, split
from training.evaluation.memorisation import Memorisation, memorisation
from training.evaluation.metrics import Reference, make_reference, measure
from training.evaluation.neighbours import nearest_squared_distances
from training.evaluation.samplers import PLAIN, Draw

PIXELS = "pixels"
TEST_SEED = 0

logger = logging.getLogger(__name__)


class Images(NamedTuple):
    """Both splits of the data as 8-bit images (N, 1, 32, 32), resized as for training, with labels (N,)."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


class EvaluatorResults(NamedTuple):
    """All measurements of one evaluator; the fields are those of `Evaluation`."""

    floor: dict[str, Estimate]
    held_out: dict[str, float]
    rows: dict[str, dict[str, Estimate]]
    probabilities: dict[str, Tensor]
    """Class probabilities of the samples, (seeds, N, 10), by sampler."""
    controls: dict[str, dict[str, float]]
    memorisation: dict[str, Estimate]
    digits: dict[int, digits.DigitAgreement]


def to_images(train: data.Digits, test: data.Digits) -> Images:
    """Resize both splits, and convert them to 8 bits, as samples are."""
    train_images, test_images = (data.to_uint8(data.resize(part.images)) for part in (train, test))
    return Images(train_images, train.labels, test_images, test.labels)


def evaluate(
    samplers: Mapping[str, Draw],
    judges: Mapping[str, Evaluator],
    images: Images,
    settings: EvaluationSettings,
    digit_samplers: Mapping[int, Draw] | None = None,
) -> tuple[Evaluation, Tensor]:
    """Measure `samplers`, which must include PLAIN. Return the evaluation and the failures (n, 1, 32, 32) uint8.

    Failures are the plain samples of the first seed with the least certain class. `digit_samplers` draw requested
    digits. Except for the milliseconds, the results depend only on the number of threads and the kind of processor.
    Raises ControlError if a metric does not detect a control.
    """
    count = min(settings.samples, len(images.test), len(images.train))
    # The second half of MNIST's test images is harder to read than the first, so a subset must be random.
    chosen = _shuffle(len(images.test), TEST_SEED)[:count]
    images = images._replace(test=images.test[chosen], test_labels=images.test_labels[chosen])
    drawn, milliseconds = {}, {}
    for name, draw in samplers.items():
        logger.info("sampler %s: %d sets of %d", name, len(settings.seeds), count)
        start = time.process_time()
        drawn[name] = [draw(seed, count) for seed in settings.seeds]
        milliseconds[name] = (time.process_time() - start) / (len(settings.seeds) * count) * 1e3
    requested = {
        digit: torch.cat([draw(seed, 1) for seed in range(settings.digit_seeds)])
        for digit, draw in (digit_samplers or {}).items()
    }
    results = {}
    for name, judge in judges.items():
        logger.info("evaluator %s", name)
        results[name] = _measure_by(judge, drawn, requested, images, settings)
    mean_probabilities = {
        name: torch.stack([part.probabilities[name] for part in results.values()]).mean(0) for name in drawn
    }
    logger.info("memorisation")
    pixels, copies = _memorisation_of_pixels(drawn[PLAIN], images)
    logger.info("classification")
    evaluation = Evaluation(
        samples=count,
        seeds=list(settings.seeds),
        threads=torch.get_num_threads(),
        judges={name: _describe(judge) for name, judge in judges.items()},
        floor={name: part.floor for name, part in results.items()},
        held_out={name: part.held_out for name, part in results.items() if part.held_out},
        rows={
            name: Row(
                {judge: part.rows[name] for judge, part in results.items()},
                torch.bincount(mean_probabilities[name].argmax(-1).flatten(), minlength=CLASSES).tolist(),
                milliseconds[name],
            )
            for name in drawn
        },
        controls={
            control: {name: part.controls[control] for name, part in results.items()}
            for control in (controls.NO_FAULT, *controls.CONTROLS)
        },
        memorisation={PIXELS: pixels} | {name: part.memorisation for name, part in results.items()},
        copies=copies._asdict(),
        classification=_classification(drawn[PLAIN], mean_probabilities[PLAIN], judges, images, settings),
        digits={
            str(digit): DigitRow(
                len(pictures),
                digits.count_distinct(pictures),
                {name: part.digits[digit] for name, part in results.items()},
            )
            for digit, pictures in requested.items()
        },
    )
    least_certain = mean_probabilities[PLAIN][0].amax(1).argsort(stable=True)[: settings.failures]
    return evaluation, drawn[PLAIN][0][least_certain]


def _measure_by(
    judge: Evaluator,
    drawn: Mapping[str, list[Tensor]],
    requested: Mapping[int, Tensor],
    images: Images,
    settings: EvaluationSettings,
) -> EvaluatorResults:
    """Measure samples, controls and requested digits by one evaluator. Raises ControlError."""
    count = len(images.test)
    test, train = predict(judge.classifier, images.test), predict(judge.classifier, images.train)
    reference = make_reference(test.features, images.train_labels)
    orders = [_shuffle(len(images.train), seed) for seed in settings.seeds]
    floor = [measure(_choose(train, order[:count]), reference) for order in orders]
    _, held_out = split(len(images.train))
    by_control = {controls.NO_FAULT: floor[0]}
    for name, control in controls.CONTROLS.items():
        faulty = control.corrupt(images.train[orders[0]], images.train_labels[orders[0]], count)
        by_control[name] = measure(predict(judge.classifier, faulty), reference)
        controls.check(name, judge.name, by_control[name], by_control[controls.NO_FAULT])
    predictions = {name: [predict(judge.classifier, part) for part in parts] for name, parts in drawn.items()}
    plain = Predictions(*(torch.cat(parts) for parts in zip(*predictions[PLAIN], strict=True)))
    return EvaluatorResults(
        floor=_estimates(floor),
        held_out=measure(_choose(train, held_out[:count]), reference) if len(held_out) >= count else {},
        rows={name: _estimates([measure(part, reference) for part in parts]) for name, parts in predictions.items()},
        probabilities={
            name: torch.stack([part.probabilities for part in parts]) for name, parts in predictions.items()
        },
        controls=by_control,
        memorisation=_memorisation_of_features(predictions[PLAIN], test, train, reference),
        digits={
            digit: digits.check_digit(
                digit, predict(judge.classifier, pictures), plain, test.features[images.test_labels == digit]
            )
            for digit, pictures in requested.items()
        },
    )


def _memorisation_of_features(
    samples: list[Predictions], test: Predictions, train: Predictions, reference: Reference
) -> dict[str, Estimate]:
    """Memorisation of each set of `samples`, with distances between features."""

    def distances(part: Predictions) -> Tensor:
        return nearest_squared_distances(part.features - reference.centre, centred).sqrt()

    centred = train.features - reference.centre
    expected = distances(test)
    return _estimates([memorisation(distances(part), expected)._asdict() for part in samples])


def _memorisation_of_pixels(samples: list[Tensor], images: Images) -> tuple[dict[str, Estimate], Memorisation]:
    """Memorisation of each set of `samples` and of the control `copy_some`, with distances between pixels in [0, 1].

    Raises ControlError.
    """

    def distances(pictures: Tensor) -> Tensor:
        return nearest_squared_distances(pictures.flatten(1).float() / 255, train).sqrt()

    train = images.train.flatten(1).float() / 255
    expected = distances(images.test)
    found = [memorisation(distances(part), expected)._asdict() for part in samples]
    copies = memorisation(distances(controls.copy_some(images.test, images.train)), expected)
    controls.check_copies(copies)
    return _estimates(found), copies


def _classification(
    samples: list[Tensor],
    probabilities: Tensor,
    judges: Mapping[str, Evaluator],
    images: Images,
    settings: EvaluationSettings,
) -> dict[str, Estimate]:
    """The accuracies of classifiers that learn from samples and from real images.

    The evaluators' mean probabilities give the labels, for real images too, so that only the images differ.
    """
    accuracies: dict[str, list[float]] = {"samples": [], "real": []}
    for seed, pictures, of_samples in zip(settings.seeds, samples, probabilities, strict=True):
        real = images.train[_shuffle(len(images.train), seed)[: len(pictures)]]
        of_real = torch.stack([predict(judge.classifier, real).probabilities for judge in judges.values()]).mean(0)
        for kind, part, labels in (("samples", pictures, of_samples.argmax(1)), ("real", real, of_real.argmax(1))):
            accuracies[kind].append(
                classification_accuracy(part, labels, images.test, images.test_labels, settings.student, seed)
            )
    return {kind: estimate(values) for kind, values in accuracies.items()}


def _estimates(values: list[dict[str, float]]) -> dict[str, Estimate]:
    return {name: estimate([part[name] for part in values]) for name in values[0]}


def _choose(predictions: Predictions, rows: Tensor) -> Predictions:
    return Predictions(predictions.features[rows], predictions.probabilities[rows])


def _shuffle(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _describe(judge: Evaluator) -> Judge:
    return Judge(
        judge.sha256,
        judge.seed,
        judge.epochs,
        judge.classifier.linear.in_features,
        judge.validation_accuracy,
        judge.test_accuracy,
    )
