"""What F2IPerturb is asked about an input: a ball around its feature, or margins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from reaas._constant import check_feature_radii
from reaas._errors import InvalidArgumentError
from reaas._margin_sets import MarginSets
from reaas._model import Method, ModelRef, as_ref
from reaas._protocol import METHOD_NUMBERS, Batch, ref_to_message
from reaas._tensor import check_inputs, to_tensor
from reaas.v1 import f2i_pb2

MARGIN_METHODS = tuple(Method)
"""The bounds that certify margins: all."""
BALL_METHODS = tuple(method for method in Method if method is not Method.ENVELOPE)
"""The bounds that certify a ball."""

MarginBatch = (
    tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
    | tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any] | None]
)
"""(inputs, normals, offsets) or (inputs, normals, offsets, valid_within)."""


def perturb_batch(
    inputs: NDArray[Any],
    feature_radii: NDArray[Any],
    model: ModelRef | str,
    method: str,
    max_steps: int,
    relative_tolerance: float,
) -> Batch[f2i_pb2.PerturbRequest]:
    """A batch of balls for the F2IPerturb-API, or InvalidArgumentError."""
    ref = _exact(model)
    _check_max_steps(max_steps)
    images = check_inputs(inputs)
    radii = check_feature_radii(feature_radii, len(images))
    number = _number(method, BALL_METHODS)
    search = f2i_pb2.SearchOptions(max_steps=max_steps, relative_tolerance=relative_tolerance)

    def request(part: slice) -> f2i_pb2.PerturbRequest:
        return f2i_pb2.PerturbRequest(
            model=ref_to_message(ref),
            inputs=to_tensor(images[part]),
            ball=f2i_pb2.BallTarget(radii=to_tensor(radii[part])),
            method=number,
            search=search,
        )

    return Batch(images, request, extra_bytes=radii.itemsize)


def margins_batch(
    model: ModelRef | str,
    method: str,
    max_steps: int,
    inputs: NDArray[Any],
    normals: NDArray[Any],
    offsets: NDArray[Any],
    valid_within: NDArray[Any] | None = None,
) -> Batch[f2i_pb2.PerturbRequest]:
    """A batch of margins for the F2IPerturb-API, or InvalidArgumentError."""
    ref = _exact(model)
    _check_max_steps(max_steps)
    images = check_inputs(inputs)
    margins = MarginSets.of(normals, offsets, valid_within, len(images))
    number = _number(method, MARGIN_METHODS)

    def request(part: slice) -> f2i_pb2.PerturbRequest:
        return f2i_pb2.PerturbRequest(
            model=ref_to_message(ref),
            inputs=to_tensor(images[part]),
            margins=margins.message(part),
            method=number,
            search=f2i_pb2.SearchOptions(max_steps=max_steps),
        )

    return Batch(images, request, extra_bytes=margins.bytes_each)


def _exact(model: ModelRef | str) -> ModelRef:
    ref = as_ref(model)
    if not ref.digest:
        raise InvalidArgumentError(
            f"model is {ref}, without a digest; pass the `model` that encode answered with, since "
            "R' and margins hold for the features of that very encoder",
            field="model.digest",
            limit="sha256:...",
        )
    return ref


def _check_max_steps(max_steps: int) -> None:
    if not 0 <= max_steps < 2**31:
        raise InvalidArgumentError(
            f"max_steps is {max_steps}; it must be at least 0 (0: the service's default)",
            reason="INVALID_SEARCH",
            field="search.max_steps",
            limit=">= 0",
            got=str(max_steps),
        )


def _number(method: str, allowed: Sequence[Method]) -> f2i_pb2.Method:
    if method not in allowed:
        limit = "|".join(allowed)
        raise InvalidArgumentError(
            f"method is {method!r}; it may be {limit}",
            reason="INVALID_METHOD",
            field="method",
            limit=limit,
            got=str(method),
        )
    return METHOD_NUMBERS[Method(method)]
