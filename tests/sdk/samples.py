"""What the tests send, and a look at what they get."""

from __future__ import annotations

from typing import Any

import numpy as np
from reaas.testing import FakeServer


def make_images(n: int, seed: int = 0) -> Any:
    """Random images, uint8 [n, 4, 4, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3)).astype(np.uint8)


def record_replies(server: FakeServer) -> list[Any]:
    """A list that every reply of the server is added to."""
    replies: list[Any] = []

    def record(reply: Any) -> Any:
        replies.append(reply)
        return reply

    server.tamper = record
    return replies
