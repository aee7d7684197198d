"""Work that is called off inside of a bound: what was certified before stands."""

from __future__ import annotations

import itertools

import pytest
import torch
from reaas_bounds import (
    CalledOffError,
    CertifiedMargin,
    CertifiedRadius,
    MarginMethod,
    Method,
    Network,
    SearchOptions,
    certified_constants,
    certify_ball,
    certify_margins,
    interruptible,
    load_network,
)

from tests.support.models import conv_encoder

OPTIONS = SearchOptions(max_steps=8)
ASKS = (0, 5, 60)


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network(conv_encoder(scale=2.0, channels=(3, 4)))


def after(asks: int):  # type: ignore[no-untyped-def]
    """Called off at this question, and from then on."""
    counter = itertools.count()
    return lambda: next(counter) >= asks


def balls(network: Network, method: Method) -> list[CertifiedRadius]:
    images = torch.rand(1, *network.input_shape, generator=torch.manual_seed(0)).double()
    radii = torch.tensor([0.5], dtype=torch.float64)
    constants = certified_constants(network)
    return certify_ball(network, constants, images, radii, method, OPTIONS)


def margins(network: Network, method: MarginMethod) -> list[CertifiedMargin]:
    random = torch.manual_seed(0)
    images = torch.rand(1, *network.input_shape, generator=random).double()
    normals = torch.randn(1, 3, network.feature_dim, generator=random).double()
    constants = certified_constants(network)
    offsets = torch.full((1, 3), 0.5).double()
    return certify_margins(network, constants, images, normals, offsets, method)


@pytest.mark.parametrize("method", Method)
def test_a_ball_that_is_called_off_is_certified_and_smaller(
    network: Network, method: Method
) -> None:
    whole = balls(network, method)
    for asks in ASKS:
        with interruptible(after(asks)):
            cut = balls(network, method)
        assert all(c.radius <= w.radius * (1 + 1e-9) for c, w in zip(cut, whole, strict=True))
        if method is Method.LIPSCHITZ:
            assert cut == whole, "a closed form is never called off"
        elif method is Method.AUTO:
            closed = balls(network, Method.LIPSCHITZ)
            assert all(c.radius >= k.radius for c, k in zip(cut, closed, strict=True))
    if method not in (Method.LIPSCHITZ, Method.LOCAL):
        with interruptible(after(0)):
            assert not any(answer.converged for answer in balls(network, method))


@pytest.mark.parametrize("method", MarginMethod)
def test_margins_that_are_called_off_are_certified_and_smaller(
    network: Network, method: MarginMethod
) -> None:
    whole = margins(network, method)
    for asks in ASKS:
        with interruptible(after(asks)):
            cut = margins(network, method)
        assert all(c.radius <= w.radius * (1 + 1e-9) for c, w in zip(cut, whole, strict=True))


def test_reading_a_model_is_called_off() -> None:
    with interruptible(after(2)), pytest.raises(CalledOffError):
        certified_constants(load_network(conv_encoder()))
