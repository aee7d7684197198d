"""Encoders from torch.onnx.export: the forms that exporters write, and networks of real size."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from reaas_bounds import certified_constants, load_network
from torch import Tensor, nn

from tests.bounds import exported
from tests.bounds.encoders import Float32

PAIRS: dict[str, Callable[[Tensor], Tensor]] = {
    "max-min": exported.max_min,
    "group-sort": exported.group_sort,
    "sorted-pairs": exported.sorted_pairs,
    "stacked-pairs": exported.stacked_pairs,
    "sorted-fours": exported.sorted_fours,
}
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu-tanh": lambda: nn.GELU(approximate="tanh"),
    "relu6": nn.ReLU6,
    "hard-tanh": nn.Hardtanh,
    "clamp": lambda: exported.Function(lambda x: x.clamp(max=0.3)),
    "leaky-relu": lambda: nn.LeakyReLU(0.1),
    "prelu": lambda: nn.PReLU(4, init=0.3),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "max-pool": lambda: nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "average-pool": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "same-padding": lambda: nn.Conv2d(4, 4, 3, padding="same"),
    "reflected": lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    "upsampling": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear-any": lambda: nn.Upsample(scale_factor=1.7, mode="bilinear"),
    "bilinear-corners": lambda: nn.Upsample(scale_factor=1.5, mode="bilinear", align_corners=True),
    "bilinear-down": lambda: nn.Upsample(size=(5, 11), mode="bilinear"),
    "shuffled": lambda: nn.PixelUnshuffle(2),
    "view": lambda: exported.Function(lambda x: x.view(x.size(0), -1)),
    "mean": lambda: exported.Function(lambda x: x.mean((2, 3))),
}


def encoder(layer: nn.Module) -> nn.Module:
    """A convolution of an 8x8 image, ``layer``, a matrix."""
    front = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), layer, nn.Flatten())
    features = front(torch.zeros(1, 3, 8, 8)).shape[1]
    return nn.Sequential(front, nn.Linear(features, 5))


def check(data: bytes) -> float:
    """The constant of a file that the engine reads as ONNX Runtime executes it."""
    network = load_network(data)
    images = np.random.default_rng(0).uniform(-1, 2, (4, 3, 8, 8)).astype(np.float32)
    exact = network.forward(torch.from_numpy(images.astype(np.float64)))
    np.testing.assert_allclose(exact.numpy(), Float32(data)(images), rtol=1e-4, atol=1e-5)
    return certified_constants(network).lipschitz


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_of_torch_is_read_as_it_is_executed(name: str) -> None:
    torch.manual_seed(1)
    assert check(exported.exported(encoder(LAYERS[name]()), (3, 8, 8))) > 0


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_sorted_pairs_cost_nothing_in_any_form(name: str, dynamo: bool) -> None:
    torch.manual_seed(1)
    convolution, matrix = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 5)
    sort = exported.Function(PAIRS[name])
    whole = nn.Sequential(convolution, sort, nn.Flatten(), matrix)
    found = check(exported.exported(whole, (3, 8, 8), dynamo=dynamo))
    parts = [
        (nn.Sequential(convolution, nn.Flatten()), 3),
        (nn.Sequential(nn.Flatten(), matrix), 4),
    ]
    alone = [
        certified_constants(exported.exported(part, (channels, 8, 8))).lipschitz
        for part, channels in parts
    ]
    assert found <= alone[0] * alone[1] * (1 + 1e-6)


@pytest.mark.parametrize(("form", "operator"), [("none", b"Erf"), ("tanh", b"Tanh")])
def test_gelu_of_an_old_opset_is_recognised(form: str, operator: bytes) -> None:
    torch.manual_seed(1)
    data = exported.exported(encoder(nn.GELU(form)), (3, 8, 8), opset=17)
    assert operator in data
    assert check(data) > 0


SCRIPT = """
import json, resource, sys, time
import torch
from reaas_bounds import MarginMethod, Method, SearchOptions
from reaas_bounds import certified_constants, certify_ball, certify_margins, load_network

torch.set_num_threads(1)
start = time.process_time()
network = load_network(open(sys.argv[1], "rb").read())
loaded = time.process_time() - start
constants = certified_constants(network)
image = torch.rand(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
goal = torch.tensor([1e4], dtype=torch.float64)
options = SearchOptions(max_steps=8)
radii = [
    certify_ball(network, constants, image, goal, method, options)[0].radius
    for method in (Method.LIPSCHITZ, Method.IBP)
]
row = torch.zeros(1, 1, 128, dtype=torch.float64)
row[0, 0, 0] = 1.0
offset = torch.full((1, 1), 1e4, dtype=torch.float64)
margin = certify_margins(network, constants, image, row, offset, MarginMethod.LIPSCHITZ)[0]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps([loaded, constants.lipschitz, *radii, margin.radius, peak]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("make", [exported.resnet18, exported.vgg])
def test_networks_of_real_size_fit_in_four_gigabytes(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    path = tmp_path / "model.onnx"
    path.write_bytes(exported.exported(make(), (3, 32, 32)))
    command = [sys.executable, "-c", SCRIPT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded, lipschitz, ball, interval, margin, peak = json.loads(done.stdout)
    assert loaded < 60  # CPU seconds; it takes one
    assert lipschitz > 0
    assert min(ball, margin) > 0
    assert interval >= 0
    assert peak < 4  # GiB
