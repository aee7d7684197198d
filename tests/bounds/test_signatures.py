"""The table of what is read: it is what the docs say, and nodes outside of it are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from onnx import helper
from reaas_bounds import BoundsError, InvalidModelError, certified_constants, load_network
from reaas_bounds.graph.operators import OPERATORS
from reaas_bounds.graph.signatures import SIGNATURES, check_node

from tests.differential.hostile import right

DOCS = Path(__file__).parents[2] / "docs" / "operators.md"


def test_the_docs_list_every_operator_with_its_versions_and_attributes() -> None:
    rows = [line.split("|")[1:4] for line in DOCS.read_text().splitlines() if line[:2] == "| "]
    stated = {name.strip(): (versions.strip(), given) for name, versions, given in rows}
    for kind, signature in SIGNATURES.items():
        versions, attributes = stated[kind]
        assert versions == ", ".join(map(str, signature.versions)), kind
        if kind != "Resize":  # Its defaults are not spelled out.
            assert all(name in attributes for name in signature.attributes), kind


def test_every_operator_has_a_signature() -> None:
    # Swish is what SiLU is read as where a file writes it with several nodes. A file's own is
    # refused: ONNX Runtime has no kernel for most versions of it.
    assert set(OPERATORS) - set(SIGNATURES) == {"Swish"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"alpha": float("nan")}, "not finite"),
        ({"beta": 1.0}, "with beta"),
        ({"alpha": 1}, "another type"),
    ],
)
def test_an_attribute_that_is_not_in_the_table_is_refused_by_name(
    given: dict[str, Any], reason: str
) -> None:
    node = helper.make_node("LeakyRelu", ["x"], ["y"], name="bend", **given)
    with pytest.raises(InvalidModelError, match=f"'bend'.*{reason}"):
        check_node(node, 17)


@pytest.mark.parametrize("data", [b"", b"\0", b"onnx", b"\x08\x08:\x02\n\0", b"\xff" * 64])
def test_bytes_that_are_no_file_are_refused(data: bytes) -> None:
    with pytest.raises(BoundsError):
        load_network(data)


def test_a_network_that_depends_on_nothing_is_certified() -> None:
    model = right()
    for tensor in model.graph.initializer:
        if tensor.name == "c2":  # of the Gemm
            tensor.raw_data = bytes(len(tensor.raw_data))
    constants = certified_constants(load_network(model.SerializeToString()))
    assert 0 <= constants.lipschitz < 1e-100
