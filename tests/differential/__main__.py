"""Prints what becomes of the grid: ``python -m tests.differential [--family NAME] [--every K] [--asked]``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.differential.grid import FAMILIES
from tests.differential.verdict import Kind, judge


def main() -> int:
    """One line a family, one line a failure; 1 if there is any."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--family", choices=sorted(FAMILIES), action="append", help="only these")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="every Kth file")
    parser.add_argument("--asked", action="store_true", help="ask about balls, too")
    parser.add_argument("--show", choices=[kind.name for kind in Kind], action="append", default=[])
    given = parser.parse_args()
    total: Counter[Kind] = Counter()
    for family in given.family or FAMILIES:
        count: Counter[Kind] = Counter()
        worst = 0.0
        for place, case in enumerate(FAMILIES[family]()):
            if place % given.every:
                continue
            outcome = judge(case.data, asked=given.asked)
            count[outcome.kind] += 1
            worst = max(worst, outcome.ratio if outcome.kind is Kind.SAME else 0.0)
            if outcome.kind.failed or outcome.kind.name in given.show:
                print(f"  {outcome.kind.value}: {case}: {outcome.reason}", flush=True)
        print(f"{family}: {_line(count)}; largest difference {worst:.2g} of the certified error", flush=True)
        total += count
    print(f"all {sum(total.values())} files: {_line(total)}")
    return int(any(kind.failed for kind in total))


def _line(count: Counter[Kind]) -> str:
    return ", ".join(f"{count[kind]} {kind.value}" for kind in Kind if count[kind])


if __name__ == "__main__":
    sys.exit(main())
