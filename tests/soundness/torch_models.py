"""Random torch modules, exported to ONNX the way a provider would."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

SHAPE = (3, 6, 6)
DIM = 4
OPSET = 17


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> the same."""
        moved: Tensor = self.branch(x)
        return x + moved


class Beside(nn.Module):
    """Two branches, concatenated."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> [n, C1 + C2, H, W]."""
        return torch.cat([self.left(x), self.right(x)], dim=1)


class MaxMin(nn.Module):
    """GroupSort of pairs: the halves of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, 2C, ...] -> the same."""
        a, b = x.chunk(2, dim=1)
        return torch.cat([torch.maximum(a, b), torch.minimum(a, b)], dim=1)


class Normalised(nn.Module):
    """(x - mean) / std in the graph."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, 3, H, W] -> the same."""
        mean, std = torch.tensor([0.5, 0.45, 0.4]), torch.tensor([0.25, 0.24, 0.26])
        return (x - mean[:, None, None]) / std[:, None, None]


def resnet() -> nn.Module:
    """A block with batch normalisation, ReLU and a global mean."""
    branch = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
    )
    stem = (nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, DIM))
    return nn.Sequential(Normalised(), *stem, Residual(branch), nn.ReLU(), *pool)


def plain() -> nn.Module:
    """A VGG-like chain: pooling by maxima, smooth activations, two dense layers."""
    return nn.Sequential(
        Normalised(),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.Tanh(),
        nn.AvgPool2d(2, stride=1, padding=1),
        nn.Flatten(),
        nn.Linear(6 * 4 * 4, 6),
        nn.Sigmoid(),
        nn.Linear(6, DIM),
    )


def lipschitz() -> nn.Module:
    """MaxMin between convolutions, as in networks that are 1-Lipschitz by construction."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), MaxMin(), nn.Conv2d(4, 6, 2, stride=2), MaxMin(),
        nn.Flatten(), nn.Linear(6 * 3 * 3, 8), MaxMin(), nn.Linear(8, DIM),
    )  # fmt: skip


def branched() -> nn.Module:
    """Branches side by side, slopes below zero, an upsampling in between."""
    both = Beside(nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(3, 3, 1))
    return nn.Sequential(
        both, nn.PReLU(5, init=0.3), nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(5, 4, 3, stride=2), nn.LeakyReLU(0.1), nn.Conv2d(4, 4, 2, dilation=2),
        nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(4 * 3 * 3, DIM),
    )  # fmt: skip


class SortedFours(nn.Module):
    """Groups of four channels in ascending order."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, 4k, H, W] -> the same."""
        groups = x.view(x.shape[0], -1, 4, *x.shape[2:])
        return torch.sort(groups, dim=2)[0].view(x.shape)


def mobile() -> nn.Module:
    """Depthwise convolutions with ReLU6, GELU by tanh, a sort, a rescaling by an odd factor."""
    return nn.Sequential(
        Normalised(),
        nn.Conv2d(3, 4, 3, padding=1, groups=1), nn.BatchNorm2d(4), nn.ReLU6(),
        nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4), nn.GELU(approximate="tanh"),
        nn.Upsample(size=(5, 4), mode="bilinear"), nn.Conv2d(4, 4, 1), SortedFours(),
        nn.Flatten(), nn.Linear(4 * 5 * 4, DIM),
    )  # fmt: skip


class Excitation(nn.Module):
    """Squeeze and excitation: channels times a gate of the means of all."""

    def __init__(self, channels: int, inner: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 2, 1), inner,
            nn.Conv2d(2, channels, 1), gate,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> the same."""
        gated: Tensor = self.gate(x) * x
        return gated


class ChannelsLast(nn.Module):
    """A module of [n, H, W, C] between convolutions."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> the same."""
        moved: Tensor = self.inner(x.permute(0, 2, 3, 1))
        return moved.permute(0, 3, 1, 2)


