"""No attack beats a certified radius: random encoders over all operators, every method.

ONNX Runtime's float32 features are the judge. The fast tests attack about 2,000 pairs, the slow
ones 20,000 and more; the summary of the test run says how many.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from reaas_bounds import MarginMethod, Method

from tests.bounds.attack import Effort
from tests.soundness.audit import Audit, audit, audit_sets
from tests.soundness.conftest import ATTACKED
from tests.soundness.generator import OPERATORS, random_encoder
from tests.soundness.torch_models import MODELS, exported

Record = Callable[[str, object], None]

# Closed forms and single passes are asked about many images, what searches about a few.
CHEAP = (Method.LIPSCHITZ, Method.IBP)
CHEAP_ROWS = (MarginMethod.LIPSCHITZ,)
DEAR = tuple(method for method in Method if method not in CHEAP)
DEAR_ROWS = tuple(method for method in MarginMethod if method not in CHEAP_ROWS)
DEAR_SCALES = (0.05, 0.7)
SHARDS = 4  # one pass over all operators each
LONG = Effort(steps=60, restarts=4)


def attacked(onnx: bytes, many: int, few: int, seed: int, effort: Effort) -> Audit:
    """Every method on one encoder: cheap ones on ``many`` images, dear ones on a ``few``."""
    result = audit(onnx, images=many, seed=seed, balls=CHEAP, margins=CHEAP_ROWS, effort=effort)
    dear = audit(
        onnx,
        images=few,
        seed=seed + 1,
        scales=DEAR_SCALES,
        balls=DEAR,
        margins=DEAR_ROWS,
        effort=effort,
    )
    result.add(dear)
    result.add(audit_sets(onnx, images=few, seed=seed + 2, effort=effort))
    return result


@pytest.mark.parametrize("name", OPERATORS)
def test_no_attack_beats_a_radius(name: str, record_property: Record) -> None:
    result = attacked(random_encoder(name, seed=0), many=8, few=1, seed=0, effort=Effort())
    assert result.beaten == []
    assert result.attacked >= 60
    record_property(ATTACKED, result.attacked)


@pytest.mark.parametrize("name", MODELS)
def test_no_attack_beats_a_radius_of_an_exported_module(name: str, record_property: Record) -> None:
    result = attacked(exported(name, seed=0), many=8, few=1, seed=0, effort=Effort())
    assert result.beaten == []
    assert result.attacked >= 60
    record_property(ATTACKED, result.attacked)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_long_attack_beats_a_radius(shard: int, record_property: Record) -> None:
    """Encoders of other seeds until a quarter of 20,000 pairs is done: random starts, long runs."""
    total, seed = Audit(), 1 + shard
    while total.attacked < 20_000 / SHARDS:
        for name in OPERATORS:
            effort = Effort(LONG.steps, LONG.restarts, seed)
            total.add(
                attacked(random_encoder(name, seed), many=12, few=2, seed=seed, effort=effort)
            )
        assert total.beaten == []
        seed += SHARDS
    record_property(ATTACKED, total.attacked)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_no_long_attack_beats_a_radius_of_a_newly_exported_module(
    name: str, record_property: Record
) -> None:
    """The exporter on top of torch.export, which writes other operators."""
    total = Audit()
    for seed in range(1, 3):
        onnx = exported(name, seed, dynamo=True)
        total.add(attacked(onnx, many=12, few=2, seed=seed, effort=LONG))
    assert total.beaten == []
    record_property(ATTACKED, total.attacked)
