"""What the engine has to know of a function of several activations, or of entries of one."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from reaas_bounds.graph.coupling.reached import Reached


class Coupling(ABC):
    """A smooth function of activations; all bounds are over the values that are ``Reached``.

    Attributes:
        name: the ONNX operator, for messages.
    """

    name: str

    @abstractmethod
    def value(self, *inputs: Tensor) -> Tensor:
        """The function of values [n, *shape] each."""

    @abstractmethod
    def gains(self, *inputs: Reached) -> tuple[float, ...]:
        """Constants g with ``||F(h') - F(h)||_2 <= sum_i g_i ||h'_i - h_i||_2``, rounding included.

        For all h, h' that are reached; infinite where there are none.
        """

    @abstractmethod
    def image(self, *inputs: Reached) -> tuple[Tensor, Tensor]:
        """Smallest and largest value, entrywise [*shape]; may be infinite."""

    @abstractmethod
    def rounding(self, *inputs: Reached) -> float:
        """2-norm of what the float32 kernel is off for float32 values that are reached."""
