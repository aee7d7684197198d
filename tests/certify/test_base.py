"""BC: certified radii of IBP and CROWN against closed forms and against attack."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reaas.certify import Certificates, DownstreamClassifier, certify_crown, certify_ibp
from reaas.certify._crown import crown_margins, relax_relu
from reaas.certify._ibp import ibp_margins
from reaas.certify._margins import MarginProblem

from .networks import attack, random_classifier

Certifier = Callable[..., Certificates]
MarginBound = Callable[[MarginProblem, np.ndarray], np.ndarray]

METHODS: list[Certifier] = [certify_ibp, certify_crown]
WIDTHS = st.sampled_from([(6, 3), (8, 12, 4), (5, 20, 2), (6, 10, 9, 5), (4, 7, 7, 7, 3)])


@pytest.mark.parametrize("certify", METHODS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), widths=WIDTHS, scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_no_attack_inside_a_certified_radius_succeeds(
    certify: Certifier, seed: int, widths: tuple[int, ...], scale: float
) -> None:
    generator = np.random.default_rng(seed)
    classifier = random_classifier(generator, *widths)
    features = generator.normal(size=(16, widths[0])) * scale
    certificates = certify(classifier, features)
    assert certificates.failure_probability == 0
    np.testing.assert_array_equal(certificates.labels, classifier.predict(features))
    fallen = attack(classifier, features, certificates.labels, certificates.radii, generator)
    assert not fallen.any()


@pytest.mark.parametrize("certify", METHODS)
def test_the_attack_of_these_tests_does_find_larger_radii(certify: Certifier) -> None:
    generator = np.random.default_rng(3)
    classifier = random_classifier(generator, 8, 4)
    features = generator.normal(size=(64, 8))
    certificates = certify(classifier, features)
    fallen = attack(
        classifier, features, certificates.labels, certificates.radii * (1 + 1e-6), generator
    )
    assert fallen.all()  # a linear head's radius is exact: just outside, labels fall


@pytest.mark.parametrize("certify", METHODS)
def test_a_linear_head_has_its_exact_radius(certify: Certifier) -> None:
    generator = np.random.default_rng(5)
    classifier = random_classifier(generator, 9, 5)
    features = generator.normal(size=(30, 9))
    certificates = certify(classifier, features)
    weight, logits = classifier.weights[0], classifier.logits(features)
    for label, radius, row in zip(certificates.labels, certificates.radii, logits, strict=True):
        exact = min(
            (row[label] - row[j]) / np.linalg.norm(weight[label] - weight[j])
            for j in range(5)
            if j != label
        )
        assert radius == pytest.approx(exact, rel=1e-11)
        assert radius < exact


@pytest.mark.parametrize("bound", [ibp_margins, crown_margins])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), widths=WIDTHS.filter(lambda w: len(w) > 2))
def test_margins_in_the_ball_stay_above_their_bounds(
    bound: MarginBound, seed: int, widths: tuple[int, ...]
) -> None:
    generator = np.random.default_rng(seed)
    classifier = random_classifier(generator, *widths)
    centre = generator.normal(size=(1, widths[0]))
    radius = np.array([generator.uniform(0, 3)])
    problem = MarginProblem(classifier, centre, classifier.predict(centre))
    lowest = bound(problem, radius)[0]
    delta = generator.normal(size=(2000, widths[0]))
    delta *= radius / np.linalg.norm(delta, axis=1, keepdims=True)
    logits = classifier.logits(centre + delta)
    margins = logits[:, problem.labels] - logits
    assert (margins >= lowest).all()


def test_crown_by_hand_over_an_unstable_neuron() -> None:
    # relu(z) on [-1, 3] around z = 1: upper line 3/4 z + 3/4, lower line z
    classifier = DownstreamClassifier(
        (np.array([[1.0]]), np.array([[1.0], [-1.0]])), (np.zeros(1), np.array([0.0, 5.0]))
    )
    problem = MarginProblem(classifier, np.array([[1.0]]), np.array([1]))
    margins = crown_margins(problem, np.array([2.0]))
    # margin over class 0: 5 - 2 relu(z) >= 5 - 2 (3/4 z + 3/4) >= 5 - 2 * 3
    np.testing.assert_allclose(margins, [[-1.0, 0.0]], atol=1e-12)


def test_relu_lines_hold_and_touch() -> None:
    low, high = np.array([[-3.0, -1.0, 0.5, -2.0, 0.0]]), np.array([[1.0, 3.0, 2.0, -1.0, 0.0]])
    relu = relax_relu((low, high))
    for share in np.linspace(0, 1, 11):
        v = low + share * (high - low)
        assert (relu.lower * v <= np.maximum(v, 0) + 1e-15).all()
        assert (relu.upper * v + relu.intercept >= np.maximum(v, 0) - 1e-15).all()
    assert relu.lower.tolist() == [[0, 1, 1, 0, 1]]


def test_crown_certifies_more_than_ibp() -> None:
    generator = np.random.default_rng(7)
    classifier = random_classifier(generator, 16, 24, 5)
    features = generator.normal(size=(50, 16))
    ibp, crown = certify_ibp(classifier, features), certify_crown(classifier, features)
    assert crown.radii.mean() > 1.5 * ibp.radii.mean() > 0


@pytest.mark.parametrize("certify", METHODS)
@pytest.mark.parametrize("widths", [(6, 4), (6, 9, 4)])
def test_a_certificate_does_not_depend_on_its_batch(
    certify: Certifier, widths: tuple[int, ...]
) -> None:
    generator = np.random.default_rng(2)
    classifier = random_classifier(generator, *widths)
    features = generator.normal(size=(40, 6))
    together = certify(classifier, features).radii
    alone = np.concatenate([certify(classifier, row[None]).radii for row in features])
    np.testing.assert_allclose(together, alone, rtol=3e-6)


@pytest.mark.parametrize("certify", METHODS)
def test_a_tie_has_radius_zero(certify: Certifier) -> None:
    linear = DownstreamClassifier((np.eye(2),), (np.zeros(2),))
    deep = DownstreamClassifier((np.eye(2), np.eye(2)), (np.zeros(2), np.zeros(2)))
    for classifier in (linear, deep):
        assert certify(classifier, [[1.0, 1.0]]).radii.tolist() == [0.0]


@pytest.mark.parametrize("certify", METHODS)
def test_a_margin_lost_in_rounding_has_radius_zero(certify: Certifier) -> None:
    # exact arithmetic: the margin is positive or negative below float64's resolution of 1e8
    generator = np.random.default_rng(0)
    for widths in ((5, 2), (5, 6, 2)):
        base = random_classifier(generator, *widths)
        same = np.repeat(base.weights[-1][:1], 2, axis=0) * np.array([[1.0], [1.0 + 1e-16]])
        bias = np.array([1e8, np.nextafter(1e8, 2e8)])
        classifier = DownstreamClassifier((*base.weights[:-1], same), (*base.biases[:-1], bias))
        assert certify(classifier, generator.normal(size=(8, 5))).radii.tolist() == [0.0] * 8


def test_bounds_stay_below_exact_arithmetic_near_cancellation() -> None:
    """At R = 0 the true margin, in rational numbers, is never below the computed bound."""
    generator = np.random.default_rng(11)
    for _ in range(30):
        classifier = random_classifier(generator, 4, 5, 3)
        shifted = DownstreamClassifier(
            classifier.weights, (classifier.biases[0] + 1e6, classifier.biases[1])
        )
        z = generator.normal(size=(1, 4))
        problem = MarginProblem(shifted, z, shifted.predict(z))
        exact = _exact_logits(shifted, z[0])
        label = int(problem.labels[0])
        for bound in (ibp_margins, crown_margins):
            computed = bound(problem, np.zeros(1))[0]
            assert all(
                Fraction(float(low)) <= exact[label] - exact[j] for j, low in enumerate(computed)
            )


@pytest.mark.parametrize("certify", METHODS)
def test_a_head_that_ignores_its_input_has_a_finite_radius(certify: Certifier) -> None:
    linear = DownstreamClassifier((np.zeros((2, 3)),), (np.array([1.0, 0.0]),))
    deep = DownstreamClassifier(
        (np.zeros((4, 3)), np.zeros((2, 4))), (np.zeros(4), np.array([1.0, 0.0]))
    )
    for classifier in (linear, deep):
        radius = certify(classifier, np.ones((1, 3))).radii[0]
        assert 1e8 < radius <= 1e9


@pytest.mark.parametrize("certify", METHODS)
def test_no_features_no_certificates(certify: Certifier) -> None:
    for widths in ((3, 2), (3, 4, 2)):
        classifier = random_classifier(np.random.default_rng(0), *widths)
        assert len(certify(classifier, np.zeros((0, 3)))) == 0


def _exact_logits(classifier: DownstreamClassifier, z: np.ndarray) -> list[Fraction]:
    values = [Fraction(float(v)) for v in z]
    last = len(classifier.weights) - 1
    for i, (weight, bias) in enumerate(zip(classifier.weights, classifier.biases, strict=True)):
        values = [
            sum((Fraction(float(w)) * v for w, v in zip(row, values, strict=True)), Fraction(b))
            for row, b in zip(weight, map(float, bias), strict=True)
        ]
        if i < last:
            values = [max(v, Fraction(0)) for v in values]
    return values
