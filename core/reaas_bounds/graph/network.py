"""An encoder as the engine sees it, at its own input size or at a client's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reaas_bounds.device import CPU, prepare_device
from reaas_bounds.errors import InvalidQueryError
from reaas_bounds.graph.folding import Folded, fold, relocated
from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.lowering import lower
from reaas_bounds.graph.maps import Replication, Rescaling
from reaas_bounds.graph.nodes import Affine, Graph, Input, Joint, Node
from reaas_bounds.graph.rows import row_norms
from reaas_bounds.graph.window import Shape
from reaas_bounds.norms.operator import OperatorNorms


@dataclass(frozen=True, eq=False)
class ReplicateChannels:
    """A grey image [1, h, w] copied to ``channels`` equal channels."""

    channels: int

    def before(self, shape: Shape) -> LinearMap:
        """The map whose output has ``shape`` (C, h, w)."""
        if shape[0] != self.channels:
            raise InvalidQueryError("ops", f"{self.channels} channels do not fit {list(shape)}")
        return Replication(self.channels, (1, *shape[1:]))


@dataclass(frozen=True, eq=False)
class SeparableResize:
    """Rescaling ``rows @ image @ cols^T`` of every channel; rows [H, h], cols [W, w], float64."""

    rows: NDArray[np.float64]
    cols: NDArray[np.float64]

    def before(self, shape: Shape) -> LinearMap:
        """The map whose output has ``shape`` (C, H, W)."""
        if shape[1:] != (self.rows.shape[0], self.cols.shape[0]):
            raise InvalidQueryError(
                "ops",
                f"resize to {self.rows.shape[0]}x{self.cols.shape[0]} does not fit {list(shape)}",
            )
        rows, cols = (torch.from_numpy(np.array(m, dtype=np.float64)) for m in self.matrices)
        return Rescaling(rows, cols, shape[0])

    @property
    def matrices(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Both interpolation matrices."""
        return self.rows, self.cols


LinearOp = ReplicateChannels | SeparableResize


