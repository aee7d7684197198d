"""Linear maps whose entries are short weighted sums: gathers, concatenations, pairs, pools."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.maps import Convolution
from reaas_bounds.graph.window import Shape, Window, embed

Matrix: TypeAlias = Any  # scipy.sparse.csr_array, which has no types


class Structure:
    """Where the entries of a sparse matrix lie, as tables of equally long rows.

    ``columns`` [k, outputs]: the inputs that each output reads; ``used`` says which places count,
    the others have weight 0. Shared by all maps with the same places and other weights.
    """

    def __init__(self, columns: Tensor, used: NDArray[np.bool_], inputs: int) -> None:
        self.columns, self.used, self.inputs = columns, used, inputs

    @cached_property
    def transposed(self) -> tuple[Tensor, Tensor]:
        """Per input the outputs that read it, [k', inputs], and the places of their weights.

        A place beyond the last one stands for weight 0.
        """
        places = np.flatnonzero(self.used)
        read = self.columns.cpu().numpy().ravel()[places]
        order = np.argsort(read, kind="stable")
        places, read = places[order], read[order]
        counts = np.bincount(read, minlength=self.inputs)
        rank = np.arange(len(read)) - np.repeat(np.cumsum(counts) - counts, counts)
        readers = np.zeros((int(counts.max(initial=1)), self.inputs), dtype=np.int64)
        weights = np.full(readers.shape, self.used.size, dtype=np.int64)
        readers[rank, read] = places % self.used.shape[1]
        weights[rank, read] = places
        device = self.columns.device
        return torch.from_numpy(readers).to(device), torch.from_numpy(weights).to(device)

    def channels(self, pixels: int) -> Tensor | None:
        """The channels [k, channels] that each reads, if all ``pixels`` of a plane are alike."""
        if self.inputs % pixels or self.columns.shape[1] % pixels:
            return None
        columns = self.columns.view(len(self.columns), -1, pixels)  # [k, channels, pixels]
        used = torch.from_numpy(self.used).to(columns.device).view(columns.shape)
        read = columns // pixels * used
        pixel = torch.arange(pixels, device=columns.device)
        alike = (columns % pixels == pixel) & (read == read[..., :1]) & used[..., :1]
        return read[..., 0] if bool((alike | ~(used | used[..., :1])).all()) else None

    def to(self, device: torch.device) -> Structure:
        """The same tables on ``device``."""
        if self.columns.device == device:
            return self
        return Structure(self.columns.to(device), self.used, self.inputs)


class Sparse(LinearMap):
    """A sparse matrix between activations of any shapes.

    ``weight`` [k, outputs] belongs to ``structure``. With ``terms`` 0 the map only moves entries
    in the file (ONNX Runtime does not round), whatever the weights are here.
    """

    def __init__(
        self,
        structure: Structure,
        weight: Tensor,
        input_shape: Shape,
        output_shape: Shape,
        terms: int = 0,
    ) -> None:
        super().__init__(input_shape, output_shape, terms)
        self.structure, self.weight = structure, weight

    @classmethod
    def of(cls, matrix: Matrix, input_shape: Shape, output_shape: Shape, terms: int = 0) -> Sparse:
        """The map of ``matrix`` [numel(output), numel(input)]."""
        matrix = scipy.sparse.csr_array(matrix)
        counts = np.diff(matrix.indptr)
        width = max(1, int(counts.max(initial=0)))
        columns = np.zeros((width, len(counts)), dtype=np.int64)
        weight = np.zeros((width, len(counts)))
        row = np.repeat(np.arange(len(counts)), counts)
        place = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], counts)
        columns[place, row], weight[place, row] = matrix.indices, matrix.data
        used = np.zeros(columns.shape, dtype=np.bool_)
        used[place, row] = True
        structure = Structure(torch.from_numpy(columns), used, math.prod(input_shape))
        return cls(structure, torch.from_numpy(weight), input_shape, output_shape, terms)

    @property
    def matrix(self) -> Matrix:
        """The matrix [numel(output), numel(input)] in float64."""
        used = np.flatnonzero(self.structure.used)
        entries = self.weight.double().numpy().ravel()[used]
        outputs = self.weight.shape[1]
        places = (used % outputs, self.structure.columns.numpy().ravel()[used])
        shape = (outputs, self.structure.inputs)
        return scipy.sparse.csr_array((entries, places), shape=shape)

    def apply(self, x: Tensor) -> Tensor:
        """Gather and add: elementwise, so that no bit depends on the batch.

        Whole planes at once where all pixels are alike: memory is then read in its order.
        """
        if self._planes is None:
            found = _gather(x.flatten(1), self.structure.columns, self.weight)
            return found.reshape(len(x), *self.output_shape)
        channels, weight = self._planes
        return _gather(x.flatten(2), channels, weight).reshape(len(x), *self.output_shape)

    @cached_property
    def _planes(self) -> tuple[Tensor, Tensor] | None:
        """Channels [k, o] and weights [k, o, 1], if the map treats all pixels alike."""
        shapes = self.input_shape, self.output_shape
        if any(len(shape) != 3 for shape in shapes) or shapes[0][1:] != shapes[1][1:]:
            return None
        pixels = math.prod(self.input_shape[1:])
        channels = self.structure.channels(pixels)
        weight = self.weight.view(len(self.weight), -1, pixels)  # [k, channels, pixels]
        alike = channels is not None and bool((weight == weight[..., :1]).all())
        return (channels, weight[..., :1].contiguous()) if alike and channels is not None else None

    def pull(self, rows: Tensor, window: Window | None) -> tuple[Tensor, Window | None]:
        """The transposed gather; of windowed rows only the box that is not zero is kept."""
        full = embed(rows, window, self.output_shape).flatten(1)
        readers, places = self.structure.transposed
        padded = torch.cat([self.weight.flatten(), self.weight.new_zeros(1)])
        values = _gather(full, readers, padded[places]).reshape(len(rows), *self.input_shape)
        return (values, None) if window is None or values.dim() != 4 else _bounded(values)

    def with_weights(self, change: Callable[[Tensor], Tensor]) -> Sparse:
        """The same places with other weights."""
        weight = change(self.weight)
        return Sparse(
            self.structure.to(weight.device),
            weight,
            self.input_shape,
            self.output_shape,
            self.terms,
        )

    def reshaped(self, input_shape: Shape, output_shape: Shape) -> Sparse:
        """The same between other shapes of the same entries."""
        return Sparse(self.structure, self.weight, input_shape, output_shape, self.terms)


def _gather(flat: Tensor, columns: Tensor, weight: Tensor) -> Tensor:
    total = flat.index_select(1, columns[0]).mul_(weight[0])
    for column, factor in zip(columns[1:], weight[1:], strict=True):
        total.add_(flat.index_select(1, column).mul_(factor))
    return total


def _bounded(values: Tensor) -> tuple[Tensor, Window]:
    """``values`` [n, C, H, W] cut to the box outside of which they are zero."""
    used = (values != 0).any(1).any(0)  # [H, W]
    rows = used.any(1).nonzero().flatten().tolist() or [0]
    columns = used.any(0).nonzero().flatten().tolist() or [0]
    window = Window(rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    across = slice(columns[0], columns[-1] + 1)
    return values[..., rows[0] : rows[-1] + 1, across], window


def selection(indices: NDArray[np.int64], inputs: int) -> Matrix:
    """The matrix [numel(indices), inputs] that picks entries; -1 picks nothing (zero)."""
    flat = indices.ravel()
    rows = np.flatnonzero(flat >= 0)
    ones = np.ones(len(rows))
    return scipy.sparse.csr_array((ones, (rows, flat[rows])), shape=(len(flat), inputs))


def stacked(matrices: Sequence[Matrix]) -> Matrix:
    """All rows below each other."""
    return scipy.sparse.csr_array(scipy.sparse.vstack(matrices, format="csr"))


def product(first: Sparse, second: Sparse) -> Sparse:
    """``second`` after ``first`` as one sparse map."""
    matrix = second.matrix @ first.matrix
    terms = first.terms + second.terms
    return Sparse.of(matrix, first.input_shape, second.output_shape, terms)


def as_convolution(linear: Sparse) -> Convolution | None:
    """The 1x1 convolution that ``linear`` is, if it treats all pixels of its planes alike."""
    inputs, outputs = linear.input_shape, linear.output_shape
    if len(inputs) != 3 or len(outputs) != 3 or inputs[1:] != outputs[1:]:
        return None
    pixels = inputs[1] * inputs[2]
    matrix = linear.matrix.tocoo()
    row, column = matrix.coords
    pairs, place, counts = np.unique(
        row // pixels * inputs[0] + column // pixels, return_inverse=True, return_counts=True
    )
    if bool((row % pixels != column % pixels).any() or (counts != pixels).any()):
        return None
    entries = np.zeros(len(pairs))
    entries[place] = matrix.data  # any pixel's
    if bool((entries[place] != matrix.data).any()):
        return None
    weight = np.zeros(outputs[0] * inputs[0])
    weight[pairs] = entries
    return Convolution(torch.from_numpy(weight).reshape(outputs[0], inputs[0], 1, 1), inputs)
