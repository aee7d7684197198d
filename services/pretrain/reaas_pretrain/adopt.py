"""Encoders that were trained elsewhere: any ONNX file that the engine can certify is published."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from reaas_bounds import (
    InvalidModelError,
    Network,
    UnsupportedOperatorError,
    certified_constants,
    load_network,
)
from reaas_gate import ServedOtherwiseError, check_same_as
from torch import Tensor

from reaas_pretrain.checked import checked_section
from reaas_pretrain.evaluate import Judge
from reaas_pretrain.foreign import Wishes, rewrite
from reaas_pretrain.manifest import certified_section, digest_of, manifest_of, quality_section
from reaas_pretrain.onnx_graph import run_onnx
from reaas_pretrain.versions import (
    Published,
    PublishError,
    publish_version,
    read_manifest,
    write_version,
)

_BATCH = 500
NOTHING = Wishes()


@dataclass(frozen=True)
class Candidate:
    """An ONNX encoder `input [N, C, H, W] -> feature [N, d]` that can be certified."""

    file: Path
    onnx_bytes: bytes
    network: Network
    steps: tuple[str, ...] = ()
    """What was changed in the file, in words."""

    @classmethod
    def read(cls, file: Path, wishes: Wishes = NOTHING) -> Candidate:
        """From a file as exporters write them, rewritten where it has another interface.

        `PublishError` if it can't be read or certified (it names the operator), or if the rewritten
        file computes something else.
        """
        found = rewrite(file, wishes)
        candidate = dataclasses.replace(cls.of(file, found.onnx_bytes), steps=found.steps)
        if found.steps:
            try:
                check_same_as(
                    found.original, found.onnx_bytes, candidate.network, levels=found.levels
                )
            except ServedOtherwiseError as error:
                raise PublishError(f"{file}: {error}{_changed(found.steps)}") from error
        return candidate

    @classmethod
    def of(cls, file: Path, onnx_bytes: bytes) -> Candidate:
        """The same from what the file holds."""
        try:
            return cls(file, onnx_bytes, load_network(onnx_bytes))
        except (InvalidModelError, UnsupportedOperatorError) as error:
            raise PublishError(f"{file} can't be certified: {error}") from error

    @property
    def side(self) -> int:
        """Side of its square RGB images; `PublishError` if it reads others."""
        channels, height, width = self.network.input_shape
        if channels != 3 or height != width:
            raise PublishError(
                f"{self.file}: input is {channels} x {height} x {width}, expected 3 channels and a"
                " square: quality can't be measured on other images, use --judged-by none"
            )
        return height

    def features(self, images: Tensor) -> Tensor:
        """Of images `[n, 3, s, s]` uint8, `[n, d]` float32, as ONNX Runtime computes them."""
        parts = torch.split(images, _BATCH)
        scaled = (part.float() / 255 for part in parts)
        return torch.cat([torch.from_numpy(run_onnx(self.onnx_bytes, part)) for part in scaled])


def adopt(
    candidate: Candidate,
    models: Path,
    name: str,
    judge: Judge | None,
    version: str | None = None,
    description: str = "",
) -> Published:
    """Certifies an encoder that was trained elsewhere and publishes it.

    Pixels arrive in [0, 1]: normalisation belongs into the graph. `version` None is the next
    number, or the version that this very file has already. Raises `PublishError` if the version is
    there already.
    """
    network, digest = candidate.network, digest_of(candidate.onnx_bytes)

    def describe(target: Path) -> dict[str, Any]:
        constants, features = certified_constants(network), candidate.features
        channels, height, width = network.input_shape
        return manifest_of(
            target,
            digest,
            constants,
            checked_section(candidate.onnx_bytes, network),
            shape=(height, width, channels),
            feature_dim=network.feature_dim,
            description=description,
            training={"adopted": candidate.file.name, "changed": list(candidate.steps)},
            quality=quality_section(features, judge, constants.lipschitz) if judge else {},
        )

    return publish_version(models / name, version, candidate.onnx_bytes, digest, describe)


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
    network = Candidate.of(file, onnx_bytes).network
    certified = certified_section(certified_constants(network))
    manifest |= {"certified": certified, "checked": checked_section(onnx_bytes, network)}
    write_version(version, onnx_bytes, manifest)
    return Published(version, manifest)


def _changed(steps: tuple[str, ...]) -> str:
    return f" (changed: {'; '.join(steps)})"


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PublishError(f"{file} can't be read: {error.strerror}") from error
