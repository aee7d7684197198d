"""What can be wrong with a model or a question.

BoundsError
├── InvalidModelError          the file is no encoder this engine can describe
│   └── UnsupportedOperatorError   it uses an operator that has no bound here
├── InvalidQueryError          inputs, radii or options that make no sense
├── DeviceError                bounds cannot be computed on the device asked for
└── CalledOffError             the work was called off from outside (``interruptible``)
"""

from __future__ import annotations


class BoundsError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidModelError(BoundsError):
    """The ONNX bytes are corrupt, too large, or not an encoder ``[N,C,H,W] -> [N,d]``."""


class UnsupportedOperatorError(InvalidModelError):
    """A node that has no certified bound: an unknown operator is never skipped.

    Attributes:
        node: name of the node in the file (or of its first output, if it has none).
        operator: operator type, with the attribute that rules it out where there is one.
    """

    def __init__(self, node: str, operator: str) -> None:
        super().__init__(f"node {node!r} uses {operator}, which has no certified bound")
        self.node = node
        self.operator = operator


class CalledOffError(BoundsError):
    """The work was called off before it came to an end."""

    def __init__(self) -> None:
        super().__init__("the work was called off")


class DeviceError(BoundsError):
    """There is no such device here, or its arithmetic is not what bounds assume."""


class InvalidQueryError(BoundsError):
    """Inputs, feature radii or search options outside what the question allows.

    Attributes:
        field: the argument at fault, in the words of the caller.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
