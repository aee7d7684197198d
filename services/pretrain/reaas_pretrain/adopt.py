"""Encoders that were trained elsewhere: any ONNX file that the engine can certify is published."""

from __future__ import annotations

from pathlib import Path

import torch
from reaas_bounds import (
    InvalidModelError,
    Network,
    UnsupportedOperatorError,
    certified_constants,
    load_network,
)
from torch import Tensor

from reaas_pretrain.evaluate import Judge
from reaas_pretrain.manifest import certified_section, digest_of, manifest_of, quality_section
from reaas_pretrain.onnx_graph import run_onnx
from reaas_pretrain.publishing import Published, PublishError
from reaas_pretrain.versions import next_version, published_as, read_manifest, write_version

_BATCH = 500


def image_side(file: Path) -> int:
    """Side of the square RGB images that an ONNX encoder reads; `PublishError` for other inputs."""
    channels, height, width = _certifiable(_read(file), file).input_shape
    if channels != 3 or height != width:
        raise PublishError(
            f"{file}: input is {channels} x {height} x {width}, expected 3 channels and a square:"
            " quality can't be measured on other images, use --judged-by none"
        )
    return height


def adopt(
    file: Path,
    models: Path,
    name: str,
    judge: Judge | None,
    version: str | None = None,
    description: str = "",
) -> Published:
    """Certifies an ONNX encoder `input [N, C, H, W] -> feature [N, d]` and publishes it as it is.

    Pixels arrive in [0, 1]: normalisation belongs into the graph. `version` None is the next
    number, or the version that this very file has already.

    Raises `PublishError` if the file can't be read or certified (it names the operator), or if the
    version is there already.
    """
    onnx_bytes = _read(file)
    network = _certifiable(onnx_bytes, file)
    digest, family = digest_of(onnx_bytes), models / name
    before = None if version else published_as(family, digest)
    if before:
        return Published(family / before, digest, 0.0, read_manifest(family / before))
    target = family / (version or next_version(family))
    if target.exists():
        raise PublishError(
            f"{target} exists: published versions don't change, choose another version"
        )
    constants = certified_constants(network)
    channels, height, width = network.input_shape

    def encoded(images: Tensor) -> Tensor:
        parts = torch.split(images, _BATCH)
        return torch.cat([torch.from_numpy(run_onnx(onnx_bytes, x.float() / 255)) for x in parts])

    manifest = manifest_of(
        target,
        digest,
        constants,
        shape=(height, width, channels),
        feature_dim=network.feature_dim,
        description=description,
        training={"adopted": file.name},
        quality=quality_section(encoded, judge, constants.lipschitz) if judge else {},
    )
    write_version(target, onnx_bytes, manifest)
    return Published(target, digest, 0.0, manifest)


def recertify(version: Path) -> Published:
    """Writes a version's constants anew, as this version of the engine proves them.

    The file, and with it the digest, stays: certificates that were given hold. Raises
    `PublishError` if the version can't be read or its file isn't what its manifest says.
    """
    manifest, file = read_manifest(version), version / "model.onnx"
    onnx_bytes = _read(file)
    digest = digest_of(onnx_bytes)
    if manifest.get("digest") != digest:
        raise PublishError(f"{file} is {digest}, its manifest says {manifest.get('digest')}")
    constants = certified_constants(_certifiable(onnx_bytes, file))
    manifest = manifest | {"certified": certified_section(constants)}
    write_version(version, onnx_bytes, manifest)
    return Published(version, digest, 0.0, manifest)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PublishError(f"{file} can't be read: {error.strerror}") from error


def _certifiable(onnx_bytes: bytes, file: Path) -> Network:
    try:
        return load_network(onnx_bytes)
    except (InvalidModelError, UnsupportedOperatorError) as error:
        raise PublishError(f"{file} can't be certified: {error}") from error
