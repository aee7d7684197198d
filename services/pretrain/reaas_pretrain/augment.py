"""Augmentation of whole batches on tensors: crop, flip, colour jitter, loss of colour.

A crop with a flip is one affine map of coordinates; brightness, contrast, saturation, hue and grey
are one affine map of colours. So a view costs one resampling and one 3 x 3 product, whatever the
recipe switches on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from reaas_pretrain.chance import Chance
from reaas_pretrain.sections import AugmentationConfig

_GREY = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601 luma
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB: Tensor = torch.linalg.inv(_YIQ)


def random_view(images: Tensor, config: AugmentationConfig, chance: Chance) -> Tensor:
    """One view an image, `[n, 3, h, w]`: uint8 or float in [0, 1] -> float in [0, 1]."""
    scaled = images.float() / 255 if images.dtype == torch.uint8 else images
    return jitter_colours(crop_and_flip(scaled, config, chance), config, chance)


def crop_and_flip(images: Tensor, config: AugmentationConfig, chance: Chance) -> Tensor:
    """Random resized crop (bilinear, back to the same size) and horizontal flip, `[n, c, h, w]`."""
    n = len(images)
    area = chance.between(n, *config.crop_scale)
    narrow, wide = config.crop_ratio
    ratio = chance.between(n, math.log(narrow), math.log(wide)).exp()
    width, height = ((area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1))  # [n]
    left = (2 * chance.uniform(n) - 1) * (1 - width)
    top = (2 * chance.uniform(n) - 1) * (1 - height)
    sign = 1 - 2 * chance.happens(n, config.flip)
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0], theta[:, 0, 2] = width * sign, left
    theta[:, 1, 1], theta[:, 1, 2] = height, top
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def jitter_colours(images: Tensor, config: AugmentationConfig, chance: Chance) -> Tensor:
    """Colour jitter and loss of colour as one map `M x + b` of the pixels, `[n, 3, h, w]`."""
    n = len(images)
    on = chance.happens(n, config.jitter)  # [n], 1 where the view is jittered
    brightness = 1 + on * chance.between(n, -config.brightness, config.brightness)
    contrast = 1 + on * chance.between(n, -config.contrast, config.contrast)
    saturation = 1 + on * chance.between(n, -config.saturation, config.saturation)
    hue = on * chance.between(n, -config.hue, config.hue)
    saturation = saturation * (1 - chance.happens(n, config.grey))
    luma = _GREY.to(images.device)
    to_grey = luma.expand(3, 3)
    blend = to_grey + saturation.view(n, 1, 1) * (torch.eye(3, device=images.device) - to_grey)
    matrix = blend @ _hue_rotation(hue) * (brightness * contrast).view(n, 1, 1)  # [n, 3, 3]
    grey = torch.einsum("c,nc->n", luma, images.mean((2, 3)))  # [n]
    offset = (brightness * (1 - contrast) * grey).view(n, 1, 1)
    flat = torch.baddbmm(offset, matrix, images.flatten(2))  # [n, 3, h w]
    return flat.clamp_(0, 1).view_as(images)


def _hue_rotation(turns: Tensor) -> Tensor:
    """`[n, 3, 3]` rotations of the chroma plane of YIQ by `turns [n]` revolutions."""
    angle = 2 * math.pi * turns
    rotation = torch.eye(3, device=turns.device).repeat(len(turns), 1, 1)
    rotation[:, 1, 1] = rotation[:, 2, 2] = angle.cos()
    rotation[:, 1, 2], rotation[:, 2, 1] = -angle.sin(), angle.sin()
    return _RGB.to(turns.device) @ rotation @ _YIQ.to(turns.device)
