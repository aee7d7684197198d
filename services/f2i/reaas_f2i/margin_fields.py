"""The fields of `target.margins`: their shapes, and their numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from reaas.v1 import f2i_pb2, tensor_pb2
from reaas_runtime import DomainError, Reason, as_array, check_length, shape_of

from reaas_f2i.settings import F2ISettings

_NORMALS = "target.margins.normals"
_OFFSETS = "target.margins.offsets"
_WITHIN = "target.margins.valid_within"


def check_margins_header(
    margins: f2i_pb2.MarginTarget, count: int, feature_dim: int, settings: F2ISettings
) -> None:
    """Check types, shapes and lengths for `count` inputs with features of length `feature_dim`.

    Raises DomainError INVALID_DTYPE, INVALID_SHAPE, INVALID_DATA_LENGTH.
    """
    most_sets, most_rows = settings.max_margin_sets, settings.max_margin_rows
    _check_float64(margins.normals, _NORMALS)
    wanted = f"[n, m, {feature_dim}] or, with sets, [n, s, m, {feature_dim}]"
    shape = list(shape_of(margins.normals, _NORMALS, (3, 4), wanted))
    sets = shape[1] if len(shape) == 4 else 1
    rows = shape[-2] if len(shape) in (3, 4) else 0
    fitting = [[count, rows, feature_dim], [count, sets, rows, feature_dim]]
    if shape not in fitting or not 1 <= sets <= most_sets or not 1 <= rows <= most_rows:
        rest = f"1 to {most_rows}, {feature_dim}]"
        limit = f"[{count}, {rest} or, with sets, [{count}, 1 to {most_sets}, {rest}"
        raise invalid_shape(_NORMALS, shape, limit)
    check_length(margins.normals, _NORMALS)
    _check_shape(margins.offsets, _OFFSETS, shape[:-1], "one offset for each normal")
    if margins.HasField("valid_within"):
        if len(shape) != 4:
            limit = f"[{count}, s, m, {feature_dim}] where valid_within is set"
            raise invalid_shape(_NORMALS, shape, limit)
        _check_shape(margins.valid_within, _WITHIN, shape[:2], "one radius for each set")


def decode_margins(
    margins: f2i_pb2.MarginTarget,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Normals [n, s, m, d], offsets [n, s, m], and radii [n, s] within which the sets hold.

    Raises DomainError INVALID_VALUE where a normal or an offset is not finite, INVALID_RADIUS
    where a radius is not above 0.
    """
    normals = _decode_finite(margins.normals, _NORMALS)
    offsets = _decode_finite(margins.offsets, _OFFSETS)
    if normals.ndim == 3:
        normals, offsets = normals[:, None], offsets[:, None]
    within = np.full(normals.shape[:2], np.inf)
    if margins.HasField("valid_within"):
        within = _decode_within(margins.valid_within)
    return normals, offsets, within


def invalid_shape(field: str, shape: list[int], limit: str) -> DomainError:
    """That `field` has another shape than `limit` says."""
    return DomainError(
        Reason.INVALID_SHAPE,
        f"{field}.shape is {shape}, allowed: {limit}",
        field=f"{field}.shape",
        got=shape,
        limit=limit,
    )


def _check_shape(tensor: tensor_pb2.Tensor, field: str, wanted: list[int], what: str) -> None:
    _check_float64(tensor, field)
    shape = list(shape_of(tensor, field, (len(wanted),), f"{wanted}, {what}"))
    if shape != wanted:
        raise invalid_shape(field, shape, f"{wanted}, {what}")
    check_length(tensor, field)


def _check_float64(tensor: tensor_pb2.Tensor, field: str) -> None:
    if tensor.dtype != tensor_pb2.DATA_TYPE_FLOAT64:
        raise DomainError(
            Reason.INVALID_DTYPE,
            f"{field}.dtype is {tensor.dtype}, allowed: FLOAT64",
            field=f"{field}.dtype",
            got=tensor.dtype,
            limit="FLOAT64",
        )


def _decode_finite(tensor: tensor_pb2.Tensor, field: str) -> NDArray[np.float64]:
    values = as_array(tensor).astype(np.float64)  # its own memory: torch wants it writable
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        raise _invalid(Reason.INVALID_VALUE, field, values, wrong[0], "finite numbers")
    return values


def _decode_within(tensor: tensor_pb2.Tensor) -> NDArray[np.float64]:
    within = as_array(tensor).astype(np.float64)  # [n, s]
    wrong = np.argwhere(~(within > 0))
    if len(wrong):
        limit = "above 0, infinity where the set holds everywhere"
        raise _invalid(Reason.INVALID_RADIUS, _WITHIN, within, wrong[0], limit)
    return within


def _invalid(
    reason: Reason,
    field: str,
    values: NDArray[np.float64],
    position: NDArray[np.intp],
    limit: str,
) -> DomainError:
    place = tuple(int(index) for index in position)
    return DomainError(
        reason,
        f"{field}.data has {values[place]:g} at {list(place)}, allowed: {limit}",
        field=f"{field}.data",
        got=f"{values[place]:g}",
        limit=limit,
    )
