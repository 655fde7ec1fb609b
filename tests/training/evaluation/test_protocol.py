"""A complete evaluation on the small data set, and its folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from service.errors import CheckpointError
from service.gan import checkpoint
from training.__main__ import main
from training.data import DataError
from training.evaluation import protocol, publication
from training.evaluation.controls import CONTROLS, NO_FAULT, ControlError
from training.evaluation.evaluation import Estimate, Evaluation, EvaluationSettings
from training.evaluation.evaluators import Evaluator
from training.evaluation.metrics import METRICS
from training.evaluation.protocol import Images
from training.evaluation.publication import NotReproduced
from training.evaluation.samplers import PLAIN
from training.evaluation.tables import MILLISECONDS, Table, differences, tables
from training.runs.publish import CARD_FILE


@pytest.fixture(scope="module")
def found(
    judges: dict[str, Evaluator], small_images: Images, small_settings: EvaluationSettings
) -> tuple[Evaluation, Tensor]:
    """An evaluation of three samplers: training images in another order, noise, and one requested digit."""

    def real(seed: int, count: int) -> Tensor:
        order = torch.randperm(160, generator=torch.Generator().manual_seed(1000 + seed))
        return small_images.train[order[:count]]

    def noise(seed: int, count: int) -> Tensor:
        randomness = torch.Generator().manual_seed(seed)
        return torch.randint(0, 256, (count, 1, 32, 32), generator=randomness, dtype=torch.uint8)

    def three(seed: int, count: int) -> Tensor:
        assert count == 1
        of_three = small_images.train[small_images.train_labels == 3]
        return of_three[[seed % len(of_three)]]

    return protocol.evaluate(
        {PLAIN: real, "noise": noise}, judges, small_images, small_settings, digit_samplers={3: three}
    )


def test_training_images_score_like_the_floor_and_noise_scores_worse(found: tuple[Evaluation, Tensor]) -> None:
    evaluation, _ = found
    assert evaluation.samples == 96
    for judge, floor in evaluation.floor.items():
        real, noise = (evaluation.rows[name].metrics[judge] for name in (PLAIN, "noise"))
        assert set(real) == set(METRICS)
        assert real["frechet"].mean < 3 * floor["frechet"].mean < noise["frechet"].mean
        assert noise["coverage"].mean < real["coverage"].mean
        assert set(evaluation.controls) == {NO_FAULT, *CONTROLS}
    # These samples are copies of training images, and the metrics show it.
    assert evaluation.memorisation[protocol.PIXELS]["share_close"].mean == 1
    assert evaluation.memorisation[protocol.PIXELS]["auc"].mean == 0
    assert evaluation.digits["3"].images == 20
    assert evaluation.digits["3"].distinct == 16
    assert sum(evaluation.rows[PLAIN].class_histogram) == 2 * 96


def test_failures_are_samples_of_the_first_seed(found: tuple[Evaluation, Tensor], small_images: Images) -> None:
    _, failures = found
    assert failures.shape == (12, 1, 32, 32)
    order = torch.randperm(160, generator=torch.Generator().manual_seed(1001))[:96]
    drawn = {image.numpy().tobytes() for image in small_images.train[order]}
    assert all(image.numpy().tobytes() in drawn for image in failures)


def test_json_preserves_an_evaluation(found: tuple[Evaluation, Tensor]) -> None:
    evaluation, _ = found
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation
    with pytest.raises(CheckpointError, match="evaluate --write"):
        Evaluation.from_json({"samples": 3})


@pytest.mark.parametrize("part", ["floor", "rows", "controls"])
def test_an_evaluation_with_other_metrics_is_refused(found: tuple[Evaluation, Tensor], part: str) -> None:
    evaluation, _ = found
    values = evaluation.to_json()
    by_judge = {
        "floor": values["floor"],
        "rows": values["rows"][PLAIN]["metrics"],
        "controls": values["controls"][next(iter(CONTROLS))],
    }[part]
    metrics = by_judge[next(iter(evaluation.judges))]
    metrics["a metric of another version"] = metrics.pop("recall")
    with pytest.raises(CheckpointError, match=r"another version.*evaluate --write"):
        Evaluation.from_json(values)


def test_an_evaluation_without_a_control_is_refused(found: tuple[Evaluation, Tensor]) -> None:
    values = found[0].to_json()
    del values["controls"][next(iter(CONTROLS))]
    with pytest.raises(CheckpointError, match="another version"):
        Evaluation.from_json(values)


def test_the_control_without_a_fault_is_the_reference_of_the_others(found: tuple[Evaluation, Tensor]) -> None:
    evaluation, _ = found
    for judge in evaluation.judges:
        intact = evaluation.controls[NO_FAULT][judge]
        for control, fault in CONTROLS.items():
            for name in fault.sensitive:
                faulty = evaluation.controls[control][judge][name]
                assert faulty > intact[name] if METRICS[name].lower_is_better else faulty < intact[name]
        # The reference is the first of the two seeds whose mean is the floor.
        floor = evaluation.floor[judge]["frechet"]
        assert 0.0 < abs(intact["frechet"] - floor.mean) < floor.error
        (row,) = [row for row in tables(evaluation)["controls"].rows if row[0].startswith(NO_FAULT) and row[1] == judge]
        assert row[2:] == tuple(f"{intact[name]:.{metric.decimals}f}" for name, metric in METRICS.items())


def test_an_evaluation_of_an_earlier_version_can_be_read(found: tuple[Evaluation, Tensor]) -> None:
    evaluation, _ = found
    values = evaluation.to_json()
    del values["threads"], values["controls"][NO_FAULT]
    old = Evaluation.from_json(values)
    assert old.threads is None
    means = {judge: f"{floor['frechet'].mean:.3f}" for judge, floor in evaluation.floor.items()}
    rows = [row for row in tables(old)["controls"].rows if row[0] == "none: training images"]
    assert {row[1]: row[2] for row in rows} == means


def test_an_evaluator_that_does_not_detect_a_control_ends_the_evaluation(
    judges: dict[str, Evaluator], small_images: Images, small_settings: EvaluationSettings
) -> None:
    # Its features are 0 for every image.
    blind = judges["stacked"]._replace(classifier=copy.deepcopy(judges["stacked"].classifier))
    for parameter in blind.classifier.parameters():
        torch.nn.init.zeros_(parameter)

    def unused(_seed: int, count: int) -> Tensor:
        return small_images.train[:count]

    with pytest.raises(ControlError, match="by the evaluator stacked does not detect the control"):
        protocol.evaluate({PLAIN: unused}, {"stacked": blind}, small_images, small_settings)


def test_the_evaluation_of_a_folder_is_reproducible_and_its_card_has_every_number(
    published: Path, small_data: Path, judges_folder: Path, small_settings: EvaluationSettings
) -> None:
    torch.manual_seed(1)
    arguments = (published, judges_folder, small_data, small_settings)
    evaluation, failures = publication.evaluate_folder(*arguments, download=False)
    assert "no evaluation yet" in publication.compare(published, evaluation)
    publication.write(published, evaluation, failures)
    checkpoint.load(published)

    torch.manual_seed(2)
    again, same = publication.evaluate_folder(*arguments, download=False)
    assert torch.equal(same, failures)
    assert "is reproduced" in publication.compare(published, again)
    free = [one.rows[PLAIN]._replace(milliseconds=0.0) for one in (evaluation, again)]
    assert free[0] == free[1]
    assert evaluation._replace(rows={}) == again._replace(rows={})

    card = (published / CARD_FILE).read_text()
    assert (published / publication.FAILURES_FILE).is_file()
    for text in ("172,401", "97,281", "CC BY-SA 3.0", "2.0 hours", *checkpoint.read_manifest(published).files.values()):
        assert text in card
    for name, value, error in _estimates(evaluation):
        decimals = METRICS[name].decimals if name in METRICS else 4
        assert f"{value:.{decimals}f} ± {error:.{decimals}f}" in card, name
    for judge in evaluation.judges.values():
        assert f"{judge.test_accuracy:.2%}" in card
        assert judge.sha256 in card
    for by_judge in evaluation.controls.values():
        for values in by_judge.values():
            assert all(f"{value:.{METRICS[name].decimals}f}" in card for name, value in values.items())
    for accuracy in evaluation.classification.values():
        assert f"{accuracy.mean:.2%} ± {accuracy.error:.2%}" in card
    for table in tables(evaluation).values():
        assert table.to_markdown() in card

    coverage = evaluation.rows[PLAIN].metrics["stacked"]["coverage"]
    evaluation.rows[PLAIN].metrics["stacked"]["coverage"] = coverage._replace(mean=coverage.mean + 0.1)
    with pytest.raises(NotReproduced, match="By the evaluator stacked, Coverage, plain") as caught:
        publication.compare(published, evaluation)
    assert "--threads" not in caught.value.detail
    with pytest.raises(NotReproduced, match="measured with --threads 1, and this evaluation with 2"):
        publication.compare(published, evaluation._replace(threads=2))
    assert again.threads == torch.get_num_threads() == 1
    assert "with 1 thread(s)" in card
    assert "is reproduced" in (line := publication.compare(published, again._replace(threads=2)))
    assert "measured with --threads 1, and this evaluation with 2" in line


def test_a_checkpoint_that_learned_from_other_data_is_not_measured(
    published: Path, small_data: Path, judges_folder: Path, small_settings: EvaluationSettings
) -> None:
    checkpoint.write_manifest(published, checkpoint.read_manifest(published)._replace(data_sha256="0" * 64))
    with pytest.raises(DataError, match="learned from images with sha256 0000"):
        publication.evaluate_folder(published, judges_folder, small_data, small_settings, download=False)


def test_numbers_may_differ_by_one_in_the_last_digit_and_milliseconds_by_any_amount() -> None:
    def table(cell: str, milliseconds: str = "1.0") -> dict[str, Table]:
        return {"one": Table("One", ("metric", "value", MILLISECONDS), [("distance", cell, milliseconds)])}

    assert not differences(table("1.234 ± 0.010"), table("1.235 ± 0.009", "9.9"))
    assert differences(table("1.234 ± 0.010"), table("1.236 ± 0.010")) == [
        "One, distance, value: 1.234 ± 0.010; published: 1.236 ± 0.010"
    ]
    assert not differences(table("-0.000"), table("0.000"))
    assert differences(table("-0.001"), table("0.001"))
    assert differences(table("100"), table("101"))
    assert differences(table("1.0"), {})


def test_accuracies_of_newly_trained_classifiers_may_differ_by_their_interval() -> None:
    def table(samples: str, ratio: str = "0.99") -> dict[str, Table]:
        return {"one": Table("One", ("samples", "ratio"), [(samples, ratio)], is_trained=True)}

    assert not differences(table("97.44% ± 0.20%"), table("97.42% ± 0.18%", "0.98"))
    assert not differences(table("97.60% ± 0.18%"), table("97.42% ± 0.01%"))
    assert differences(table("97.61% ± 0.18%"), table("97.42% ± 0.18%")) == [
        "One, 97.61% ± 0.18%, samples: 97.61% ± 0.18%; published: 97.42% ± 0.18%"
    ]
    assert differences(table("97.4 ± 0.2"), table("97.4% ± 0.2%"))


def test_the_commands_name_missing_files(
    published: Path, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--data", str(small_data), "--no-download")
    assert main(["evaluate", str(published), "--evaluators", str(tmp_path / "none"), *options]) == 2
    assert "train evaluators with: python -m training evaluators" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "nothing"), *options]) == 2
    assert "manifest.json: cannot be read" in capsys.readouterr().err
    assert main(["evaluate", str(published), "--threads", "0", *options]) == 2
    assert "--threads is 0" in capsys.readouterr().err


def _estimates(evaluation: Evaluation) -> Iterator[tuple[str, float, float]]:
    parts: list[dict[str, Estimate]] = list(evaluation.floor.values())
    for row in evaluation.rows.values():
        parts += row.metrics.values()
    for space in evaluation.memorisation.values():
        parts.append({name: found for name, found in space.items() if name != "auc_error"})
    for part in parts:
        for name, (mean, error) in part.items():
            yield name, mean, error
