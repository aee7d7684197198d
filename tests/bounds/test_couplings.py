"""Products, softmax and normalisation: their constants, images and float32 errors on a region."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from reaas_bounds import certified_constants, certify_ball, load_network
from reaas_bounds.bounds.enclosure import enclosures
from reaas_bounds.bounds.region import ACCEPTED, Region
from reaas_bounds.graph.coupling import (
    Coupling,
    MatrixProduct,
    Product,
    Reached,
    Softmax,
    Standardisation,
)
from reaas_bounds.graph.exponential import SOFTSIGN
from reaas_bounds.graph.smooth import SIGMOID, TANH, Smooth
from reaas_bounds.rounding import float32_error_at
from torch import Tensor

from tests.bounds.encoders import Float32
from tests.soundness.draft import Draft
from tests.soundness.generator import ACTIVATIONS, COUPLED, random_encoder

Shapes = tuple[tuple[int, ...], ...]
CASES: dict[str, tuple[Coupling, Shapes, Callable[[Draft], object]]] = {
    "gate": (
        Product((3, 4, 2), (3, 1, 1)),
        ((3, 4, 2), (3, 1, 1)),
        lambda d: d.op("Mul", *_parts(d, (3, 4, 2), (3, 1, 1))),
    ),
    "crossed": (
        Product((4, 1), (1, 3)),
        ((4, 1), (1, 3)),
        lambda d: d.op("Mul", *_parts(d, (4, 1), (1, 3))),
    ),
    "matrices": (
        MatrixProduct((2, 3, 4), (2, 4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        lambda d: d.op("MatMul", *_parts(d, (2, 3, 4), (2, 4, 5))),
    ),
    "softmax": (
        Softmax((3, 5), 1),
        ((3, 5),),
        lambda d: d.op("Softmax", *_parts(d, (3, 5)), axis=2),
    ),
    "softmax-of-two": (
        Softmax((2,), 0),
        ((2,),),
        lambda d: d.op("Softmax", *_parts(d, (2,)), axis=1),
    ),
    "layer": (
        Standardisation((2, 16), 16, 1e-5, "LayerNormalization"),
        ((2, 16),),
        lambda d: d.op("LayerNormalization", *_parts(d, (2, 16)), np.ones(16), epsilon=1e-5),
    ),
    "instance": (
        Standardisation((2, 3, 5), 15, 1e-5, "InstanceNormalization"),
        ((2, 3, 5),),
        lambda d: d.op(
            "InstanceNormalization", *_parts(d, (2, 3, 5)), np.ones(2), np.zeros(2), epsilon=1e-5
        ),
    ),
}
every = pytest.mark.parametrize("name", CASES)
SCALES = (1e-3, 0.1, 1.0, 10.0, 300.0)


def _parts(d: Draft, *shapes: tuple[int, ...]) -> list[str]:
    """Pieces of the image in these shapes."""
    flat, start, found = d.op("Flatten"), 0, []
    for shape in shapes:
        end = start + math.prod(shape)
        d.op("Slice", flat, *(np.array([v]) for v in (start, end, 1)))
        found.append(d.op("Reshape", np.array([0, *shape])))
        start = end
    return found


def regions(shapes: Shapes, seed: int) -> list[tuple[list[Tensor], list[Reached]]]:
    """Centres and what is reached around them, of all sizes."""
    random, found = np.random.default_rng(seed), []
    for scale in SCALES:
        for spread in (1e-6, 0.1, 2.0):
            centres = [torch.from_numpy(scale * random.normal(size=shape)) for shape in shapes]
            centres = [c + random.normal() * scale for c in centres]
            moves = [spread * float(c.norm()) * random.uniform(0.3, 1) for c in centres]
            reached = [Reached.within(c, m) for c, m in zip(centres, moves, strict=True)]
            found.append((centres, reached))
    return found


def inside(reached: list[Reached], count: int, seed: int) -> list[Tensor]:
    """Values [count, *shape] that are reached, half of them at the border."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for part in reached:
        step = torch.randn(count, *part.centre.shape, generator=generator, dtype=torch.float64)
        length = part.move * torch.rand(count, generator=generator, dtype=torch.float64)
        length[: count // 2] = part.move
        sized = (length / step.flatten(1).norm(dim=1)).reshape(-1, *(1 for _ in part.centre.shape))
        found.append(part.centre + 0.999 * step * sized)
    return found


@every
def test_gains_hold_between_any_two_values_that_are_reached(name: str) -> None:
    function, shapes, _ = CASES[name]
    largest = 0.0
    for seed, (_, reached) in enumerate(regions(shapes, 0)):
        a, b = inside(reached, 200, seed), inside(reached, 200, seed + 1000)
        near = [x + 1e-4 * (y - x) for x, y in zip(a, b, strict=True)]
        for other in (b, near):
            moved = (function.value(*a) - function.value(*other)).flatten(1).norm(dim=1)
            parts = [(x - y).flatten(1).norm(dim=1) for x, y in zip(a, other, strict=True)]
            limits = sum(g * part for g, part in zip(function.gains(*reached), parts, strict=True))
            assert isinstance(limits, Tensor)
            sizes = sum(float(value.abs().max()) for value in (*a, function.value(*a)))
            assert bool((moved <= limits + 1e-13 * sizes).all())
            largest = max(largest, float((moved / limits.clamp_min(1e-300)).max()))
    assert largest > 0.1  # the constants say something


@every
def test_values_stay_in_their_image(name: str) -> None:
    function, shapes, _ = CASES[name]
    for seed, (_, reached) in enumerate(regions(shapes, 1)):
        low, high = function.image(*reached)
        values = function.value(*inside(reached, 300, seed))
        assert bool(((values >= low) & (values <= high)).all())


@every
def test_float32_values_are_within_their_rounding(name: str) -> None:
    """ONNX Runtime's kernels at single points; one product may need all of its limit."""
    function, shapes, step = CASES[name]
    size = sum(math.prod(shape) for shape in shapes)
    draft = Draft((1, 1, size), 0)
    step(draft)
    draft.op("Flatten")
    served, largest = Float32(draft.finish()), 0.0
    for centres, _ in regions(shapes, 2):
        single = [c.float().double() for c in centres]
        image = torch.cat([c.flatten() for c in single]).reshape(1, 1, 1, size).numpy()
        off = (
            served(image.astype(np.float32))[0]
            - function.value(*(c[None] for c in single)).flatten().numpy()
        )
        limit = function.rounding(*(Reached.within(c, 0.0) for c in single))
        if math.isfinite(limit):
            largest = max(largest, float(np.linalg.norm(off)) / limit)
        else:
            assert isinstance(function, Standardisation)
    assert 0 < largest <= (1 if isinstance(function, Product) else 0.25)


def test_a_variance_that_float32_loses_has_no_error_bound() -> None:
    """The kernel takes the squared mean off the mean square: of 1e4 and 1e-3 nothing is left."""
    function = Standardisation((64,), 64, 1e-6, "LayerNormalization")
    entries = 1e4 + 1e-3 * torch.randn(64, dtype=torch.float64)
    assert function.rounding(Reached.within(entries, 0.0)) == math.inf
    assert math.isfinite(function.rounding(Reached.within(entries - 1e4, 0.0)))


def test_sums_that_may_overflow_have_no_error_bound() -> None:
    function, size = MatrixProduct((1, 2), (2, 1)), 2.0**64
    large = torch.tensor([[size, -size]], dtype=torch.float64)
    opposite = torch.tensor([[size], [size]], dtype=torch.float64)
    reached = Reached.within(large, 0.0), Reached.within(opposite, 0.0)
    assert float(function.value(large[None], opposite[None])) == 0
    assert function.rounding(*reached) == math.inf


@pytest.mark.parametrize("function", [SIGMOID, TANH, SOFTSIGN])
def test_no_value_of_a_bounded_activation_is_beyond_its_limits(function: Smooth) -> None:
    onnx = Draft((1, 1, 1), 0)
    onnx.op(function.name)
    onnx.op("Flatten")
    network = load_network(onnx.finish())
    region = Region.around(network, torch.zeros(1, 1, 1, 1, dtype=torch.float64), 1e30)
    reached = region.reached(1)
    values = function.value(torch.tensor([-1e30, -1e9, 1e9, 1e30], dtype=torch.float64))
    assert float(reached.lower) <= float(values.min())
    assert float(reached.upper) >= float(values.max())
    assert float(reached.sizes) <= 1.001


@pytest.mark.parametrize("name", [*COUPLED, *ACTIVATIONS, "conv_transpose"])
def test_served_features_are_within_the_float32_error(name: str) -> None:
    for seed in range(3):
        onnx = random_encoder(name, seed)
        network = load_network(onnx)
        x = np.random.default_rng(seed).uniform(size=(4, *network.input_shape)).astype(np.float32)
        exact = torch.from_numpy(x.astype(np.float64))
        off = np.linalg.norm(Float32(onnx)(x) - network.forward(exact).numpy(), axis=1)
        assert bool((off <= 0.3 * float32_error_at(network, exact).numpy()).all())


@pytest.mark.parametrize("name", COUPLED)
def test_constants_hold_for_all_accepted_images(name: str) -> None:
    for seed in range(3):
        network = load_network(random_encoder(name, seed))
        known, random = certified_constants(network), np.random.default_rng(seed)
        assert known.method == "accepted-range"
        x, y = (
            torch.from_numpy(random.uniform(*ACCEPTED, (300, *network.input_shape)))
            for _ in range(2)
        )
        near = x + 1e-5 * (y - x)
        for other in (y, near):
            moved = (network.forward(x) - network.forward(other)).norm(dim=1)
            assert bool((moved <= known.lipschitz * (x - other).flatten(1).norm(dim=1)).all())
        for node, (low, high) in zip(
            network.folded.activations(x), enclosures(network.folded, *ACCEPTED), strict=True
        ):
            assert bool(((node >= low) & (node <= high)).all())


@pytest.mark.parametrize("name", COUPLED)
def test_no_activation_leaves_what_a_region_reaches(name: str) -> None:
    for seed, radius in enumerate((0.01, 0.3, 4.0)):
        network, random = load_network(random_encoder(name, seed)), np.random.default_rng(seed)
        x = torch.from_numpy(random.uniform(size=(1, *network.input_shape)))
        region = Region.around(network, x, radius)
        step = torch.from_numpy(random.normal(size=(200, *network.input_shape)))
        step *= radius / step.flatten(1).norm(dim=1)[:, None, None, None]
        for index, values in enumerate(network.folded.activations(x + step)):
            apart = (values - region.values[index]).flatten(1).norm(dim=1)
            assert bool((apart <= region.reached(index).move).all())


@pytest.mark.parametrize("name", COUPLED)
def test_radii_grow_with_what_is_asked_and_do_not_depend_on_the_batch(name: str) -> None:
    network = load_network(random_encoder(name, 1))
    known, random = certified_constants(network), np.random.default_rng(1)
    x = torch.from_numpy(random.uniform(size=(3, *network.input_shape)))
    before = [0.0] * 3
    for size in (1e-9, 1e-3, 0.1, 10.0, 1e6):
        asked = torch.full((3,), size, dtype=torch.float64)
        radii = [answer.radius for answer in certify_ball(network, known, x, asked)]
        alone = [
            certify_ball(network, known, x[k : k + 1], asked[k : k + 1])[0].radius for k in range(3)
        ]
        assert radii == alone
        assert all(a >= b for a, b in zip(radii, before, strict=True))
        before = radii
    assert min(before) > 0


def test_a_twice_read_activation_counts_twice() -> None:
    """The square of one number: a constant of 2 |x|, which a radius has to show."""
    draft = Draft((1, 1, 1), 0)
    draft.op("Flatten")
    start: Any = draft.last
    draft.op("Mul", start, start)
    network = load_network(draft.finish())
    known = certified_constants(network)
    x = torch.full((1, 1, 1, 1), 0.5, dtype=torch.float64)
    (found,) = certify_ball(network, known, x, torch.tensor([0.56], dtype=torch.float64))
    # (0.5 + r)^2 - 0.25 = 0.56 at r = 0.4; the bound 2 (0.5 + r) r = 0.56 at r = 0.335.
    assert 0.32 < found.radius < 0.336
