"""How a downstream classifier is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from reaas.certify import InvalidArgumentError

Objective = Literal["plain", "margin", "noise"]


@dataclass(frozen=True)
class HeadConfig:
    """Training of a fully connected classifier on feature vectors."""

    objective: Objective = "margin"
    """What the head is for. `plain`: accuracy (cross-entropy). `margin`: ACR as a base classifier
    (BC). `noise`: ACR as a smoothed classifier (SC)."""
    noise_sigma: float | None = None
    """For `noise` on clean features: standard deviation of the feature noise, in feature units.
    Noisy copies `[n, copies, d]` bring their noise with them."""
    hidden: tuple[int, ...] = ()
    """Widths of the hidden layers. None: a linear head has an exact certified radius, and on
    features of a few thousand images deeper heads had smaller ones."""
    epochs: int = 40
    """Passes over the data, half of them with cross-entropy. 20, 40 and 80 gave the same ACR on
    CIFAR-10 features to within 5%, 40 the best."""
    batch_size: int = 64
    """Inputs a step; more where an epoch would take over `MAX_STEPS` steps. So a training takes
    about 800 steps, and a few seconds, whatever the size of the data."""
    learning_rate: float = 0.01
    """Adam's peak rate, on features scaled to a norm of about 1."""
    weight_decay: float = 0.003
    """Cost of squared weights during cross-entropy, not for `plain`. Small weights on scaled
    features mean large margins: without it the stages that follow start far from any."""
    margin_scales: tuple[float, ...] = (0.4, 0.2, 0.1)
    """Radii, as shares of the features' root mean square distance from their mean, up to which a
    larger certified radius is rewarded: one stage for each. From large, where few inputs are
    given up for good, to small, where accuracy counts more than radius."""
    held_out: float = 0.1
    """Share of the inputs on which the best stage is chosen; never trained on."""
    accuracy_share: float = 0.7
    """A stage whose held-out accuracy falls below this share of the best stage's is not chosen.
    ACR alone would prefer a head that ignores its input: right for one class, at any radius."""
    seed: int = 0
    """Same seed, same data, same machine: same head."""

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise InvalidArgumentError(
                "objective", f"got {self.objective!r}, expected one of {get_args(Objective)}"
            )
        self._check_noise()
        for field, low, high in (
            ("epochs", 2, 1e6),
            ("batch_size", 1, 1e9),
            ("learning_rate", 1e-9, 1e3),
            ("weight_decay", 0.0, 1e3),
            ("held_out", 1e-6, 0.9),
            ("accuracy_share", 0.0, 1.0),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, field)
            if not low <= value <= high:
                raise InvalidArgumentError(field, f"got {value}, expected {low:g}..{high:g}")
        for field in ("hidden", "margin_scales"):
            if not all(value > 0 for value in getattr(self, field)):
                raise InvalidArgumentError(field, f"got {getattr(self, field)}, expected > 0")
        if not self.margin_scales:
            raise InvalidArgumentError("margin_scales", "got none; `plain` trains without")

    def _check_noise(self) -> None:
        if self.noise_sigma is None:
            return
        if self.objective != "noise":
            raise InvalidArgumentError(
                "noise_sigma", f"got {self.noise_sigma} with the objective {self.objective!r}"
            )
        if not 0 < self.noise_sigma < float("inf"):
            raise InvalidArgumentError("noise_sigma", f"got {self.noise_sigma}, expected > 0")


MAX_STEPS = 20
"""Gradient steps an epoch; beyond, batches grow instead."""
