"""An encoder under test: what the services make of it, at one image size, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from reaas_bounds import CertifiedConstants, Network
from reaas_encoder import EncoderSession
from reaas_f2i import Certifier
from reaas_runtime import ModelEntry, ModelRepository, prepare_batch
from torch import Tensor

# Images of one ONNX Runtime call: the encoder service's own largest batch is of this order.
_BATCH_SIZES = (1, 64)


class UnknownModelError(Exception):
    """A model that the repository does not have; the message lists those that it has."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One encoder and its engine at the clients' image size."""

    entry: ModelEntry
    session: EncoderSession
    network: Network
    constants: CertifiedConstants

    @classmethod
    def opened(cls, entry: ModelEntry, shape: tuple[int, ...]) -> Subject:
        """The encoder on images [height, width, channels], as both services open it."""
        sized = Certifier(entry, max_shapes=1).at_shape(shape)
        session = EncoderSession(entry, _BATCH_SIZES, "cpu")
        return cls(entry, session, sized.network, sized.constants)

    @property
    def name(self) -> str:
        """`name/version`."""
        return f"{self.entry.manifest.name}/{self.entry.manifest.version}"

    def served(self, x: Tensor) -> NDArray[np.float64]:
        """Features [n, d] that a client gets for its images ``x`` [n, C, h, w], in float32."""
        images = x.numpy().astype(np.float32).transpose(0, 2, 3, 1)
        prepared = prepare_batch(np.ascontiguousarray(images), self.entry.manifest.input)
        parts = [self.session.encode(part) for part in self.session.split(prepared)]
        return np.concatenate(parts).astype(np.float64)


def as_inputs(images: NDArray[np.uint8]) -> Tensor:
    """Images [n, h, w, c] as the engine takes them: [n, C, h, w], float64, what float32 holds."""
    pixels = images.astype(np.float32) / np.float32(255)
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float64))


def latest_entries(models: Path, names: tuple[str, ...]) -> Iterator[ModelEntry]:
    """The latest version of every model of the repository, or of those named, in their order.

    Raises UnknownModelError.
    """
    repository: ModelRepository[ModelEntry] = ModelRepository(models, lambda entry: entry)
    repository.refresh()
    known = sorted({served.entry.manifest.name for served in repository.served()})
    for name in names or known:
        served = repository.latest(name)
        if served is None:
            raise UnknownModelError(
                f"{models} has no model {name!r}; there are: {', '.join(known)}"
            )
        yield served.entry
