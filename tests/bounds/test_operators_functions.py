"""Entrywise functions: their slopes, images, lines and betas, at every argument."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reaas_bounds import load_network
from reaas_bounds.bounds.activation_beta import beta
from reaas_bounds.bounds.ball import ramp
from reaas_bounds.bounds.centre import Interval
from reaas_bounds.bounds.relaxation import relax
from reaas_bounds.graph.activation import RELU, Clip, Entrywise, TwoSlope
from reaas_bounds.graph.exponential import SOFTPLUS, SOFTSIGN, exponential_linear
from reaas_bounds.graph.gates import HARD_SWISH, MISH, SILU
from reaas_bounds.graph.nodes import Activation
from reaas_bounds.graph.smooth import (
    GELU,
    GELU_CUBIC,
    GELU_SCALE,
    SIGMOID,
    TANH,
    TANH_GELU,
    Smooth,
)
from torch import Tensor

from tests.bounds.encoders import EncoderBuilder, Float32
from tests.bounds.operator_nets import tanh_gelu


def two_slope(alpha: float) -> TwoSlope:
    """The function with slope ``alpha`` below zero."""
    return TwoSlope(torch.tensor(alpha, dtype=torch.float64), "PRelu")


FUNCTIONS: dict[str, Entrywise] = {
    "relu": RELU,
    "leaky": two_slope(0.2),
    "steep": two_slope(1.7),
    "negative": two_slope(-0.4),
    "abs": two_slope(-1.0),
    "identity": two_slope(1.0),
    "tanh": TANH,
    "sigmoid": SIGMOID,
    "gelu": GELU,
    "gelu-tanh": TANH_GELU,
    "relu6": Clip(0.0, 6.0),
    "clip": Clip(-0.7, 0.4),
    "from": Clip(-1.0, math.inf),
    "up-to": Clip(-math.inf, 0.5),
    "silu": SILU,
    "hard-swish": HARD_SWISH,
    "mish": MISH,
    "softplus": SOFTPLUS,
    "softsign": SOFTSIGN,
    "elu": exponential_linear("Elu", 1.0, 1.0, 1.0),
    "flat-elu": exponential_linear("Elu", 1.0, 0.3, 1.0),
    "steep-elu": exponential_linear("Elu", 1.0, 2.5, 1.0),
    "selu": exponential_linear("Selu", 1.0507009873554805, 1.7580993408473766, 1.0),
    "celu": exponential_linear("Celu", 1.0, 0.4, 0.4),
}
every = pytest.mark.parametrize("name", FUNCTIONS)
CASES = 3000
# Of the clips, and where slopes turn or jump.
LIMITS = (6.0, -0.7, 0.4, -1.0, 0.5, -3.0, 3.0, -1.5, 2.3993572805, -2.2563763963, 1.4905711794)


def samples(seed: int) -> tuple[Tensor, Interval, Tensor]:
    """Points z [n, 1] with intervals of all sizes, and changes [n, m] inside, bends among them."""
    random = np.random.default_rng(seed)
    z = np.concatenate([random.uniform(-6, 6, CASES - 50), np.zeros(50)])[:, None]
    low, high = -(10 ** random.uniform(-9, 1, z.shape)), 10 ** random.uniform(-9, 1, z.shape)
    places = (0.0, math.sqrt(2), -math.sqrt(2), *LIMITS)
    bends = [np.clip(bend - z, low, high) for bend in places]
    t = np.concatenate([low + (high - low) * np.linspace(0, 1, 61), *bends], axis=1)
    return (
        torch.from_numpy(z),
        Interval(torch.from_numpy(low), torch.from_numpy(high)),
        torch.from_numpy(t),
    )


def test_the_slope_of_gelu_by_tanh_turns_where_it_is_said_to() -> None:
    z = torch.linspace(-9, 9, 1_800_001, dtype=torch.float64, requires_grad=True)
    slope = TANH_GELU.derivative(z)
    bend = torch.autograd.grad(slope.sum(), z)[0]
    left, right = TANH_GELU.inflections
    inside = (z > left) & (z < right)
    assert bool((bend[inside] > -1e-14).all() & (bend[~inside] < 1e-14).all())
    value = torch.autograd.grad(TANH_GELU.value(z).sum(), z)[0]
    torch.testing.assert_close(value, slope.detach(), rtol=0, atol=1e-14)
    direct = z / 2 * (1 + torch.tanh(GELU_SCALE * (z + GELU_CUBIC * z**3)))
    torch.testing.assert_close(TANH_GELU.value(z), direct, rtol=0, atol=1e-14)


@every
def test_lines_slopes_and_images_hold(name: str) -> None:
    function = FUNCTIONS[name]
    z, interval, t = samples(0)
    change = function.value(z + t) - function.value(z)
    rounding = 1e-14 * (1 + z.abs() + t.abs())
    lines = relax(function, z, interval)
    assert bool((lines.lower_slope * t + lines.lower_offset <= change + rounding).all())
    assert bool((change <= lines.upper_slope * t + lines.upper_offset + rounding).all())
    assert bool((lines.lower_offset <= 1e-14).all() & (lines.upper_offset >= -1e-14).all())
    ends = function.low * t, function.high * t
    assert bool((torch.minimum(*ends) <= change + rounding).all())
    assert bool((change <= torch.maximum(*ends) + rounding).all())
    smallest, largest = function.image(z + interval.lower, z + interval.upper)
    values = function.value(z + t)
    assert bool((smallest <= values + rounding).all() & (values <= largest + rounding).all())


@every
def test_beta_covers_every_gain(name: str) -> None:
    function, random = FUNCTIONS[name], np.random.default_rng(2)
    z, _, s = samples(2)
    p, share = torch.from_numpy(random.uniform(-5, 5, z.shape)), random.uniform(0, 1, z.shape)
    g = function.low + torch.from_numpy(share) * (function.high - function.low)
    k = torch.from_numpy(10 ** random.uniform(-2, 1.7, z.shape))
    gain = p * (function.value(z + s) - function.value(z) - g * s) - k * s * s
    rounding = 1e-12 * (1 + p * p / k + (p * z).abs())
    assert bool((gain <= beta(function, p, g, z, k) + rounding).all())


@pytest.mark.parametrize("name", ["relu6", "clip", "from", "up-to"])
def test_beta_of_a_clip_is_attained(name: str) -> None:
    """No dense search of changes comes closer than its own step allows, and none exceeds it."""
    function, random = FUNCTIONS[name], np.random.default_rng(4)
    low, high = np.array([-3.0, 0.0, -2.0, 0.1]), np.array([8.0, 1.0, 2.0, 2.0])
    z, g, p, k = torch.from_numpy(random.uniform(low, high, (200, 4))).T[..., None]
    s = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    gain = p * (function.value(z + s) - function.value(z) - g * s) - k * s * s
    found = beta(function, p, g, z, k)[:, 0]
    assert bool((gain.amax(1) <= found + 1e-12).all() & (found <= gain.amax(1) + 2e-3).all())


@every
def test_ramps_cover_every_gain_as_far_as_a_neuron_moves(name: str) -> None:
    function, random = FUNCTIONS[name], np.random.default_rng(5)
    z, _, _ = samples(5)
    size, k, cap = (
        torch.from_numpy(10 ** random.uniform(low, high, z.shape))
        for low, high in ((-1, 1), (-2, 2), (-3, 1))
    )
    g, omega = ramp(function, z, size, k, cap)
    s = cap * torch.linspace(-1, 1, 41, dtype=torch.float64)
    gain = function.value(z + s) - function.value(z) - g * s
    for share in (-1.0, -0.3, 0.3, 1.0):
        p = share * size
        rounding = 1e-12 * (1 + p.abs() * (1 + z.abs()) + p * p / k)
        assert bool((p * gain <= omega * p * p + k * s * s + rounding).all())


@every
def test_the_lines_are_no_wider_than_the_range_of_slopes(name: str) -> None:
    z, interval, _ = samples(3)
    lines = relax(FUNCTIONS[name], z, interval)
    widest = 2 * FUNCTIONS[name].spread * (interval.upper - interval.lower)
    for t in (interval.lower, interval.upper):
        gap = (lines.upper_slope - lines.lower_slope) * t + lines.upper_offset - lines.lower_offset
        assert bool((gap <= widest * (1 + 1e-9) + 1e-12).all())


SERVED = {
    **{name: name for name in ("tanh", "sigmoid", "gelu", "gelu-tanh", "silu", "hard-swish")},
    **{name: name for name in ("mish", "softplus", "softsign", "elu", "flat-elu", "steep-elu")},
    **{name: name for name in ("selu", "celu")},
    "gelu-erf": "gelu",
    "gelu-by-tanh": "gelu-tanh",
    "gelu-by-pow": "gelu-tanh",
    "hard-swish-gate": "hard-swish",
    "mish-gate": "mish",
    "softplus-above": "softplus",
    "softsign-quotient": "softsign",
}


@pytest.mark.parametrize("name", SERVED)
def test_float32_errors_of_smooth_functions(name: str) -> None:
    """A dense sample of all float32 numbers, in blocks of several sizes: a fifth of the limit."""
    function = FUNCTIONS[SERVED[name]]
    assert isinstance(function, Smooth)
    served = Float32(_of_numbers(name, function))
    bits = np.arange(0, 0x7F800000, 40_009, dtype=np.uint32)
    numbers = np.concatenate([bits, bits | np.uint32(0x80000000)]).view(np.float32)
    near = np.linspace(-20, 20, 100_003, dtype=np.float32)
    for block in (numbers, near, near[:7], near[:1]):
        x = block[np.abs(block) < 1e37]
        exact = function.value(torch.from_numpy(x.astype(np.float64))).numpy()
        off = np.abs(served(x.reshape(-1, 1, 1, 1))[:, 0] - exact)
        grows = function.argument_error / 5 * np.abs(x.astype(np.float64))
        beyond = off - function.relative_error / 2 * np.abs(exact) - grows
        assert float(beyond.max()) <= function.absolute_error / 5 + 1e-37


def _of_numbers(name: str, function: Smooth) -> bytes:
    """A file that computes the function of single numbers."""
    builder = EncoderBuilder((1, 1, 1), opset=22)
    x = builder.last
    given = {"flat-elu": 0.3, "steep-elu": 2.5, "celu": 0.4}
    if name == "gelu-erf":
        builder.op("Div", np.array(np.sqrt(2.0))).op("Erf").op("Add", np.array(1.0))
        builder._append("Mul", [x, builder.last], {}).op("Mul", np.array(0.5))
    elif name in ("gelu-by-tanh", "gelu-by-pow"):
        return tanh_gelu(builder, power=name == "gelu-by-pow").op("Flatten").file(1)
    elif name == "gelu-tanh":
        builder.op("Gelu", approximate="tanh")
    elif name == "silu":
        builder.op("Sigmoid")._append("Mul", [x, builder.last], {})
    elif name == "hard-swish-gate":
        builder.op("HardSigmoid", alpha=1 / 6, beta=0.5)._append("Mul", [x, builder.last], {})
    elif name == "mish-gate":
        builder.op("Softplus").op("Tanh")._append("Mul", [x, builder.last], {})
    elif name == "softplus-above":
        plain = builder.op("Softplus").last
        builder._append("Greater", [x, builder._constant(np.array(20.0))], {})
        builder._append("Where", [builder.last, x, plain], {})
    elif name == "softsign-quotient":
        builder.op("Abs").op("Add", np.array(1.0))._append("Div", [x, builder.last], {})
    elif name in given:
        builder.op(function.name, alpha=given[name])
    else:
        builder.op(function.name)
    return builder.op("Flatten").file(1)


@pytest.mark.parametrize("name", [n for n in SERVED if n != SERVED[n] or n == "silu"])
def test_functions_that_files_write_with_several_operators_are_known(name: str) -> None:
    """One activation, whose bounds all methods have; not a product of two paths."""
    function = FUNCTIONS[SERVED[name]]
    assert isinstance(function, Smooth)
    nodes = load_network(_of_numbers(name, function)).executed.nodes
    found = [node.function.name for node in nodes if isinstance(node, Activation)]
    assert found == [function.name]


def test_slopes_of_smooth_functions_are_within_their_range_on_intervals() -> None:
    """Difference quotients of a dense sample, against the range that is said of the interval."""
    for function in FUNCTIONS.values():
        if not isinstance(function, Smooth):
            continue
        z, interval, t = samples(7)
        inside = torch.sort(z + t, dim=1)[0]
        steps = inside.diff(dim=1)
        quotients = function.value(inside).diff(dim=1) / steps.clamp_min(1e-300)
        low, high = function.slopes_on(z + interval.lower, z + interval.upper)
        rounding = 1e-13 / steps.clamp_min(1e-300)
        known = steps > 1e-9
        assert bool(((quotients >= low - rounding) | ~known).all())
        assert bool(((quotients <= high + rounding) | ~known).all())
