"""RoCL: adversarial contrastive learning without labels (Kim et al. 2020, arXiv 2006.07589).

A third view is the first one attacked so that it no longer looks like the second; all three are
pulled together. The equations are those of the published code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from reaas_pretrain.attack import attacked
from reaas_pretrain.chance import Chance
from reaas_pretrain.encoder import ConvEncoder, ProjectionHead
from reaas_pretrain.group import Group
from reaas_pretrain.objective import Objective, Outcome
from reaas_pretrain.sections import AttackConfig, ContrastConfig


def nt_xent(views: Sequence[Tensor], temperature: float, group: Group | None = None) -> Tensor:
    """NT-Xent of v views `[n, d]` of the same images: scalar, mean over the v n rows.

    A row's loss is minus the sum, over the other v - 1 views of its image, of the log softmax over
    all rows but itself (of all processes). The side that is compared with is constant: no gradient
    goes through it.
    """
    group = group or Group()
    everyone = [group.gather(view) for view in views]  # v times [batch, d]
    keys = normalize(torch.cat(everyone), dim=1)  # [v batch, d]
    batch = len(everyone[0])
    place = group.rows(torch.arange(batch, device=keys.device)).unsqueeze(1)  # [n, 1]
    total = keys.new_zeros(())
    for index, view in enumerate(views):
        logits = normalize(view, dim=1) @ keys.T / temperature  # [n, v batch]
        logs = logits.scatter(1, index * batch + place, -torch.inf).log_softmax(1)
        others = [other for other in range(len(views)) if other != index]
        total = total - sum(logs.gather(1, other * batch + place).sum() for other in others)
    return total / (len(views) * len(views[0]))


class RoCL(Objective):
    """NT-Xent of two views and the attacked first one, plus `weight` times attacked and second."""

    def __init__(
        self, encoder: ConvEncoder, contrast: ContrastConfig, attack: AttackConfig, chance: Chance
    ) -> None:
        super().__init__()
        self.contrast, self.attack, self.chance = contrast, attack, chance
        self.encoder = encoder
        dim = encoder.config.feature_dim
        self.projection: nn.Module = (
            ProjectionHead(dim, contrast.projection) if contrast.projection else nn.Identity()
        )

    def forward(self, views: Sequence[Tensor], labels: Tensor) -> Outcome:
        """The loss of two views `[n, 3, s, s]`; the attack makes the third."""
        first, second = views
        adversarial = self.attacked(first, second)
        features = self.encoder(torch.cat([first, second, adversarial])).float()  # [3n, d]
        one, two, three = self.projection(features).float().chunk(3)
        loss = self._loss([one, two, three]) + self.attack.weight * self._loss([three, two])
        return Outcome(loss, features[: len(first)], self._found(one, two))

    def attacked(self, first: Tensor, second: Tensor) -> Tensor:
        """The first view, moved so that it no longer looks like the second."""
        with torch.no_grad():  # no gradient reaches the first view through the second one's rows
            target = self._projected(second)

        def unlike(images: Tensor) -> Tensor:
            return self._loss([self._projected(images), target])

        return attacked(first, unlike, self.attack, self.chance)

    def _projected(self, images: Tensor) -> Tensor:
        projected: Tensor = self.projection(self.encoder(images)).float()
        return projected

    def _loss(self, views: Sequence[Tensor]) -> Tensor:
        with torch.autocast(views[0].device.type, enabled=False):
            return nt_xent(views, self.contrast.temperature, self.chance.group)

    def _found(self, one: Tensor, two: Tensor) -> Tensor:
        """Share of first views that are more like their second view than like any other's."""
        group = self.chance.group
        keys = normalize(group.gather(two), dim=1)  # [batch, d]
        own = group.rows(torch.arange(len(keys), device=keys.device))
        return ((normalize(one, dim=1) @ keys.T).argmax(1) == own).float().mean()
