"""The report as a table on the terminal and as markdown for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from evaluation.bench_f2i.comparison import auto_below, side_by_side
from evaluation.bench_f2i.report import Report, Row

# Share: certified / attacked radius, median and 10th percentile. Same: of the images that all
# methods saw. ms: CPU time of a query alone, and in a message of 64.
_HEADS = (
    "target", "method", "images", "share", "p10", "same", "share", "p10", "ms", "ms / 64",
    "pairs/s", "x CROWN",
)  # fmt: skip


def tables(report: Report) -> Iterator[Table]:
    """One for each encoder."""
    for subject in report.subjects:
        table = Table(title=f"{subject.name}, L = {subject.lipschitz:.3g}", title_justify="left")
        for index, head in enumerate(_HEADS):
            table.add_column(head, justify="left" if index < 2 else "right", no_wrap=True)
        last = ""
        for row in _of(report, subject.name):
            if last and row.target != last:
                table.add_section()
            table.add_row(*_cells(report, row))
            last = row.target
        table.caption, table.caption_justify = _verdict(report, subject.name), "left"
        yield table


def line(row: Row) -> str:
    """The row while the run goes on."""
    shares = f"median {row.median_share:.3f}, p10 {row.p10_share:.3f} of the attacked radius"
    return f"{row.encoder} {row.target} {row.method}: {row.images} images, {shares}"


def markdown(report: Report) -> str:
    """The same tables, with machine, date and seed."""
    machine = report.machine
    lines = [
        f"{report.date[:10]}, {machine['architecture']}, {machine['cores']} cores "
        f"({machine['torch_threads']} thread for the engine), Python {machine['python']}, seed "
        f"{report.seed}; {report.dataset}, up to {report.images} correctly classified testing "
        f"images, {report.budget_s:g} s for each row.",
    ]
    for subject in report.subjects:
        radii = ", ".join(f"{name} {radius:.3g}" for name, radius in subject.feature_radii.items())
        lines += [
            "",
            f"**{subject.name}** (`{subject.digest[:15]}...`, L = {subject.lipschitz:.3g}, "
            f"accuracy of the head {subject.accuracy:.1%}; R': {radii})",
            "",
            "| " + " | ".join(_HEADS) + " |",
            "| " + " | ".join(["---"] * len(_HEADS)) + " |",
        ]
        rows = _of(report, subject.name)
        lines += ["| " + " | ".join(_cells(report, row)) + " |" for row in rows]
        lines += ["", _verdict(report, subject.name)]
    return "\n".join(lines) + "\n"


def _of(report: Report, encoder: str) -> list[Row]:
    return [row for row in report.rows if row.encoder == encoder]


def _verdict(report: Report, encoder: str) -> str:
    """Whether AUTO keeps its promise."""
    found = auto_below(_of(report, encoder))
    by = ", ".join(f"{name} on {count}" for name, count in found.by.items())
    return (
        f"AUTO below a single method: {found.below} of {found.images} images"
        f"{f' ({by})' if by else ''}."
    )


def _cells(report: Report, row: Row) -> list[str]:
    same = side_by_side(report.rows, row)
    return [
        row.target,
        row.method,
        str(row.images),
        f"{row.median_share:.3f}",
        f"{row.p10_share:.3f}",
        str(same.images),
        f"{same.median_share:.3f}",
        f"{same.p10_share:.3f}",
        _number(row.alone_ms),
        _number(row.batched_ms),
        _number(row.pairs_per_second),
        f"{row.ratio_to_paper:.2f}" if row.ratio_to_paper is not None else "-",
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
