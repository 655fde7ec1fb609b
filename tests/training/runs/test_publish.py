"""Publication: from a run to a folder that the service loads, as a function and on the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from service.errors import CheckpointError
from service.gan import checkpoint
from service.gan.companions import CLASSIFIER_FILE
from service.version import VERSION
from training.__main__ import main
from training.learning.ema import published_generator
from training.runs import state
from training.runs.publish import publish
from training.runs.run import Run, RunError, open_run


@pytest.fixture(scope="module")
def published(whole: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("published") / "checkpoints"
    publish(whole, target)
    return target


def test_the_published_networks_are_the_averaged_generator_and_the_discriminator(whole: Run, published: Path) -> None:
    generator, discriminator, manifest = checkpoint.load(published)
    current, _ = state.load(whole.state, whole.config)
    for module, own in ((generator, published_generator(current)), (discriminator, current.discriminator)):
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, own.state_dict()[name])
    assert manifest.recipe == whole.config.to_json()
    assert (manifest.steps, manifest.epochs, manifest.seed) == (20, 2, whole.config.seed)
    assert manifest.data_sha256 == whole.data_sha256
    assert manifest.version == VERSION


def test_a_manifest_without_a_version_is_valid(published: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published, tmp_path / "checkpoints"))
    path = folder / checkpoint.MANIFEST_FILE
    fields = json.loads(path.read_text())
    del fields["version"]
    path.write_text(json.dumps(fields))
    _, _, manifest = checkpoint.load(folder)
    assert manifest == checkpoint.read_manifest(published)._replace(version=None)
    path.write_text(json.dumps(fields | {"version": 1}))
    with pytest.raises(CheckpointError, match="version is 1, expected str or null"):
        checkpoint.load(folder)


def test_publication_writes_pictures_and_neither_measurements_nor_a_card(published: Path) -> None:
    assert (published / "samples" / "grid.png").is_file()
    assert (published / "samples" / "epoch_001.png").is_file()
    assert set(checkpoint.read_manifest(published).metrics) == {"training_seconds"}
    assert not (published / "MODEL_CARD.md").exists()


def test_publishing_again_writes_the_same_bytes_and_removes_everything_else(whole: Run, published: Path) -> None:
    before = {path.name: path.read_bytes() for path in published.glob("*.safetensors")}
    (published / "samples" / "stale.png").write_bytes(b"")
    (published / "MODEL_CARD.md").write_text("of other networks")
    publish(whole, published)
    assert {path.name: path.read_bytes() for path in published.glob("*.safetensors")} == before
    assert not (published / "samples" / "stale.png").exists()
    assert not (published / "MODEL_CARD.md").exists()
    assert [path.name for path in published.parent.iterdir()] == [published.name]


@pytest.mark.parametrize(
    ("owner", "name", "fatal"),
    [(Path, "rename", 1), (Path, "rename", 2), (shutil, "rmtree", 1), (shutil, "rmtree", 2), (shutil, "rmtree", 3)],
)
def test_after_an_interrupted_publication_the_next_one_keeps_all_evaluators_and_classifiers(
    whole: Run, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, fatal: int
) -> None:
    original, calls = getattr(owner, name), 0
    target = Path(shutil.copytree(published, tmp_path / "checkpoints"))
    (target / "evaluators").mkdir()
    (target / "evaluators" / "evaluators.json").write_text("{}")
    (target / CLASSIFIER_FILE).write_bytes(b"of images")

    def cut(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == fatal:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, cut)
        with pytest.raises(KeyboardInterrupt):
            publish(whole, target)
    publish(whole, target)
    checkpoint.load(target)
    assert (target / "evaluators" / "evaluators.json").read_text() == "{}"
    assert (target / CLASSIFIER_FILE).read_bytes() == b"of images"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_the_published_number_of_epochs_comes_from_the_state_and_not_from_pictures(whole: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole.folder, tmp_path / "run"))
    run = open_run(folder)
    current, info = state.load(run.state, run.config)
    shutil.rmtree(run.samples)
    assert publish(run, tmp_path / "a").epochs == 2
    # A state of an earlier version, without the number of epochs, in the second of two epochs of ten steps.
    current.step = 19
    state.save(run.state, current, {name: value for name, value in info.items() if name != "epochs"})
    assert publish(run, tmp_path / "b").epochs == 1


def test_publication_keeps_evaluators(whole: Run, tmp_path: Path) -> None:
    target = tmp_path / "checkpoints"
    (target / "evaluators").mkdir(parents=True)
    (target / "evaluators" / "evaluators.json").write_text("{}")
    publish(whole, target)
    assert (target / "evaluators" / "evaluators.json").read_text() == "{}"


def test_a_folder_with_other_files_is_not_replaced(whole: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RunError, match=r"files of other origin: thesis\.tex; choose another folder with --to"):
        publish(whole, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_failed_publication_leaves_the_earlier_one_intact(
    whole: Run, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("training.runs.publish.checkpoint.write_manifest", fail)
    with pytest.raises(OSError, match="disk full"):
        publish(whole, published)
    checkpoint.load(published)


def test_a_run_without_a_state_cannot_be_published(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run()
    with pytest.raises(CheckpointError, match=r"state\.safetensors: cannot be read"):
        publish(run, tmp_path / "checkpoints")
    assert not (tmp_path / "checkpoints").exists()


def test_the_commands_lead_from_data_to_a_checkpoint(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(small_data), "--no-download", "--runs", str(tmp_path), "--threads", "1", "--device", "cpu"]
    options += ["--held-out", "0"]
    assert main(["gan", *options, "--recipe", "minimax", "--epochs", "1", "--precision", "auto"]) == 0
    folder = tmp_path / "minimax-seed-0"
    assert open_run(folder).config.precision in ("float32", "bfloat16")
    assert main(["gan", "--resume", str(folder), "--recipe", "minimax", "--epochs", "1", "--precision", "auto"]) == 0
    capsys.readouterr()
    assert main(["publish", str(folder), "--to", str(tmp_path / "checkpoints")]) == 0
    assert f"next: python -m training companions --checkpoint {tmp_path / 'checkpoints'}" in capsys.readouterr().out
    _, _, manifest = checkpoint.load(tmp_path / "checkpoints")
    assert manifest.recipe["recipe"] == "minimax"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command that is refused."""
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_damaged_data_are_refused_in_one_line_and_no_run_is_created(
    digits_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = digits_folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    options = ("gan", "--data", str(digits_folder), "--runs", str(tmp_path / "runs"))
    assert f"{file}: damaged, 1000 bytes" in refused(capsys, *options)
    file.unlink()
    assert "missing" in refused(capsys, *options, "--no-download")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--batch-size", "161"), "batch_size is 161, but 160 images are left to learn from"),
        (("--epochs", "0"), "epochs is 0, expected at least 1"),
        (("--seed", "-1"), "seed is -1"),
        (("--threads", "-1"), "threads is -1"),
    ],
)
def test_invalid_settings_are_refused_in_one_line_and_no_run_is_created(
    small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    options = ("gan", "--data", str(small_data), "--runs", str(tmp_path / "runs"), "--no-download", "--held-out", "0")
    assert message in refused(capsys, *options, *flags)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--recipe", "refined"), "--recipe refined continues a finished run; name the run with --start RUN"),
        (("--classifier", "c.safetensors"), "--recipe default has no feature critic; leave --classifier out"),
        (("--resume", "runs/a", "--start", "runs/b"), "--start runs/b is for a new run, and --resume runs/a continues"),
        (("--resume", "runs/a", "--classifier", "c.safetensors"), "--classifier c.safetensors is for a new run"),
        (("--resume", "runs/a", "--name", "b"), "--name b is for a new run"),
    ],
)
def test_contradictory_options_are_refused_before_any_file_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    options = ("gan", "--data", str(tmp_path / "none"), "--runs", str(tmp_path / "runs"), "--no-download")
    assert message in refused(capsys, *options, *flags)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_is_not_overwritten(whole: Run, small_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("gan", "--data", str(small_data), "--runs", str(whole.folder.parent), "--name", whole.folder.name)
    line = refused(capsys, *options, "--batch-size", "16", "--held-out", "0", "--precision", "float32")
    assert f"{whole.folder} exists" in line
    assert f"--resume {whole.folder}" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--epochs", "3"), "--epochs 3 differs from the run's own 2"),
        (("--batch-size", "8"), "--batch-size 8 differs from the run's own 16"),
        (("--threads", "2"), "--threads 2 differs from the run's own 1"),
        (("--recipe", "minimax"), "--recipe minimax differs from the run's own default"),
    ],
)
def test_a_resumed_run_refuses_other_settings(
    whole: Run, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    assert message in refused(capsys, "gan", "--resume", str(whole.folder), *flags)


def test_a_resumed_run_refuses_other_data(whole: Run, digits_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = digits_folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"\xaa")
    line = refused(capsys, "gan", "--resume", str(whole.folder), "--data", str(digits_folder))
    assert f"learns from data with sha256 {whole.data_sha256}" in line


def test_a_folder_without_a_valid_run_is_refused(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["gan", "--resume"], ["publish"]):
        assert "is not a training run" in refused(capsys, *command, str(tmp_path))
    damaged = tmp_path / "damaged"
    shutil.copytree(whole.folder, damaged)
    (damaged / "run.json").write_text('{"config": ')
    assert "run.json is damaged" in refused(capsys, "gan", "--resume", str(damaged))
