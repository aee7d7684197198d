"""Linear maps between activations: what an affine layer does, without its bias."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from reaas_bounds.graph.window import Shape, Window, embed


class LinearMap(ABC):
    """A linear map ``W`` from activations of ``input_shape`` to ``output_shape``, in float64.

    ``terms`` is the number of products summed for one output entry: what its rounding is due to.
    Maps are compared by identity, so that norms can be remembered per map; a copy on
    another device is remembered as its ``origin``.
    """

    def __init__(self, input_shape: Shape, output_shape: Shape, terms: int) -> None:
        self.input_shape = input_shape
        self.output_shape = output_shape
        self.terms = terms
        self._origin: LinearMap | None = None  # itself would be a cycle, freed late

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """``W x`` for ``x`` [n, *input_shape]; returns [n, *output_shape]."""

    @abstractmethod
    def pull(self, rows: Tensor, window: Window | None) -> tuple[Tensor, Window | None]:
        """``W^T rows`` for rows [n, *output_shape] that are zero outside ``window``.

        Returns the result in a window of its own (``None`` = everything): the rows of a
        convolution are local, and most of the work of a dense row would be zeros.
        """

    @abstractmethod
    def with_weights(self, change: Callable[[Tensor], Tensor]) -> LinearMap:
        """The same geometry with every weight tensor passed through ``change``."""

    def to(self, device: torch.device) -> LinearMap:
        """The same map with its weights on another device."""
        moved = self.with_weights(lambda weight: weight.to(device))
        if moved is not self:
            moved._origin = self.origin
        return moved

    @property
    def origin(self) -> LinearMap:
        """The map whose norms are this one's."""
        return self._origin or self

    def absolute(self) -> LinearMap:
        """A map with entries at least the absolute values of this one's (equal for one factor)."""
        return self.with_weights(torch.abs)

    @property
    def weighed(self) -> LinearMap:
        """The map whose absolute weights count for rounding: itself, if the weights are stored."""
        return self

    def adjoint(self, rows: Tensor) -> Tensor:
        """``W^T rows`` [n, *input_shape] for full ``rows`` [n, *output_shape]."""
        values, window = self.pull(rows, None)
        return embed(values, window, self.input_shape)

    @property
    def parts(self) -> tuple[LinearMap, ...]:
        """The factors of the map in the order of application (itself, if it is no product)."""
        return (self,)


class Composition(LinearMap):
    """Several maps, the first applied first."""

    def __init__(self, factors: tuple[LinearMap, ...]) -> None:
        terms = sum(factor.terms for factor in factors)
        super().__init__(factors[0].input_shape, factors[-1].output_shape, terms)
        self.factors = factors

    @property
    def parts(self) -> tuple[LinearMap, ...]:
        """The factors."""
        return self.factors

    def apply(self, x: Tensor) -> Tensor:
        """All maps in their order."""
        for factor in self.factors:
            x = factor.apply(x)
        return x

    def pull(self, rows: Tensor, window: Window | None) -> tuple[Tensor, Window | None]:
        """All adjoints, last map first."""
        for factor in reversed(self.factors):
            rows, window = factor.pull(rows, window)
        return rows, window

    def with_weights(self, change: Callable[[Tensor], Tensor]) -> Composition:
        """Every factor changed: absolute factors bound the absolute product entrywise."""
        return Composition(tuple(factor.with_weights(change) for factor in self.factors))


def compose(maps: Sequence[LinearMap]) -> LinearMap:
    """The product of ``maps`` (first applied first) as one map."""
    factors = tuple(part for linear in maps for part in linear.parts)
    return factors[0] if len(factors) == 1 else Composition(factors)
