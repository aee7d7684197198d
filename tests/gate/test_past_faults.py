"""Every fault that the reader once had is refused, on files of the differential grid."""

from __future__ import annotations

import onnx
import pytest
from reaas_bounds import load_network
from reaas_gate import ServedOtherwiseError, check_served

from tests.differential.planted import found
from tests.differential.test_planted import ONCE


@pytest.mark.parametrize("fault", ONCE)
def test_a_fault_of_the_past_does_not_pass(fault: str) -> None:
    family, misreading = ONCE[fault]
    report = found(family, misreading)
    assert report is not None
    served = report[0].data
    misread = onnx.load_model_from_string(served)
    misreading(misread)
    with pytest.raises(ServedOtherwiseError, match=r"apart on the image|gives .* for 1 images"):
        check_served(served, load_network(misread.SerializeToString()))
