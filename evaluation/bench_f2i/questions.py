"""What the downstream classifiers of the demo ask about: real feature radii and real margins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from reaas.certify import certify_crown, margin_planes
from reaas.datasets import Dataset
from reaas.train import HeadConfig, train_head
from torch import Tensor

from evaluation.bench_f2i.subject import Subject, as_inputs

PERCENTILES = (10, 50, 90)


@dataclass(frozen=True, eq=False)
class Questions:
    """Correctly classified images [n, h, w, c] and what a client wants to know of each.

    ``x``: the same as the engine takes them. ``radii``: R' at the percentiles of all correctly
    classified testing images. ``normals`` [n, m, d] and ``offsets`` [n, m]: the image's own
    margins. ``accuracy``: of the classifier.
    """

    images: NDArray[np.uint8]
    x: Tensor
    radii: dict[int, float]
    normals: Tensor
    offsets: Tensor
    accuracy: float


def drawn(subject: Subject, data: Dataset, images: int, seed: int) -> Questions:
    """Train the demo's linear head on ``subject``'s features, and take the first ``images``.

    The head is that of `make demo` for the base classifier: trained for a large certified margin.
    Images without a positive R' have nothing to ask and are left out.
    """
    head = train_head(
        subject.served(as_inputs(data.train_images)).astype(np.float32),
        data.train_labels,
        HeadConfig(objective="margin", seed=seed),
    )
    features = subject.served(as_inputs(data.test_images)).astype(np.float32)
    found = certify_crown(head, features)
    correct = found.labels == data.test_labels
    asking = np.flatnonzero(correct & (found.radii > 0))[:images]
    levels = np.percentile(found.radii[correct & (found.radii > 0)], PERCENTILES)
    planes = margin_planes(head, features[asking])
    return Questions(
        data.test_images[asking],
        as_inputs(data.test_images[asking]),
        dict(zip(PERCENTILES, map(float, levels), strict=True)),
        torch.from_numpy(planes.normals[:, 0]),  # of a linear head: one set
        torch.from_numpy(planes.offsets[:, 0]),
        float(correct.mean()),
    )
