"""Tiny encoders and model repositories for tests, built with onnx.helper: no torch, no download."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper
from reaas_runtime import digest_of

FEATURE_DIM = 8
SIZE = 8


def conv_encoder(
    seed: int = 0,
    *,
    size: int = SIZE,
    feature_dim: int = FEATURE_DIM,
    channels: Sequence[int] = (4, 6),
    scale: float = 1.0,
) -> bytes:
    """ONNX bytes of: normalise, [Conv k4 s2, ReLU] for each of `channels`, Flatten, Gemm.

    Input `input` float32 [N, 3, size, size], output `feature` float32 [N, feature_dim].
    """
    random = np.random.default_rng(seed)
    constants: dict[str, np.ndarray] = {
        "mean": np.full((1, 3, 1, 1), 0.45, np.float32),
        "std": np.full((1, 3, 1, 1), 0.25, np.float32),
    }
    nodes = [
        helper.make_node("Sub", ["input", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["relu0"]),
    ]
    width = 3
    for layer, out in enumerate(channels, start=1):
        fan_in = width * 16
        constants[f"w{layer}"] = scale * random.normal(size=(out, width, 4, 4)) / fan_in**0.5
        constants[f"b{layer}"] = 0.1 * random.normal(size=out)
        nodes += [
            helper.make_node(
                "Conv",
                [f"relu{layer - 1}", f"w{layer}", f"b{layer}"],
                [f"conv{layer}"],
                kernel_shape=[4, 4],
                strides=[2, 2],
                pads=[1, 1, 1, 1],
            ),
            helper.make_node("Relu", [f"conv{layer}"], [f"relu{layer}"]),
        ]
        width, size_out = out, size >> layer
    flat = width * size_out * size_out
    constants["w"] = scale * random.normal(size=(feature_dim, flat)) / flat**0.5
    constants["b"] = 0.1 * random.normal(size=feature_dim)
    nodes += [
        helper.make_node("Flatten", [f"relu{len(channels)}"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["feature"], transB=1),
    ]
    return build(nodes, constants, (3, size, size), feature_dim)


def build(
    nodes: Sequence[Any],
    constants: dict[str, np.ndarray],
    input_shape: tuple[int, ...],
    feature_dim: int,
) -> bytes:
    """A checked ONNX model: `input` [N, *input_shape] -> `nodes` -> `feature` [N, feature_dim]."""
    tensors = [
        numpy_helper.from_array(v if v.dtype == np.int64 else np.asarray(v, np.float32), name)
        for name, v in constants.items()
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", *input_shape])]
    outputs = [helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["N", feature_dim])]
    graph = helper.make_graph(list(nodes), "encoder", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    return model.SerializeToString()


def manifest(onnx: bytes, name: str = "tiny", version: str = "1", **changes: Any) -> dict[str, Any]:
    """A valid manifest for `onnx`; `changes` replace top-level keys."""
    return {
        "schema": 1,
        "name": name,
        "version": version,
        "digest": digest_of(onnx),
        "description": "A tiny encoder for tests.",
        "input": {
            "kind": "image",
            "shape": [SIZE, SIZE, 3],
            "dtypes": ["uint8", "float32"],
            "value_range": [0.0, 1.0],
            "accepted_range": [-16.0, 16.0],
            "resize": {"method": "bilinear", "min_size": [4, 4], "max_size": [64, 64]},
            "grey": True,
        },
        "feature": {"dim": FEATURE_DIM},
        "certified": {
            "lipschitz": 100.0,
            "method": "layer-product",
            "layer_norms": [],
            "relative_rounding": 1e-9,
            "float32_error": {"slope": 1e-3, "offset": 1e-3},
        },
        "training": {},
        "quality": {},
    } | changes


def publish(root: Path, onnx: bytes, meta: dict[str, Any] | None = None) -> Path:
    """Write a version into the model repository at `root`; returns its directory."""
    meta = manifest(onnx) if meta is None else meta
    directory: Path = root / meta["name"] / meta["version"]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.onnx").write_bytes(onnx)
    (directory / "manifest.json").write_text(json.dumps(meta))
    return directory
