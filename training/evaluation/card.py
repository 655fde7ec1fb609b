"""The model card, printed from a manifest: every number in it was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from service.gan.checkpoint import Manifest
from service.gan.companions import CLASSIFIER_FILE
from service.gan.networks import IMAGE_SIZE, LATENT_DIM, Discriminator, Generator
from training.evaluation import fidelity
from training.evaluation.evaluation import Evaluation
from training.evaluation.tables import Table, tables

TEMPLATE = """\
# Model card: handwritten digits from a Gaussian latent

![100 samples](samples/grid.png)

One hundred samples of fixed latents, not selected. `samples/epoch_*.png` show other fixed latents after some epochs.

## Networks

Generator, {generator_parameters:,} parameters: latents (B, {latent_dim}) from N(0, I) to images (B, 1, {size}, {size})
in (-1, 1); 8-bit grey is round((x + 1) · 127.5), white digits on black.

{generator_layers}

Discriminator, {discriminator_parameters:,} parameters: images (B, 1, {size}, {size}) to the probability (B,) of being
real.

{discriminator_layers}

## Data

MNIST by Yann LeCun, Corinna Cortes and Christopher J. C. Burges, licence [CC BY-SA 3.0]. The training images are
scaled to x/255, resized from 28×28 to {size}×{size} (bilinear, align_corners=False) and mapped to x·2 - 1. sha256 of
the training images' file: `{data_sha256}`. The last {held_out:,} training images were not learnt from: every choice
was made on them, by a classifier that is none of the evaluators. The test images served the tables below alone.

## Training

{steps:,} steps, {epochs} of {planned_epochs} epochs, {hours:.1f} hours with {threads} thread(s) on {device}.{history}

{recipe}

## Companions

Three small networks beside the pair serve requests for digits and better samples. `classifier.safetensors` names
digits; it learned from the labels of the training images, and the generator saw labels only through it, where a feature
critic took part in its training. `latent_classifier.safetensors` finds latents of a digit. `rejection.safetensors` is a
critic that sees images through the classifier and was trained against the finished generator; rejection sampling keeps
what it takes for likely enough, of every digit as often as it is among the training images.

## Measurements

