"""The search: what it answers, what it promises to a caller that stops it, what it refuses."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reaas_bounds import (
    CertifiedConstants,
    CertifiedRadius,
    InvalidQueryError,
    Method,
    Network,
    SearchOptions,
    certified_constants,
    certify_ball,
    load_network,
)
from reaas_bounds.bounds.searched import CROWN, CROWN_JOINT, IBP, Image
from reaas_bounds.grid import Grid, Neighbours
from reaas_bounds.query import rounded_down
from reaas_bounds.radius_search import Allowance, Found, RadiusSearch
from reaas_bounds.rounding import float32_error_at
from torch import Tensor

from tests.bounds.encoders import ENCODERS, EncoderBuilder

OPTIONS = SearchOptions()
BOUNDS = {Method.IBP: IBP, Method.CROWN: CROWN, Method.CROWN_JOINT: CROWN_JOINT}
SEARCHED = list(BOUNDS)


@pytest.fixture(params=["strided", "residual"])
def served(request: pytest.FixtureRequest) -> tuple[Network, CertifiedConstants]:
    """A small encoder with its constants."""
    network = load_network(ENCODERS[request.param](7))
    return network, certified_constants(network)


def pairs(network: Network, radii: list[float], seed: int = 0) -> tuple[Tensor, Tensor]:
    """One random image per radius."""
    random = np.random.default_rng(seed)
    x = torch.from_numpy(random.uniform(size=(len(radii), *network.input_shape)))
    return x, torch.tensor(radii, dtype=torch.float64)


def test_auto_is_never_below_a_single_method(
    served: tuple[Network, CertifiedConstants],
) -> None:
    x, radii = pairs(served[0], [1e-3, 0.01, 0.1, 1.0, 10.0, 100.0])
    auto = certify_ball(*served, x, radii, Method.AUTO)
    for method in set(Method) - {Method.AUTO}:
        for best, single in zip(auto, certify_ball(*served, x, radii, method), strict=True):
            assert single.method is method
            assert best.radius >= single.radius
            assert best.converged


def test_crown_wins_where_the_network_is_nearly_linear() -> None:
    """One output: the row's own norm is exact, the constant of the whole network is not."""
    builder = EncoderBuilder((1, 4, 4), seed=1).op("Flatten").linear(16, 12).relu()
    network = load_network(builder.linear(12, 1).file(1))
    constants = certified_constants(network)
    x, radii = pairs(network, [0.02, 0.05])
    answers = certify_ball(network, constants, x, radii)
    closed = certify_ball(network, constants, x, radii, Method.LIPSCHITZ)
    alone = certify_ball(network, constants, x, radii, Method.CROWN)
    for best, constant, crown in zip(answers, closed, alone, strict=True):
        assert best.radius >= crown.radius > 1.1 * constant.radius
        assert crown.radius < crown.upper <= crown.radius * 1.0101


def test_lipschitz_is_the_closed_form(served: tuple[Network, CertifiedConstants]) -> None:
    network, constants = served
    x, radii = pairs(network, [0.5, 2.0])
    error = float32_error_at(network, x)
    expected = (radii - 2 * error) / (constants.lipschitz + constants.float32_slope)
    answers = certify_ball(network, constants, x, radii, Method.LIPSCHITZ)
    for answer, value in zip(answers, expected.tolist(), strict=True):
        assert value * (1 - 2e-11) <= answer.radius <= value
        assert (answer.upper, answer.steps, answer.converged) == (answer.radius, 0, True)


@pytest.mark.parametrize("method", Method)
def test_a_radius_below_the_float32_error_certifies_nothing(
    served: tuple[Network, CertifiedConstants], method: Method
) -> None:
    x, _ = pairs(served[0], [0.0])
    error = float(float32_error_at(served[0], x))
    radii = torch.tensor([0.0, error, 2 * error], dtype=torch.float64)
    for answer in certify_ball(*served, x.expand(3, -1, -1, -1), radii, method):
        assert answer.radius == 0.0
        assert answer.converged


@pytest.mark.parametrize("method", Method)
def test_the_radius_grows_with_the_feature_radius(
    served: tuple[Network, CertifiedConstants], method: Method
) -> None:
    x, _ = pairs(served[0], [0.0])
    radii = torch.logspace(-2, 2, 9, dtype=torch.float64)
    answers = certify_ball(*served, x.expand(9, -1, -1, -1), radii, method)
    for small, large in itertools.pairwise(answers):
        assert small.radius <= large.radius


