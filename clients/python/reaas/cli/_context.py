"""What every command gets: a client to open, and a way to print."""

from __future__ import annotations

import decimal
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

import reaas

# The symbols of the paper, where a column has one.
_HEADINGS = {"feature_radius": "R'", "radius": "R", "feature_dim": "d", "lipschitz": "L"}
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Settings:
    """The options before the command."""

    encoder: str
    f2i: str
    api_key: str | None
    tls: reaas.TLS | None
    options: reaas.ChannelOptions
    as_json: bool

    def connect(self) -> reaas.Client:
        """A client of both services; to be closed."""
        return reaas.Client(
            self.encoder, self.f2i, api_key=self.api_key, tls=self.tls, options=self.options
        )

    def print(self, title: str, rows: Sequence[dict[str, Any]], **about: Any) -> None:
        """Prints `rows`, all with the same keys: a table under `title`, or JSON with `about`."""
        if self.as_json:
            click.echo(json.dumps({**about, "results": rows}, indent=2))
            return
        table = Table()
        for name in rows[0] if rows else ():
            heading = _HEADINGS.get(name, name.replace("_", " "))
            justify: JustifyMethod = "left" if isinstance(rows[0][name], str) else "right"
            table.add_column(heading, justify=justify, overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(value)) for value in row.values()))  # No markup in names.
        wide = None if sys.stdout.isatty() else 200  # Not folded to fit a file or a pipe.
        click.echo(title)
        Console(width=wide).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return rounded(value) if isinstance(value, float) else str(value)


def rounded(value: float, *, up: bool = False) -> str:
    """Six digits, never more than `value`: what is shown is certified too. `up`: never less."""
    context = decimal.Context(6, decimal.ROUND_CEILING if up else decimal.ROUND_FLOOR)
    return f"{float(context.create_decimal_from_float(value)):g}"


def progress_bar() -> Progress:
    """A bar on stderr that leaves no trace; none where stderr is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def model_option() -> Callable[[F], F]:
    """`--model`, the same for every command."""
    return click.option(
        "--model", default="moco-sn", help="Encoder: name, name@version or name@version@digest."
    )


pass_settings = click.make_pass_decorator(Settings)
