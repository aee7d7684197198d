"""What limits a set of margins: the radius certified of every row, and of the set's ball."""

from __future__ import annotations

import math

from reaas_bounds.margin_query import MarginMethod
from reaas_bounds.margin_set import HUGE, MarginSet
from reaas_bounds.query import Method


class Limits:
    """What is certified of one set: the radius of every row, then that of the ball, and by what."""

    def __init__(self, margins: MarginSet, method: MarginMethod) -> None:
        self.margins = margins
        own = margins.constant_radii
        closed = method in (MarginMethod.AUTO, MarginMethod.LIPSCHITZ)
        self.radii = [r if closed or math.isinf(r) else 0.0 for r in own] + [margins.ball_radius]
        by = MarginMethod.LIPSCHITZ if closed else method
        self.methods: list[MarginMethod | Method] = [by] * len(own) + [Method.LIPSCHITZ]
        # What may still be improved: nothing that certifies 0 or everything.
        self.left = {item for item, radius in enumerate([*own, self.ball]) if 0 < radius < HUGE}
        self.rows = sorted(self.left - {self.ball_item})
        if method is MarginMethod.LIPSCHITZ:
            self.left.clear()
        elif method not in (MarginMethod.AUTO, MarginMethod.ENVELOPE):
            self.left.discard(self.ball_item)  # the ball is the constant's

    @property
    def ball_item(self) -> int:
        """Place of the ball."""
        return len(self.radii) - 1

    @property
    def ball(self) -> float:
        """What is certified of the ball."""
        return self.radii[self.ball_item]

    @property
    def hope(self) -> float:
        """What the constants say of the set."""
        return min(*self.margins.constant_radii, self.margins.ball_radius)

    @property
    def limiting(self) -> int:
        """The row that limits the set; the ball counts as the last one."""
        return min(range(len(self.radii)), key=self.radii.__getitem__)

    @property
    def radius(self) -> float:
        """What the set certifies."""
        return self.radii[self.limiting]

    @property
    def ceiling(self) -> float:
        """What it cannot exceed any more."""
        done = (r for item, r in enumerate(self.radii) if item not in self.left)
        return min(done, default=math.inf)

    @property
    def ceiling_of_rows(self) -> float:
        """What the set cannot exceed, whatever its rows certify."""
        others = set(range(len(self.radii))) - self.left.union(self.rows)
        return min((self.radii[item] for item in others), default=math.inf)

    def improve(self, item: int, radius: float, method: MarginMethod | Method) -> None:
        """Note what a bound certifies of a row or of the ball, its last word."""
        self.left.discard(item)
        if radius > self.radii[item]:
            self.radii[item], self.methods[item] = radius, method
