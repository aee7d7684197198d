"""The report as tables on the terminal and as markdown for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reaas.compare import plain_table
from rich.table import Table

from evaluation.pretraining.baseline import Baselines
from evaluation.pretraining.cell import Cell
from evaluation.pretraining.report import RADII, REFERENCE, Encoder, Line, Report, Stat
from evaluation.pretraining.settings import LOOSE

_HEADS = (
    "encoder",
    "certificate",
    "images",
    "accuracy %",
    "ACR of R'",
    "ACR",
    *(f"{radius} %" for radius in RADII),
    f"x {REFERENCE}",
    "ACR, same",
    "break-even",
)
_NOTE = (
    f"36/255 %: right and certified at that radius. x {REFERENCE}: ACR in units of that of this "
    "encoder, certified the same way. ACR, same: on SEaaS's images. Break-even: SEaaS queries an "
    "image for the ACR that REaaS has on them."
)
# Columns of the terminal: squeezed to fewer, numbers would be cut. A narrower one folds the lines.
_WIDTH = 150
_ENCODER_HEADS = ("encoder", "digest", "L", "training", "linear probe")


def tables(report: Report) -> Iterator[Table]:
    """The encoders, then one table for each data set."""
    encoders = _table("encoders", _ENCODER_HEADS)
    for encoder in report.encoders:
        encoders.add_row(*_encoder_cells(encoder))
    yield encoders
    for dataset, lines in _by_dataset(report):
        title = f"{dataset}, {lines[0].train_inputs:,} training images"
        table, last = _table(title, _HEADS), ""
        for line in lines:
            if last and line.encoder != last:
                table.add_section()
            table.add_row(*_cells(line))
            last = line.encoder
        table.caption, table.width = _NOTE, _WIDTH
        yield table


def cell_summary(cell: Cell) -> str:
    """One line while the run goes on."""
    found = ", ".join(f"{each.way} {each.acr():.3f}" for each in cell.certified)
    return f"{cell.dataset} {cell.encoder.name} seed {cell.seed}: ACR {found}"


def baselines_summary(found: Baselines) -> str:
    """The same of SEaaS."""
    each = ", ".join(f"seed {c.seed} {c.acr():.3f} (sigma {c.sigma:g})" for c in found.certified)
    return f"{found.dataset} {found.encoder.name}: ACR of SEaaS SC {each}"


def markdown(report: Report) -> str:
    """The same tables, with sizes, machine, date and seeds."""
    lines = [_conditions(report), ""]
    lines += _markdown(_ENCODER_HEADS, [_encoder_cells(encoder) for encoder in report.encoders])
    for dataset, found in _by_dataset(report):
        lines += ["", f"**{dataset}**, {found[0].train_inputs:,} training images", ""]
        lines += _markdown(_HEADS, [_cells(line) for line in found])
    return "\n".join([*lines, "", _NOTE]) + "\n"


def _conditions(report: Report) -> str:
    settings, machine = report.settings, report.machine
    seeds = ", ".join(map(str, report.seeds))
    text = (
        f"{report.date[:10]}, {machine['architecture']}, {machine['cores']} cores, Python "
        f"{machine['python']}; linear classifiers of seeds {seeds}, mean ± standard deviation; "
        f"F2IPerturb: {settings.f2i_method} (ball; {report.loose_f2i_method} for encoders with L "
        f"above {LOOSE:g}), {settings.margin_f2i_method} (margins)."
    )
    if report.baseline is None:
        return f"{text} SEaaS was not measured."
    sigmas = ", ".join(f"{sigma:g}" for sigma in report.baseline.sigmas)
    return (
        f"{text} SEaaS: n = {report.baseline.samples:,} on the first {report.baseline.test} "
        f"testing images, sigma the best of {sigmas} on them; the classifiers of all seeds are "
        f"trained and vote on the same noisy copies, which do not depend on the classifier."
    )


def _by_dataset(report: Report) -> Iterator[tuple[str, list[Line]]]:
    lines = list(report.lines())
    for dataset in dict.fromkeys(line.dataset for line in lines):
        yield dataset, [line for line in lines if line.dataset == dataset]


def _table(title: str, heads: Sequence[str]) -> Table:
    table = plain_table(title)
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index < 2 else "right", no_wrap=index < 2)
    return table


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    body = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in body]


def _encoder_cells(encoder: Encoder) -> list[str]:
    seconds, probe = encoder.training_seconds, encoder.quality.get("linear_probe_top1")
    return [
        encoder.name,
        encoder.digest[:15],
        f"{encoder.lipschitz:.4g}",
        f"{seconds / 60:.0f} min" if seconds is not None else "-",
        f"{probe:.1%}" if isinstance(probe, float) else "-",
    ]


def _cells(line: Line) -> list[str]:
    return [
        line.encoder,
        line.way,
        f"{line.inputs}",
        _share(line.accuracy),
        _radius(line.feature_acr),
        _radius(line.acr),
        *(_share(line.certified_accuracy[name]) for name in RADII),
        f"{line.ratio:.2f}" if line.ratio is not None else "-",
        # SEaaS's row has no break-even budget: its own images are all it has.
        _radius(line.acr_on_seaas_inputs),
        _break_even(line),
    ]


def _radius(stat: Stat | None) -> str:
    if stat is None:
        return "-"
    return f"{stat.mean:.3f}" + (f" ± {stat.spread:.3f}" if stat.spread is not None else "")


def _share(stat: Stat) -> str:
    spread = f" ± {100 * stat.spread:.1f}" if stat.spread is not None else ""
    return f"{100 * stat.mean:.1f}{spread}"


def _break_even(line: Line) -> str:
    """The smallest and the largest budget of the seeds."""
    budgets = line.break_even
    if not budgets:
        return "-"
    beyond = f"> {line.largest_budget:,}"
    reached = sorted(budget for budget in budgets if budget is not None)
    words = [f"{budget:,.0f}" for budget in reached] + [beyond] * (len(budgets) - len(reached))
    return words[0] if words[0] == words[-1] else f"{words[0]} to {words[-1]}"
