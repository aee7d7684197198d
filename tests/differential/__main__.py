"""Holds the grid against ONNX Runtime and prints what became of every family of files."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import onnx
from reaas_bounds.graph.signatures import SIGNATURES

from tests.differential.file import Case
from tests.differential.grid import FAMILIES
from tests.differential.space import take_every
from tests.differential.verdict import Kind, judge

Versions = set[tuple[str, int]]
# Known only to be refused with what to do instead.
REFUSED = {"LpNormalization"}


def main() -> int:
    """One line a failure, one a family, one for all; 1 if anything failed."""
    given = _arguments()
    take_every(given.every)
    total, met = Counter[Kind](), Versions()
    for family in given.family or FAMILIES:
        count, worst = Counter[Kind](), 0.0
        for case in FAMILIES[family]():
            if given.last:
                given.last.write_text(str(case))
            outcome = judge(case.data, asked=given.asked)
            count[outcome.kind] += 1
            if outcome.kind is Kind.SAME:
                worst = max(worst, outcome.ratio)
                met |= _versions(case) if given.versions else set()
            if outcome.kind.failed or outcome.kind.name in given.show:
                print(f"  {outcome.kind.value}: {case}: {outcome.reason}", flush=True)
        say = f"largest difference {worst:.2g} of the certified error"
        print(f"{family}: {_line(count)}; {say}", flush=True)
        total += count
    print(f"all {sum(total.values())} files: {_line(total)}")
    missing = _unmet(met) if given.versions else []
    if missing:
        print(f"read by the engine, and no file of the grid was the same: {', '.join(missing)}")
    return int(bool(missing) or any(kind.failed for kind in total))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--family", choices=sorted(FAMILIES), action="append", help="only these")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="every Kth file only")
    parser.add_argument("--asked", action="store_true", help="ask about balls, too")
    parser.add_argument(
        "--versions", action="store_true", help="every version of an operator that is read is met"
    )
    parser.add_argument(
        "--show", choices=[kind.name for kind in Kind], action="append", default=[],
        help="print these files, too",
    )  # fmt: skip
    parser.add_argument(
        "--last", type=Path, metavar="FILE",
        help="note each file there before it is run: the last one is what ended the process",
    )  # fmt: skip
    return parser.parse_args()


def _versions(case: Case) -> Versions:
    """The operators of a file, each with the opset that defined it."""
    model = onnx.load_model_from_string(case.data)
    opset = model.opset_import[0].version
    kinds = {node.op_type for node in model.graph.node}
    return {(kind, onnx.defs.get_schema(kind, opset).since_version) for kind in kinds}


def _unmet(met: Versions) -> list[str]:
    read = {kind: one for kind, one in SIGNATURES.items() if kind not in REFUSED}
    known = [(kind, version) for kind, one in read.items() for version in one.versions]
    return [f"{kind} of opset {version}" for kind, version in known if (kind, version) not in met]


def _line(count: Counter[Kind]) -> str:
    return ", ".join(f"{count[kind]} {kind.value}" for kind in Kind if count[kind])


if __name__ == "__main__":
    sys.exit(main())
