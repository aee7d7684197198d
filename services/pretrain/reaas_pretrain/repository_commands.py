"""Commands about versions in a model repository: export a run, adopt a file, certify anew."""

from __future__ import annotations

from pathlib import Path

import click

from reaas_pretrain.adopt import Candidate, adopt, recertify
from reaas_pretrain.arguments import image_size, numbers
from reaas_pretrain.checkpoint import Checkpoint
from reaas_pretrain.foreign import Wishes
from reaas_pretrain.images import typical_images
from reaas_pretrain.options import (
    NOBODY,
    console,
    data_option,
    judge_of,
    judge_option,
    source_option,
    threads_option,
    use_threads,
)
from reaas_pretrain.publishing import publish
from reaas_pretrain.recipe import parse_recipe
from reaas_pretrain.versions import Published

models_option = click.option(
    "--models",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Model repository; services that watch it serve the new version within seconds.",
)
version_option = click.option(
    "--version",
    help="A version is published once and never changes. Default: the next number, or the version"
    " that this very encoder has already.",
)


@click.command("export")
@click.option("--run", required=True, type=click.Path(path_type=Path, file_okay=False))
@models_option
@version_option
@data_option
@source_option
@judge_option
@click.option("--replace", is_flag=True, help="Replace an unreleased version.")
@threads_option
def export_command(
    run: Path,
    models: Path,
    version: str | None,
    data: Path,
    source: str,
    judged_by: str | None,
    replace: bool,
    threads: int | None,
) -> None:
    """Publishes a run's encoder, with certified constants."""
    use_threads(threads)
    side = parse_recipe(Checkpoint.load(run).recipe, origin=str(run)).encoder.image_size
    typical, judge = typical_images(source, data, side), judge_of(judged_by, data, side)
    with console.status("exporting, certifying, measuring"):
        done = publish(run, models, typical, judge, version, replace=replace)
    _tell(done)
    console.print(f"ONNX Runtime differs from torch by at most {done.onnx_difference:.2g}")


@click.command("adopt")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@models_option
@click.option("--name", required=True, help="The model's name in the repository.")
@version_option
@click.option("--description", default="", help="One line for people who choose an encoder.")
@click.option(
    "--data",
    envvar="REAAS_DATA",
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of the data sets' files; without it quality is not measured.",
)
@judge_option
@click.option("--output", help="The value that is the feature. Default: the file's only output.")
@click.option(
    "--size",
    metavar="HEIGHTxWIDTH",
    callback=image_size,
    help="Of the images, where the file leaves their size free.",
)
@click.option(
    "--pixels",
    type=click.Choice(["1", "255"]),
    default="1",
    help="What white is in the images that the file reads. Default: 1.",
)
@click.option("--mean", callback=numbers, help="Per channel, subtracted first: 0.485,0.456,0.406.")
@click.option("--std", callback=numbers, help="Per channel, divided by next: 0.229,0.224,0.225.")
@click.option("--flatten", is_flag=True, help="Take all entries of a feature map.")
@threads_option
def adopt_command(
    file: Path,
    models: Path,
    name: str,
    version: str | None,
    description: str,
    data: Path | None,
    judged_by: str | None,
    output: str | None,
    size: tuple[int, int] | None,
    pixels: str,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    flatten: bool,
    threads: int | None,
) -> None:
    """Certifies and publishes an ONNX encoder that was trained elsewhere.

    Its images are served as pixels in [0, 1], [N, C, H, W]; normalisation belongs into the graph,
    by the exporter or by --pixels, --mean and --std. Names, batch size, axes and weights beside the
    file are made what they must be; what was changed is told, and compared with the file itself.
    """
    use_threads(threads)
    wishes = Wishes(output, size, float(pixels), mean, std, flatten)
    with console.status("reading"):
        candidate = Candidate.read(file, wishes)
    for step in candidate.steps:
        console.print(f"changed  {step}", markup=False, highlight=False)
    judge = judge_of(judged_by, data, candidate.side) if data and judged_by != NOBODY else None
    with console.status("certifying, measuring"):
        done = adopt(candidate, models, name, judge, version, description)
    _tell(done)


@click.command("recertify")
@models_option
@click.option("--name", required=True, help="The model's name in the repository.")
@click.option("--version", required=True, help="The version whose constants are proved anew.")
@threads_option
def recertify_command(models: Path, name: str, version: str, threads: int | None) -> None:
    """Writes a version's certified constants anew; its encoder and digest stay."""
    use_threads(threads)
    with console.status("certifying"):
        done = recertify(models / name / version)
    _tell(done)


def _tell(done: Published) -> None:
    certified, quality = done.manifest["certified"], done.manifest["quality"]
    error = certified["float32_error"]
    console.print(f"published {done.directory}  {done.digest}")
    console.print(
        f"Lipschitz constant {certified['lipschitz']:.4g} ({certified['method']}), float32 error"
        f" {error['slope']:.3g} |x| + {error['offset']:.3g}"
    )
    console.print("  ".join(f"{key} {value}" for key, value in quality.items()))
