"""A device that is not the CPU, computed by the CPU: shows without a GPU what does not follow.

``use_elsewhere()`` registers PyTorch's spare backend under the name "elsewhere". Its tensors keep
what they hold out of reach: an operator that meets one of them and a plain tensor of the CPU
raises, as it does on a GPU, and so do `numpy` and an index from the CPU. What CUDA lets pass passes
here: numbers in tensors without dimensions, and copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch import library as dispatch
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"

# They may read tensors of another device.
_COPIES = {"_to_copy", "copy_"}
# Binary operators and `where` take numbers of the CPU on CUDA too.
_WITH_NUMBERS = {
    *("add", "sub", "mul", "div", "add_", "sub_", "mul_", "div_"),
    *("eq", "ne", "lt", "le", "gt", "ge", "where", "maximum", "minimum"),
}


class Elsewhere(Tensor):
    """A tensor whose values lie in ``held``, on the CPU, and can be had by copies only."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> Elsewhere:
        """A wrapper with the sizes and strides of ``held``."""
        made: Elsewhere = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    def tolist(self) -> Any:
        """A copy, as of any device's tensor."""
        return self.held.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.held})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """``function`` on the held tensors; refuses operands of the CPU."""
        kwargs = dict(kwargs or {})
        name = function.overloadpacket.__name__
        here = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name not in _COPIES:
            for operand in here:
                number = operand.dim() == 0 and name in _WITH_NUMBERS
                if not isinstance(operand, cls) and not number:
                    raise RuntimeError(f"{function}: {list(operand.shape)} is on the CPU")
        to_cpu = kwargs.get("device") == torch.device("cpu")
        if kwargs.get("device") is not None:
            kwargs["device"] = torch.device("cpu")
        found = function(*tree_map(_held, args), **tree_map(_held, kwargs))
        if torch.Tag.inplace_view in function.tags:  # as squeeze_: the sizes of the wrapper, too
            with no_dispatch():
                function(*args, **kwargs)
        # An operator in place gives back the tensor that it was given.
        known = {id(leaf.held): leaf for leaf in here if isinstance(leaf, cls)}

        def outer(value: Any) -> Any:
            if not isinstance(value, Tensor) or to_cpu:
                return value
            return known[id(value)] if id(value) in known else cls(value)

        return tree_map(outer, found)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Elsewhere) else value


def _made_by(function: Any) -> Callable[..., Tensor]:
    """``function``, which makes a tensor from numbers, for the device."""

    def make(*args: Any, dtype: torch.dtype | None = None, **_: Any) -> Tensor:
        return Elsewhere(function(*args, dtype=dtype))

    return make


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _held(target).copy_(_held(source))
    return target


_KERNELS: dict[str, Callable[..., Tensor]] = {
    "empty.memory_format": _made_by(torch.ops.aten.empty.memory_format),
    "empty_strided": _made_by(torch.ops.aten.empty_strided.default),
    "eye": _made_by(torch.ops.aten.eye.default),
    "arange": _made_by(torch.ops.aten.arange.default),
    "arange.start": _made_by(torch.ops.aten.arange.start),
    "arange.start_step": _made_by(torch.ops.aten.arange.start_step),
    "_copy_from": _copy_from,
}
_registered: list[dispatch.Library] = []


def use_elsewhere() -> None:
    """Register the device for this process, once and for good; before the first gradient."""
    if _registered:
        return
    _setup_privateuseone_for_python_backend(NAME)
    kernels = dispatch.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name, kernel in _KERNELS.items():
        kernels.impl(name, kernel, "PrivateUse1")  # type: ignore[no-untyped-call]
    _registered.append(kernels)
