"""What a run is judged by while it goes on: accuracy on images it never learns from, and L."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from reaas_bounds import certified_constants

from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.evaluate import Judge, encode, knn_accuracy, train_probe
from reaas_pretrain.onnx_graph import encoder_onnx


@dataclass(frozen=True)
class Monitor:
    """Looks at an encoder that is being trained."""

    judge: Judge

    def look(self, encoder: ConvEncoder) -> dict[str, float]:
        """Top-1 of k-NN and of a linear probe, and the certified Lipschitz constant as it is now.

        The constant is that of the graph which would be exported, features in their own scale.
        """
        near, far = self.judge.train, self.judge.test
        train, test = encode(encoder, near.images), encode(encoder, far.images)
        probe = train_probe(train, near.labels)
        # The constant is computed from a copy: export must not touch what is being trained.
        exported = encoder_onnx(deepcopy(encoder).cpu().eval())
        return {
            "knn_top1": knn_accuracy(train, near.labels, test, far.labels),
            "linear_top1": probe.accuracy(test, far.labels),
            "certified_lipschitz": certified_constants(exported).lipschitz,
        }
