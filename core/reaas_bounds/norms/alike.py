"""Maps that treat pixels or channels alike: their norms are those of small matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reaas_bounds.graph.linear import LinearMap
from reaas_bounds.graph.maps import Convolution, Reshape, Scaling
from reaas_bounds.graph.sparse import Sparse

# Pixels of a channel, and entries of all matrices, at most: 256 MiB, and a second.
_PIXELS, _ENTRIES = 256, 2**25


def within_permutations(factors: Sequence[LinearMap]) -> Sequence[LinearMap]:
    """``factors`` without the permutations at both ends, which change no norm."""
    start, end = 0, len(factors)
    while start < end and _read(factors[start]) is not None:
        start += 1
    while start < end and _read(factors[end - 1]) is not None:
        end -= 1
    return factors[start:end]


def embeds(linear: LinearMap) -> bool:
    """Whether a map only puts its inputs among zeros: its norm is 1, and nothing is mixed."""
    return all(isinstance(part, Reshape) or _puts(part) for part in linear.parts)


def _puts(part: LinearMap) -> bool:
    if not isinstance(part, Sparse) or len(part.weight) != 1:
        return False
    used = part.structure.used[0]
    read = part.structure.columns[0].cpu().numpy()[used]
    ones = bool((part.weight[0][torch.from_numpy(used)] == 1).all())
    return ones and bool((np.bincount(read, minlength=part.structure.inputs) <= 1).all())


def pointwise_matrix(factors: Sequence[LinearMap]) -> Tensor | None:
    """The matrix [o, i] between channels that the product of ``factors`` is, but for its norm.

    None if it is something else. Theorem: a product that is one matrix between the channels of
    every pixel has that matrix's norm. Permutations at its ends change nothing; those inside have
    to give each pixel back what it had, and scales have to be the same for all pixels.
    """
    found = _Channels()
    return found.matrix if all(found.take(factor) for factor in factors) and found.end() else None


class _Channels:
    """The product so far: ``matrix``, then the permutation ``places``, then ``scale``."""

    def __init__(self) -> None:
        self.matrix: Tensor | None = None
        self.places: Tensor | None = None
        self.scale: Tensor | None = None

    def take(self, factor: LinearMap) -> bool:
        """Apply one more factor; False if the product is no matrix between channels."""
        match factor:
            case Scaling():
                own = factor.factor.expand(factor.input_shape).flatten()
                self.scale = own if self.scale is None else self.scale * own
                return True
            case Convolution() if _pointwise(factor):
                return self._mix(factor.weight[:, :, 0, 0])
            case _:
                read = _read(factor)
                if read is None:
                    return False
                self.places = read if self.places is None else self.places[read]
                self.scale = None if self.scale is None else self.scale[read]
                return True

    def end(self) -> bool:
        """Put the last scale into the matrix."""
        if self.matrix is None or self.scale is None:
            return self.matrix is not None
        scale = self.scale
        if self.places is not None:
            scale = torch.empty_like(scale).index_copy_(0, self.places, self.scale)
        per_channel = _per_channel(scale, len(self.matrix))
        if per_channel is None:
            return False
        self.matrix = per_channel[:, None] * self.matrix
        return True

    def _mix(self, weight: Tensor) -> bool:
        moved = self.places is not None and not _identity(self.places)
        if self.matrix is not None and moved:
            return False
        if self.scale is not None:
            per_channel = _per_channel(self.scale, weight.shape[1])
            if per_channel is None:
                return False
            weight = weight * per_channel
        self.matrix = weight if self.matrix is None else weight @ self.matrix
        self.places, self.scale = None, None
        return True


def channel_matrices(linear: LinearMap) -> Tensor | None:
    """The matrices [c, outputs, inputs] of a convolution that keeps every channel by itself.

    None if it is something else, or they are large. Their entries are weights, not rounded; the
    norm of the whole is the largest of theirs.
    """
    if not isinstance(linear, Convolution) or linear.groups != linear.input_shape[0]:
        return None
    channels, height, width = linear.input_shape
    pixels, outputs = height * width, math.prod(linear.output_shape) // channels
    if min(pixels, outputs) > _PIXELS or channels * pixels * outputs > _ENTRIES:
        return None
    # Through the smaller side: the units of the other one alone would fill the memory.
    units = torch.eye(min(pixels, outputs), dtype=torch.float64)[:, None]  # [k, 1, k]
    units = units.expand(-1, channels, -1).contiguous()
    if pixels <= outputs:
        columns = linear.apply(units.view(pixels, channels, height, width))  # [p, c m, H', W']
        return columns.reshape(pixels, channels, outputs).permute(1, 2, 0)
    rows = linear.adjoint(units.view(outputs, *linear.output_shape))  # [o, c, H, W]
    return rows.reshape(outputs, channels, pixels).permute(1, 0, 2)


def _read(factor: LinearMap) -> Tensor | None:
    """Which input each output is, where every output is one input and each of them is read once."""
    if isinstance(factor, Reshape):
        return torch.arange(math.prod(factor.input_shape))
    if not isinstance(factor, Sparse) or len(factor.weight) != 1:
        return None
    read, size = factor.structure.columns[0], factor.structure.inputs
    whole = len(read) == size and bool(factor.structure.used.all())
    if not (whole and bool((factor.weight == 1).all())):
        return None
    once = np.bincount(read.cpu().numpy(), minlength=size) == 1
    return read if bool(once.all()) else None


def _pointwise(linear: Convolution) -> bool:
    kernel = tuple(linear.weight.shape[2:])
    plain = linear.stride == (1, 1) and linear.pads == (0, 0, 0, 0)
    return kernel == (1, 1) and plain and linear.groups == 1


def _per_channel(scale: Tensor, channels: int) -> Tensor | None:
    """The scale [channels] of each, if it is the same in all pixels."""
    planes = scale.reshape(channels, -1)
    return planes[:, 0] if bool((planes == planes[:, :1]).all()) else None


def _identity(places: Tensor) -> bool:
    return bool((places == torch.arange(len(places), device=places.device)).all())
