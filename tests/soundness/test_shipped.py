"""The encoders that are shipped, by every method: long attacks, judged by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from reaas_bounds import MarginMethod, Method

from tests.bounds.attack import Effort
from tests.soundness.audit import Examined
from tests.soundness.conftest import AUDIT

MODELS = Path(__file__).resolve().parents[2] / "models"
SHIPPED = sorted(path.parent for path in MODELS.glob("*/*/model.onnx"))
CHEAP = (Method.LIPSCHITZ, Method.LOCAL, Method.IBP)
CHEAP_ROWS = (MarginMethod.LIPSCHITZ,)
DEAR = (Method.AUTO, Method.CROWN, Method.CROWN_JOINT)
DEAR_ROWS = (MarginMethod.AUTO, MarginMethod.ENVELOPE, MarginMethod.CROWN, MarginMethod.IBP)
# Within one linear piece of a loose encoder, and across some of a tight one.
SCALES = (0.02, 0.2)
EFFORT = Effort(steps=200, restarts=3, seed=1, dtype=torch.float32)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("version", SHIPPED, ids=lambda path: path.parent.name)
def test_no_long_attack_beats_a_radius_of_a_shipped_encoder(
    version: Path, record_property: Callable[[str, object], None]
) -> None:
    examined = Examined((version / "model.onnx").read_bytes())
    examined.ask(examined.drawn(24, 1, SCALES), CHEAP, CHEAP_ROWS)
    examined.ask(examined.drawn(2, 2, SCALES), DEAR, DEAR_ROWS)
    examined.ask_sets(examined.drawn(2, 3, SCALES), 3)
    result = examined.attacked(EFFORT)
    record_property(AUDIT, result.plain())
    assert result.beaten == []
    # At the smaller scale the float32 error of the tightest encoder leaves no radius.
    assert result.attacked >= 60
