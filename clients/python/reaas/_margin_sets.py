"""Margins around features, as a caller gives them and as they travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reaas._errors import InvalidArgumentError
from reaas._tensor import to_tensor
from reaas.v1 import f2i_pb2

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MarginSets:
    """Checked margins of n inputs: one set each, or s of them with the balls they hold in."""

    normals: Float
    """[n, m, d] or [n, s, m, d]"""
    offsets: Float
    """[n, m] or [n, s, m]"""
    valid_within: Float | None
    """[n, s], above 0; infinity: everywhere. None: all everywhere."""

    @classmethod
    def of(
        cls,
        normals: NDArray[Any],
        offsets: NDArray[Any],
        valid_within: NDArray[Any] | None,
        n: int,
    ) -> MarginSets:
        """From what a caller gives, for `n` inputs, or InvalidArgumentError."""
        rows, limits = np.asarray(normals, np.float64), np.asarray(offsets, np.float64)
        within = None if valid_within is None else np.asarray(valid_within, np.float64)
        _check_shapes(rows, limits, within, n)
        _check_finite("normals", rows)
        _check_finite("offsets", limits)
        if within is not None:
            _check_within(within)
        return cls(rows, limits, within)

    @property
    def bytes_each(self) -> int:
        """What travels with each input."""
        within = 0 if self.valid_within is None else self.valid_within[0].nbytes
        return int(self.normals[0].nbytes + self.offsets[0].nbytes + within)

    def message(self, part: slice) -> f2i_pb2.MarginTarget:
        """Those of some of the inputs, as they travel."""
        within = None if self.valid_within is None else to_tensor(self.valid_within[part])
        return f2i_pb2.MarginTarget(
            normals=to_tensor(self.normals[part]),
            offsets=to_tensor(self.offsets[part]),
            valid_within=within,
        )


def _check_shapes(normals: Float, offsets: Float, within: Float | None, n: int) -> None:
    if normals.ndim not in (3, 4) or len(normals) != n or not normals.size:
        limit = f"[{n}, m, d] or, with sets, [{n}, s, m, d], at least one row for each input"
        _refuse_shape("normals", normals.shape, limit)
    if offsets.shape != normals.shape[:-1]:
        limit = f"{list(normals.shape[:-1])}, one for each normal"
        _refuse_shape("offsets", offsets.shape, limit)
    if within is None:
        return
    if normals.ndim != 4:
        # A service that does not know balls refuses sets; without, it would overlook the balls.
        limit = f"[{n}, s, m, d] where valid_within is given"
        _refuse_shape("normals", normals.shape, limit)
    if within.shape != normals.shape[:2]:
        _refuse_shape("valid_within", within.shape, f"{list(normals.shape[:2])}, one for each set")


def _check_finite(field: str, values: Float) -> None:
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        _refuse_value(field, values, wrong[0], "finite")


def _check_within(within: Float) -> None:
    wrong = np.argwhere(~(within > 0))
    if len(wrong):
        _refuse_value("valid_within", within, wrong[0], "above 0 (infinity: everywhere)")


def _refuse_value(field: str, values: Float, position: NDArray[np.intp], limit: str) -> None:
    place = tuple(int(index) for index in position)
    raise InvalidArgumentError(
        f"{field}{list(place)} is {values[place]}; it must be {limit}",
        reason="INVALID_VALUE",
        field=field,
        limit=limit,
        got=str(values[place]),
    )


def _refuse_shape(field: str, got: tuple[int, ...], limit: str) -> None:
    raise InvalidArgumentError(
        f"{field} has shape {list(got)}; it must be {limit}",
        reason="INVALID_SHAPE",
        field=field,
        limit=limit,
        got=str(list(got)),
    )