{samples:,} samples (8-bit) against as many test images, for each of {seeds} seeds{measured}: mean ± half the width of
the 95 % interval of that mean (Student's t). The floor is the same of random training images, which is what a perfect
model would score. All of it is printed by `make evaluate`, which also says whether this card's numbers come out again.
They do on one kind of processor, with one torch and one number of threads.

{measurements}

How to read them:

- The distances are taken in the features of classifiers of digits. Their scale is that of the classifier's features:
  compare a distance with its floor, and with nothing else. Three evaluators of different architectures judge, so that
  nothing rests on one of them. They were trained for this purpose, and had no part in training the networks above,
  in choosing them, or in serving.
- *Fréchet distance*, squared, between Gaussians fitted to the features (Dowson and Landau, 1982). With N images it is
  too large by a term in 1/N; *N → ∞* extrapolates that away (Chong and Forsyth, 2020).
- *Kernel distance*: unbiased MMD² with the kernel (x·y/D + 1)³ (Bińkowski et al., 2018). Like the limit before, it is
  0 for two sets from one source; what the floor has of either is how training images differ from test images.
- *Precision*: the share of samples among real images, *recall*: the share of real images among samples (Kynkäänniemi
  et al., 2019, k = {near}). *Density* and *coverage*: the same, less moved by outliers (Naeem et al., 2020,
  k = {wide}); their ratio to the floor is the share of what real images reach.
- *MNIST score*: the inception score (Salimans et al., 2016) by the evaluator; 10 at most.
- *Class KL*: of the samples' predicted classes from the training labels; 0 where every digit is as frequent there.
- *Held-out images* are training images that the evaluators did not learn from. Where they score less than the floor,
  the floor is too high by that much, and the ratio to it too low.
- *Distance to the nearest training image*: an AUC of 0.5 means that samples are as far from the training images as
  unseen real images are (Mann-Whitney; interval by DeLong et al., 1988), below that they are nearer. The ± of each
  column is over the seeds; the last column's interval also counts the chance in the test images.
- *Accuracy of a classifier that learned from samples alone*: Ravuri and Vinyals (2019). Labels are those of the
  evaluators, for the training images too.
- *Negative controls* are training images with a fault. The evaluation fails unless the numbers in bold are worse than
  those without it, in the row *none*.

## Failures

![the samples hardest to tell](samples/failures.png)

Of the first seed's {samples:,} samples, those that the evaluators are least sure of.

## Limits

- The model draws MNIST's digits at {size}×{size} and nothing else, and some samples are no digit.
- The discriminator tells MNIST from this generator's own samples. It is no detector of forged or generated images at
  large, and its own probability is not calibrated.
- A critic that sees through a classifier draws samples towards what classifiers of digits see. The evaluators are other
  networks of other shapes, but classifiers too.
- The intervals are over seeds of samples. They say nothing of what another training run would give, and the test
  images are the same {samples:,} each time.
- Evaluators are fallible: they know digits as MNIST has them, and what looks odd to a person may be ordinary to them.

## Reproduce

```
{command}
```

On a CPU of one kind, with one torch ({torch}) and one number of threads, training gives the same bytes again; on a GPU
it gives others. Published {created}.

{files}

[CC BY-SA 3.0]: https://creativecommons.org/licenses/by-sa/3.0/
"""
ORIGIN, CRITIC = "origin", "classifier_sha256"
# What stands among a run's settings and is none; the last three are there of runs that others began with.
NOT_SETTINGS = (ORIGIN, CRITIC, "steps", "seconds", "torch")
FLAGS = ("recipe", "epochs", "batch_size", "held_out", "seed", "threads", "precision", "device")


def write(manifest: Manifest, evaluation: Evaluation) -> str:
    """The card of `manifest`, and of what was measured of it, as Markdown."""
    recipe = manifest.recipe
    generator, discriminator = Generator(), Discriminator()
    return TEMPLATE.format(
        generator_parameters=_count(generator),
        discriminator_parameters=_count(discriminator),
        latent_dim=LATENT_DIM,
        size=IMAGE_SIZE,
        generator_layers=_layers(generator.layers, torch.zeros(1, LATENT_DIM, 1, 1)),
        discriminator_layers=_layers(
            nn.Sequential(*discriminator.layers, nn.Flatten(), discriminator.linear, nn.Sigmoid()),
            torch.zeros(1, 1, IMAGE_SIZE, IMAGE_SIZE),
        ),
        data_sha256=manifest.data_sha256,
        steps=manifest.steps,
        epochs=manifest.epochs,
        planned_epochs=recipe["epochs"],
        hours=manifest.metrics["training_seconds"] / 3600,
        threads=recipe["threads"],
        device=recipe["device"],
        held_out=recipe["held_out"],
        history=_history(manifest),
        recipe=_settings(recipe),
        samples=evaluation.samples,
        seeds=len(evaluation.seeds),
        measured="" if evaluation.threads is None else f", with {evaluation.threads} thread(s)",
        measurements="\n\n".join(
            f"### {table.title}\n\n{table.to_markdown()}" for table in tables(evaluation).values()
        ),
        near=fidelity.PRECISION_NEIGHBOURS,
        wide=fidelity.DENSITY_NEIGHBOURS,
        command=_command(manifest),
        torch=manifest.torch,
        created=manifest.created,
        files=_markdown(("file", "sha256"), ((f"`{name}`", f"`{digest}`") for name, digest in manifest.files.items())),
    )


def _lineage(recipe: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The run itself, the one whose networks it began with, and so on, each by the name that the card gives it."""
    found = {"reproduced": recipe}
    while (origin := recipe.get(ORIGIN)) is not None:
        found["before" if len(found) == 1 else f"before-{len(found)}"] = recipe = origin
    return found


def _history(manifest: Manifest) -> str:
    """What the run and each one before it began with, and how those went, as far as the manifest tells."""
    text = ""
    for name, part in _lineage(manifest.recipe).items():
        if name != "reproduced":
            text += f" It began with the networks of a run of {part['epochs']} epochs on {part['device']}"
            if "steps" in part:
                text += f" ({part['steps']:,} steps, {part['seconds'] / 3600:.1f} hours, torch {part['torch']})"
            text += f"; its settings are in the column *{name}*."
        if CRITIC in part:
            where = "published here" if _sees_through_ours(part, manifest) else f"with sha256 `{part[CRITIC]}`"
            text += f" The feature critic saw through the classifier {where}."
    return text


def _settings(recipe: Mapping[str, Any]) -> str:
    """The settings of a run, and beside them those of the runs before it."""
    _, *names = lineage = _lineage(recipe)
    rows = [
        (name, *(f"`{part.get(name)}`" for part in lineage.values())) for name in recipe if name not in NOT_SETTINGS
    ]
    return _markdown(("setting", "value", *names), rows)


def _command(manifest: Manifest) -> str:
    commands, start = [], ""
    for name, part in reversed(_lineage(manifest.recipe).items()):
        flags = " ".join(f"--{flag.replace('_', '-')} {part[flag]}" for flag in FLAGS if flag in part)
        # The classifier that is published here is the default; any other is not here.
        critic = " --classifier CLASSIFIER" if CRITIC in part and not _sees_through_ours(part, manifest) else ""
        commands.append(f"python -m training gan {flags} --name {name}{start}{critic}")
        start = f" --start runs/{name}"
    commands += [
        "python -m training publish runs/reproduced --to published",
        "python -m training companions --checkpoint published",
        "python -m training evaluate published --write",
    ]
    return "\n".join(commands)


def _sees_through_ours(recipe: Mapping[str, Any], manifest: Manifest) -> bool:
    return bool(recipe[CRITIC] == manifest.files.get(CLASSIFIER_FILE))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _layers(layers: nn.Sequential, signal: Tensor) -> str:
    """A table of `layers` and the shapes that come out of them when `signal` goes in."""
    rows = []
    for layer in layers:
        signal = layer(signal)
        rows.append((f"`{layer}`", "×".join(str(size) for size in signal.shape[1:]), f"{_count(layer):,}"))
    return _markdown(("layer", "output", "parameters"), rows)


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return Table("", head, list(rows)).to_markdown()
