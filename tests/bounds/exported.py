"""Encoders as torch.onnx.export writes them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Function(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Its value."""
        return self.function(x)


def exported(
    module: nn.Module, shape: Sequence[int], *, dynamo: bool = False, opset: int | None = None
) -> bytes:
    """ONNX bytes of ``module`` with a free batch size, by one of torch's two exporters."""
    file, image = io.BytesIO(), torch.randn(2, *shape)
    names = {"input_names": ["input"], "output_names": ["feature"], "opset_version": opset}
    batch: dict[str, object] = {"dynamic_axes": {"input": {0: "N"}}}
    if dynamo:
        batch = {"dynamic_shapes": ({0: torch.export.Dim("N")},), "verbose": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside of torch
        torch.onnx.export(module.eval(), (image,), file, dynamo=dynamo, **names, **batch)  # type: ignore[arg-type]
    return file.getvalue()


def max_min(x: Tensor) -> Tensor:
    """Halves of the channels, the larger ones first (orthogonium)."""
    a, b = torch.split(x, x.shape[1] // 2, 1)
    return torch.cat([torch.max(a, b), torch.min(a, b)], 1)


def group_sort(x: Tensor) -> Tensor:
    """Neighbouring channels in ascending order (deel-torchlip)."""
    pairs = x.view(x.shape[0], x.shape[1] // 2, 2, *x.shape[2:])
    ends = torch.min(pairs, 2, keepdim=True)[0], torch.max(pairs, 2, keepdim=True)[0]
    return torch.cat(ends, 2).view(x.shape)


def sorted_pairs(x: Tensor) -> Tensor:
    """The same by a sort."""
    pairs = x.view(x.shape[0], x.shape[1] // 2, 2, *x.shape[2:])
    return torch.sort(pairs, dim=2)[0].view(x.shape)


def sorted_fours(x: Tensor) -> Tensor:
    """Groups of four channels in ascending order."""
    groups = x.view(x.shape[0], -1, 4, *x.shape[2:])
    return torch.sort(groups, dim=2)[0].view(x.shape)


def stacked_pairs(x: Tensor) -> Tensor:
    """Neighbouring channels in descending order, by a stack."""
    pairs = x.view(x.shape[0], -1, 2, *x.shape[2:])
    return torch.stack([pairs.max(2).values, pairs.min(2).values], 2).view(x.shape)


class Residual(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.skip = nn.Sequential(skip, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """The rectified sum of both paths."""
        return functional.relu(self.branch(x) + self.skip(x))


def resnet18() -> nn.Module:
    """ResNet-18 for 32x32 images: a 3x3 stem without pooling; 128 features."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    width = 64
    for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [Residual(width, outputs, stride), Residual(outputs, outputs, 1)]
        width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 128))


def vgg() -> nn.Module:
    """Eight convolutions, four maximum pools and two matrices; 128 features."""
    layers: list[nn.Module] = []
    width = 3
    for number, outputs in enumerate((64, 64, 128, 128, 256, 256, 512, 512)):
        layers += [nn.Conv2d(width, outputs, 3, 1, 1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if number % 2 else []
        width = outputs
    layers += [nn.Flatten(), nn.Linear(2048, 512), nn.ReLU(), nn.Linear(512, 128)]
    return nn.Sequential(*layers)
