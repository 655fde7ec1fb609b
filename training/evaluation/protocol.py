"""The protocol: equally many samples, training images and spoilt images, each against the test images."""

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
from training.evaluation.classifier import CLASSES, Reading, read
from training.evaluation.evaluation import DigitRow, Estimate, Evaluation, EvaluationSettings, Judge, Row, estimate
from training.evaluation.evaluators import Evaluator, split
from training.evaluation.memorisation import Memorisation, memorisation
from training.evaluation.metrics import Reference, measure, refer
from training.evaluation.neighbours import nearest
from training.evaluation.samplers import PLAIN, Draw

PIXELS = "pixels"
TEST_SEED = 0

logger = logging.getLogger(__name__)


class Images(NamedTuple):
    """Both splits of the data as 8-bit images (N, 1, 32, 32), resized as for training."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


class Opinion(NamedTuple):
    """What one evaluator makes of everything there is to see."""

    floor: dict[str, Estimate]
    held_out: dict[str, float]
    rows: dict[str, dict[str, Estimate]]
    probabilities: dict[str, Tensor]
    """By sampler, (seeds, N, 10)."""
    controls: dict[str, dict[str, float]]
    memorisation: dict[str, Estimate]
    digits: dict[int, digits.DigitAgreement]


def to_images(train: data.Digits, test: data.Digits) -> Images:
    """The data as they are compared: samples are 8-bit, so real images are too."""
    train_images, test_images = (data.to_uint8(data.resize(part.images)) for part in (train, test))
    return Images(train_images, train.labels, test_images, test.labels)


def evaluate(
    samplers: Mapping[str, Draw],
    judges: Mapping[str, Evaluator],
    images: Images,
    settings: EvaluationSettings,
    digit_samplers: Mapping[int, Draw] | None = None,
) -> tuple[Evaluation, Tensor]:
    """Measure `samplers`, PLAIN among them; returns what was found, and the plain samples that are hardest to tell.

    The same each time for the same number of threads and kind of processor, but for the milliseconds. Raises
    ControlError when a metric does not notice what it has to.
    """
    count = min(settings.samples, len(images.test), len(images.train))
    # MNIST's test images come in two halves, the second harder to read than the first.
    chosen = _shuffle(len(images.test), TEST_SEED)[:count]
    images = images._replace(test=images.test[chosen], test_labels=images.test_labels[chosen])
    drawn, milliseconds = {}, {}
    for name, draw in samplers.items():
        logger.info("sampler %s: %d sets of %d", name, len(settings.seeds), count)
        start = time.process_time()
        drawn[name] = [draw(seed, count) for seed in settings.seeds]
        milliseconds[name] = (time.process_time() - start) / (len(settings.seeds) * count) * 1e3
    asked = {
        digit: torch.cat([draw(seed, 1) for seed in range(settings.digit_seeds)])
        for digit, draw in (digit_samplers or {}).items()
    }
    opinions = {}
    for name, judge in judges.items():
        logger.info("evaluator %s", name)
        opinions[name] = _ask(judge, drawn, asked, images, settings)
    together = {
        name: torch.stack([opinion.probabilities[name] for opinion in opinions.values()]).mean(0) for name in drawn
    }
    logger.info("memorisation")
    pixels, copies = _memorisation_of_pixels(drawn[PLAIN], images)
    logger.info("classification")
    evaluation = Evaluation(
        samples=count,
        seeds=list(settings.seeds),
        threads=torch.get_num_threads(),
        judges={name: _describe(judge) for name, judge in judges.items()},
        floor={name: opinion.floor for name, opinion in opinions.items()},
        held_out={name: opinion.held_out for name, opinion in opinions.items() if opinion.held_out},
        rows={
            name: Row(
                {judge: opinion.rows[name] for judge, opinion in opinions.items()},
                torch.bincount(together[name].argmax(-1).flatten(), minlength=CLASSES).tolist(),
                milliseconds[name],
            )
            for name in drawn
        },
        controls={
            control: {name: opinion.controls[control] for name, opinion in opinions.items()}
            for control in (controls.SOUND, *controls.CONTROLS)
        },
        memorisation={PIXELS: pixels} | {name: opinion.memorisation for name, opinion in opinions.items()},
        copies=copies._asdict(),
        classification=_classification(drawn[PLAIN], together[PLAIN], judges, images, settings),
        digits={
            str(digit): DigitRow(
                len(pictures),
                digits.count_distinct(pictures),
                {name: opinion.digits[digit] for name, opinion in opinions.items()},
            )
            for digit, pictures in asked.items()
        },
    )
    doubtful = together[PLAIN][0].amax(1).argsort(stable=True)[: settings.failures]
    return evaluation, drawn[PLAIN][0][doubtful]


def _ask(
    judge: Evaluator,
    drawn: Mapping[str, list[Tensor]],
    asked: Mapping[int, Tensor],
    images: Images,
    settings: EvaluationSettings,
) -> Opinion:
    count = len(images.test)
    test, train = read(judge.classifier, images.test), read(judge.classifier, images.train)
    reference = refer(test.features, images.train_labels)
    orders = [_shuffle(len(images.train), seed) for seed in settings.seeds]
    floor = [measure(_choose(train, order[:count]), reference) for order in orders]
    _, unseen = split(len(images.train))
    spoilt = {controls.SOUND: floor[0]}
    for name, control in controls.CONTROLS.items():
        bad = control.spoil(images.train[orders[0]], images.train_labels[orders[0]], count)
        spoilt[name] = measure(read(judge.classifier, bad), reference)
        controls.check(name, judge.name, spoilt[name], spoilt[controls.SOUND])
    readings = {name: [read(judge.classifier, part) for part in parts] for name, parts in drawn.items()}
    plain = Reading(*(torch.cat(parts) for parts in zip(*readings[PLAIN], strict=True)))
    return Opinion(
        floor=_estimates(floor),
        held_out=measure(_choose(train, unseen[:count]), reference) if len(unseen) >= count else {},
        rows={name: _estimates([measure(part, reference) for part in parts]) for name, parts in readings.items()},
        probabilities={name: torch.stack([part.probabilities for part in parts]) for name, parts in readings.items()},
        controls=spoilt,
        memorisation=_memorisation_of_features(readings[PLAIN], test, train, reference),
        digits={
            digit: digits.check_digit(
                digit, read(judge.classifier, pictures), plain, test.features[images.test_labels == digit]
            )
            for digit, pictures in asked.items()
        },
    )


def _memorisation_of_features(
    samples: list[Reading], test: Reading, train: Reading, reference: Reference
) -> dict[str, Estimate]:
    centred = train.features - reference.centre
    expected = nearest(test.features - reference.centre, centred).sqrt()
    found = [memorisation(nearest(part.features - reference.centre, centred).sqrt(), expected) for part in samples]
    return _estimates([part._asdict() for part in found])


def _memorisation_of_pixels(samples: list[Tensor], images: Images) -> tuple[dict[str, Estimate], Memorisation]:
    """Of the samples, and of the control that copies."""

    def distances(pictures: Tensor) -> Tensor:
        return nearest(pictures.flatten(1).float() / 255, train).sqrt()

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
    """The labels are those of all evaluators together, for samples and for real images, so that only images differ."""
    accuracies: dict[str, list[float]] = {"samples": [], "real": []}
    for seed, pictures, belief in zip(settings.seeds, samples, probabilities, strict=True):
        real = images.train[_shuffle(len(images.train), seed)[: len(pictures)]]
        beliefs = torch.stack([read(judge.classifier, real).probabilities for judge in judges.values()]).mean(0)
        for kind, learned, labels in (("samples", pictures, belief.argmax(1)), ("real", real, beliefs.argmax(1))):
            accuracies[kind].append(
                classification_accuracy(learned, labels, images.test, images.test_labels, settings.student, seed)
            )
    return {kind: estimate(values) for kind, values in accuracies.items()}


def _estimates(values: list[dict[str, float]]) -> dict[str, Estimate]:
    return {name: estimate([part[name] for part in values]) for name in values[0]}


def _choose(reading: Reading, rows: Tensor) -> Reading:
    return Reading(reading.features[rows], reading.probabilities[rows])


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
