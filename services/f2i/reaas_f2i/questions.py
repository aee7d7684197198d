"""From a PerturbRequest to a checked question, and from answers to a reply."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from reaas.v1 import f2i_pb2, tensor_pb2
from reaas_bounds import CertifiedMargin, MarginMethod, MarginOptions, Method, SearchOptions
from reaas_bounds.query import SMALLEST_TOLERANCE
from reaas_runtime import (
    DomainError,
    InputSpec,
    Reason,
    as_array,
    check_length,
    decode_inputs,
    shape_of,
)

from reaas_f2i.margin_fields import check_margins_header, decode_margins, invalid_shape
from reaas_f2i.settings import F2ISettings
from reaas_f2i.targets import Answer, Ball, Margins, Question

# Far beyond any feature; where a classifier's label holds everywhere, clients send this much.
LARGEST_FEATURE_RADIUS = 1e9
# Answered where nothing limits the radius: far beyond any image, and finite.
LARGEST_RADIUS = 1e9


def _name(method: Method | MarginMethod) -> str:
    """A bound of the engine as the contract names it."""
    return f"METHOD_{method.name}"


_METHODS: dict[int, Method] = {
    f2i_pb2.METHOD_UNSPECIFIED: Method.AUTO,
    **{f2i_pb2.Method.Value(_name(method)): method for method in Method},
}
_MARGIN_METHODS: dict[int, MarginMethod] = {
    f2i_pb2.METHOD_UNSPECIFIED: MarginMethod.AUTO,
    **{f2i_pb2.Method.Value(_name(method)): method for method in MarginMethod},
    # Other names of the same: the envelope is the local bound of a row, and a row has no norm that
    # its coordinates could share.
    f2i_pb2.METHOD_LOCAL: MarginMethod.ENVELOPE,
    f2i_pb2.METHOD_CROWN_JOINT: MarginMethod.CROWN,
}


def check_request(
    request: f2i_pb2.PerturbRequest, count: int, feature_dim: int, settings: F2ISettings
) -> None:
    """Check all but the values of inputs and target; cheap enough for the event loop.

    `count` is the number of inputs, `feature_dim` the length of a feature. Raises DomainError
    MISSING_TARGET, INVALID_METHOD, INVALID_SHAPE, INVALID_DTYPE, INVALID_DATA_LENGTH.
    """
    match request.WhichOneof("target"):
        case "ball":
            _check_method(request.method, _METHODS, "a ball")
            _check_radii_header(request.ball.radii, count)
        case "margins":
            _check_method(request.method, _MARGIN_METHODS, "margins")
            check_margins_header(request.margins, count, feature_dim, settings)
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
    upper, margin_set, by_ball = radius, 0, False
    if isinstance(answer, CertifiedMargin):
        margin_set, by_ball = answer.margin_set, answer.limited_by_ball
    else:
        upper = answer.upper
    return f2i_pb2.PerturbResult(
        radius=radius,
        method=_name(answer.method),
        upper=upper,
        steps=answer.steps,
        converged=answer.converged,
        margin_set=margin_set,
        limited_by_ball=by_ball,
    )


def _ball(request: f2i_pb2.PerturbRequest, settings: F2ISettings) -> Ball:
    radii, options = _decode_radii(request.ball.radii), _search_options(request, settings)
    return Ball(radii, _METHODS[request.method], options)


def _margins(request: f2i_pb2.PerturbRequest, settings: F2ISettings) -> Margins:
    options = MarginOptions(
        max_envelopes=request.search.max_steps or settings.margin_steps,
        search=_search_options(request, settings),
    )
    normals, offsets, within = decode_margins(request.margins)
    return Margins(normals, offsets, within, _MARGIN_METHODS[request.method], options)


def _search_options(request: f2i_pb2.PerturbRequest, settings: F2ISettings) -> SearchOptions:
    return SearchOptions(
        max_steps=request.search.max_steps or settings.search_steps,
        relative_tolerance=request.search.relative_tolerance or settings.search_tolerance,
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
    wanted = f"[{count}], one radius for each input"
    shape = list(shape_of(radii, field, (1,), wanted))
    if shape != [count]:
        raise invalid_shape(field, shape, wanted)
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


def _check_search(search: f2i_pb2.SearchOptions, settings: F2ISettings) -> None:
    if not 0 <= search.max_steps <= settings.max_search_steps:
        raise _invalid_search("max_steps", search.max_steps, f"0 to {settings.max_search_steps}")
    tolerance = search.relative_tolerance
    if not (tolerance == 0 or SMALLEST_TOLERANCE <= tolerance < 1):
        limit = f"0 for the service's default, or {SMALLEST_TOLERANCE:g} to below 1"
        raise _invalid_search("relative_tolerance", tolerance, limit)


def _invalid_search(name: str, got: float, limit: str) -> DomainError:
    return DomainError(
        Reason.INVALID_SEARCH,
        f"search.{name} is {got:g}, allowed: {limit}",
        field=f"search.{name}",
        got=f"{got:g}",
        limit=limit,
    )
