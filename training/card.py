"""The model card, printed from a manifest: every number in it was measured."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from service.gan.checkpoint import Manifest
from service.gan.networks import IMAGE_SIZE, LATENT_DIM, Discriminator, Generator

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
scaled to x/255, resized from 28×28 to {size}×{size} (bilinear, align_corners=False) and mapped to x·2 - 1. No labels
are used. sha256 of the training images' file: `{data_sha256}`.

## Training

{steps:,} steps, {epochs} of {planned_epochs} epochs, {hours:.1f} hours with {threads} thread(s) on {device}.
The generator is {averaging}.

{recipe}

## Measurements

{metrics}

The Fréchet distance is taken between Gaussians fitted to the features of a small digit classifier, trained for this
purpose on 8-bit training images, over {samples:,} samples and the test images. Its scale is that of this classifier's
features: compare it with the floor, which is what as many random training images score, and with nothing else. No
checkpoint was chosen by it: the weights are those of the last step. Class KL is the divergence of the samples'
predicted classes from those of the training labels; 0 means that every digit is as frequent as it should be.

Samples by predicted class:

{histogram}

## Limits

- The model draws MNIST's digits at {size}×{size} and nothing else. It takes no label; which digit comes is up to the
  latent, and some samples are no digit.
- The discriminator tells MNIST from this generator's own samples. It is no detector of forged or generated images at
  large, and its probability is not calibrated.
- The measurements are of one seed.

## Reproduce

```
python -m training gan --recipe {name} --epochs {planned_epochs} --batch-size {batch_size} --seed {seed} \\
  --threads {threads} --precision {precision} --device {device} --name reproduced
python -m training publish runs/reproduced
```

The same kind of processor and the same torch ({torch}) give the same bytes. Published {created}.

{files}

[CC BY-SA 3.0]: https://creativecommons.org/licenses/by-sa/3.0/
"""


def write(manifest: Manifest) -> str:
    """The card of `manifest` as Markdown."""
    recipe, metrics = manifest.recipe, manifest.metrics
    generator, discriminator = Generator(), Discriminator()
    decay = recipe["ema_decay"]
    measured = {
        "Fréchet distance to the test images": f"{metrics['frechet']:.2f}",
        "Floor: random training images": f"{metrics['frechet_floor']:.2f}",
        "Ratio to the floor": f"{metrics['frechet_ratio']:.2f}",
        "Class KL, nats": f"{metrics['class_kl']:.4f}",
        "The classifier's own accuracy on the test images": f"{metrics['classifier_accuracy']:.2%}",
    }
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
        hours=metrics["training_seconds"] / 3600,
        threads=recipe["threads"],
        device=recipe["device"],
        averaging=f"the average of its weights over the steps, decay {decay}" if decay else "that of the last step",
        recipe=_table(("setting", "value"), ((key, f"`{value}`") for key, value in recipe.items())),
        metrics=_table(("measured", "value"), measured.items()),
        samples=metrics["samples"],
        histogram=_table(map(str, range(len(metrics["class_histogram"]))), [metrics["class_histogram"]]),
        name=recipe["recipe"],
        batch_size=recipe["batch_size"],
        seed=manifest.seed,
        precision=recipe["precision"],
        torch=manifest.torch,
        created=manifest.created,
        files=_table(("file", "sha256"), ((f"`{name}`", f"`{digest}`") for name, digest in manifest.files.items())),
    )


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _layers(layers: nn.Sequential, signal: Tensor) -> str:
    """A table of `layers` and the shapes that come out of them when `signal` goes in."""
    rows = []
    for layer in layers:
        signal = layer(signal)
        rows.append((f"`{layer}`", "×".join(str(size) for size in signal.shape[1:]), f"{_count(layer):,}"))
    return _table(("layer", "output", "parameters"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
