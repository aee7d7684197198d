"""The command group: options of every command, errors as one line and an exit code."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

import reaas
from reaas.certify import InvalidArgumentError as CertifyArgumentError
from reaas.cli._certify import certify
from reaas.cli._compare import compare
from reaas.cli._context import Settings
from reaas.cli._query import encode, models, radius
from reaas.cli._reach import check_address, what_answers
from reaas.cli._runs import runs
from reaas.cli._train import train_head
from reaas.datasets import DatasetError

F = TypeVar("F", bound=Callable[..., Any])
# The first class that matches counts.
_EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (reaas.UnauthenticatedError, 3),
    (reaas.ModelNotFoundError, 4),
    (reaas.ModelUnusableError, 4),
    (reaas.DigestMismatchError, 4),
    (reaas.ServiceUnavailableError, 5),
    (reaas.OverloadedError, 5),
    (reaas.DeadlineExceededError, 5),
    (reaas.InvalidArgumentError, 2),
    (CertifyArgumentError, 2),
    (DatasetError, 2),
    (reaas.ReaasError, 6),
)


class ReaasGroup(click.Group):
    """Turns exceptions that tell a user something into one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """As click's, with these errors."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _end(ctx, "interrupted", 130)
        except tuple(kind for kind, _ in _EXIT_CODES) as error:
            code = next(code for kind, code in _EXIT_CODES if isinstance(error, kind))
            _end(ctx, _explained(ctx, error), code)


def _explained(ctx: click.Context, error: Exception) -> str:
    """The error's message, and what it is about where gRPC's own words do not say so."""
    message, settings = str(error), ctx.obj
    if not (isinstance(error, reaas.ServiceUnavailableError) and isinstance(settings, Settings)):
        return message
    address = message.partition(": ")[0]
    hint = what_answers(address, with_tls=settings.tls is not None)
    return f"{address}: {hint} ({message.partition(': ')[2]})" if hint else message


def _end(ctx: click.Context, message: str, code: int) -> NoReturn:
    click.echo(f"reaas: {message}", err=True)
    ctx.exit(code)


def _file(name: str, text: str) -> Callable[[F], F]:
    kind = click.Path(exists=True, dir_okay=False, path_type=Path)
    return click.option(name, type=kind, help=text)


@click.group(cls=ReaasGroup, context_settings={"show_default": True})
@click.option(
    "--encoder",
    default="127.0.0.1:50051",
    envvar="REAAS_ENCODER",
    show_envvar=True,
    help="Address of the encoder service.",
)
@click.option(
    "--f2i",
    default="127.0.0.1:50052",
    envvar="REAAS_F2I",
    show_envvar=True,
    help="Address of the F2I service.",
)
@click.option(
    "--api-key",
    envvar="REAAS_API_KEY",
    show_envvar=True,
    help="Better in the environment, where no process list shows it.",
)
@click.option("--tls", is_flag=True, help="Encrypt. Implied by --ca, --cert and --server-name.")
@_file("--ca", "Certificate authorities to trust (PEM).")
@_file("--cert", "This client's own certificate (PEM).")
@_file("--key", "Private key of --cert (PEM).")
@click.option("--server-name", help="Name in the service's certificate, if not the address.")
@click.option(
    "--retry-for",
    default=reaas.ChannelOptions.retry_for_s,
    type=click.FloatRange(min=0.0),
    help="Seconds to try again while a service is unavailable.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.0, min_open=True),
    help="Seconds for a batch.  [default: the service's]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("-v", "--verbose", is_flag=True, help="Say what is tried again.")
@click.version_option(package_name="reaas")
@click.pass_context
def app(
    ctx: click.Context,
    encoder: str,
    f2i: str,
    api_key: str | None,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    server_name: str | None,
    retry_for: float,
    timeout: float | None,
    as_json: bool,
    verbose: bool,
) -> None:
    """Features and certified radii from a REaaS encoder.

    Images are files (PNG, JPEG, WebP, TIFF, ...), folders of them, or .npy and .npz arrays [h,w,c]
    or [n,h,w,c] of uint8, or floats in [0,1]. Every radius is L2 in pixels of [0,1].

    An address is host:port, [IPv6]:port, unix:/path or any other gRPC target.

    \b
    Exit codes: 0 done; 1 a fault of this program; 2 wrong usage or input; 3 API key missing or
    unknown; 4 model unknown, unusable or not the one asked for; 5 service unreachable,
    overloaded or too slow; 6 service at fault; 130 interrupted.
    """
    if verbose:
        logging.basicConfig(level=logging.INFO, format="reaas: %(message)s")
    check_address("--encoder", encoder)
    check_address("--f2i", f2i)
    use_tls = tls or any((ca, cert, key, server_name))
    ctx.obj = Settings(
        encoder=encoder,
        f2i=f2i,
        api_key=api_key,
        tls=reaas.TLS(ca=ca, cert=cert, key=key, server_name=server_name) if use_tls else None,
        options=reaas.ChannelOptions(retry_for_s=retry_for, timeout_s=timeout),
        as_json=as_json,
    )


for command in (models, encode, radius, certify, train_head, compare, runs):
    app.add_command(command)
