"""Intervals of every activation over a box of images: how large the factors of products can get."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reaas_bounds.graph.coupling import Reached
from reaas_bounds.graph.coupling.reached import ABSOLUTE, RELATIVE
from reaas_bounds.graph.nodes import Activation, Affine, Graph, Input, Joint, Node, Sum

Ends = tuple[Tensor, Tensor]


def enclosures(graph: Graph, low: float, high: float) -> list[Ends]:
    """Per node the smallest and largest values, [*shape] each, over images in ``[low, high]``.

    Theorem: interval arithmetic, ``|W|`` times the half-width around the image of the middle, ends
    of monotone pieces, the images of couplings; widened by what float64 rounds. Infinite where it
    overflows. Deterministic.
    """
    found: list[Ends] = []
    for node in graph.nodes:
        found.append(_finite(_enclosed(node, found, low, high)))
    return found


def _enclosed(node: Node, found: list[Ends], low: float, high: float) -> Ends:
    match node:
        case Input():
            ends = torch.tensor([low, high], dtype=torch.float64)
            return ends[0].expand(node.shape), ends[1].expand(node.shape)
        case Affine():
            return _affine(node, found[node.source])
        case Activation():
            return _activated(node, found[node.source])
        case Sum():
            (a, b), (c, d) = found[node.left], found[node.right]
            return _widened(a + c, b + d, torch.maximum(_size(a, b), _size(c, d)))
        case Joint():
            return node.function.image(*(_reached(*found[k]) for k in node.inputs))


def _affine(node: Affine, ends: Ends) -> Ends:
    lower, upper = ends
    if not bool(lower.isfinite().all() & upper.isfinite().all()):
        whole = torch.full(node.shape, math.inf, dtype=torch.float64)
        return -whole, whole
    middle, half = (lower + upper) / 2, (upper - lower) / 2
    absolute = node.linear.absolute()
    centre = node.linear.apply(middle.unsqueeze(0))[0] + node.bias
    spread = absolute.apply(half.unsqueeze(0))[0]
    terms = absolute.apply(_size(lower, upper).unsqueeze(0))[0] + node.bias_magnitude
    return _widened(centre - spread, centre + spread, terms)


def _activated(node: Activation, ends: Ends) -> Ends:
    """Through the function, where its ends are finite; else by its slopes."""
    lower, upper = (end.unsqueeze(0).clamp(-_HUGE, _HUGE) for end in ends)
    low, high = (end[0] for end in node.function.image(lower, upper))
    far = node.function.gain * (ends[1] - ends[0]).clamp_min(0)
    unknown = ~(ends[0].abs().le(_HUGE) & ends[1].abs().le(_HUGE))
    low, high = torch.where(unknown, low - far, low), torch.where(unknown, high + far, high)
    return _widened(low, high, _size(low, high))


# Squares and exponentials of numbers up to this do not overflow.
_HUGE = 1e150


def _reached(lower: Tensor, upper: Tensor) -> Reached:
    """Values of which only an interval is known."""
    middle = torch.nan_to_num((lower + upper) / 2, nan=0.0, posinf=0.0, neginf=0.0)
    return Reached(middle, math.inf, lower, upper)


def _size(lower: Tensor, upper: Tensor) -> Tensor:
    return torch.maximum(lower.abs(), upper.abs())


def _widened(lower: Tensor, upper: Tensor, size: Tensor) -> Ends:
    margin = RELATIVE * (upper - lower) + ABSOLUTE * size
    return lower - margin, upper + margin


def _finite(ends: Ends) -> Ends:
    """Not a number: nothing is known."""
    lower, upper = ends
    known = ~(lower.isnan() | upper.isnan())
    return torch.where(known, lower, -math.inf), torch.where(known, upper, math.inf)