class Mean(nn.Module):
    """The mean over space."""

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> [n, C]."""
        return x.mean((2, 3))


class Scaled(nn.Module):
    """A scale for each channel, as after a block of ConvNeXt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(0.3 * torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[n, C, H, W] -> the same."""
        return self.scale * x


def excited() -> nn.Module:
    """Inverted residuals with squeeze and excitation, as in MobileNetV3 and EfficientNet."""

    def block(act: Callable[[], nn.Module], gate: nn.Module) -> nn.Module:
        inner = nn.Sequential(
            nn.Conv2d(4, 8, 1, bias=False), nn.BatchNorm2d(8), act(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8), act(),
            Excitation(8, nn.ReLU(), gate), nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4),
        )  # fmt: skip
        return Residual(inner)

    return nn.Sequential(
        Normalised(), nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.Hardswish(),
        block(nn.Hardswish, nn.Hardsigmoid()), block(nn.SiLU, nn.Sigmoid()),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, DIM),
    )  # fmt: skip


def dense() -> nn.Module:
    """A dense block and a transition, as in DenseNet; a fire module, as in SqueezeNet."""

    class Grown(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.inner = nn.Sequential(
                nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, 2, 3, padding=1)
            )

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, self.inner(x)], 1)

    fire = Beside(
        nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU()),
    )
    return nn.Sequential(
        Normalised(), nn.Conv2d(3, 4, 3, padding=1), Grown(4), Grown(6), nn.BatchNorm2d(8),
        nn.ReLU(), nn.Conv2d(8, 3, 1), nn.AvgPool2d(2), fire, nn.MaxPool2d(2, stride=1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, DIM),
    )  # fmt: skip


def convnext() -> nn.Module:
    """A block of ConvNeXt with its stem, and a mean over space."""
    inner = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        ChannelsLast(
            nn.Sequential(
                nn.LayerNorm(4, eps=1e-3), nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)
            )
        ),
        Scaled(4),
    )  # fmt: skip
    return nn.Sequential(
        Normalised(), nn.Conv2d(3, 4, 2, stride=2), ChannelsLast(nn.LayerNorm(4, eps=1e-3)),
        Residual(inner), Mean(), nn.LayerNorm(4, eps=1e-2),
        nn.Linear(4, DIM),
    )  # fmt: skip


def bent() -> nn.Module:
    """A decoder and its activations: transposed convolutions, ELU, Softplus and their kind."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ELU(), nn.Conv2d(4, 4, 1), nn.Mish(),
        nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), nn.Softplus(),
        nn.Conv2d(3, 4, 3), nn.SELU(), nn.Conv2d(4, 4, 1), nn.CELU(0.5), nn.Conv2d(4, 4, 1),
        nn.Softsign(), nn.Flatten(), nn.Linear(64, DIM),
    )  # fmt: skip


def grouped() -> nn.Module:
    """Group and instance normalisation."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.GroupNorm(2, 4, eps=1e-3), nn.SiLU(),
        nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4, eps=1e-3, affine=True), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, DIM),
    )  # fmt: skip


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet": resnet,
    "plain": plain,
    "lipschitz": lipschitz,
    "branched": branched,
    "mobile": mobile,
    "excited": excited,
    "dense": dense,
    "convnext": convnext,
    "bent": bent,
    "grouped": grouped,
}


def exported(name: str, seed: int, *, dynamo: bool = False) -> bytes:
    """ONNX bytes of the module with random weights and moments; `dynamo`: the newer exporter."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = MODELS[name]()
        _draw_moments(module)
    batch = {0: torch.export.Dim("N", min=1)} if dynamo else {0: "N"}
    shapes = {"dynamic_shapes": [batch]} if dynamo else {"dynamic_axes": {"input": batch}}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.onnx"
        # Of the exporters themselves: that one is old, and what the other one uses.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (torch.zeros(2, *SHAPE),),
            file,
            input_names=["input"],
            output_names=["feature"],
            opset_version=None if dynamo else OPSET,
            dynamo=dynamo,
            external_data=False,
            verbose=False,
            **shapes,
        )
        return file.read_bytes()


def _draw_moments(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.get_buffer("running_mean").normal_(0, 0.3)
            part.get_buffer("running_var").uniform_(0.3, 1.5)
