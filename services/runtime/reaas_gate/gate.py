"""Refuses an encoder whose features in ONNX Runtime are not those of the engine's network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from reaas_bounds import InvalidModelError, Network
from reaas_runtime.inference import RuntimeRefusalError, first_line, open_session, runtime_version

from reaas_gate.nodes import first_difference
from reaas_gate.probes import Images, Probes, Range, probe_images
from reaas_gate.reference import Reference

SECONDS = 2.0
"""CPU time of a check, beyond the fewest images and the norms that certificates need anyway."""
ACCEPTED: Range = (-16.0, 16.0)
"""The range of pixels that manifests state unless they are written by hand."""
# The engine takes images by fours; whatever the time, so many are compared.
_GROUP, _FEWEST = 4, 4
# Pixels of one batch: memory stays that of a few large images.
_BATCH_PIXELS = 1 << 21


class ServedOtherwiseError(InvalidModelError):
    """ONNX Runtime's features of a file are not those that a certificate would speak of."""


@dataclass(frozen=True)
class Checked:
    """A file that passed: by which runtime, on how many images and batches, and how closely.

    ``worst``: the largest difference, as a part of what certified rounding allows at that image.
    Correct files stay below 0.03.
    """

    runtime: str
    images: int
    batches: int
    worst: float


def check_served(
    onnx: bytes,
    network: Network,
    accepted: Range = ACCEPTED,
    real: Images | None = None,
    seconds: float = SECONDS,
) -> Checked:
    """Compares what serves ``onnx`` with ``network``, which was read from it.

    Images of many kinds go through ONNX Runtime, with the options of the encoder service, alone and
    in batches of several sizes among other neighbours; each feature must be within the certified
    float32 error of the engine's own, computed in float64 (``||.||_2``, in units of the feature).
    ``real`` [n, C, H, W] float32 are images of the kind that clients send. It shows mistakes, in
    the engine or in the runtime; it proves nothing of images that it did not try.

    Raises:
        ServedOtherwiseError: they differ, or ONNX Runtime does not take the file; names the first
            node of the file whose value differs.
    """
    try:
        session = open_session(onnx)
    except RuntimeRefusalError as error:
        raise ServedOtherwiseError(f"{runtime_version()} refuses the file: {error}") from error
    _check_interface(session, network)
    probes = probe_images(network.input_shape, accepted, real)
    reference = Reference.of(network, probes.images[:_FEWEST])
    begun = time.thread_time()
    reference = _longer(reference, network, probes.images, begun + seconds / 2)
    count, limits = len(reference.features), reference.limits()
    worst = 0.0
    batches = list(_batches(count, probes.images[0].size))
    for done, chosen in enumerate(batches):
        if done >= count and time.thread_time() > begun + seconds:
            batches = batches[:done]
            break
        served = _served(session, probes.images[chosen], network.feature_dim)
        _check_finite(served, probes, chosen)
        ratios = _ratios(served, reference.features[chosen], limits[chosen])
        if not ratios.max() <= 1:
            at = int(np.argmax(ratios))
            apart = float(np.linalg.norm(served[at] - reference.features[chosen][at]))
            raise ServedOtherwiseError(
                _refusal(onnx, probes.names, probes.images, chosen, at, apart, limits[chosen[at]])
            )
        worst = max(worst, float(ratios.max()))
    return Checked(runtime_version(), count, len(batches), worst)


def _longer(known: Reference, network: Network, images: Images, until: float) -> Reference:
    """Of as many images as there is time for, the first of which are known."""
    for start in range(_FEWEST, len(images), _GROUP):
        if time.thread_time() > until:
            break
        known = known.joined(Reference.of(network, images[start : start + _GROUP]))
    return known


def _batches(count: int, pixels: int) -> Iterator[list[int]]:
    """Each image alone; then all of them in batches of other sizes, among other neighbours."""
    yield from ([index] for index in range(count))
    largest = max(3, min(count, _BATCH_PIXELS // pixels))
    random = np.random.default_rng(0)
    for size in sorted({2, 3, largest}):
        order = [int(index) for index in random.permutation(count)]
        yield from (order[start : start + size] for start in range(0, count, size))


def _served(session: ort.InferenceSession, batch: Images, dim: int) -> NDArray[np.float64]:
    """ONNX Runtime's features [n, d] of a batch."""
    try:
        [features] = session.run(None, {session.get_inputs()[0].name: batch})
    except Exception as error:  # ONNX Runtime's exceptions have no base of their own
        raise ServedOtherwiseError(
            f"{runtime_version()} fails on {len(batch)} images: {first_line(error)}"
        ) from error
    if features.shape != (len(batch), dim):
        raise ServedOtherwiseError(
            f"{runtime_version()} gives {list(features.shape)} for {len(batch)} images, the graph "
            f"says {[len(batch), dim]}: the batch is not its first axis, or its size is fixed"
        )
    exact: NDArray[np.float64] = features.astype(np.float64)
    return exact


def _ratios(
    served: NDArray[np.float64], exact: NDArray[np.float64], limits: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Differences as parts of their limits, [n]; infinite for what is not finite."""
    apart = np.linalg.norm(served - exact, axis=1)
    known = np.isfinite(limits)  # Elsewhere an operation may overflow; the service says so then.
    ratios = np.divide(apart, limits, out=np.zeros_like(apart), where=known)
    return np.where(known & ~np.isfinite(apart), np.inf, ratios)


def _check_finite(served: NDArray[np.float64], probes: Probes, chosen: list[int]) -> None:
    """Of ordinary images; of extreme ones, where nothing is certified, the service says so then."""
    for feature, index in zip(served, chosen, strict=True):
        image = probes.images[index]
        if image.min() >= 0 and image.max() <= 1 and not np.isfinite(feature).all():
            raise ServedOtherwiseError(
                f"{runtime_version()} gives a feature that is not finite for the image "
                f"{probes.names[index]!r}: float32 overflows in the encoder, its weights are too "
                "large"
            )


def _check_interface(session: ort.InferenceSession, network: Network) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ServedOtherwiseError(
            f"{runtime_version()} sees {len(inputs)} inputs and {len(outputs)} outputs, an encoder "
            "has one of each"
        )
    stated = list(inputs[0].shape)[1:]
    if inputs[0].type != "tensor(float)" or stated != list(network.input_shape):
        raise ServedOtherwiseError(
            f"{runtime_version()} reads images {stated} of {inputs[0].type}, the engine "
            f"{list(network.input_shape)} of float32"
        )


def _refusal(
    onnx: bytes,
    names: Sequence[str],
    images: Images,
    chosen: list[int],
    at: int,
    apart: float,
    limit: float,
) -> str:
    company = f" in a batch of {len(chosen)}" if len(chosen) > 1 else ""
    found = (
        f"{runtime_version()} serves other features than the engine certifies: they are "
        f"{apart:.3g} apart on the image {names[chosen[at]]!r}{company}, float32 rounding explains "
        f"{limit:.3g}"
    )
    return f"{found}; {first_difference(onnx, images[chosen], at)}"
