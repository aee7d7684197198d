"""No attack beats a certified radius: random encoders over all operators, every method.

ONNX Runtime's float32 features are the judge. The fast tests attack about 3,000 pairs, the slow
ones 20,000 and more, with longer attacks; the summary of the test run says how many.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from reaas_bounds import MarginMethod, Method

from tests.bounds.attack import Effort
from tests.soundness.audit import Examined
from tests.soundness.conftest import AUDIT
from tests.soundness.generator import OPERATORS, random_encoder
from tests.soundness.tally import Audit
from tests.soundness.torch_models import MODELS, exported

Record = Callable[[str, object], None]

# Closed forms and single passes are asked about many images, what searches about a few.
CHEAP = (Method.LIPSCHITZ, Method.IBP)
CHEAP_ROWS = (MarginMethod.LIPSCHITZ,)
DEAR = tuple(method for method in Method if method not in CHEAP)
DEAR_ROWS = tuple(method for method in MarginMethod if method not in CHEAP_ROWS)
DEAR_SCALES = (0.05, 0.7)
WANTED = 20_000  # pairs of the long test, over all operators


def long(seed: int) -> Effort:
    """Four times as long, from more starts; in float32, as the judge computes."""
    return Effort(steps=60, restarts=4, seed=seed, dtype=torch.float32)


def attacked(onnx: bytes, many: int, few: int, seed: int, effort: Effort) -> Audit:
    """Every method on one encoder: cheap ones on ``many`` images, dear ones on a ``few``."""
    examined = Examined(onnx)
    examined.ask(examined.drawn(many, seed), CHEAP, CHEAP_ROWS)
    examined.ask(examined.drawn(few, seed + 1, DEAR_SCALES), DEAR, DEAR_ROWS)
    examined.ask_sets(examined.drawn(few, seed + 2, DEAR_SCALES), seed + 2)
    return examined.attacked(effort)


@pytest.mark.parametrize("name", OPERATORS)
def test_no_attack_beats_a_radius(name: str, record_property: Record) -> None:
    result = attacked(random_encoder(name, seed=0), many=8, few=1, seed=0, effort=Effort())
    record_property(AUDIT, result.plain())
    assert result.beaten == []
    assert result.attacked >= 60


@pytest.mark.parametrize("name", MODELS)
def test_no_attack_beats_a_radius_of_an_exported_module(name: str, record_property: Record) -> None:
    result = attacked(exported(name, seed=0), many=8, few=1, seed=0, effort=Effort())
    record_property(AUDIT, result.plain())
    assert result.beaten == []
    assert result.attacked >= 60


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", OPERATORS)
def test_no_long_attack_beats_a_radius(name: str, record_property: Record) -> None:
    """Encoders with this operator, until its share of 20,000 pairs is done."""
    total, seed = Audit(), 0
    while total.attacked < WANTED / len(OPERATORS):
        seed += 1
        onnx = random_encoder(name, seed)
        total.add(attacked(onnx, many=13, few=2, seed=seed, effort=long(seed)))
    record_property(AUDIT, total.plain())
    assert total.beaten == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MODELS)
def test_no_long_attack_beats_a_radius_of_a_newly_exported_module(
    name: str, record_property: Record
) -> None:
    """The exporter on top of torch.export, which writes other operators."""
    total = Audit()
    for seed in range(1, 3):
        onnx = exported(name, seed, dynamo=True)
        total.add(attacked(onnx, many=13, few=2, seed=seed, effort=long(seed)))
    record_property(AUDIT, total.plain())
    assert total.beaten == []
