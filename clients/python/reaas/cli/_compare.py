"""The command that compares the schemes over running services."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from reaas.cli._context import Settings, model_option, pass_settings, progress_bar
from reaas.cli._outputs import check_writable_folder

_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--dataset", default="digits", help="digits, cifar10, gtsrb, svhn, stl10, ...")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="REAAS_DATA",
    show_envvar=True,
    help="Directory of the data set's files.",
)
@click.option("--train", type=click.IntRange(min=10), default=500, help="Training inputs.")
@click.option("--test", type=click.IntRange(min=1), default=100, help="Testing inputs.")
@click.option(
    "-n",
    "--samples",
    type=click.IntRange(min=20),
    default=1000,
    help="SEaaS: noisy copies of a testing input (n; n0 is a tenth).",
)
@click.option(
    "--sigma",
    "sigmas",
    type=click.FloatRange(min=0.0, min_open=True),
    multiple=True,
    help="SEaaS: noise level on pixels in [0,1]; repeat.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Of all noise and training.")
@model_option()
@click.option("--twin", help="A second encoder for the REaaS rows.")
@click.option(
    "--out", type=_DIRECTORY, default=Path("out/compare"), help="For report.json and pictures."
)
@click.option(
    "--push-gateway",
    metavar="URL",
    help="Report ACR and accuracy of each row to this Prometheus Pushgateway; else nobody is told.",
)
@pass_settings
def compare(
    settings: Settings,
    dataset: str,
    data: Path | None,
    train: int,
    test: int,
    samples: int,
    sigmas: tuple[float, ...],
    seed: int,
    model: str,
    twin: str | None,
    out: Path,
    push_gateway: str | None,
) -> None:
    """Compares REaaS with SEaaS on a data set: certified radii, queries, bytes.

    Costs are those of this client's own ledger. Needs the extra `compare`.
    """
    try:
        from reaas.certify import CURVE_BUDGETS
        from reaas.compare import (
            CompareConfig,
            PushError,
            push,
            qualities,
            render,
            run,
            write_plots,
        )
        from reaas.datasets import load
    except ImportError as error:
        raise click.UsageError(f"{error}; run: pip install 'reaas[compare]'") from error
    config = CompareConfig(
        encoder=model,
        twin=twin,
        seed=seed,
        budgets=(*(budget.n for budget in CURVE_BUDGETS if budget.n < samples), samples),
        sigmas=sigmas or CompareConfig.sigmas,
    )
    check_writable_folder("--out", out)
    images = load(dataset, data, train_size=train, test_size=test, seed=seed)
    with progress_bar() as bar:
        report = run(config, images, lambda _: settings.connect(), progress=bar)
    report.write(out / "report.json")
    written = [out / "report.json", *write_plots(report, out)]
    if push_gateway:
        with settings.connect() as client:
            client_id = client.info("encoder").client_id
        try:
            push(push_gateway, client_id, report.encoder.name, qualities(report))
        except PushError as error:
            raise click.ClickException(str(error)) from error
    if settings.as_json:
        click.echo((out / "report.json").read_text(encoding="utf-8"), nl=False)
        return
    Console().print(render(report))
    for path in written:
        click.echo(f"wrote {path}")
