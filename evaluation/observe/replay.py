"""Clients with different habits, each with a key and a ledger of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from reaas import Client, Method, OverloadedError
from reaas.certify import DownstreamClassifier, SmoothingConfig
from reaas.compare import Quality
from reaas.datasets import Dataset
from reaas.schemes import ImageCertificates, ReaasScheme, SeaasScheme
from reaas.train import HeadConfig, train_head

CAMERA, PHONE, SCANNER, GUEST = "camera", "phone", "scanner", "guest"
GUEST_QUOTA = 40
LIMITS: Mapping[str, tuple[str, ...]] = {
    CAMERA: (),
    PHONE: ("1000000/day",),
    SCANNER: (),
    GUEST: (f"{GUEST_QUOTA}/day",),
}
"""Every client, and what its key allows."""
_SEAAS_SIGMA = 0.25  # Pixels in [0,1]: the middle of the noise levels of the benchmarks.
_COPIES = 5  # Noisy copies of a training input; fewer than the talk's 25, to be quick.
_FEATURE_VOTES = 10_000
Certify = Callable[[slice], ImageCertificates]


class ReplayError(Exception):
    """A client was served that should not have been."""


@dataclass(frozen=True)
class Scale:
    """How much the clients ask for."""

    train: int = 60
    """Training inputs of each client."""
    reaas_test: int = 24
    """Testing inputs of each REaaS client and round."""
    seaas_test: int = 4
    """Testing inputs of the SEaaS client and round."""
    draws: int = 1000
    """n of SEaaS; n0 is a tenth."""


class Device:
    """One client: it trains at first, then certifies some more inputs in every round."""

    def __init__(self, client_id: str, client: Client, model: str, data: Dataset, scale: Scale):
        self.client_id, self.client = client_id, client
        self._data, self._scale = data, scale
        self._model, self._asked = model, 0
        self._certify: Certify | None = None
        self._radii: list[float] = []
        self._right: list[bool] = []

    def round(self) -> None:
        """Certifies the next inputs. Raises ReaasError."""
        if self.client_id == GUEST:
            self._over_quota()
            return
        self._certify = self._certify or _HABITS[self.client_id](self)
        size = self._scale.seaas_test if self.client_id == SCANNER else self._scale.reaas_test
        part = slice(self._asked, self._asked + size)
        self._asked += size
        found, truth = self._certify(part), self._data.test_labels[part]
        self._right += (found.labels == truth).tolist()
        self._radii += np.where(found.labels == truth, found.radii, 0.0).tolist()

    def quality(self) -> Quality | None:
        """What it would report to its operator; None where it has certified nothing."""
        if not self._radii:
            return None
        scheme = "seaas" if self.client_id == SCANNER else "reaas"
        kind = "BC/margin" if self.client_id == CAMERA else "SC"
        return Quality(scheme, kind, float(np.mean(self._radii)), float(np.mean(self._right)))

    def base_by_margins(self) -> Certify:
        """REaaS, BC: margins of a linear classifier."""
        scheme = ReaasScheme(self.client, self._model, f2i_method=Method.LIPSCHITZ)
        head = self._train(scheme.encode_training(self._train_images), HeadConfig())
        images = self._data.test_images
        return lambda part: scheme.certify_base(images[part], head, target="margin")

    def smoothed_in_features(self) -> Certify:
        """REaaS, SC: noise on the feature, for balls."""
        scheme = ReaasScheme(self.client, self._model, f2i_method=Method.LOCAL)
        features = scheme.encode_training(self._train_images)
        sigma = 0.25 * float(np.sqrt(((features - features.mean(axis=0)) ** 2).sum(axis=1).mean()))
        head = self._train(features, HeadConfig(objective="noise", noise_sigma=sigma))
        smoothing = SmoothingConfig(sigma=sigma, n=_FEATURE_VOTES)
        images = self._data.test_images
        return lambda part: scheme.certify_smoothed(images[part], head, smoothing, seed=1)

    def smoothed_in_images(self) -> Certify:
        """SEaaS, SC: noise on the image, a query for each copy."""
        scheme = SeaasScheme(
            self.client, self._model, sigma=_SEAAS_SIGMA, seed=1, copies=_COPIES, batch_inputs=256
        )
        head = self._train(
            scheme.encode_training(self._train_images), HeadConfig(objective="noise")
        )
        draws = self._scale.draws
        smoothing = SmoothingConfig(sigma=_SEAAS_SIGMA, n0=max(1, draws // 10), n=draws)
        images = self._data.test_images
        return lambda part: scheme.certify_smoothed(images[part], head, smoothing)

    @property
    def _train_images(self) -> NDArray[np.uint8]:
        return self._data.train_images[: self._scale.train]

    def _train(self, features: NDArray[np.float32], config: HeadConfig) -> DownstreamClassifier:
        return train_head(features, self._data.train_labels[: self._scale.train], config)

    def _over_quota(self) -> None:
        """Asks for features until its key's quota ends."""
        batch = self._data.train_images[:8]
        try:
            for _ in range(GUEST_QUOTA):
                self.client.encode(batch, self._model, phase="train")
        except OverloadedError:
            return
        raise ReplayError(f"{self.client_id} was not refused within {8 * GUEST_QUOTA} queries")


_HABITS: Mapping[str, Callable[[Device], Certify]] = {
    CAMERA: Device.base_by_margins,
    PHONE: Device.smoothed_in_features,
    SCANNER: Device.smoothed_in_images,
}
