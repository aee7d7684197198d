"""Random encoders over every operator that the engine knows, as ONNX bytes.

An encoder is a chain of drawn steps. `focus` names one that it must hold: a pass over `OPERATORS`
meets every operator. Same focus and seed, same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.soundness.draft import Draft

Step = Callable[[Draft], object]
DIM = 4


def convolution(d: Draft, **attributes: Any) -> None:
    """A convolution of 1-6 channels; what is not given is drawn, padding about keeps the size."""
    channels, *space = d.now
    drawn = attributes.pop("kernel", (d.pick(2, 3), d.pick(1, 2, 3)))
    kernel = tuple(min(k, size) for k, size in zip(drawn, space, strict=True))
    groups = attributes.setdefault("group", 1)
    if "auto_pad" not in attributes:
        attributes.setdefault("pads", [k // 2 for k in kernel] * 2)
    out = attributes.pop("out", groups * d.pick(1, 2, 3) if groups > 1 else d.pick(3, 4, 6))
    weight = d.weights(out, channels // groups, *kernel)
    d.op("Conv", weight, d.weights(out) / 3, kernel_shape=kernel, **attributes)


def strided(d: Draft) -> None:
    """Stride 2 or 3, not always the same in both directions."""
    convolution(d, strides=[d.pick(2, 3), d.pick(1, 2)])


def grouped(d: Draft) -> None:
    """Two groups, or every channel by itself."""
    even_channels(d)
    convolution(d, group=d.pick(2, d.now[0]))


def dilated(d: Draft) -> None:
    """Dilation, padded so that the kernel fits."""
    convolution(d, kernel=(2, 2), dilations=[2, d.pick(1, 2)], pads=[1, 1, 1, 1])


def padded(d: Draft) -> None:
    """More padding on one side than on the other, beyond the kernel's half."""
    convolution(d, kernel=(3, 2), pads=[0, 2, 1, 0], strides=[1, d.pick(1, 2)])


def auto_padded(d: Draft) -> None:
    """Padding by name."""
    step = d.pick([1, 1], [2, 2])
    convolution(d, kernel=(2, 3), auto_pad=d.pick("SAME_UPPER", "SAME_LOWER"), strides=step)


def batch_normalization(d: Draft) -> None:
    """Inference mode."""
    c = d.now[0]
    moments = (d.uniform(-1, 1, c), d.uniform(0.2, 2, c))
    d.op("BatchNormalization", d.uniform(0.5, 1.5, c), d.uniform(-1, 1, c), *moments)


def constants(d: Draft) -> None:
    """Constant arithmetic, per channel."""
    shape = (1, d.now[0], 1, 1)
    d.op("Mul", d.uniform(0.5, 1.5, *shape))
    d.op("Sub", d.uniform(-0.5, 0.5, *shape))
    d.op("Div", d.uniform(0.7, 1.5, *shape))
    d.op("Add", d.uniform(-0.5, 0.5, *shape))


def residual(d: Draft) -> None:
    """x + branch(x)."""
    start, channels = d.last, d.now[0]
    convolution(d, kernel=(3, 3), auto_pad="SAME_UPPER")
    activation(d)
    convolution(d, kernel=(1, 1), out=channels)
    d.op("Add", start, d.last)


def concat(d: Draft) -> None:
    """Two branches beside each other."""
    start = d.last
    convolution(d, kernel=(3, 3), out=2, auto_pad="SAME_UPPER")
    first, d.last = d.last, start
    convolution(d, kernel=(1, 1), out=3)
    d.op("Concat", first, d.last, axis=1)


def split(d: Draft) -> None:
    """Halves of the channels, one of them through an activation, added."""
    even_channels(d)
    left, right = d.outputs("Split", 2, d.last, num_outputs=2, axis=1)
    d.op("Relu", left)
    d.op("Add", d.last, right)


def cut(d: Draft) -> None:
    """A slice without the first row and the last column."""
    ends = np.array([10**6, -1]), np.array([2, 3])
    d.op("Slice", np.array([1, 0]), *ends)


def average_pool(d: Draft) -> None:
    """Windows that overlap or not; padding is counted or not."""
    size = [min(2, side) for side in d.now[1:]]
    d.op("AveragePool", kernel_shape=size, strides=[1, d.pick(1, 2)], ceil_mode=d.pick(0, 1))


