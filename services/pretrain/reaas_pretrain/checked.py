"""No encoder is published that ONNX Runtime serves otherwise than it is certified."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from reaas_bounds import Network
from reaas_gate import ServedOtherwiseError, check_served, probe_record

from reaas_pretrain.versions import PublishError


def checked_section(
    onnx_bytes: bytes, network: Network, real: NDArray[np.float32] | None = None
) -> dict[str, Any]:
    """The manifest's `checked`, after holding the file against `network`, which was read from it.

    `real [n, C, H, W]` in [0, 1] are images of the kind that clients send. Raises `PublishError` if
    ONNX Runtime disagrees with the engine; it names the node.
    """
    try:
        checked = check_served(onnx_bytes, network, real=real)
    except ServedOtherwiseError as error:
        raise PublishError(f"not published: {error}") from error
    return probe_record(network, checked)
