"""From a PerturbRequest to a checked question, and from answers to a reply."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from reaas.v1 import f2i_pb2, tensor_pb2
from reaas_bounds import CertifiedMargin, MarginMethod, MarginOptions, Method, SearchOptions
from reaas_runtime import DomainError, InputSpec, Reason, as_array, check_length, decode_inputs

from reaas_f2i.settings import F2ISettings
from reaas_f2i.targets import Answer, Ball, Margins, Question

# Far beyond any feature; where a classifier's label holds everywhere, clients send this much.
LARGEST_FEATURE_RADIUS = 1e9
# Answered where nothing limits the radius: far beyond any image, and finite.
LARGEST_RADIUS = 1e9

_METHODS = {
    f2i_pb2.METHOD_UNSPECIFIED: Method.AUTO,
    f2i_pb2.METHOD_AUTO: Method.AUTO,
    f2i_pb2.METHOD_LIPSCHITZ: Method.LIPSCHITZ,
    f2i_pb2.METHOD_CROWN: Method.CROWN,
    f2i_pb2.METHOD_IBP: Method.IBP,
}
_MARGIN_METHODS = {
    f2i_pb2.METHOD_UNSPECIFIED: MarginMethod.AUTO,
    f2i_pb2.METHOD_AUTO: MarginMethod.AUTO,
    f2i_pb2.METHOD_LIPSCHITZ: MarginMethod.LIPSCHITZ,
    f2i_pb2.METHOD_ENVELOPE: MarginMethod.ENVELOPE,
}
_NAMES: dict[Method | MarginMethod, f2i_pb2.Method] = {
    **{method: number for number, method in _METHODS.items()},
    **{method: number for number, method in _MARGIN_METHODS.items()},
}


def check_request(
    request: f2i_pb2.PerturbRequest, count: int, feature_dim: int, max_rows: int
) -> None:
    """Check all but the values of inputs and target; cheap enough for the event loop.

    `count` is the number of inputs, `feature_dim` the length of a feature, `max_rows` the most
    margins of one input. Raises DomainError MISSING_TARGET, INVALID_METHOD, INVALID_SHAPE,
    INVALID_DTYPE, INVALID_DATA_LENGTH.
    """
    match request.WhichOneof("target"):
        case "ball":
            _check_method(request.method, _METHODS, "a ball")
            _check_radii_header(request.ball.radii, count)
        case "margins":
            _check_method(request.method, _MARGIN_METHODS, "margins")
            _check_margins_header(request.margins, count, feature_dim, max_rows)
        case _:
            raise DomainError(
                Reason.MISSING_TARGET,
                "target is not set: send the feature-space certified radii as target.ball.radii, "
                "or half-spaces as target.margins",
                field="target",
                limit="ball, margins",
            )


def to_question(
    request: f2i_pb2.PerturbRequest, spec: InputSpec, settings: F2ISettings
) -> Question:
    """The question of a request that `check_request` passed.

    Raises DomainError INVALID_VALUE, INVALID_RADIUS, INVALID_SEARCH.
    """
    images = decode_inputs(request.inputs, spec, clean=True)
    _check_search(request.search, settings)
    if request.HasField("margins"):
        return Question(images, _margins(request, settings))
    return Question(images, _ball(request, settings))


def to_result(answer: Answer) -> f2i_pb2.PerturbResult:
    """One answer as it travels. Margins have no bracket: their upper end is the radius."""
    radius = min(answer.radius, LARGEST_RADIUS)
    if isinstance(answer, CertifiedMargin):
        upper, steps = radius, answer.envelopes
    else:
        upper, steps = answer.upper, answer.steps
    return f2i_pb2.PerturbResult(
        radius=radius,
        method=_NAMES[answer.method],
        upper=upper,
        steps=steps,
        converged=answer.converged,
    )


def _ball(request: f2i_pb2.PerturbRequest, settings: F2ISettings) -> Ball:
    search = request.search
    options = SearchOptions(
        max_steps=search.max_steps or settings.search_steps,
        relative_tolerance=search.relative_tolerance or settings.search_tolerance,
    )
    return Ball(_decode_radii(request.ball.radii), _METHODS[request.method], options)


def _margins(request: f2i_pb2.PerturbRequest, settings: F2ISettings) -> Margins:
    return Margins(
        normals=_decode_finite(request.margins.normals, "target.margins.normals"),
        offsets=_decode_finite(request.margins.offsets, "target.margins.offsets"),
        method=_MARGIN_METHODS[request.method],
        options=MarginOptions(max_envelopes=request.search.max_steps or settings.margin_steps),
    )


def _check_method(method: int, allowed: Collection[int], target: str) -> None:
    if method not in allowed:
        names = ", ".join(f2i_pb2.Method.Name(f2i_pb2.Method.ValueType(n)) for n in allowed)
        known = method in f2i_pb2.Method.values()
        got = f2i_pb2.Method.Name(f2i_pb2.Method.ValueType(method)) if known else str(method)
        raise DomainError(
            Reason.INVALID_METHOD,
            f"method is {got}, allowed for {target}: {names}",
            field="method",
            got=got,
            limit=names,
        )


def _check_radii_header(radii: tensor_pb2.Tensor, count: int) -> None:
    field = "target.ball.radii"
    if radii.dtype not in (tensor_pb2.DATA_TYPE_FLOAT32, tensor_pb2.DATA_TYPE_FLOAT64):
        raise DomainError(
            Reason.INVALID_DTYPE,
            f"{field}.dtype is {radii.dtype}, allowed: FLOAT32, FLOAT64",
            field=f"{field}.dtype",
            got=radii.dtype,
            limit="FLOAT32, FLOAT64",
        )
    if list(radii.shape) != [count]:
        raise _invalid_shape(field, list(radii.shape), f"[{count}], one radius for each input")
    check_length(radii, field)


def _decode_radii(tensor: tensor_pb2.Tensor) -> NDArray[np.float64]:
    radii = as_array(tensor).astype(np.float64)  # [n]
    wrong = ~((radii > 0) & (radii <= LARGEST_FEATURE_RADIUS))
    if wrong.any():
        position = int(wrong.argmax())
        value = float(radii[position])
        raise DomainError(
            Reason.INVALID_RADIUS,
            f"target.ball.radii[{position}] is {value:g}, allowed: above 0, at most "
            f"{LARGEST_FEATURE_RADIUS:g}",
            field=f"target.ball.radii[{position}]",
            got=f"{value:g}",
            limit=f"above 0, at most {LARGEST_FEATURE_RADIUS:g}",
        )
    return radii


def _check_margins_header(
    margins: f2i_pb2.MarginTarget, count: int, feature_dim: int, max_rows: int
) -> None:
    field, shape = "target.margins.normals", list(margins.normals.shape)
    _check_float64(margins.normals, field)
    rows = shape[1] if len(shape) == 3 else 0
    if shape != [count, rows, feature_dim] or not 1 <= rows <= max_rows:
        raise _invalid_shape(field, shape, f"[{count}, 1 to {max_rows}, {feature_dim}]")
    check_length(margins.normals, field)
    field, shape = "target.margins.offsets", list(margins.offsets.shape)
    _check_float64(margins.offsets, field)
    if shape != [count, rows]:
        raise _invalid_shape(field, shape, f"[{count}, {rows}], one offset for each normal")
    check_length(margins.offsets, field)


def _check_float64(tensor: tensor_pb2.Tensor, field: str) -> None:
    if tensor.dtype != tensor_pb2.DATA_TYPE_FLOAT64:
        raise DomainError(
            Reason.INVALID_DTYPE,
            f"{field}.dtype is {tensor.dtype}, allowed: FLOAT64",
            field=f"{field}.dtype",
            got=tensor.dtype,
            limit="FLOAT64",
        )


def _invalid_shape(field: str, shape: list[int], limit: str) -> DomainError:
    return DomainError(
        Reason.INVALID_SHAPE,
        f"{field}.shape is {shape}, allowed: {limit}",
        field=f"{field}.shape",
        got=shape,
        limit=limit,
    )


def _decode_finite(tensor: tensor_pb2.Tensor, field: str) -> NDArray[np.float64]:
    values = as_array(tensor).astype(np.float64)  # its own memory: torch wants it writable
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        position = tuple(int(index) for index in wrong[0])
        raise DomainError(
            Reason.INVALID_VALUE,
            f"{field}.data has {values[position]:g} at {list(position)}, allowed: finite numbers",
            field=f"{field}.data",
            got=f"{values[position]:g}",
            limit="finite",
        )
    return values


def _check_search(search: f2i_pb2.SearchOptions, settings: F2ISettings) -> None:
    if not 0 <= search.max_steps <= settings.max_search_steps:
        raise _invalid_search("max_steps", search.max_steps, f"0 to {settings.max_search_steps}")
    if not 0 <= search.relative_tolerance < 1:
        raise _invalid_search("relative_tolerance", search.relative_tolerance, "0 to below 1")


def _invalid_search(name: str, got: float, limit: str) -> DomainError:
    return DomainError(
        Reason.INVALID_SEARCH,
        f"search.{name} is {got:g}, allowed: {limit}",
        field=f"search.{name}",
        got=f"{got:g}",
        limit=limit,
    )