class Network:
    """An encoder ``f``: float64 evaluation and the two graphs that bounds are made from.

    Attributes:
        executed: operator by operator what ONNX Runtime runs (rounding analysis).
        folded: the same function with affine chains merged (bounds).
        folded_position: index in ``folded`` of those nodes of ``executed`` that survive there.
        norms: certified norms of its maps, remembered; shared by all sizes of one model.
        device: where ``folded`` is and bounds are computed; norms and the rounding analysis stay on
            the CPU.
        least_length: the feature is the value of these graphs divided by its length, or by this
            where it is longer; None: it is that value itself.
    """

    def __init__(
        self,
        executed: Graph,
        norms: OperatorNorms,
        folded: Folded | None = None,
        device: torch.device = CPU,
        least_length: float | None = None,
    ) -> None:
        self.executed = executed
        folded = folded or fold(executed)
        self.folded, self.folded_position = folded.graph, folded.position
        self.norms, self.device, self.least_length = norms, device, least_length
        self.resized: tuple[Network, Sequence[LinearOp]] | None = None
        """The encoder without what ``with_input`` put in front of it, and that; None: nothing."""
        self._row_norms: dict[int, Tensor] = {}

    @property
    def input_shape(self) -> Shape:
        """(C, H, W) of the images, L2 radii refer to these pixels."""
        return self.folded.nodes[0].shape

    @property
    def feature_dim(self) -> int:
        """Number d of coordinates of a feature."""
        return math.prod(self.folded.nodes[-1].shape)

    @cached_property
    def coupled(self) -> bool:
        """Whether activations are multiplied by others: it then has constants on sets only."""
        return any(isinstance(node, Joint) for node in self.folded.nodes)

    @cached_property
    def executed_float32(self) -> tuple[Graph, Graph]:
        """The executed graph in float32, and the one of its absolute weights and biases."""
        return self.executed.cast(torch.float32), self.executed.magnitudes().cast(torch.float32)

    @cached_property
    def folded_float32(self) -> Graph:
        """The folded graph in float32: for choices of effort, never for a certificate."""
        return self.folded.cast(torch.float32)

    def row_norms(self, index: int) -> Tensor:
        """2-norm of each row of the folded affine node ``index``, [*shape]; remembered."""
        if index not in self._row_norms:
            node = self.folded.nodes[index]
            assert isinstance(node, Affine)
            self._row_norms[index] = row_norms(node.linear.origin).to(self.device)
        return self._row_norms[index]

    @cached_property
    def first_row_norms(self) -> dict[int, Tensor]:
        """Per folded affine node that reads the image: 2-norm of each row, [*shape]."""
        nodes = enumerate(self.folded.nodes)
        first = [k for k, node in nodes if isinstance(node, Affine) and node.source == 0]
        return {k: self.row_norms(k) for k in first}

    def forward(self, x: Tensor) -> Tensor:
        """Features [n, d] of images ``x`` [n, C, H, W], float64 in [0,1] units."""
        value = self.folded.forward(x)
        if self.least_length is None:
            return value
        length = torch.linalg.vector_norm(value, dim=1, keepdim=True)  # [n, 1]
        unit: Tensor = value / length.clamp_min(self.least_length)
        return unit

    @cached_property
    def before(self) -> Network:
        """The encoder without the division by the length; itself, if there is none."""
        if self.least_length is None:
            return self
        folded = Folded(self.folded, self.folded_position)
        found = Network(self.executed, self.norms, folded, self.device)
        found.resized = self.resized
        return found

    def to(self, device: torch.device | str) -> Network:
        """The same encoder with its bounds computed on ``device``; questions stay on the CPU.

        For CUDA it changes settings of this process: see ``prepare_device``. A coupled network
        stays where it is: its constants take no work on images.

        Raises:
            DeviceError: there is no such device, or its arithmetic is not what bounds assume.
        """
        place = prepare_device(device)
        if place == self.device or self.coupled:
            return self
        folded = Folded(self.folded.to(place), self.folded_position)
        found = Network(self.executed, self.norms, folded, place, self.least_length)
        if self.resized is not None:
            found.resized = (self.resized[0].to(place), self.resized[1])
        return found

    def with_input(self, ops: Sequence[LinearOp]) -> Network:
        """The encoder with linear ``ops`` (first applied first) in front.

        Its input is the client's own image, so every radius refers to the client's pixels.

        Raises:
            InvalidQueryError: the ops do not lead to this network's input shape.
        """
        maps: list[LinearMap] = []
        shape = self.input_shape
        for op in reversed(ops):
            maps.insert(0, op.before(shape))
            shape = maps[0].input_shape
        if not maps:
            return self
        longer = _prepended(self.executed, maps)
        found = Network(longer, self.norms, least_length=self.least_length)
        found = found.to(self.device)
        found.resized = (self, tuple(ops))
        return found


def _prepended(graph: Graph, maps: Sequence[LinearMap]) -> Graph:
    zero = torch.zeros((), dtype=torch.float64)
    nodes: list[Node] = [Input(maps[0].input_shape)]
    nodes += [Affine(index, linear, zero, zero) for index, linear in enumerate(maps)]
    shift = len(maps)
    position = {index: index + shift for index in range(len(graph.nodes))}
    nodes += [relocated(node, position) for node in graph.nodes[1:]]
    return Graph(tuple(nodes))


def load_network(onnx: bytes) -> Network:
    """Read an ONNX encoder ``input`` [N,C,H,W] float32 -> ``feature`` [N,d].

    Raises:
        InvalidModelError: corrupt or hostile file, wrong input or output, weights not finite.
        UnsupportedOperatorError: an operator that has no certified bound; names node, operator.
    """
    lowered = lower(onnx)
    return Network(lowered.graph, OperatorNorms(), least_length=lowered.least_length)
