"""What a run is judged by while it goes on: accuracy on images it never learns from, and L."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from reaas_bounds import certified_constants

from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.evaluate import encode, knn_accuracy, train_probe
from reaas_pretrain.images import LabelledImages
from reaas_pretrain.onnx_graph import encoder_onnx


@dataclass(frozen=True)
class Monitor:
    """Labelled images to judge features by."""

    train: LabelledImages
    test: LabelledImages

    def look(self, encoder: ConvEncoder) -> dict[str, float]:
        """Top-1 of k-NN and of a linear probe, and the certified Lipschitz constant as it is now.

        The constant is that of the graph which would be exported, features in their own scale.
        """
        train, test = encode(encoder, self.train.images), encode(encoder, self.test.images)
        probe = train_probe(train, self.train.labels)
        # The constant is computed from a copy: export must not touch what is being trained.
        exported = encoder_onnx(deepcopy(encoder).cpu().eval())
        return {
            "knn_top1": knn_accuracy(train, self.train.labels, test, self.test.labels),
            "linear_top1": probe.accuracy(test, self.test.labels),
            "certified_lipschitz": certified_constants(exported).lipschitz,
        }
