"""Augmentation of whole batches on tensors: crop, flip, colour jitter, loss of colour.

A crop with a flip is one affine map of coordinates; brightness, contrast, saturation, hue and grey
are one affine map of colours. So a view costs one resampling and one 3 x 3 product, whatever the
recipe switches on.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample

from reaas_pretrain.recipe import AugmentationConfig

_GREY = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601 luma
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB: Tensor = torch.linalg.inv(_YIQ)


def random_view(images: Tensor, config: AugmentationConfig, generator: Generator) -> Tensor:
    """One view an image, `[n, 3, h, w]`: uint8 or float in [0, 1] -> float in [0, 1]."""
    scaled = images.float() / 255 if images.dtype == torch.uint8 else images
    return jitter_colours(crop_and_flip(scaled, config, generator), config, generator)


def crop_and_flip(images: Tensor, config: AugmentationConfig, generator: Generator) -> Tensor:
    """Random resized crop (bilinear, back to the same size) and horizontal flip, `[n, c, h, w]`."""
    n = len(images)
    area = _uniform(n, *config.crop_scale, generator)
    narrow, wide = config.crop_ratio
    ratio = _uniform(n, math.log(narrow), math.log(wide), generator).exp()
    width, height = ((area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1))  # [n]
    left = (2 * torch.rand(n, generator=generator) - 1) * (1 - width)
    top = (2 * torch.rand(n, generator=generator) - 1) * (1 - height)
    sign = 1 - 2 * _chance(n, config.flip, generator)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width * sign, left
    theta[:, 1, 1], theta[:, 1, 2] = height, top
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def jitter_colours(images: Tensor, config: AugmentationConfig, generator: Generator) -> Tensor:
    """Colour jitter and loss of colour as one map `M x + b` of the pixels, `[n, 3, h, w]`."""
    n = len(images)
    on = _chance(n, config.jitter, generator)  # [n], 1 where the view is jittered
    brightness = 1 + on * _uniform(n, -config.brightness, config.brightness, generator)
    contrast = 1 + on * _uniform(n, -config.contrast, config.contrast, generator)
    saturation = 1 + on * _uniform(n, -config.saturation, config.saturation, generator)
    hue = on * _uniform(n, -config.hue, config.hue, generator)
    saturation = saturation * (1 - _chance(n, config.grey, generator))
    to_grey = _GREY.expand(3, 3)
    blend = to_grey + saturation.view(n, 1, 1) * (torch.eye(3) - to_grey)
    matrix = blend @ _hue_rotation(hue) * (brightness * contrast).view(n, 1, 1)  # [n, 3, 3]
    grey = torch.einsum("c,nc->n", _GREY, images.mean((2, 3)))  # [n]
    offset = (brightness * (1 - contrast) * grey).view(n, 1, 1)
    flat = torch.baddbmm(offset, matrix, images.flatten(2))  # [n, 3, h w]
    return flat.clamp_(0, 1).view_as(images)


def _hue_rotation(turns: Tensor) -> Tensor:
    """`[n, 3, 3]` rotations of the chroma plane of YIQ by `turns [n]` revolutions."""
    angle = 2 * math.pi * turns
    rotation = torch.eye(3).repeat(len(turns), 1, 1)
    rotation[:, 1, 1] = rotation[:, 2, 2] = angle.cos()
    rotation[:, 1, 2], rotation[:, 2, 1] = -angle.sin(), angle.sin()
    return _RGB @ rotation @ _YIQ


def _uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


def _chance(n: int, probability: float, generator: Generator) -> Tensor:
    return (torch.rand(n, generator=generator) < probability).float()
