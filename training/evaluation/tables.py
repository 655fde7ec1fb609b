"""The tables of an evaluation, for the command's output and for the model card."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from training.evaluation.controls import CONTROLS, COPIED, NO_FAULT
from training.evaluation.evaluation import Estimate, Evaluation, Row
from training.evaluation.metrics import METRICS
from training.evaluation.samplers import PLAIN

MILLISECONDS = "ms per image"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
SUMMARY = ("precision", "recall", "density", "coverage")
MEMORISATION = ("median_ratio", "share_close", "auc")


class Table(NamedTuple):
    """A title, the heads of the columns, and rows of cells, all text.

    `is_trained` is whether the numbers come from networks that the evaluation itself trains. Training amplifies the
    rounding of a processor, so these numbers are the same on another processor only within their intervals.
    """

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    is_trained: bool = False

    def to_markdown(self) -> str:
        """Format the head and the rows as a Markdown table."""
        lines = [self.head, ("---",) * len(self.head), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables(evaluation: Evaluation) -> dict[str, Table]:
    """All tables of `evaluation` by name, in the order of the output."""
    found = {"evaluators": _evaluators(evaluation)}
    found |= {f"metrics {judge}": _metrics(evaluation, judge) for judge in evaluation.judges}
    found["samplers"] = _samplers(evaluation)
    found["classes"] = _classes(evaluation.rows[PLAIN])
    found["memorisation"] = _memorisation(evaluation)
    found["classification"] = _classification(evaluation.classification)
    found["controls"] = _controls(evaluation)
    if evaluation.digits:
        found["digits"] = _digits(evaluation)
    return found


def differences(found: Mapping[str, Table], published: Mapping[str, Table]) -> list[str]:
    """Describe every cell that differs between two sets of tables. Numbers may differ by one in their last digit.

    Numbers of networks that the evaluation trains may differ by their interval. The milliseconds are not compared,
    because they depend on the machine.
    """
    if found.keys() != published.keys():
        return [f"tables: {', '.join(found)}; published: {', '.join(published)}"]
    unequal = []
    for name, table in found.items():
        other = published[name]
        if table.head != other.head or len(table.rows) != len(other.rows):
            unequal.append(f"{table.title}: rows or columns differ from the published ones")
            continue
        alike = _overlap if table.is_trained else _alike
        for row, counterpart in zip(table.rows, other.rows, strict=True):
            for column, cell, expected in zip(table.head, row, counterpart, strict=True):
                if column != MILLISECONDS and not alike(cell, expected):
                    unequal.append(f"{table.title}, {row[0]}, {column}: {cell}; published: {expected}")
    return unequal


def _alike(cell: str, other: str) -> bool:
    """Whether two cells are equal, except for a difference of one in the last digit of decimal numbers."""
    if NUMBER.sub("#", cell) != NUMBER.sub("#", other):
        return False
    # Digits without a decimal point may be a digest or a count, which are exact.
    return all(
        a == b or ("." in a and abs(float(a) - float(b)) < 1.5 * 10.0 ** -len(a.partition(".")[2]))
        for a, b in zip(NUMBER.findall(cell), NUMBER.findall(other), strict=True)
    )


def _overlap(cell: str, other: str) -> bool:
    """Whether one of two cells, each a mean and its interval, has the other's mean in its interval.

    A cell without an interval is computed from those of its row, and is alike if they are.
    """
    if NUMBER.sub("#", cell) != NUMBER.sub("#", other):
        return False
    if "±" not in cell:
        return True
    (mean, interval), (other_mean, other_interval) = (map(float, NUMBER.findall(text)) for text in (cell, other))
    return abs(mean - other_mean) <= max(interval, other_interval)


def _evaluators(evaluation: Evaluation) -> Table:
    return Table(
        "Evaluators",
        ("evaluator", "features", "epochs", "seed", "accuracy, held-out images", "accuracy, test images", "sha256"),
        [
            (
                name,
                str(judge.features),
                str(judge.epochs),
                str(judge.seed),
                f"{judge.validation_accuracy:.2%}",
                f"{judge.test_accuracy:.2%}",
                f"`{judge.sha256}`",
            )
            for name, judge in evaluation.judges.items()
        ],
    )


def _metrics(evaluation: Evaluation, judge: str) -> Table:
    floor, held_out = evaluation.floor[judge], evaluation.held_out.get(judge)
    rows = []
    for name, metric in METRICS.items():
        samples = [row.metrics[judge][name] for row in evaluation.rows.values()]
        ratio = f"{samples[0].mean / floor[name].mean:.3f}" if metric.has_ratio and floor[name].mean else ""
        rows.append(
            (
                metric.title,
                *(_interval(estimate, metric.decimals) for estimate in samples),
                _interval(floor[name], metric.decimals),
                ratio,
                f"{held_out[name]:.{metric.decimals}f}" if held_out else "",
            )
        )
    return Table(
        f"By the evaluator {judge}",
        ("metric", *evaluation.rows, "training images (floor)", f"{PLAIN} / floor", "held-out images"),
        rows,
    )


def _samplers(evaluation: Evaluation) -> Table:
    """Ratios to the floor, by sampler. The Fréchet distance has a column for each evaluator; the others are means."""
    rows = []
    for sampler, row in evaluation.rows.items():
        by_judge = {
            name: [_over(row.metrics[judge][name], evaluation.floor[judge][name]) for judge in evaluation.judges]
            for name in ("frechet", *SUMMARY)
        }
        frechet = ("" if ratio is None else f"{ratio:.2f}" for ratio in by_judge["frechet"])
        others = (_mean(by_judge[name]) for name in SUMMARY)
        rows.append((sampler, *frechet, *others, f"{row.milliseconds:.3f}"))
    heads = (f"{METRICS['frechet'].title}, {judge}" for judge in evaluation.judges)
    return Table(
        "Samplers, all over the floor",
        ("sampler", *heads, *(METRICS[name].title for name in SUMMARY), MILLISECONDS),
        rows,
    )


def _over(found: Estimate, floor: Estimate) -> float | None:
    return found.mean / floor.mean if floor.mean else None


def _mean(ratios: Sequence[float | None]) -> str:
    known = [ratio for ratio in ratios if ratio is not None]
    return f"{fmean(known):.3f}" if len(known) == len(ratios) else ""


def _classes(row: Row) -> Table:
    total = sum(row.class_histogram)
    return Table(
        f"{PLAIN.capitalize()} samples by predicted class",
        ("", *map(str, range(len(row.class_histogram)))),
        [("share", *(f"{count / total:.2%}" for count in row.class_histogram))],
    )


def _memorisation(evaluation: Evaluation) -> Table:
    rows = []
    for space, found in evaluation.memorisation.items():
        estimates = (_interval(found[name], 4) for name in MEMORISATION)
        rows.append((space, *estimates, f"{found['auc_error'].mean:.4f}"))
    rows.append(("expected of new real images", "1", "0.01", "0.5", ""))
    control = (f"{evaluation.copies[name]:.4f}" for name in (*MEMORISATION, "auc_error"))
    rows.append((f"control: {COPIED:.0%} copies, pixels", *control))
    head = ("distances in", "median ratio", "share closer than 1 % of test images", "AUC", "its own interval, ±")
    return Table("Distance to the nearest training image, beside that of test images", head, rows)


def _classification(classification: Mapping[str, Estimate]) -> Table:
    samples, real = classification["samples"], classification["real"]
    return Table(
        "Accuracy on the test images of a classifier that learned from",
        ("samples alone", "as many training images", "ratio"),
        [(_share(samples), _share(real), f"{samples.mean / real.mean:.4f}")],
        is_trained=True,
    )


def _controls(evaluation: Evaluation) -> Table:
    rows = []
    for judge, floor in evaluation.floor.items():
        if NO_FAULT in evaluation.controls:
            rows.append(("none: the first seed's", judge, *_values(evaluation.controls[NO_FAULT][judge])))
        else:
            rows.append(("none: training images", judge, *_values({name: floor[name].mean for name in METRICS})))
        for control, fault in CONTROLS.items():
            rows.append((fault.title, judge, *_values(evaluation.controls[control][judge], bold=fault.sensitive)))
    return Table("Negative controls", ("fault", "evaluator", *(metric.title for metric in METRICS.values())), rows)


def _digits(evaluation: Evaluation) -> Table:
    rows = []
    for digit, row in evaluation.digits.items():
        parts = [row.evaluators[judge] for judge in evaluation.judges]
        ratios = ("" if part.coverage_ratio is None else f"{part.coverage_ratio:.3f}" for part in parts)
        rows.append((digit, f"{row.distinct} of {row.images}", *(f"{part.agreement:.2%}" for part in parts), *ratios))
    heads = (*(f"called so by {judge}" for judge in evaluation.judges),)
    coverage = (*(f"coverage / {PLAIN}'s, {judge}" for judge in evaluation.judges),)
    return Table("Digits on request", ("digit", "different images", *heads, *coverage), rows)


def _values(values: Mapping[str, float], bold: Sequence[str] = ()) -> Iterable[str]:
    for name, metric in METRICS.items():
        text = f"{values[name]:.{metric.decimals}f}"
        yield f"**{text}**" if name in bold else text


def _interval(estimate: Estimate, decimals: int) -> str:
    return f"{estimate.mean:.{decimals}f} ± {estimate.error:.{decimals}f}"


def _share(estimate: Estimate) -> str:
    return f"{estimate.mean:.2%} ± {estimate.error:.2%}"
