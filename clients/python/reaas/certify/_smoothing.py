"""Smoothed-classifier certification (SC) with noise on the features: no query is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._certificates import Certificates
from ._classifier import DownstreamClassifier
from ._errors import InvalidArgumentError
from ._votes import SmoothingConfig, certify_from_counts

Float = NDArray[np.float64]
Int = NDArray[np.int64]

_CHUNK_ENTRIES = 2**20
"""Numbers in the largest array of noisy values (8 MiB: it stays near the processor)."""


def certify_smoothed(
    classifier: DownstreamClassifier,
    features: ArrayLike,
    config: SmoothingConfig,
    *,
    seed: int,
    first_index: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Certificates:
    """Feature-space certified L2 radii of the smoothed classifier.

    Theorem (Cohen et al. 2019): the class most probable under `z' + N(0, sigma^2 I)` is `label`
    for every `z'` with `||z' - z||_2 < radius`. Fails with a probability of at most
    `config.alpha` for each input, over the noise; `ABSTAIN` and 0 where nothing is certified.
    The statement is about real Gaussian noise; float64 samples of a pseudo-random generator
    stand for it (see Voracek and Hein, arXiv 2207.07209, on that gap).

    `features` is `[n, d]`. Input i draws from its own stream, seeded by `seed` and
    `first_index + i`: its certificate does not depend on what else is in the batch.
    `progress(done, total)` is called after each input.
    """
    values = classifier.check_features(features)
    if seed < 0 or first_index < 0:
        raise InvalidArgumentError("seed", f"got {seed} and index {first_index}, expected >= 0")
    voter = _NoisyVoter(classifier, config.sigma)
    selection = np.zeros((len(values), classifier.classes), np.int64)
    estimation = np.zeros_like(selection)
    for i, value in enumerate(values):
        stream = np.random.SeedSequence(seed, spawn_key=(first_index + i,))
        generator = np.random.default_rng(stream)
        selection[i] = voter.counts(value, config.n0, generator)
        estimation[i] = voter.counts(value, config.n, generator)
        if progress is not None:
            progress(i + 1, len(values))
    return certify_from_counts(selection, estimation, alpha=config.alpha, sigma=config.sigma)


class _NoisyVoter:
    """Counts the classes of `g(z + sigma e)`, `e ~ N(0, I_d)`.

    The noise enters through `W_1 e` alone. With the QR factorisation `W_1^T = Q T`, `Q^T Q = I_r`,
    it is `T^T (Q^T e)` and `Q^T e ~ N(0, I_r)`: r = min(d, h) numbers are drawn instead of d,
    with exactly the same distribution of the votes. For a linear head r is the number of classes.
    """

    def __init__(self, classifier: DownstreamClassifier, sigma: float) -> None:
        self._classifier = classifier
        triangle = np.asarray(np.linalg.qr(classifier.weights[0].T, mode="r"))
        self._spread: Float = sigma * triangle  # [r, h]
        widest = max(max(weight.shape) for weight in classifier.weights)
        self._chunk = max(1, _CHUNK_ENTRIES // widest)

    def counts(self, feature: Float, draws: int, generator: np.random.Generator) -> Int:
        """Votes by class `[k]` among `draws` noisy copies of the feature `[d]`."""
        weights, biases = self._classifier.weights, self._classifier.biases
        still = weights[0] @ feature + biases[0]  # [h]
        votes = np.zeros(self._classifier.classes, np.int64)
        for size in _chunks(draws, self._chunk):
            noise = generator.standard_normal((size, len(self._spread)))  # [c, r]
            hidden = noise @ self._spread + still  # [c, h]
            for weight, bias in zip(weights[1:], biases[1:], strict=True):
                hidden = np.maximum(hidden, 0.0) @ weight.T + bias
            votes += np.bincount(np.argmax(hidden, axis=1), minlength=len(votes))
        return votes


def _chunks(total: int, step: int) -> Iterator[int]:
    for start in range(0, total, step):
        yield min(step, total - start)
