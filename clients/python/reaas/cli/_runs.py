"""The commands of the pre-training service: runs create, list, watch, cancel, publish, recipes."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import reaas
from reaas.cli._context import Settings, pass_settings
from reaas.cli._reach import check_address
from reaas.runs import Event, Run, RunOutput, RunProgress, RunsClient, RunState

F = TypeVar("F", bound=Callable[..., Any])


def address_option() -> Callable[[F], F]:
    """`--pretrain`, the same for every command."""
    return click.option(
        "--pretrain",
        default="127.0.0.1:50053",
        envvar="REAAS_PRETRAIN",
        show_envvar=True,
        help="Address of the pre-training service.",
    )


@click.group()
def runs() -> None:
    """Pre-trains encoders: makes, follows, cancels and publishes runs. Needs an operator's key."""


@runs.command()
@click.argument("recipe")
@click.option(
    "--set",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another value for a key of the recipe, e.g. spectral.weight=0.5.",
)
@click.option("--dataset", default="", help="Directory of the data, below the service's root.")
@click.option("--source", default="", help="What to learn from: see `reaas runs recipes`.")
@click.option("--epochs", type=click.IntRange(min=0), default=0, help="0: the recipe's.")
@click.option("--seed", type=click.IntRange(min=0), help="[default: the recipe's]")
@click.option("--request-id", help="The same id makes one run, however often it is sent.")
@click.option("--watch", "follow", is_flag=True, help="Follow the run until it has ended.")
@address_option()
@pass_settings
def create(
    settings: Settings,
    recipe: str,
    pairs: tuple[str, ...],
    dataset: str,
    source: str,
    epochs: int,
    seed: int | None,
    request_id: str | None,
    follow: bool,
    pretrain: str,
) -> None:
    """Queues a run of RECIPE."""
    overrides = dict(map(_override, pairs))
    with _connect(settings, pretrain) as client:
        run = client.create(
            recipe,
            overrides=overrides,
            dataset=dataset,
            source=source,
            epochs=epochs,
            seed=seed,
            request_id=request_id,
        )
        if follow:
            _follow(settings, client, run.id)
            return
    settings.print("Run", [_row(run)])


@runs.command("list")
@click.option("--state", type=click.Choice([state.value for state in RunState]))
@click.option("--limit", type=click.IntRange(min=1), default=20, help="Most runs shown.")
@address_option()
@pass_settings
def list_runs(settings: Settings, state: str | None, limit: int, pretrain: str) -> None:
    """Lists runs, the newest first."""
    with _connect(settings, pretrain) as client:
        found = [run for run, _ in zip(client.runs(state), range(limit), strict=False)]
    settings.print("Runs", [_row(run) for run in found])


@runs.command()
@click.argument("run_id")
@address_option()
@pass_settings
def watch(settings: Settings, run_id: str, pretrain: str) -> None:
    """Follows a run until it has ended: its output, and its epochs as a bar."""
    with _connect(settings, pretrain) as client:
        _follow(settings, client, run_id)


@runs.command()
@click.argument("run_id")
@address_option()
@pass_settings
def cancel(settings: Settings, run_id: str, pretrain: str) -> None:
    """Ends a run; its checkpoint stays."""
    with _connect(settings, pretrain) as client:
        settings.print("Run", [_row(client.cancel(run_id))])


@runs.command()
@click.argument("run_id")
@click.option("--version", default="", help="[default: the next number]")
@address_option()
@pass_settings
def publish(settings: Settings, run_id: str, version: str, pretrain: str) -> None:
    """Puts the encoder of a run that succeeded into the model repository."""
    console = Console(stderr=True)
    with _connect(settings, pretrain) as client, console.status("exporting and certifying"):
        run = client.publish(run_id, version)
    settings.print("Published", [{"run": run.id, "model": str(run.published)}])


@runs.command()
@address_option()
@pass_settings
def recipes(settings: Settings, pretrain: str) -> None:
    """Lists the recipes and data sets that a run can be made from."""
    with _connect(settings, pretrain) as client:
        found = client.recipes()
    rows = [{"recipe": r.name, "description": r.description} for r in found.recipes]
    title = f"Data sets: {', '.join(found.datasets) or 'the root only'}\n"
    title += f"Sources: {', '.join(found.sources)}"
    settings.print(title, rows, datasets=found.datasets, sources=found.sources)


def _connect(settings: Settings, address: str) -> RunsClient:
    check_address("--pretrain", address)
    return RunsClient(address, api_key=settings.api_key, tls=settings.tls, options=settings.options)


def _override(pair: str) -> tuple[str, str]:
    """A key and its TOML value; what is no TOML value is meant as text."""
    key, equals, text = pair.partition("=")
    if not (key and equals):
        raise click.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--set")
    try:
        tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return key, json.dumps(text)
    return key, text


def _follow(settings: Settings, client: RunsClient, run_id: str) -> None:
    """Shows a run until it has ended. Raises ReaasError unless it succeeded."""
    console = Console(stderr=True)
    run: Run | None = None
    with _bar(console) as bar:
        task = bar.add_task(run_id, total=None)
        for event in client.watch(run_id):
            if isinstance(event, Run):
                run = event
                bar.update(task, total=run.epochs, description=f"{run.id} {run.state}")
            if isinstance(event, RunProgress):
                bar.update(task, completed=event.epoch)
            _show(settings, bar, event)
    if run is None or run.state is not RunState.SUCCEEDED:
        state = "unknown" if run is None else f"{run.state}: {run.reason}"
        raise reaas.ReaasError(f"run {run_id} {state}")
    settings.print("Run", [_row(run)])


def _show(settings: Settings, bar: Progress, event: Event) -> None:
    if settings.as_json:
        kind = type(event).__name__.lower()
        click.echo(json.dumps({kind: dataclasses.asdict(event)}, default=str))
    elif isinstance(event, RunOutput):
        bar.console.print(event.text, end="", markup=False, highlight=False)
    elif isinstance(event, Run) and event.reason:
        bar.console.print(f"{event.state}: {event.reason}", markup=False, highlight=False)


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        console=console,
        transient=True,
    )


def _row(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "recipe": run.recipe,
        "state": run.state.value,
        "epochs": f"{run.epochs_done}/{run.epochs}",
        "restarts": run.restarts,
        "model": str(run.published) if run.published else "",
        "reason": run.reason,
    }
