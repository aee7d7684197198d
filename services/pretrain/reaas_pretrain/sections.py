"""The sections of a recipe: every key, its default and the reason for it.

Sections are frozen; an unknown key, a wrong type or a value out of range is refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

WIDEST = 2**16
"""Most channels of a layer, and most features: beyond any encoder, so a slip of the keyboard."""
Width = Annotated[int, Field(ge=1, le=WIDEST)]


class Section(BaseModel):
    """Strict, frozen, no key but the ones that are named."""

    # Infinity and NaN pass every "at least", and would be found by a loss that is no number.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class EncoderConfig(Section):
    """The network that is served: strided convolutions, then one linear layer."""

    family: Literal["relu", "orthogonal"] = "relu"
    """`orthogonal`: every layer 1-Lipschitz by construction, MaxMin for ReLU (needs the package
    `orthogonium`). The parametrisation is gone at export: plain convolutions are served."""
    offset: float = Field(default=1.0, ge=0)
    """Orthogonal only: how many deviations the two channels of a MaxMin pair start apart. 0 folds
    half of the variance away at the start, 2 is nearly linear."""
    channels: tuple[Width, ...] = Field(
        default=(32, 64, 128), min_length=1, max_length=64, strict=False
    )
    """Three halvings take 32 pixels to 4; 0.4 M parameters train in an hour on one core."""
    kernel: int = Field(default=4, ge=2, le=64)
    """4 = twice the stride: every pixel is read equally often, none is louder than others."""
    stride: int = Field(default=2, ge=1, le=64)
    """Striding inside the convolution keeps its certified norm tight (polyphase)."""
    padding: int = Field(default=1, ge=0, le=64)
    """Makes 32 -> 16 -> 8 -> 4 exact."""
    feature_dim: int = Field(default=128, ge=1, le=WIDEST)
    """The feature's size: as in MoCo."""
    image_size: int = Field(default=32, ge=4, le=4096)
    """Side of the (square, RGB) input that the network sees."""
    mean: tuple[float, float, float] = Field(default=(0.4802, 0.4481, 0.3975), strict=False)
    """Per-channel mean of Tiny-ImageNet's train images; part of the graph."""
    std: tuple[float, float, float] = Field(default=(0.2770, 0.2691, 0.2821), strict=False)
    """Per-channel deviation of the same images; part of the graph and of every norm."""

    @model_validator(mode="after")
    def _orthogonal(self) -> EncoderConfig:
        if self.family == "relu":
            return self
        if not self.kernel > self.stride >= 2:
            raise ValueError(
                f"family orthogonal needs kernel > stride >= 2, got {self.kernel} and {self.stride}"
            )
        for width in self.channels:
            if width % 2 or width % self.stride**2:
                raise ValueError(
                    f"family orthogonal needs even channels that are multiples of stride ** 2 ="
                    f" {self.stride**2}, got {width}"
                )
        return self


class AugmentationConfig(Section):
    """How the two views of an image are drawn (MoCo v2, on 32 x 32 pixels)."""

    crop_scale: tuple[float, float] = Field(default=(0.25, 1.0), strict=False)
    """Share of the area a crop keeps; 0.25 instead of 0.2 because 32 pixels hold little to lose."""
    crop_ratio: tuple[float, float] = Field(default=(0.75, 4 / 3), strict=False)
    """Aspect ratio of a crop, as everywhere."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability of a horizontal flip."""
    jitter: float = Field(default=0.8, ge=0, le=1)
    """Probability that the colours of a view are changed at all."""
    brightness: float = Field(default=0.4, ge=0, le=1)
    """Factor drawn from [1 - b, 1 + b]."""
    contrast: float = Field(default=0.4, ge=0, le=1)
    """Factor about the image's mean grey, drawn from [1 - c, 1 + c]."""
    saturation: float = Field(default=0.4, ge=0, le=1)
    """Factor about each pixel's grey, drawn from [1 - s, 1 + s]."""
    hue: float = Field(default=0.1, ge=0, le=0.5)
    """Turn of the colour circle, in revolutions, drawn from [-h, h]."""
    grey: float = Field(default=0.2, ge=0, le=1)
    """Probability that a view loses its colour."""

    @model_validator(mode="after")
    def _ordered(self) -> AugmentationConfig:
        for name, (low, high) in (("crop_scale", self.crop_scale), ("crop_ratio", self.crop_ratio)):
            if not 0 < low <= high:
                raise ValueError(f"{name} needs 0 < low <= high, got {low} and {high}")
        if self.crop_scale[1] > 1:
            raise ValueError(
                f"crop_scale is a share of the area, at most 1, got {self.crop_scale[1]}"
            )
        return self


