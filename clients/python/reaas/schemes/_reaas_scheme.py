"""REaaS: the client certifies its own classifier, F2IPerturb carries the radius to the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reaas import Client, DigestMismatchError, Method, ModelRef, Radii
from reaas.certify import (
    ABSTAIN,
    Certificates,
    DownstreamClassifier,
    InvalidArgumentError,
    MarginPlanes,
    SmoothingConfig,
    certify_crown,
    certify_ibp,
    certify_smoothed,
    margin_planes,
)
from reaas.schemes._certificates import ImageCertificates
from reaas.schemes._pinning import pin_model
from reaas.schemes._pipeline import ordered_map

BaseMethod = Literal["crown", "ibp"]
Target = Literal["ball", "margin"]
Query = Callable[[slice], Radii]
Advance = Callable[[int], None]
_BASE_CERTIFIERS = {"crown": certify_crown, "ibp": certify_ibp}


def _ignore(_: int) -> None:
    return


class ReaasScheme:
    """REaaS with one exact encoder: 1 query a training input, 2 a testing input.

    A testing input is asked for its feature, certified in feature space without a query (as a base
    classifier or as a smoothed one), and asked once more for its image-space certified radius.
    """

    name = "reaas"

    def __init__(
        self,
        client: Client,
        model: str | ModelRef,
        *,
        f2i_method: str = Method.AUTO,
        batch_inputs: int = 16,
        in_flight: int = 2,
    ) -> None:
        """`f2i_method`: the bound behind F2IPerturb. `batch_inputs` of one F2IPerturb call: few, so
        that progress shows and slow bounds stay within a call's deadline. `in_flight`: calls at
        once, enough to keep a two-core service busy."""
        self._client = client.with_scheme("reaas")
        self.model = pin_model(client, model)
        self._f2i_method = f2i_method
        self._batch_inputs = batch_inputs
        self._in_flight = in_flight

    def encode_training(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Features [n, d] of training images [n, h, w, c]: 1 query each."""
        return self._client.encode(images, self.model, phase="train").values

    def certify_base(
        self,
        images: NDArray[Any],
        classifier: DownstreamClassifier,
        method: BaseMethod = "crown",
        *,
        target: Target = "ball",
        features: NDArray[np.float32] | None = None,
        advance: Advance = _ignore,
    ) -> ImageCertificates:
        """BC: certificates of the base classifier `classifier(f(x))`; deterministic.

        Theorem, `target` "ball": the label holds while ||f(x') - f(x)||_2 < R' (CROWN or IBP on the
        classifier) and ||x' - x||_2 < R implies that (F2IPerturb). "margin": it holds between the
        classifier's own decision borders, or CROWN's linear bounds of them in a few balls around
        f(x) (`margin_planes`), and ||x' - x||_2 < R implies those. That is mostly the larger
        radius, and tells the service how the classifier looks around f(x): docs/security.md.

        Raises KeyError for another method or target, `reaas.certify.InvalidArgumentError` for
        margins by IBP of a classifier with hidden layers: it has no linear bounds.
        DigestMismatchError for a classifier trained on features of another encoder. `features`
        [n, d]: those of these images by this encoder, where they are paid already.
        """
        certify = _BASE_CERTIFIERS[method]
        margins = {"ball": False, "margin": True}[target]
        if margins and method == "ibp" and not classifier.is_linear:
            raise InvalidArgumentError(
                "method", "got ibp, which has no margins of hidden layers; crown does"
            )
        features = self._features(images, classifier, features)
        if margins:
            return self._margins_to_image(images, margin_planes(classifier, features), advance)
        return self._to_image(images, certify(classifier, features), advance, self._client)

    def certify_smoothed(
        self,
        images: NDArray[Any],
        classifier: DownstreamClassifier,
        smoothing: SmoothingConfig,
        *,
        seed: int,
        features: NDArray[np.float32] | None = None,
        advance: Advance = _ignore,
    ) -> ImageCertificates:
        """SC: certificates of the classifier smoothed with noise on the feature, free of queries.

        Fails with probability at most `smoothing.alpha` per input (Cohen et al. 2019). F2IPerturb
        queries declare n0 + n: as SEaaS, these draws would be queries. `features` and errors: as of
        `certify_base`.
        """
        features = self._features(images, classifier, features)
        certificates = certify_smoothed(classifier, features, smoothing, seed=seed)
        client = self._client.with_scheme("reaas", draws=smoothing.n0 + smoothing.n)
        return self._to_image(images, certificates, advance, client)

    def encode_testing(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Features [n, d] of testing images [n, h, w, c]: 1 query each."""
        return self._client.encode(images, self.model, phase="test").values

    def check(self, classifier: DownstreamClassifier) -> None:
        """Raises DigestMismatchError for a classifier of another encoder's features."""
        trained_on = classifier.encoder_digest
        if trained_on and trained_on != self.model.digest:
            raise DigestMismatchError(
                f"the classifier was trained on features of {classifier.encoder}, these would be "
                f"of {self.model}; use that encoder, or train a classifier for this one",
                field="classifier",
                limit=trained_on,
                got=self.model.digest,
            )

    def _features(
        self,
        images: NDArray[Any],
        classifier: DownstreamClassifier,
        features: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        self.check(classifier)
        return self.encode_testing(images) if features is None else features

    def _to_image(
        self,
        images: NDArray[Any],
        certificates: Certificates,
        advance: Advance,
        client: Client,
    ) -> ImageCertificates:
        """Image-space radii of balls: one F2IPerturb query for each input."""
        feature_radii = np.asarray(certificates.radii, np.float64)  # [n]
        held = (certificates.labels != ABSTAIN) & (feature_radii > 0.0)  # [n]
        asked = _radii_to_ask(feature_radii, held)

        def perturb(part: slice) -> Radii:
            return client.perturb(
                images[part], asked[part], self.model, self._f2i_method, phase="test"
            )

        radii, methods = self._query(len(images), perturb, advance)
        return ImageCertificates(
            model=self.model,
            labels=certificates.labels,
            radii=np.where(held, radii, 0.0),
            feature_radii=feature_radii,
            methods=methods,
        )

    def _margins_to_image(
        self, images: NDArray[Any], planes: MarginPlanes, advance: Advance
    ) -> ImageCertificates:
        """Image-space radii of margins: one F2IPerturb query for each input."""

        def perturb(part: slice) -> Radii:
            return self._client.perturb_margins(
                images[part],
                planes.normals[part],
                planes.offsets[part],
                self.model,
                self._f2i_method,
                valid_within=planes.valid_within[part],
                phase="test",
            )

        radii, methods = self._query(len(images), perturb, advance)
        return ImageCertificates(self.model, planes.labels, radii, methods=methods)

    def _query(
        self, count: int, perturb: Query, advance: Advance
    ) -> tuple[NDArray[np.float64], tuple[str, ...]]:
        """Radii [n] and the bounds that certified them, from a few calls at once."""
        step = self._batch_inputs
        parts = [slice(start, start + step) for start in range(0, count, step)]
        replies = []
        for reply in ordered_map(perturb, parts, self._in_flight):
            advance(len(reply.radius))
            replies.append(reply)
        radii = np.concatenate([reply.radius for reply in replies])  # [n]
        return radii, tuple(str(method) for reply in replies for method in reply.method)


def _radii_to_ask(
    feature_radii: NDArray[np.float64], held: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """R' to send for each input, shape [n].

    An input with nothing to carry over (abstained, or a tie) is asked as well, with the median
    radius of the others, and its answer is dropped: every testing input costs the same 2 queries,
    and the service cannot tell on which ones the client's classifier abstained.
    """
    stand_in = float(np.median(feature_radii[held])) if held.any() else 1.0
    return np.where(held, feature_radii, stand_in)
