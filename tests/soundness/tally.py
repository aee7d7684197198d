"""What the soundness suite attacked, counted, and as text for the end of a test run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.bounds.attack import Verdict


@dataclass
class Tally:
    """The attacked pairs of one method."""

    pairs: int = 0
    beaten: int = 0
    closest: float = 0.0
    """Largest share of its target that an attack within a certified radius used up."""

    def add(self, other: Tally) -> None:
        """Count another tally's pairs too."""
        self.pairs += other.pairs
        self.beaten += other.beaten
        self.closest = max(self.closest, other.closest)


@dataclass
class Audit:
    """The tally of each method, over encoders with these ONNX operators."""

    encoders: int = 0
    operators: set[str] = field(default_factory=set)
    methods: dict[str, Tally] = field(default_factory=dict)

    @property
    def attacked(self) -> int:
        """Pairs with a radius that were attacked."""
        return sum(tally.pairs for tally in self.methods.values())

    @property
    def beaten(self) -> list[str]:
        """Methods with a radius within which an attack succeeded, and how often."""
        found = self.methods.items()
        return [f"{name}: {tally.beaten} of {tally.pairs}" for name, tally in found if tally.beaten]

    def record(self, method: str, verdict: Verdict) -> None:
        """Count one method's pairs."""
        pairs, beaten = int(verdict.attacked.sum()), int(verdict.beaten.sum())
        self._tally(method).add(Tally(pairs, beaten, float(verdict.used.max(initial=0.0))))

    def add(self, other: Audit) -> None:
        """Count another audit's encoders and pairs too."""
        self.encoders += other.encoders
        self.operators |= other.operators
        for name, tally in other.methods.items():
            self._tally(name).add(tally)

    def _tally(self, method: str) -> Tally:
        return self.methods.setdefault(method, Tally())

    def plain(self) -> dict[str, Any]:
        """As lists, dicts and numbers: what travels between test processes."""
        return asdict(self) | {"operators": sorted(self.operators)}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Audit:
        """The inverse of ``plain``."""
        methods = {name: Tally(**tally) for name, tally in plain["methods"].items()}
        return cls(plain["encoders"], set(plain["operators"]), methods)

    def lines(self) -> Iterator[str]:
        """One line for all, one for each method."""
        beaten = sum(tally.beaten for tally in self.methods.values())
        yield (
            f"soundness suite: {self.attacked:,} pairs attacked on {self.encoders} encoders with "
            f"{len(self.operators)} ONNX operators, {len(self.methods)} methods; {beaten} beaten"
        )
        for name, tally in sorted(self.methods.items()):
            yield (
                f"  {name}: {tally.pairs:,} pairs, {tally.beaten} beaten; the closest attack used "
                f"{tally.closest:.2%} of its target"
            )