def padded_average_pool(d: Draft) -> None:
    """A mean over a window that sticks out."""
    counted = d.pick(0, 1)
    d.op("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=counted)


def max_pool(d: Draft) -> None:
    """Windows that overlap or not."""
    size = [min(2, side) for side in d.now[1:]]
    d.op("MaxPool", kernel_shape=size, strides=[d.pick(1, 2), min(2, size[1])])


def resize_nearest(d: Draft) -> None:
    """Twice the size by repetition."""
    scales = np.array([1.0, 1.0, 2.0, 2.0])
    d.op("Resize", None, scales, mode="nearest", coordinate_transformation_mode="asymmetric",
         nearest_mode="floor")  # fmt: skip


def resize_linear(d: Draft) -> None:
    """Twice the size, or half of it in one direction, by bilinear interpolation."""
    d.op("Resize", None, np.array([1.0, 1.0, 2.0, d.pick(0.5, 2.0)]), mode="linear")


def resize_any(d: Draft) -> None:
    """Up or down by any factor, in each of the ways to place pixels."""
    sizes = [d.pick(*range(2, 2 * side)) for side in d.now[1:]]
    where = d.pick("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    d.op("Resize", None, None, np.array(sizes), axes=[2, 3], mode="linear",
         coordinate_transformation_mode=where)  # fmt: skip


def transpose(d: Draft) -> None:
    """Rows and columns change places."""
    d.op("Transpose", perm=[0, 1, 3, 2])


def nothing(d: Draft) -> None:
    """Identity and Dropout."""
    d.op("Identity")
    d.op("Dropout")


def even_channels(d: Draft) -> None:
    """An even number of channels from here on."""
    if d.now[0] % 2:
        convolution(d, kernel=(1, 1), out=4)


def leaky_relu(d: Draft) -> None:
    """One slope below zero, drawn."""
    d.op("LeakyRelu", alpha=float(d.uniform(0.05, 0.4)))


def prelu(d: Draft) -> None:
    """A slope a channel; some negative, some above 1."""
    d.op("PRelu", d.uniform(-0.5, 1.5, d.now[0], *(1 for _ in d.now[1:])))


def erf_gelu(d: Draft) -> None:
    """GELU as exporters of older operator sets write it."""
    start = d.last
    d.op("Div", np.array(np.sqrt(2.0)))
    d.op("Erf")
    d.op("Add", np.array(1.0))
    d.op("Mul", start, d.last)
    d.op("Mul", np.array(0.5))


def clip(d: Draft) -> None:
    """Both limits, as ReLU6 has them, or one."""
    limits = d.pick((-0.4, 0.5), (0.0, 0.8), (-0.3, None), (None, 0.4))
    d.op("Clip", *(None if limit is None else np.array(limit) for limit in limits))


def tanh_gelu(d: Draft) -> None:
    """GELU by tanh, as one operator or as the operators that make it."""
    if d.pick(True, False):
        d.op("Gelu", approximate="tanh")
        return
    start = d.last
    d.op("Mul", start, d.op("Mul", start, start))
    d.op("Mul", np.array(0.044715))
    d.op("Add", start, d.last)
    d.op("Mul", np.array(np.sqrt(2 / np.pi)))
    d.op("Tanh")
    d.op("Add", np.array(1.0))
    d.op("Mul", start, d.last)
    d.op("Mul", np.array(0.5))


def group_sort(d: Draft) -> None:
    """A sort of groups of four or three channels, or the largest of them."""
    size = d.pick(3, 4)
    if d.now[0] % size:
        convolution(d, kernel=(1, 1), out=size)
    groups, *space = d.now[0] // size, *d.now[1:]
    d.op("Reshape", np.array([0, groups, size, *space]))
    kept = d.pick(size, 2)
    values, _ = d.outputs("TopK", 2, d.last, np.array([kept]), axis=2, largest=d.pick(0, 1))
    d.op("Reshape", values, np.array([0, groups * kept, *space]))


def max_min(d: Draft) -> None:
    """GroupSort of pairs of channels, as MaxMin is exported."""
    if d.now[0] % 2:
        d.op("Concat", d.last, d.last, axis=1)
    left, right = d.outputs("Split", 2, d.last, num_outputs=2, axis=1)
    largest, smallest = d.op("Max", left, right), d.op("Min", left, right)
    d.op("Concat", largest, smallest, axis=1)


def silu(d: Draft) -> None:
    """SiLU, or with another factor in its gate."""
    start = d.last
    if d.pick(True, False):
        d.op("Mul", np.array(d.pick(1.702, -0.6)))
    d.op("Sigmoid")
    d.op("Mul", start, d.last)


def hard_swish(d: Draft) -> None:
    """As one operator, or as a product with its gate."""
    start = d.last
    if d.pick(True, False):
        d.op("HardSwish")
        return
    d.op("HardSigmoid", alpha=1 / 6, beta=0.5)
    d.op("Mul", start, d.last)


def shifted(kind: str, **attributes: float) -> Step:
    """An activation whose kink lies within reach of most values."""

    def step(d: Draft) -> None:
        d.op("Add", np.array(d.pick(-2.8, -0.1, 2.9) if kind == "HardSwish" else -0.1))
        d.op(kind, **attributes)

    return step


def conv_transpose(d: Draft) -> None:
    """Strided or not, dilated or not, in groups or not, with padding and a further row."""
    even_channels(d)
    groups, stride = d.pick(1, 2), d.pick([1, 1], [2, 1], [2, 3])
    if max(d.now[1:]) > 8:
        stride = [1, 1]
    pads = d.pick([0, 0, 0, 0], [1, 0, 0, 1])
    further = [d.pick(0, step - 1) for step in stride]
    weight = d.weights(d.now[0], 4 // groups, 2, 3)
    d.op("ConvTranspose", weight, d.weights(4) / 3, strides=stride, pads=pads, group=groups,
         output_padding=further, dilations=d.pick([1, 1], [1, 2]))  # fmt: skip


def gate(d: Draft) -> None:
    """Squeeze and excitation: every channel by a gate of the means of all."""
    start, channels = d.last, d.now[0]
    d.op("GlobalAveragePool")
    convolution(d, kernel=(1, 1), out=3)
    d.op("Relu")
    d.op("Conv", 3 * d.weights(channels, 3, 1, 1), kernel_shape=[1, 1])
    d.op(d.pick("Sigmoid", "HardSigmoid"))
    d.op("Mul", *d.pick((start, d.last), (d.last, start)))


def square(d: Draft) -> None:
    """Every entry by itself, or two paths."""
    start = d.last
    if d.pick(True, False):
        convolution(d, kernel=(1, 1), out=d.now[0])
    d.op("Mul", start, d.last)


def layer_norm(d: Draft) -> None:
    """Over all of an image, or over its last axis."""
    axis = d.pick(1, -1)
    shape = d.now if axis == 1 else d.now[-1:]
    parameters = d.uniform(0.5, 1.5, *shape), d.uniform(-0.5, 0.5, *shape)
    d.op("LayerNormalization", *parameters, axis=axis, epsilon=float(d.pick(1e-5, 1e-2)))


def instance_norm(d: Draft) -> None:
    """Every channel, or groups of them as an exporter writes it."""
    even_channels(d)
    channels, height, width = d.now
    if d.pick(True, False):
        moments = d.uniform(0.5, 1.5, channels), d.uniform(-0.5, 0.5, channels)
        d.op("InstanceNormalization", *moments, epsilon=float(d.pick(1e-5, 1e-2)))
        return
    d.op("Reshape", np.array([0, 2, -1]))
    d.op("InstanceNormalization", np.ones(2), np.zeros(2))
    d.op("Reshape", np.array([0, channels, height, width]))
    d.op("Mul", d.uniform(0.5, 1.5, channels, 1, 1))


def attention(d: Draft) -> None:
    """Pixels as tokens; queries, keys and values of 2 numbers each."""
    channels, height, width = d.now
    d.op("Reshape", np.array([0, channels, height * width]))
    start = d.op("Transpose", perm=[0, 2, 1])
    parts = [d.op("MatMul", start, d.weights(2, channels).T) for _ in range(3)]
    d.op("Transpose", parts[1], perm=[0, 2, 1])
    d.op("MatMul", parts[0], d.last)
    d.op("Softmax", axis=-1)
    d.op("MatMul", d.last, parts[2])
    d.op("MatMul", d.weights(channels, 2).T)
    d.op("Add", start, d.last)
    d.op("Transpose", perm=[0, 2, 1])
    d.op("Reshape", np.array([0, channels, height, width]))


def activation(d: Draft) -> None:
    """Any of the activations, ReLU more often."""
    d.pick(*ACTIVATIONS.values(), *[ACTIVATIONS["relu"]] * 3)(d)


def flat(d: Draft) -> None:
    """Flatten, or the same as Reshape."""
    if d.pick(True, False):
        d.op("Flatten")
    else:
        d.op("Reshape", np.array([-1, int(np.prod(d.now))]))


def pooled(d: Draft) -> None:
    """Global average, flattened."""
    d.op("GlobalAveragePool")
    d.op("Flatten")


def squeezed(d: Draft) -> None:
    """Global average without its axes of size 1."""
    d.op("GlobalAveragePool")
    d.op("Squeeze", np.array([2, 3]))


def reduced(d: Draft) -> None:
    """A mean over space."""
    d.op("ReduceMean", np.array([2, 3]), keepdims=0)


def matmul(d: Draft) -> None:
    """A hidden layer as MatMul and Add."""
    flat(d)
    d.op("MatMul", d.weights(6, d.now[0]).T)
    d.op("Add", d.weights(6))
    activation(d)


ACTIVATIONS: dict[str, Step] = {
    "relu": lambda d: d.op("Relu"),
    "leaky_relu": leaky_relu,
    "prelu": prelu,
    "abs": lambda d: d.op("Abs"),
    "tanh": lambda d: d.op("Tanh"),
    "sigmoid": lambda d: d.op("Sigmoid"),
    "gelu": lambda d: d.op("Gelu"),
    "erf_gelu": erf_gelu,
    "clip": clip,
    "tanh_gelu": tanh_gelu,
    "group_sort": group_sort,
    "max_min": max_min,
    "silu": silu,
    "hard_swish": hard_swish,
    "shifted_hard_swish": shifted("HardSwish"),
    "hard_sigmoid": lambda d: d.op("HardSigmoid", alpha=0.4, beta=0.5),
    "elu": lambda d: d.op("Elu", alpha=float(d.uniform(0.3, 2.0))),
    "selu": shifted("Selu"),
    "celu": shifted("Celu", alpha=0.5),
    "mish": lambda d: d.op("Mish"),
    "softplus": lambda d: d.op("Softplus"),
    "softsign": lambda d: d.op("Softsign"),
}

STEPS: dict[str, Step] = {
    "convolution": convolution,
    "strided": strided,
    "grouped": grouped,
    "dilated": dilated,
    "padded": padded,
    "auto_padded": auto_padded,
    "batch_normalization": batch_normalization,
    "constants": constants,
    "residual": residual,
    "concat": concat,
    "split": split,
    "cut": cut,
    "average_pool": average_pool,
    "padded_average_pool": padded_average_pool,
    "max_pool": max_pool,
    "resize_nearest": resize_nearest,
    "resize_linear": resize_linear,
    "resize_any": resize_any,
    "transpose": transpose,
    "nothing": nothing,
    "conv_transpose": conv_transpose,
}

# What leaves an encoder with constants around an image only: met where a test asks for them.
COUPLED: dict[str, Step] = {
    "gate": gate,
    "square": square,
    "layer_norm": layer_norm,
    "instance_norm": instance_norm,
    "attention": attention,
}

HEADS: dict[str, Step] = {
    "flat": flat,
    "pooled": pooled,
    "squeezed": squeezed,
    "reduced": reduced,
    "matmul": matmul,
}

OPERATORS = {**ACTIVATIONS, **STEPS, **HEADS, **COUPLED}


def random_encoder(focus: str, seed: int) -> bytes:
    """An encoder of 2-3 steps, each with an activation, `focus` among them, and a linear end."""
    d = Draft((1, 6, 5) if seed % 3 == 0 else (3, 6, 6), [seed, *focus.encode()])
    if d.pick(True, False):
        d.op("Sub", d.uniform(0.3, 0.6, 1, d.now[0], 1, 1))
        d.op("Div", d.uniform(0.2, 0.4, 1, d.now[0], 1, 1))
    plan = [d.pick(*STEPS.values()) for _ in range(d.pick(1, 2))]
    plan.insert(d.pick(0, len(plan)), {**STEPS, **COUPLED}.get(focus, convolution))
    for step in plan:
        step(d)
        ACTIVATIONS[focus](d) if focus in ACTIVATIONS else activation(d)
    HEADS.get(focus, d.pick(*HEADS.values()))(d)
    d.op("Gemm", d.weights(DIM, d.now[0]), d.weights(DIM), transB=1)
    return d.finish()
