"""The commands: `fuzz`, `neighbour`, `chaos`; each prints a table and may write JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from evaluation.hostile.chaos import run_chaos
from evaluation.hostile.fuzz import Attacked, fuzz
from evaluation.hostile.neighbour import measure
from evaluation.hostile.watching import as_json

_console = Console(highlight=False)
models_option = click.option(
    "--models-dir", type=click.Path(path_type=Path, exists=True), default=Path("models"),
    show_default=True,
)  # fmt: skip
out_option = click.option("--out", type=click.Path(path_type=Path), help="Write JSON there, too.")


@click.group(help=__doc__, context_settings={"show_default": True})
def main() -> None:
    """Attack services on this machine."""


@main.command("fuzz")
@click.option("--requests", default=50_000, type=click.IntRange(min=3))
@click.option("--seed", default=1)
@models_option
@out_option
def fuzz_command(requests: int, seed: int, models_dir: Path, out: Path | None) -> None:
    """Hostile messages, metadata and frames on all services."""
    report = fuzz(requests, seed, models_dir)
    table = Table("", *(service.service for service in report.services))
    for title, tell in _ROWS.items():
        table.add_row(title, *(tell(service) for service in report.services))
    _console.print(f"{requests} requests, seed {seed}", table)
    _write(out, report)
    broken = False
    for service in report.services:
        for said in service.broken_promises:
            _console.print(f"{service.service}: {said}", markup=False)
            broken = True
        for details, where in service.faults.items():
            _console.print(f"  {details[:200]!r}: {where}", markup=False)
        for line in service.log.examples:
            _console.print(f"  log: {line[:200]}", markup=False)
    sys.exit(broken)


_ROWS: dict[str, Callable[[Attacked], str]] = {
    "died": lambda s: "yes" if s.died else "no",
    "INTERNAL, UNKNOWN": lambda s: str(
        s.statuses.get("INTERNAL", 0) + s.statuses.get("UNKNOWN", 0)
    ),
    "tracebacks in the log": lambda s: str(s.log.tracebacks),
    "canaries in the log": lambda s: str(sum(s.log.canaries.values())),
    "longest line of the log": lambda s: str(s.log.longest_line),
    "most memory, MiB (limit)": lambda s: f"{s.most_mib:.0f} ({s.limit_mib:.0f})",
    "health p50, p99, max, ms": lambda s: (
        f"{s.health.p50_ms:.1f}, {s.health.p99_ms:.1f}, {s.health.max_ms:.1f}"
    ),
    "probes, of them failed": lambda s: f"{s.health.probes}, {s.health.failed}",
    "statuses": lambda s: _statuses(s),
}


def _statuses(service: Attacked) -> str:
    return "\n".join(f"{count} {status}" for status, count in service.statuses.items())


@main.command("neighbour")
@click.option("--seconds", default=20.0)
@click.option("--seed", default=1)
@models_option
def neighbour_command(seconds: float, seed: int, models_dir: Path) -> None:
    """One client's worst, and what another one notices of it."""
    shifts = measure(models_dir, seconds, seed)
    table = Table("question", "idle p50, p99, ms", "attacked p50, p99, ms", "ratio of p99", "lost")
    for shift in shifts:
        idle, attacked = (
            np.percentile(latencies, [50, 99]) * 1e3
            for latencies in (shift.idle_s, shift.attacked_s)
        )
        table.add_row(
            shift.question,
            f"{idle[0]:.1f}, {idle[1]:.1f}",
            f"{attacked[0]:.1f}, {attacked[1]:.1f}",
            f"{shift.ratio:.1f}",
            str(shift.lost),
        )
    _console.print(table)
    sys.exit(not all(shift.kept for shift in shifts))


@main.command("chaos")
@click.option("--minutes", default=15.0)
@click.option("--stopped-s", default=20.0, help="How long a replica is stopped at a time.")
@click.option("--model", default="moco-sn")
@models_option
@out_option
def chaos_command(
    minutes: float, stopped_s: float, model: str, models_dir: Path, out: Path | None
) -> None:
    """Mixed load while replicas are killed, stopped and drained in turn."""
    report = run_chaos(models_dir, model, 60 * minutes, stopped_s)
    table = Table("", "")
    table.add_row("answered", ", ".join(f"{n} {kind}" for kind, n in report.calls.items()))
    table.add_row("lost", str(sum(report.lost.values())))
    table.add_row("wrong", str(report.wrong))
    table.add_row("slowest call, s", f"{report.slowest_s:.1f}")
    table.add_row("faults", ", ".join(f"{n} {fault}" for fault, n in report.faults.items()))
    grown = "\n".join(f"{name}: {mib:+.1f}" for name, mib in report.growth_mib.items())
    table.add_row("growth in the second half, MiB", grown)
    _console.print(table)
    for said, count in report.lost.items():
        _console.print(f"  {count} x {said[:200]}", markup=False)
    _write(out, report)
    sys.exit(not report.whole)


def _write(out: Path | None, report: object) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(as_json(report) + "\n")


if __name__ == "__main__":
    main()