@pytest.mark.parametrize("method", Method)
def test_the_answer_does_not_depend_on_the_batch(
    served: tuple[Network, CertifiedConstants], method: Method
) -> None:
    x, radii = pairs(served[0], [0.3, 0.05, 2.0])
    options = SearchOptions(max_steps=5)
    together = certify_ball(*served, x, radii, method, options)
    for index, answer in enumerate(together):
        one = slice(index, index + 1)
        assert certify_ball(*served, x[one], radii[one], method, options) == [answer]


def _after(calls: int) -> Callable[[], bool]:
    """A ``stop`` that turns True after ``calls`` questions."""
    left = iter(range(calls))
    return lambda: next(left, None) is None


@pytest.mark.parametrize("method", SEARCHED)
def test_a_stopped_search_returns_what_is_certified_so_far(
    served: tuple[Network, CertifiedConstants], method: Method
) -> None:
    x, radii = pairs(served[0], [0.4, 0.4])
    options = SearchOptions(max_steps=60, relative_tolerance=1e-5)
    full = certify_ball(*served, x, radii, method, options)
    previous = [0.0, 0.0]
    for calls in (0, 1, 3, full[0].steps + 1):
        stopped = certify_ball(*served, x, radii, method, options, stop=_after(calls))
        assert [part.converged for part in stopped] == [calls > full[0].steps, False]
        for index, (part, whole) in enumerate(zip(stopped, full, strict=True)):
            assert previous[index] <= part.radius <= whole.radius < part.upper
            previous[index] = part.radius


def test_auto_that_is_stopped_at_once_still_gives_the_closed_form(
    served: tuple[Network, CertifiedConstants],
) -> None:
    x, radii = pairs(served[0], [0.4, 3.0])
    stopped = certify_ball(*served, x, radii, stop=lambda: True)
    closed = certify_ball(*served, x, radii, Method.LIPSCHITZ)
    assert [a.radius for a in stopped] == [a.radius for a in closed]
    assert not any(a.converged for a in stopped)


@pytest.mark.parametrize("method", SEARCHED)
def test_fewer_steps_give_a_smaller_certified_radius(
    served: tuple[Network, CertifiedConstants], method: Method
) -> None:
    x, radii = pairs(served[0], [0.5])
    answers: list[CertifiedRadius] = []
    for steps in (1, 2, 3, 60):
        options = SearchOptions(max_steps=steps, relative_tolerance=1e-6)
        answers += certify_ball(*served, x, radii, method, options)
        assert answers[-1].steps <= steps
        assert answers[-1].converged == (steps == 60)
    assert all(a.radius <= b.radius for a, b in itertools.pairwise(answers[1:]))


LIMITS = st.floats(-20, 20)


@given(LIMITS, LIMITS, st.floats(1e-3, 3), st.sampled_from([0.3, 0.01, 1e-6]))
def test_neighbours_are_found_from_any_prediction(
    limit: float, guess: float, drift: float, tolerance: float
) -> None:
    """Whatever is predicted, and however slowly the prediction mends."""
    grid = Grid.within(tolerance)
    assert grid.radius(1) <= 1 + tolerance
    found, true = Neighbours(grid), 2.0**limit
    for step in range(100):
        if found.adjacent:
            break
        index = found.probe(true * 2.0 ** ((guess - limit) / (1 + drift) ** step))
        (found.passes if grid.radius(index) <= true else found.fails)(index)
    assert found.adjacent
    assert found.passed == grid.below(true)


@given(st.floats(1e-15, 1e15), st.integers(1, 1000))
def test_the_grid_radius_below_is_the_next(radius: float, per_octave: int) -> None:
    grid = Grid(per_octave)
    index = grid.below(radius)
    assert grid.radius(index) <= radius < grid.radius(index + 1)
    above = grid.above(radius)
    assert above in (index + 1, index + 2)
    assert rounded_down(grid.radius(above)) > radius >= rounded_down(grid.radius(above - 1))


