"""The model card, rendered from a manifest and an evaluation. All of its numbers come from these two."""

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

One hundred samples from fixed latents, without selection. `samples/epoch_*.png` show samples from other fixed latents
after some of the epochs.

## Networks

The generator has {generator_parameters:,} parameters. It maps latents (B, {latent_dim}) from N(0, I) to images
(B, 1, {size}, {size}) in (-1, 1). The 8-bit level of a pixel x is round((x + 1) · 127.5). Digits are white on black.

{generator_layers}

The discriminator has {discriminator_parameters:,} parameters. It maps images (B, 1, {size}, {size}) to the probability
(B,) that they are real.

{discriminator_layers}

## Data

The data set is MNIST by Yann LeCun, Corinna Cortes and Christopher J. C. Burges, licence [CC BY-SA 3.0]. The training
images are scaled to x/255, resized from 28×28 to {size}×{size} (bilinear, align_corners=False) and mapped to x·2 - 1.
The file of the training images has the sha256 `{data_sha256}`.

The last {held_out:,} training images were held out: the networks did not learn from them. All choices between runs were
made on these images, by a classifier that is not an evaluator. The test images were used only for the tables below.

## Training

The training took {steps:,} steps, {epochs} of {planned_epochs} epochs, and {hours:.1f} hours with {threads} thread(s)
on the device `{device}`.{history}

{recipe}

## Companions

Three small networks serve requests for digits and for rejection sampling:

- `classifier.safetensors` classifies images. It learned from the labels of the training images. The generator depends
  on labels only if its training had a feature critic, which uses this classifier.
- `latent_classifier.safetensors` predicts from a latent which digit the image will show.
- `rejection.safetensors` is a critic on the features of the image classifier. It was trained against the finished
  generator. Rejection sampling keeps the samples that are likely among real images, with the class frequencies of the
  training images.

## Measurements

