"""A run that starts from another run, with a second critic on the features of a classifier."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from service.errors import CheckpointError
from service.gan import checkpoint
from service.gan.classifier import Classifier
from service.gan.networks import FEATURES
from training import data, loop
from training.config import GanConfig
from training.learning.feature_critic import FeatureCritic
from training.learning.steps import advance
from training.learning.train_state import METRICS, init_state
from training.runs import state
from training.runs.publish import publish
from training.runs.run import Run, RunError, create_run, open_run


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classifier") / "classifier.safetensors"
    torch.manual_seed(3)
    checkpoint.save(path, Classifier().state_dict())
    return path


@pytest.fixture(scope="module")
def config(small_config: GanConfig) -> GanConfig:
    return dataclasses.replace(small_config, recipe="refined", feature_weight=3.0, feature_gamma=0.02)


MakeRefined = Callable[[Path], Run]


@pytest.fixture(scope="module")
def refine(whole: Run, config: GanConfig, classifier: Path) -> MakeRefined:
    def make(folder: Path) -> Run:
        return create_run(folder / "refined", config, whole.data, whole.data_sha256, start=whole, classifier=classifier)

    return make


@pytest.fixture(scope="module")
def refined(refine: MakeRefined, images: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A refining run that was trained to its end without interruption. Read-only."""
    run = refine(tmp_path_factory.mktemp("refined"))
    loop.train(run, images)
    return run


def test_features_of_real_images_are_standardised(images: Tensor, classifier: Path) -> None:
    module, critic = Classifier(), FeatureCritic()
    checkpoint.load_module(classifier, module)
    critic.use_classifier(module, images)
    features = critic.features(images)
    torch.testing.assert_close(features.mean(0), torch.zeros(FEATURES), rtol=0, atol=1e-3)
    assert bool((features.std(0) <= 1).all())
    assert features.std(0).max() > 0.9


def test_the_critic_has_gradients_in_the_images_and_none_in_its_classifier(images: Tensor, classifier: Path) -> None:
    module, critic = Classifier(), FeatureCritic()
    checkpoint.load_module(classifier, module)
    critic.use_classifier(module, images)
    inputs = images[:4].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic.logits(critic.features(inputs)).sum(), inputs)
    assert bool((gradient.flatten(1).norm(dim=1) > 0).all())
    assert not any(parameter.requires_grad for parameter in critic.classifier.parameters())


@pytest.mark.parametrize("loss", ["non_saturating", "relativistic"])
def test_a_step_changes_the_critic_and_not_its_classifier(
    images: Tensor, refine: MakeRefined, tmp_path: Path, config: GanConfig, loss: str
) -> None:
    config = dataclasses.replace(config, loss=loss)
    current = state.begin(refine(tmp_path), images)
    critic = current.critic
    assert critic is not None
    before = {name: tensor.clone() for name, tensor in critic.state_dict().items()}
    advance(current, images[:16], config, 1e-3)
    # A loss of pairs compares logits, so it does not depend on the bias that all logits share.
    constant = {"layers.4.bias"} if loss == "relativistic" else set()
    for name, tensor in critic.state_dict().items():
        changes = name.startswith("layers") and name not in constant
        assert torch.equal(tensor, before[name]) != changes, name
    assert current.totals[METRICS.index("feature_loss")] > 0


def test_with_a_weight_of_0_there_is_no_critic(images: Tensor, small_config: GanConfig) -> None:
    current = init_state(small_config)
    advance(current, images[:16], small_config, 1e-3)
    assert current.critic is None
    assert current.totals[METRICS.index("feature_loss")] == 0


def test_a_run_starts_with_the_final_networks_of_another(
    whole: Run, images: Tensor, refine: MakeRefined, tmp_path: Path
) -> None:
    ended, _ = state.load(whole.state, whole.config)
    begun = state.begin(refine(tmp_path), images)
    assert begun.step == 0
    for name in ("generator", "averaged", "discriminator"):
        parts = zip(getattr(begun, name).parameters(), getattr(ended, name).parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in parts)


def test_a_refining_run_that_crashed_ends_like_an_uninterrupted_one(
    images: Tensor, refined: Run, refine: MakeRefined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = refine(tmp_path)
    calls = 0

    def crash(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise RuntimeError("power failure")
        advance(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "advance", crash)
        with pytest.raises(RuntimeError, match="power failure"):
            loop.train(other, images)
    # By now the state contains the networks and the classifier that the run started from.
    other.start.unlink()
    other.classifier.unlink()
    loop.train(open_run(other.folder), images)
    (first, _), (second, _) = checkpoint.read(refined.state), checkpoint.read(other.state)
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_manifest_describes_all_earlier_runs(
    whole: Run, images: Tensor, refined: Run, tmp_path: Path, config: GanConfig, classifier: Path
) -> None:
    run = refined
    assert open_run(run.folder) == run
    longer = dataclasses.replace(config, seed=1)
    last = create_run(tmp_path / "last", longer, run.data, run.data_sha256, start=run, classifier=classifier)
    loop.train(last, images)
    recipe = publish(last, tmp_path / "checkpoints").recipe
    _, first = state.load(whole.state, whole.config)
    _, second = state.load(run.state, run.config)
    digest = {"classifier_sha256": checkpoint.sha256(classifier)}
    before = whole.config.to_json() | {"steps": 20, "seconds": first["seconds"], "torch": torch.__version__}
    middle = config.to_json() | digest | {"steps": 20, "seconds": second["seconds"], "torch": torch.__version__}
    assert recipe == longer.to_json() | digest | {"origin": middle | {"origin": before}}


def test_a_damaged_start_is_refused_and_no_folder_remains(whole: Run, tmp_path: Path) -> None:
    damaged = open_run(Path(shutil.copytree(whole.folder, tmp_path / "damaged")))
    damaged.state.write_bytes(whole.state.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged one"):
        create_run(tmp_path / "run", whole.config, whole.data, whole.data_sha256, start=damaged)
    checkpoint.save(damaged.state, {"weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="not the state of a training run"):
        create_run(tmp_path / "run", whole.config, whole.data, whole.data_sha256, start=damaged)
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_a_refining_run_without_a_classifier_or_a_start_is_refused(
    make_run: Callable[..., Run], whole: Run, config: GanConfig, classifier: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="needs a classifier"):
        create_run(tmp_path / "a", config, whole.data, whole.data_sha256, classifier=tmp_path / "none")
    with pytest.raises(RunError, match="no state to start from"):
        create_run(tmp_path / "b", config, whole.data, whole.data_sha256, start=make_run(), classifier=classifier)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_a_start_with_another_architecture_is_refused(
    whole: Run, images: Tensor, small_config: GanConfig, tmp_path: Path, small_data: Path
) -> None:
    other = dataclasses.replace(small_config, generator_norm="none")
    digest = data.load(small_data, download=False).sha256
    run = create_run(tmp_path / "other", other, whole.data, digest, start=whole)
    with pytest.raises(CheckpointError, match="other networks"):
        state.begin(run, images)


def test_a_start_that_learned_from_held_out_images_is_refused(
    whole: Run, config: GanConfig, classifier: Path, tmp_path: Path
) -> None:
    careful = dataclasses.replace(config, held_out=1)
    for digest, settings in ((whole.data_sha256, careful), ("other", config)):
        with pytest.raises(RunError, match="start from a run that did not learn from them"):
            create_run(tmp_path / "c", settings, whole.data, digest, start=whole, classifier=classifier)
    assert list(tmp_path.iterdir()) == []
