"""What is said of methods beside each other rests on the same images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from reaas_bounds import Method

from evaluation.bench_f2i import lirpa
from evaluation.bench_f2i.comparison import auto_below, side_by_side
from evaluation.bench_f2i.measure import FEWEST, measure
from evaluation.bench_f2i.report import Row


def row(method: str, radii: Sequence[float], target: str = "ball p50") -> Row:
    """A row of attacked radii 1."""
    count = len(radii)
    return Row("tiny/1", target, method, count, 0, 0, 0, 1, None, None, None, {}, [*radii],
               [1.0] * count)  # fmt: skip


def test_shares_side_by_side_are_those_of_the_images_that_all_saw() -> None:
    fast, slow = row("lipschitz", [0.2, 0.4, 0.9, 0.9]), row("crown", [0.1, 0.3])
    reference = row(lirpa.NAME, [0.5])
    elsewhere = row("crown", [0.1], "margins")
    rows = [fast, slow, reference, elsewhere]
    same = side_by_side(rows, fast)
    assert same.images == 2
    assert same.median_share == pytest.approx(0.3)
    assert side_by_side(rows, reference).images == 1


def test_an_image_on_which_auto_is_below_any_method_is_counted_once() -> None:
    auto = row("auto", [0.2, 0.4, 0.9])
    single = [row("lipschitz", [0.3, 0.4, 0.9]), row("crown", [0.25]), row(lirpa.NAME, [0.9])]
    found = auto_below([auto, *single, row("auto", [0.5], "margins")])
    assert (found.images, found.below) == (4, 1)
    assert found.by == {"ball p50: lipschitz": 1, "ball p50: crown": 1}


def test_a_slow_method_is_asked_about_some_images_in_order() -> None:

    def certify(part: slice) -> list[Any]:
        end = time.process_time() + 0.005
        while time.process_time() < end:
            pass
        return [
            SimpleNamespace(radius=float(index), method=Method.AUTO)
            for index in range(*part.indices(200))
        ]

    found = measure("auto", certify, 200, 0.1, lambda _: None)
    assert found.batched_ms is None
    assert FEWEST <= len(found.radii) < 200
    assert found.radii.tolist() == [float(index) for index in range(len(found.radii))]