For each of {seeds} seeds, {samples:,} samples in 8 bits were compared with the same number of test images{measured}.
Numbers are the mean ± half the width of its 95 % interval (Student's t). The *floor* is the result for random training
images in place of samples, that is, for a perfect model.

`make evaluate` prints these tables and reports whether the numbers agree with this card. They agree on the same kind of
processor, with the same version of torch and the same number of threads.

{measurements}

How to read the tables:

- *Evaluators* are classifiers of digits whose features the metrics use. The scale of a distance is that of the
  features, so compare it only with its floor. Three evaluators with different architectures are used, so that no
  result depends on a single one. They were trained only for measurement. They had no part in the training, selection
  or serving of the networks above.
- *Fréchet distance*: the squared distance of Gaussians with the moments of the features (Dowson and Landau, 1982).
  With N images it has a positive bias of order 1/N. *N → ∞* is the extrapolation without this bias (Chong and
  Forsyth, 2020).
- *Kernel distance*: unbiased MMD² with the kernel (x·y/D + 1)³ (Bińkowski et al., 2018). It and the limit N → ∞ have
  the expectation 0 for two sets from one distribution. Their floors show how training images differ from test images.
- *Precision*: the fraction of samples within the region of real images. *Recall*: the fraction of real images within
  the region of samples (Kynkäänniemi et al., 2019, k = {near}). *Density* and *coverage* are similar, and outliers
  affect them less (Naeem et al., 2020, k = {wide}).
- *MNIST score*: the inception score (Salimans et al., 2016) with the evaluator as classifier; at most 10.
- *Class KL*: the divergence of the predicted classes from the training labels; 0 if all digits are equally frequent in
  both.
- *Held-out images* are training images that the evaluators did not learn from. If their distance is below the floor,
  the floor is too high by the difference, and the ratio to it is too low.
- *Distance to the nearest training image*: the AUC is the probability that a sample is farther from the training images
  than a test image (Mann-Whitney; interval of DeLong et al., 1988). Copies would give an AUC below 0.5. The ± of each
  column is over the seeds. The interval in the last column includes the randomness of the test images.
- *Accuracy of a classifier that learned from samples alone*: Ravuri and Vinyals (2019). The evaluators label the
  samples and the training images.
- *Negative controls* are training images with a fault. The evaluation fails unless the numbers in bold are worse than
  those in the row *none*, without the fault.

## Failures

![the samples with the least certain class](samples/failures.png)

Of the {samples:,} samples of the first seed, these have the least certain class, by the mean of the evaluators.

## Limits

- The model draws only digits in the style of MNIST, at {size}×{size}. Some samples are not digits.
- The discriminator separates MNIST from samples of this generator. It does not detect generated images in general, and
  its probability is not calibrated.
- A feature critic moves samples towards images that classifiers of digits recognise. The evaluators are other networks
  with other architectures, but they are classifiers of digits too.
- The intervals are over seeds of samples. They do not include the variation between training runs. All seeds use the
  same {samples:,} test images.
- The evaluators learned from MNIST alone. They may accept an image that looks wrong to a person.

## Reproduce

```
{command}
```

On a CPU, these commands give the same bytes on the same kind of processor, with the same version of torch ({torch}) and
the same number of threads. On a GPU the bytes differ from run to run. The networks were published on {created}.

{files}

[CC BY-SA 3.0]: https://creativecommons.org/licenses/by-sa/3.0/
"""
ORIGIN, CRITIC = "origin", "classifier_sha256"
# Keys of a recipe that are not settings. The last three occur only in the recipes of earlier runs.
NOT_SETTINGS = (ORIGIN, CRITIC, "steps", "seconds", "torch")
FLAGS = ("recipe", "epochs", "batch_size", "held_out", "seed", "threads", "precision", "device")


def write(manifest: Manifest, evaluation: Evaluation) -> str:
    """Render the model card of the networks in `manifest`, with their `evaluation`, as Markdown.

    Raises KeyError if the manifest's recipe or metrics lack a value that the card prints.
    """
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
    """The recipe of the run, that of the run it started from, and so on, by their names in the card."""
    found = {"reproduced": recipe}
    while (origin := recipe.get(ORIGIN)) is not None:
        found["before" if len(found) == 1 else f"before-{len(found)}"] = recipe = origin
    return found


def _history(manifest: Manifest) -> str:
    """Sentences about the start of each run, with the steps and hours of the earlier runs if the manifest has them."""
    text = ""
    for name, part in _lineage(manifest.recipe).items():
        if name != "reproduced":
            text += f" It started from the networks of a run of {part['epochs']} epochs on {part['device']}"
            if "steps" in part:
                text += f" ({part['steps']:,} steps, {part['seconds'] / 3600:.1f} hours, torch {part['torch']})"
            text += f"; its settings are in the column *{name}*."
        if CRITIC in part:
            which = "`classifier.safetensors`" if _has_our_classifier(part, manifest) else f"sha256 `{part[CRITIC]}`"
            text += f" Its feature critic used the classifier {which}."
    return text


def _settings(recipe: Mapping[str, Any]) -> str:
    """A table of the settings of the run and of the runs before it."""
    _, *names = lineage = _lineage(recipe)
    rows = [
        (name, *(f"`{part.get(name)}`" for part in lineage.values())) for name in recipe if name not in NOT_SETTINGS
    ]
    return _markdown(("setting", "value", *names), rows)


def _command(manifest: Manifest) -> str:
    """The commands that repeat all runs, the publication and the evaluation."""
    commands, start = [], ""
    for name, part in reversed(_lineage(manifest.recipe).items()):
        flags = " ".join(f"--{flag.replace('_', '-')} {part[flag]}" for flag in FLAGS if flag in part)
        # The published classifier is the default. Any other must be named.
        critic = " --classifier CLASSIFIER" if CRITIC in part and not _has_our_classifier(part, manifest) else ""
        commands.append(f"python -m training gan {flags} --name {name}{start}{critic}")
        start = f" --start runs/{name}"
    commands += [
        "python -m training publish runs/reproduced --to published",
        "python -m training companions --checkpoint published",
        "python -m training evaluate published --write",
    ]
    return "\n".join(commands)


def _has_our_classifier(recipe: Mapping[str, Any], manifest: Manifest) -> bool:
    """Whether the feature critic of `recipe` used the classifier in the published folder."""
    return bool(recipe[CRITIC] == manifest.files.get(CLASSIFIER_FILE))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _layers(layers: nn.Sequential, signal: Tensor) -> str:
    """A table of `layers`, with the shape of each output for the input `signal`."""
    rows = []
    for layer in layers:
        signal = layer(signal)
        rows.append((f"`{layer}`", "×".join(str(size) for size in signal.shape[1:]), f"{_count(layer):,}"))
    return _markdown(("layer", "output", "parameters"), rows)


def _markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return Table("", head, list(rows)).to_markdown()