class ContrastConfig(Section):
    """How views are compared (objectives `moco` and `rocl`)."""

    mechanism: Literal["momentum", "end-to-end"] = "momentum"
    """Where keys come from. `momentum`: from a moving average of the encoder, negatives from a
    queue. `end-to-end` (figure 2a of the MoCo paper): from the encoder itself, with gradient, each
    batch its own negatives; no key ages, so features may move at their own scale."""
    similarity: Literal["cosine", "distance", "dot"] = "cosine"
    """`cosine`: MoCo's. `distance` is -||q - k||^2; like `dot` it feels the scale of the features,
    so that they drift away from the old keys of the queue: for ablations, with a short queue."""
    temperature: float = Field(default=0.2, gt=0)
    """MoCo v2's (RoCL: 0.5); for `distance` and `dot` it sets the unit of squared length."""
    queue: int = Field(default=8192, ge=1, le=2**24)
    """Number of past keys; 65,536 keys of MoCo would be most of an epoch of 100,000 images."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """Of the key encoder; 0.999 of MoCo assumes a million steps, 0.99 suits some ten thousand."""
    projection: int = Field(default=0, ge=0, le=WIDEST)
    """Hidden width of an MLP head used in training only (MoCo v2), 0 = none. Not served, and hence
    not allowed with a spectral term: it could undo what the term does to the encoder."""


class AttackConfig(Section):
    """RoCL's instance-wise attack (Kim et al. 2020, arXiv 2006.07589), as published."""

    norm: Literal["linf", "l2"] = "linf"
    """`linf` as published; `l2` is the fair baseline of a service that certifies L2 radii."""
    epsilon: float = Field(default=0.0314, gt=0)
    """Radius of the ball, pixels in [0, 1]: 8/255. In L2 some 0.5 is usual."""
    step: float = Field(default=0.007, gt=0)
    """Length of a step, in the same norm."""
    steps: int = Field(default=7, ge=1, le=10_000)
    """Steps of ascent from a random start in the ball."""
    weight: float = Field(default=1 / 256, ge=0)
    """Of the loss between the attacked view and the second view alone: 1/lambda, lambda = 256."""


class SpectralConfig(Section):
    """The robust term of REaaS (arXiv 2301.02905): weight * product of the layers' norms.

    The norms are those of the operators (stride and zero padding as they are, the first with the
    division by `encoder.std`), the last in units of feature spread: see `SpectralTerm`.
    """

    weight: float = Field(default=0.0, ge=0)
    """lambda; 0 = plain MoCo."""
    variant: Literal["product", "sum", "log"] = "product"
    """`product` is the talk's and bounds the encoder's Lipschitz constant; others are ablations."""
    iterations: int = Field(default=1, ge=1, le=10_000)
    """Power iterations a step; vectors are kept from step to step, so one is enough."""


class OptimiserConfig(Section):
    """SGD or Adam on a cosine schedule with warm-up."""

    method: Literal["sgd", "adam"] = "sgd"
    """`adam` for orthogonal layers, whose parameters have no common scale of gradients."""
    learning_rate: float = Field(default=0.06, gt=0)
    """Peak rate: twice MoCo's 0.03 for 256 images, as nothing here is batch-normalised."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """As in MoCo; Adam's first beta."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """As in MoCo."""
    clip_norm: float = Field(default=1.0, gt=0)
    """Largest gradient norm: without normalisation layers single batches can kick hard."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of the run in which the rate rises linearly: about one epoch of thirty."""


class ScheduleConfig(Section):
    """How long, how much at once, and how often quality is looked at."""

    epochs: int = Field(default=40, ge=1, le=2**31 - 1)
    """Passes over the images; fits an hour and a half of one core."""
    batch: int = Field(default=256, ge=2, le=2**20)
    """As in MoCo."""
    seed: int = Field(default=1, ge=0, le=2**63 - 1)
    """Of the weights, the order of the images and the augmentation."""
    bfloat16: bool = False
    """Multiply in bfloat16 with float32 master weights (autocast): faster on CPUs that have it."""
    monitor_every: int = Field(default=2, ge=1, le=2**31 - 1)
    """Epochs between two looks at k-NN accuracy."""
