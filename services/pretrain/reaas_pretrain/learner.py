"""What learns: an objective, the spectral term beside it, and the optimiser of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reaas_pretrain.chance import Chance
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.objectives import build_objective
from reaas_pretrain.optimiser import build_optimiser
from reaas_pretrain.orthogonal import START_IMAGES, principal_start
from reaas_pretrain.recipe import Recipe
from reaas_pretrain.spectral import SpectralTerm, spread

START_ITERATIONS = 20
"""Power iterations before the first step: later ones start from the vectors of the step before."""


class Step(NamedTuple):
    """One step's numbers, over the batch of all processes."""

    loss: float
    accuracy: float
    total: float
    """With the spectral term."""
    gradient: float
    """Norm before clipping."""
    spread: float

    @property
    def finite(self) -> bool:
        """Whether the step could be taken; if not, no weight was touched."""
        return math.isfinite(self.total) and math.isfinite(self.gradient)


class Learner:
    """Encoder, objective, spectral term and optimiser of one recipe, on one device."""

    def __init__(
        self,
        recipe: Recipe,
        images: Tensor,
        labels: Tensor,
        chance: Chance,
        device: torch.device,
    ) -> None:
        self.recipe, self.group, self.device = recipe, chance.group, device
        self.encoder = ConvEncoder(recipe.encoder)
        if recipe.encoder.family == "orthogonal":
            some = torch.randperm(len(images))[:START_IMAGES].to(images.device)
            principal_start(self.encoder, images[some].cpu().float() / 255)
        self.objective = build_objective(recipe, self.encoder, labels, chance).to(device)
        self.spectral = SpectralTerm(self.encoder, recipe.spectral.variant).to(device)
        self.spectral.norms(self.encoder, START_ITERATIONS)
        self.trained = self.objective.trained()
        self.optimiser = build_optimiser(self.objective, recipe.optimiser)

    def step(self, views: Sequence[Tensor], labels: Tensor, rate: float) -> Step:
        """One step on own rows of a batch, at learning rate `rate`.

        Gradients are averaged over the processes before they are clipped. If they aren't finite,
        nothing moves.
        """
        for parameters in self.optimiser.param_groups:
            parameters["lr"] = rate
        half = self.recipe.schedule.bfloat16
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            loss, features, accuracy = self.objective(views, labels)
        everyone = self.group.gather_with_gradient(features)  # [batch, d]
        total = loss + self._term(everyone)
        self.optimiser.zero_grad()
        total.backward()
        self.group.average([p.grad for p in self.trained if p.grad is not None])
        kick = torch.nn.utils.clip_grad_norm_(self.trained, self.recipe.optimiser.clip_norm)
        means = torch.stack([loss.detach(), accuracy, total.detach()])
        self.group.average([means])
        mean_loss, mean_accuracy, mean_total = means.tolist()
        size = float(spread(everyone.detach()))
        done = Step(mean_loss, mean_accuracy, mean_total, float(kick), size)
        if done.finite:
            self.optimiser.step()
        return done

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "model": self.objective.state_dict(),
            "spectral": self.spectral.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, model: Any, spectral: Any, optimiser: Any) -> None:
        """Goes back to a state."""
        self.objective.load_state_dict(model)
        self.spectral.load_state_dict(spectral)
        self.optimiser.load_state_dict(optimiser)

    def norms(self, iterations: int) -> Tensor:
        """`[layers]` operator norms for the log, from below."""
        with torch.no_grad():
            return self.spectral.norms(self.encoder, iterations)

    def _term(self, features: Tensor) -> Tensor:
        config = self.recipe.spectral
        if not config.weight:
            return features.new_zeros(())
        norms = self.spectral.norms(self.encoder, config.iterations)
        term: Tensor = config.weight * self.spectral(norms, features)
        return term
