"""What F2IPerturb is asked about an input: a ball around its feature, or margins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reaas._constant import check_feature_radii
from reaas._errors import InvalidArgumentError
from reaas._model import Method, ModelRef, as_ref
from reaas._protocol import METHOD_NUMBERS, Batch, ref_to_message
from reaas._tensor import check_inputs, to_tensor
from reaas.v1 import f2i_pb2

BALL_METHODS = (Method.AUTO, Method.LIPSCHITZ, Method.CROWN, Method.IBP)
"""The bounds that certify a ball."""
MARGIN_METHODS = (Method.AUTO, Method.LIPSCHITZ, Method.ENVELOPE)
"""The bounds that certify margins."""


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
    inputs: NDArray[Any],
    normals: NDArray[Any],
    offsets: NDArray[Any],
    model: ModelRef | str,
    method: str,
    max_steps: int,
) -> Batch[f2i_pb2.PerturbRequest]:
    """A batch of margins for the F2IPerturb-API, or InvalidArgumentError."""
    ref = _exact(model)
    _check_max_steps(max_steps)
    images = check_inputs(inputs)
    rows = np.asarray(normals, dtype=np.float64)  # [n, m, d]
    limits = np.asarray(offsets, dtype=np.float64)  # [n, m]
    _check_margins(rows, limits, len(images))
    number = _number(method, MARGIN_METHODS)

    def request(part: slice) -> f2i_pb2.PerturbRequest:
        return f2i_pb2.PerturbRequest(
            model=ref_to_message(ref),
            inputs=to_tensor(images[part]),
            margins=f2i_pb2.MarginTarget(
                normals=to_tensor(rows[part]), offsets=to_tensor(limits[part])
            ),
            method=number,
            search=f2i_pb2.SearchOptions(max_steps=max_steps),
        )

    return Batch(images, request, extra_bytes=rows[0].nbytes + limits[0].nbytes)


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


def _check_margins(normals: NDArray[np.float64], offsets: NDArray[np.float64], n: int) -> None:
    if normals.ndim != 3 or len(normals) != n or not normals.size:
        _refuse_shape("normals", normals.shape, f"[{n}, m, d], at least one row for each input")
    if offsets.shape != normals.shape[:2]:
        _refuse_shape("offsets", offsets.shape, f"{list(normals.shape[:2])}, one for each normal")
    for field, values in (("normals", normals), ("offsets", offsets)):
        wrong = np.argwhere(~np.isfinite(values))
        if len(wrong):
            position = tuple(int(index) for index in wrong[0])
            raise InvalidArgumentError(
                f"{field}{list(position)} is {values[position]}; it must be finite",
                reason="INVALID_VALUE",
                field=field,
                limit="finite",
                got=str(values[position]),
            )


def _refuse_shape(field: str, got: tuple[int, ...], limit: str) -> None:
    raise InvalidArgumentError(
        f"{field} has shape {list(got)}; it must be {limit}",
        reason="INVALID_SHAPE",
        field=field,
        limit=limit,
        got=str(list(got)),
    )
