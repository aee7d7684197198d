"""What a manifest records of a check: enough for another ONNX Runtime to be held against it."""

from __future__ import annotations

from typing import Any

from reaas_bounds import Network
from reaas_runtime.recorded import recorded_images

from reaas_gate.gate import Checked
from reaas_gate.reference import Reference


def probe_record(network: Network, checked: Checked) -> dict[str, Any]:
    """The manifest's ``checked``: the engine's features of a few fixed images, and how far
    a float32 feature may be from them. The encoder service, which has no engine, compares its own.
    """
    reference = Reference.of(network, recorded_images(network.input_shape))
    limits = reference.limits()
    return {
        "runtime": checked.runtime,
        "images": checked.images,
        "batches": checked.batches,
        "worst": float(f"{checked.worst:.3g}"),
        "probes": [
            {"features": [float(f"{value:.12g}") for value in feature], "error": float(limit)}
            for feature, limit in zip(reference.features, limits, strict=True)
            if limit < float("inf")
        ],
    }