@pytest.mark.parametrize("tolerance", [0.01, 1e-4])
@pytest.mark.parametrize("method", SEARCHED)
def test_the_answer_does_not_depend_on_the_way_to_it(
    served: tuple[Network, CertifiedConstants], method: Method, tolerance: float
) -> None:
    """What makes it monotone: a goal changes where the search starts, not where it ends."""
    image = Image(served[0], pairs(served[0], [0.0])[0])
    allowance, options = Allowance(0.2, 0.0), SearchOptions(60, tolerance)

    def search(goal: float) -> Found:
        return RadiusSearch(image, BOUNDS[method], allowance, options, lambda: False).search(goal)

    found = search(0.0)
    for share in (1e-3, 0.3, 0.9, 1 - 2 * tolerance):
        again = search(share * found.lower)
        assert (again.lower, again.upper) == (found.lower, found.upper)
    for share in (1.0, 1.0 + 2 * tolerance, 3.0):
        dropped = search(share * found.lower)
        assert (dropped.lower, dropped.steps, dropped.finished) == (0.0, 1, True)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("method", SEARCHED)
def test_bounds_grow_with_the_radius_that_they_are_made_for(name: str, method: Method) -> None:
    """The condition of the theorem of ``RadiusSearch``, at neighbours on the default grid."""
    network = load_network(ENCODERS[name](7))
    image = Image(network, pairs(network, [0.0])[0])
    grid = Grid.within(OPTIONS.relative_tolerance)

    def at(made: int, index: int) -> float:
        radii = image.x.new_tensor([grid.radius(made)]), image.x.new_tensor([grid.radius(index)])
        return float(BOUNDS[method].certify(image, radii[0]).at(radii[1]))

    for index in range(-6 * grid.per_octave, grid.per_octave, 43):
        assert at(index, index) <= at(index + 1, index) <= at(index + 1, index + 1)


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(sorted(ENCODERS)),
    st.floats(-2, 1),
    st.floats(-5, 0),
    st.sampled_from([0.01, 1e-4]),
)
def test_no_pair_of_questions_is_out_of_order(
    name: str, radius: float, growth: float, tolerance: float
) -> None:
    network, constants = _constants(name)
    radii = torch.tensor([1.0, 1 + 10.0**growth], dtype=torch.float64) * 10.0**radius
    x = pairs(network, [0.0])[0].expand(2, -1, -1, -1)
    options, best = SearchOptions(60, tolerance), [0.0, 0.0]
    for method in sorted(Method, key=lambda m: m is Method.AUTO):
        small, large = certify_ball(network, constants, x, radii, method, options)
        assert small.radius <= large.radius
        best = [max(best[0], small.radius), max(best[1], large.radius)]
        if method is Method.AUTO:
            assert [small.radius, large.radius] == best


@functools.cache
def _constants(name: str) -> tuple[Network, CertifiedConstants]:
    network = load_network(ENCODERS[name](3))
    return network, certified_constants(network)


def test_radii_are_rounded_down_to_twelve_digits() -> None:
    for value in (1.0, 0.1, math.pi, 1e-300, 123456.7890123456):
        assert value * (1 - 2e-11) <= rounded_down(value) <= value
    assert rounded_down(math.pi) == rounded_down(math.pi * (1 + 1e-15))
    assert rounded_down(-0.5) == 0.0


X = torch.full((1, 3, 8, 8), 0.5, dtype=torch.float64)
R = torch.ones(1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("x", "radii", "message"),
    [
        (X.expand(1, 3, 8, 8)[..., :7], R, r"inputs: must be \[n, 3, 8, 8\], got \[1, 3, 8, 7\]"),
        (X[0], R, r"inputs: must be \[n, 3, 8, 8\]"),
        (X * math.nan, R, r"inputs: hold values that are not finite"),
        (X, R * math.nan, r"feature_radii: must be finite"),
        (X, -R, r"feature_radii: must be finite and not negative"),
        (X, R.expand(2), r"feature_radii: must be \[1\], got \[2\]"),
        (X.float(), R, r"inputs: images and radii must be float64"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    served: tuple[Network, CertifiedConstants], x: Tensor, radii: Tensor, message: str
) -> None:
    with pytest.raises(InvalidQueryError, match=message):
        certify_ball(*served, x, radii)


def test_options_are_checked() -> None:
    with pytest.raises(InvalidQueryError, match="max_steps: must be at least 1, got 0"):
        SearchOptions(max_steps=0)
    for tolerance in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(InvalidQueryError, match="relative_tolerance: must be in"):
            SearchOptions(relative_tolerance=tolerance)
