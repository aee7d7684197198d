"""Training of downstream classifiers. Needs torch; certification and inference do not."""

from __future__ import annotations

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "reaas.train needs torch, which the light SDK leaves out: pip install 'reaas[train]'"
    ) from error

from ._config import HeadConfig, Objective
from ._train import train_head

__all__ = ["HeadConfig", "Objective", "train_head"]
