"""From a PerturbRequest to a checked question, and from answers to a reply."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from reaas.v1 import f2i_pb2, tensor_pb2
from reaas_bounds import CertifiedRadius, Method, SearchOptions
from reaas_runtime import DomainError, InputSpec, Reason, as_array, check_length, decode_inputs

from reaas_f2i.certifier import Question
from reaas_f2i.settings import F2ISettings

# Far beyond any feature; where a classifier's label holds everywhere, clients send this much.
LARGEST_FEATURE_RADIUS = 1e9

_METHODS = {
    f2i_pb2.METHOD_UNSPECIFIED: Method.AUTO,
    f2i_pb2.METHOD_AUTO: Method.AUTO,
    f2i_pb2.METHOD_LIPSCHITZ: Method.LIPSCHITZ,
    f2i_pb2.METHOD_CROWN: Method.CROWN,
    f2i_pb2.METHOD_IBP: Method.IBP,
}
_NAMES = {method: number for number, method in _METHODS.items()}


def check_request(request: f2i_pb2.PerturbRequest, count: int) -> None:
    """Check all but the inputs' values; cheap enough for the event loop.

    `count` is the number of inputs. Raises DomainError MISSING_TARGET, INVALID_METHOD,
    INVALID_SHAPE, INVALID_DTYPE, INVALID_DATA_LENGTH.
    """
    if request.WhichOneof("target") != "ball":
        raise DomainError(
            Reason.MISSING_TARGET,
            "target is not set: send the feature-space certified radii as target.ball.radii",
            field="target",
            limit="ball",
        )
    if request.method not in _METHODS:
        known = ", ".join(f2i_pb2.Method.Name(number) for number in _METHODS)
        raise DomainError(
            Reason.INVALID_METHOD,
            f"method is {request.method}, known: {known}",
            field="method",
            got=request.method,
            limit=known,
        )
    _check_radii_header(request.ball.radii, count)


def to_question(
    request: f2i_pb2.PerturbRequest, spec: InputSpec, settings: F2ISettings
) -> Question:
    """The question of a request that `check_request` passed.

    Raises DomainError INVALID_VALUE, INVALID_RADIUS, INVALID_SEARCH.
    """
    return Question(
        images=decode_inputs(request.inputs, spec, clean=True),
        feature_radii=_decode_radii(request.ball.radii),
        method=_METHODS[request.method],
        options=_search_options(request.search, settings),
    )


def to_result(answer: CertifiedRadius) -> f2i_pb2.PerturbResult:
    """One answer as it travels."""
    return f2i_pb2.PerturbResult(
        radius=answer.radius,
        method=_NAMES[answer.method],
        upper=answer.upper,
        steps=answer.steps,
        converged=answer.converged,
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
        raise DomainError(
            Reason.INVALID_SHAPE,
            f"{field}.shape is {list(radii.shape)}, allowed: [{count}], one radius for each input",
            field=f"{field}.shape",
            got=list(radii.shape),
            limit=[count],
        )
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


def _search_options(search: f2i_pb2.SearchOptions, settings: F2ISettings) -> SearchOptions:
    if not 0 <= search.max_steps <= settings.max_search_steps:
        raise _invalid_search("max_steps", search.max_steps, f"0 to {settings.max_search_steps}")
    if not 0 <= search.relative_tolerance < 1:
        raise _invalid_search("relative_tolerance", search.relative_tolerance, "0 to below 1")
    return SearchOptions(
        max_steps=search.max_steps or settings.search_steps,
        relative_tolerance=search.relative_tolerance or settings.search_tolerance,
    )


def _invalid_search(name: str, got: float, limit: str) -> DomainError:
    return DomainError(
        Reason.INVALID_SEARCH,
        f"search.{name} is {got:g}, allowed: {limit}",
        field=f"search.{name}",
        got=f"{got:g}",
        limit=limit,
    )
