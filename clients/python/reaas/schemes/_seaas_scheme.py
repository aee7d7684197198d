"""SEaaS, the baseline: randomized smoothing with the noise in the image, one query a noisy copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from reaas import Client, Features, ModelRef
from reaas.certify import DownstreamClassifier, SmoothingConfig, certify_from_votes
from reaas.schemes._certificates import ImageCertificates, NotApplicableError
from reaas.schemes._noise import Phase, noisy_batches
from reaas.schemes._pinning import pin_model
from reaas.schemes._pipeline import ordered_map

Advance = Callable[[int], None]

BASE_NOT_APPLICABLE = (
    "CROWN and IBP need the weights of the whole classifier g(f(x)); a SEaaS client has its own g, "
    "but of the encoder f only what the Feature-API answers"
)


def _ignore(_: int) -> None:
    return


class SeaasScheme:
    """SEaaS with one exact encoder and one noise level sigma (pixels in [0,1]).

    25 queries a training input by default (noise-augmented training), n0 + n a testing input.
    """

    name = "seaas"

    def __init__(
        self,
        client: Client,
        model: str | ModelRef,
        *,
        sigma: float,
        seed: int,
        copies: int = 25,
        batch_inputs: int = 512,
        in_flight: int = 3,
    ) -> None:
        """`copies`: noisy copies of a training input (the talk's 25). `batch_inputs` of 512 copies
        are 6 MB at 32x32x3. `in_flight`: one batch in work for each of two cores, one on its way.
        """
        self._client = client.with_scheme("seaas")
        self.model = pin_model(client, model)
        self.sigma = sigma
        self.copies = copies
        self._seed = seed
        self._batch_inputs = batch_inputs
        self._in_flight = in_flight

    def encode_training(
        self, images: NDArray[Any], *, advance: Advance = _ignore
    ) -> NDArray[np.float32]:
        """Features [n, copies, d] of noisy copies of training images [n, h, w, c]."""
        replies = self._encode_noisy(images, self.copies, "train", advance)
        features = np.concatenate([reply.values for reply in replies])  # [n * copies, d]
        return features.reshape(len(images), self.copies, -1)

    def votes(
        self,
        images: NDArray[Any],
        classifier: DownstreamClassifier,
        count: int,
        *,
        advance: Advance = _ignore,
    ) -> NDArray[np.int64]:
        """Labels [n, count] that `classifier` gives to `count` noisy copies of each testing image.

        One query a copy. The copies of one image are independent, so any split of its votes into
        selection and estimation is valid as long as it does not look at them.
        """
        (labels,) = self.votes_of_all(images, [classifier], count, advance=advance)
        return np.asarray(labels)

    def votes_of_all(
        self,
        images: NDArray[Any],
        classifiers: Sequence[DownstreamClassifier],
        count: int,
        *,
        advance: Advance = _ignore,
    ) -> NDArray[np.int64]:
        """`votes` of several classifiers, [k, n, count], for the queries of one.

        All vote on the same noisy copies: each certificate is as valid as alone, but those of
        different classifiers are not independent of each other.
        """
        labels: list[list[NDArray[np.int64]]] = [[] for _ in classifiers]
        for reply in self._encode_noisy(images, count, "test", advance):
            for own, classifier in zip(labels, classifiers, strict=True):
                own.append(classifier.predict(reply.values))
        joined = np.stack([np.concatenate(own) for own in labels])  # [k, n * count]
        return joined.reshape(len(classifiers), len(images), count)

    def certify_smoothed(
        self,
        images: NDArray[Any],
        classifier: DownstreamClassifier,
        smoothing: SmoothingConfig,
        *,
        advance: Advance = _ignore,
    ) -> ImageCertificates:
        """SC: certificates of the classifier smoothed with noise on the image (Cohen et al. 2019).

        n0 + n queries an input. Fails with probability at most `smoothing.alpha` per input.
        """
        if smoothing.sigma != self.sigma:
            raise ValueError(f"smoothing.sigma is {smoothing.sigma}; the scheme's is {self.sigma}")
        certificates = certify_from_votes(
            self.votes(images, classifier, smoothing.n0 + smoothing.n, advance=advance),
            classes=classifier.classes,
            n0=smoothing.n0,
            alpha=smoothing.alpha,
            sigma=smoothing.sigma,
        )
        return ImageCertificates(self.model, certificates.labels, certificates.radii)

    def certify_base(self, *_: object, **__: object) -> NoReturn:
        """BC is not applicable to SEaaS: always raises NotApplicableError with the reason."""
        raise NotApplicableError(BASE_NOT_APPLICABLE)

    def _encode_noisy(
        self, images: NDArray[Any], copies: int, phase: Phase, advance: Advance
    ) -> Iterator[Features]:
        batches = noisy_batches(
            images,
            copies=copies,
            sigma=self.sigma,
            seed=self._seed,
            phase=phase,
            batch_inputs=self._batch_inputs,
        )

        # A certificate takes all copies of a testing input; training certifies nothing.
        client = self._client.with_scheme("seaas", draws=copies if phase == "test" else None)

        def encode(batch: NDArray[np.float32]) -> Features:
            return client.encode(batch, self.model, phase=phase)

        for reply in ordered_map(encode, batches, self._in_flight):
            advance(len(reply.values))
            yield reply
