"""The settings of a training run, as one frozen value, and the named recipes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from service.errors import LatentserveError

CHOICES: dict[str, tuple[str, ...]] = {
    "loss": ("minimax", "non_saturating", "relativistic"),
    "generator_norm": ("none", "batch"),
    "schedule": ("constant", "cosine"),
    "precision": ("float32", "bfloat16", "auto"),
    "device": ("cpu", "cuda", "auto"),
}


class ConfigError(LatentserveError):
    """A setting is unknown or out of range."""


@dataclass(frozen=True)
class GanConfig:
    """Settings of one run. Before the run starts, `auto` and 0 threads are replaced by what the machine has.

    G is the generator, D the discriminator, and V their value function. Raises ConfigError for a value out of range.
    """

    recipe: str
    loss: str
    """`minimax`: G minimises V. `non_saturating`: G maximises mean log D(G(z)). `relativistic`: both losses compare the
    logits of a real and a generated image."""
    generator_norm: str
    """`batch`: batch normalisation in G during training; publication folds it into the weights. Or `none`."""
    learning_rate: float
    betas: tuple[float, float]
    """Adam's decay rates."""
    schedule: str
    """Of the learning rate: `constant`, or `cosine`, which decays to 0 at the end of the run."""
    warmup_steps: int
    """Number of steps in which the learning rate rises linearly at the start."""
    hold: float
    """Fraction of the run before the cosine decay starts, 0 <= hold < 1."""
    r1_gamma: float
    """Weight γ of the gradient penalty at real images; 0 for none."""
    r2_gamma: float
    """Weight γ of the gradient penalty at generated images; 0 for none."""
    penalty_every: int
    """Penalties use the first 1/penalty_every of each batch."""
    feature_weight: float
    """Weight of the feature critic in G's loss, in which D has the weight 1. With 0 there is no feature critic."""
    feature_gamma: float
    """Weight γ of the feature critic's gradient penalty, at the features of real images."""
    translation: int
    """Maximum shift, in pixels, of the images in D's input, in each direction."""
    ema_decay: float
    """Decay per step of the average of G's weights; 0 publishes the last weights."""
    ema_rise: bool = True
    """Whether the decay first rises to its value, which removes the initial weights from the average."""
    batch_size: int = 64
    late_batches: int = 1
    """Factor by which batches are larger in the second half of the epochs."""
    epochs: int = 60
    held_out: int = 10_000
    """Number of training images, the last ones, that the run does not learn from. Choices between runs use them."""
    seed: int = 0
    precision: str = "auto"
    channels_last: bool = True
    threads: int = 0
    """Intra-op threads; 0 leaves the number to torch."""
    device: str = "auto"
    save_every: int = 250
    """Steps between two saved states. The state is also saved after each epoch."""
    log_every: int = 50
    """Steps that one line of metrics is the mean of."""

    def __post_init__(self) -> None:
        """Check every field. Raises ConfigError."""
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), hints[field.name])
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(allowed)}")
        for name in ("penalty_every", "batch_size", "late_batches", "epochs", "save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("warmup_steps", "translation", "held_out"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected 0 or more")
        if self.threads < 0:
            raise ConfigError(f"threads is {self.threads}, expected 0 (torch's own choice) or more")
        if not 0 <= self.seed < 2**32:
            raise ConfigError(f"seed is {self.seed}, expected 0 <= seed < 2^32")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"learning_rate is {self.learning_rate}, expected a finite number above 0")
        if not 0 <= self.hold < 1:
            raise ConfigError(f"hold is {self.hold}, expected 0 <= hold < 1")
        for name in ("r1_gamma", "r2_gamma", "feature_weight", "feature_gamma"):
            weight = getattr(self, name)
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(f"{name} is {weight}, expected a finite number of 0 or more")
        if not all(0 <= beta < 1 for beta in (*self.betas, self.ema_decay)):
            raise ConfigError(f"betas are {self.betas} and ema_decay {self.ema_decay}, expected 0 <= each < 1")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values, which `from_json` reads."""
        fields = dataclasses.asdict(self)
        return fields | {"betas": list(self.betas)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> GanConfig:
        """Read the settings that `to_json` wrote. Raises ConfigError for unknown, missing or invalid settings."""
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(fields.keys() - known):
            raise ConfigError(f"unknown settings {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        if missing := sorted(known - fields.keys()):
            raise ConfigError(f"missing settings {', '.join(missing)}")
        values = dict(fields)
        if isinstance(values["betas"], list):
            values["betas"] = tuple(values["betas"])
        return cls(**values)


def _check_type(name: str, value: object, hint: Any) -> None:
    if hint is float:
        right = isinstance(value, (int, float)) and not isinstance(value, bool)
    elif parts := get_args(hint):
        right = isinstance(value, tuple) and len(value) == len(parts) and all(type(v) in (int, float) for v in value)
    else:
        right = type(value) is hint
    if not right:
        raise ConfigError(f"{name} is {value!r}, expected {getattr(hint, '__name__', 'value')}: {hint}")


# The original objective with the settings of Radford et al. (2016): the baseline of the other recipes.
MINIMAX = GanConfig(
    recipe="minimax",
    loss="minimax",
    generator_norm="none",
    learning_rate=2e-4,
    betas=(0.5, 0.999),
    schedule="constant",
    warmup_steps=0,
    hold=0.0,
    r1_gamma=0.0,
    r2_gamma=0.0,
    penalty_every=1,
    feature_weight=0.0,
    feature_gamma=0.0,
    translation=0,
    ema_decay=0.0,
    epochs=10,
)
# benchmarks/README.md measures the effect of each setting.
DEFAULT = GanConfig(
    recipe="default",
    loss="non_saturating",
    generator_norm="batch",
    learning_rate=2e-3,
    betas=(0.0, 0.99),
    schedule="cosine",
    warmup_steps=200,
    hold=0.0,
    r1_gamma=10.0,
    r2_gamma=0.0,
    penalty_every=4,
    feature_weight=0.0,
    feature_gamma=0.0,
    translation=1,
    ema_decay=0.9995,
)
# A longer training with larger batches, for a GPU.
LONG = dataclasses.replace(DEFAULT, recipe="long", batch_size=256, epochs=435, hold=0.2334)
# Continues a finished run. A second critic moves G away from images that are not digits.
REFINED = dataclasses.replace(
    DEFAULT,
    recipe="refined",
    batch_size=128,
    epochs=4,
    learning_rate=1e-3,
    feature_weight=3.0,
    feature_gamma=0.02,
    # The average continues that of the earlier run, which still has half of the weight at the end.
    ema_rise=False,
)

RECIPES: dict[str, GanConfig] = {config.recipe: config for config in (MINIMAX, DEFAULT, LONG, REFINED)}
