"""Questions to the engine, the same of a network on any device."""

from __future__ import annotations

import torch
from reaas_bounds import (
    CertifiedMargin,
    CertifiedRadius,
    MarginMethod,
    MarginOptions,
    Method,
    Network,
    ReplicateChannels,
    SearchOptions,
    SeparableResize,
    certified_constants,
    certify_ball,
    certify_margins,
    load_network,
)
from reaas_runtime import resize_matrix
from torch import Tensor

from tests.bounds.operator_nets import net
from tests.support.models import conv_encoder

# The tolerance asks for the fine level of LOCAL too; few steps meet every operation already.
OPTIONS = SearchOptions(max_steps=4, relative_tolerance=0.005)
MARGIN_OPTIONS = MarginOptions(steps=1, max_envelopes=2, search=OPTIONS)
Answer = CertifiedRadius | CertifiedMargin


def network_of(name: str) -> Network:
    """The strided test encoder, also for grey images of another size, or an operator's."""
    if name == "strided":
        return load_network(conv_encoder())
    if name == "grey":
        rows, columns = resize_matrix(6, 8), resize_matrix(10, 8)
        return load_network(conv_encoder()).with_input(
            [ReplicateChannels(3), SeparableResize(rows, columns)]
        )
    return load_network(net(name))


def images(network: Network, count: int = 1) -> Tensor:
    """Random images [n, C, h, w]."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, *network.input_shape, generator=generator).double()


def ask(network: Network, method: Method | MarginMethod) -> list[Answer]:
    """About the image: a ball, or margins, by ``method``."""
    if isinstance(method, Method):
        return [*_balls(network, method)]
    return [*_margins(network, method)]


def _balls(network: Network, method: Method) -> list[CertifiedRadius]:
    constants = certified_constants(network)
    radii = torch.tensor([0.1], dtype=torch.float64) * constants.lipschitz
    return certify_ball(network, constants, images(network), radii, method, OPTIONS)


def _margins(network: Network, method: MarginMethod) -> list[CertifiedMargin]:
    """Two sets: one that holds everywhere, one in a ball."""
    constants = certified_constants(network)
    shape = (1, 2, 3, network.feature_dim)
    normals = torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()
    offsets = torch.full(shape[:-1], 0.5 * constants.lipschitz, dtype=torch.float64)
    within = torch.tensor([[torch.inf, 0.2]], dtype=torch.float64) * constants.lipschitz
    return certify_margins(
        network,
        constants,
        images(network),
        normals,
        offsets,
        method,
        MARGIN_OPTIONS,
        valid_within=within,
    )
