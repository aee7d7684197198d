"""The grid reports mistakes of reading that are planted into the engine."""

from __future__ import annotations

import pytest
from reaas_bounds import flushing

from tests.differential.planted import (
    Misreading,
    dilated_padding,
    found,
    negative_axes_as_none,
    nothing,
    python_integers,
    training_as_inference,
    without,
)

# Faults that the engine once had.
ONCE: dict[str, tuple[str, Misreading]] = {
    "BatchNormalization in training read as inference": (
        "plain BatchNormalization",
        training_as_inference,
    ),
    "axes of Resize counted from the end": ("Resize as exported", negative_axes_as_none),
    "padding of a dilated pool as the standard has it": ("dilated pools", dilated_padding),
    "integers as Python has them, small": ("small integers", python_integers),
    "integers as Python has them, large": ("integer arithmetic", python_integers),
}

ATTRIBUTES: list[tuple[str, str, str]] = [
    ("Conv", "Conv", "pads"),
    ("Conv", "Conv", "strides"),
    ("Conv", "Conv", "dilations"),
    ("Conv", "Conv", "auto_pad"),
    ("MaxPool", "MaxPool", "pads"),
    ("MaxPool", "MaxPool", "strides"),
    ("MaxPool", "MaxPool", "dilations"),
    ("MaxPool", "MaxPool", "auto_pad"),
    ("MaxPool", "MaxPool", "ceil_mode"),
    ("AveragePool", "AveragePool", "pads"),
    ("AveragePool", "AveragePool", "dilations"),
    ("AveragePool", "AveragePool", "auto_pad"),
    ("AveragePool", "AveragePool", "ceil_mode"),
    ("AveragePool", "AveragePool", "count_include_pad"),
    ("Resize as exported", "Resize", "mode"),
    ("Resize as exported", "Resize", "nearest_mode"),
    ("Resize as exported", "Resize", "coordinate_transformation_mode"),
    ("Pad", "Pad", "mode"),
    ("Gemm", "Gemm", "alpha"),
    ("Gemm", "Gemm", "beta"),
    ("plain BatchNormalization", "BatchNormalization", "epsilon"),
    ("activations", "LeakyRelu", "alpha"),
    ("activations", "Gelu", "approximate"),
    ("TopK", "TopK", "axis"),
    ("TopK", "TopK", "largest"),
    ("computed shapes", "Shape", "start"),
]


@pytest.mark.parametrize("fault", ONCE)
def test_a_fault_of_the_past_is_reported(fault: str) -> None:
    family, misreading = ONCE[fault]
    report = found(family, misreading)
    assert report is not None
    print(report[0], report[1].reason)


def test_underflow_that_is_not_counted_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("scales", nothing, limit=20) is None
    monkeypatch.setattr(flushing, "LOST", 0.0)
    report = found("scales", nothing, limit=20)
    assert report is not None
    print(report[0], report[1].reason)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind", "attribute"), ATTRIBUTES)
def test_an_attribute_that_is_not_looked_at_is_reported(
    family: str, kind: str, attribute: str
) -> None:
    report = found(family, without(kind, attribute))
    assert report is not None
    print(report[0], report[1].reason)
