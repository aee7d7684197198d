"""How far ONNX Runtime's float32 features can be from the exact ones.

The client compares features that were computed in float32; a certificate has to hold for those.

Theorem behind all functions: a node adds the rounding of its own sums (see `summation`) to the
error of what it reads, and the rest of the network multiplies the 2-norm of that by at most its
Lipschitz constant. Deterministic. Assumes IEEE float32 products that are summed directly, in any
order: no Winograd or FFT convolution, no TF32, no half precision. Denormal numbers may be flushed
to 0, on reading and on writing (see `flushing`); radii end where a sum might overflow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reaas_bounds.bounds.region import Region
from reaas_bounds.bounds.row_constant import ROUNDING
from reaas_bounds.coupled_error import Centre, RegionError
from reaas_bounds.graph.network import Network
from reaas_bounds.measurement import Measurement
from reaas_bounds.propagation import Propagation, Sizes

# Float64 rounding of this analysis itself, and float32 rounding of its coefficients.
MARGIN = 1 + 1e-6
FARTHEST = 1e9
_OFFSET = torch.tensor([0.0, 1.0], dtype=torch.float64)


def float32_error(network: Network) -> tuple[float, float]:
    """(slope, offset): ``||feature_float32(x) - f(x)||_2 <= slope ||x||_2 + offset``, every x.

    For networks with products of activations: every x that a service takes (``ACCEPTED``).

    The sizes ``||h||`` are bounded by their value at the black image plus a Lipschitz constant
    times ``||x||_2``. Includes the rounding of uint8/255 and of a float32 resize.
    """
    if network.coupled:
        accepted = Region.accepted(network)
        middle = torch.zeros(1, *network.input_shape, dtype=torch.float64)
        return 0.0, RegionError(accepted, Centre.of(network, middle)).value
    known = Propagation.of(network)
    # Everything below is linear in (slope, offset), so both travel as one tensor [2].
    sizes = [torch.tensor(line, dtype=torch.float64) for line in known.sizes]

    def sums(index: int, error: Tensor) -> Tensor:
        source, (magnitude, total) = known.affine(index).source, known.rounding[index].largest
        products = known.absolute[index] * sizes[source] + known.bias[index] * _OFFSET
        return magnitude * products + total * sizes[index] + known.drift[index] * error

    image = torch.tensor([1.0, 0.0], dtype=torch.float64)
    added = known.added(Sizes(image, _OFFSET, sums, lambda index, error: sizes[index] + error))
    total = _weighted(known.suffix, added)
    return float(total[0]) * MARGIN, float(total[1]) * MARGIN


def float32_error_at(network: Network, x: Tensor) -> Tensor:
    """``||feature_float32(x) - f(x)||_2`` is at most this, [n], for images x [n, C, H, W].

    The sums ``|W| |h| + |b|`` and ``W h + b`` are measured at x, in float32: they are close to
    those of ONNX Runtime, whose h and ours are both within the error so far of the exact one.
    Far below what ``float32_error`` says for all x, and grows by at most its slope with the
    distance from x. The same bits for x in any batch.
    """
    if network.coupled:
        return x.new_tensor([_coupled_error(network, image) for image in x])
    measurement = Measurement.of(network)
    found = _weighted(measurement.propagation.suffix, measurement.at(x).added) * MARGIN
    return _certain(found)


def within_range(network: Network, x: Tensor) -> list[float]:
    """Radii [n] around images x [n, C, H, W] within which no float32 operation overflows.

    At most ``FARTHEST``: no image is that far from another, and a search ends somewhere.
    """
    safe = Measurement.of(network).propagation.flushing.safe_norm * (1 - 1e-9)
    lengths = x.flatten(1).norm(dim=1).tolist()
    return [min(max(0.0, safe - length), FARTHEST) for length in lengths]


def float32_row_error_at(network: Network, x: Tensor, rows: Tensor) -> Tensor:
    """``|c . (feature_float32(x) - f(x))|`` is at most this, [n, m], for rows c [n, m, d].

    ``x`` [n, C, H, W]. Never above ``||c|| float32_error_at``: the last layer counts as ``|c|``
    times its rounding, entry by entry, and what was added before it counts with ``||c W||``
    instead of ``||c|| ||W||``. Grows by at most ``||c||`` times the slope of ``float32_error``
    with the distance from x. The same bits for x and its rows in any batch.
    """
    if network.coupled:
        errors: Tensor = rows.norm(dim=2) * float32_error_at(network, x)[:, None]
        return errors
    measurement = Measurement.of(network)
    measured, known = measurement.at(x), measurement.propagation
    added = torch.stack(measured.added, dim=1)  # [n, nodes]
    # One image after the other: a product's last bits depend on its size.
    found = [
        _row_errors(network, known, own, parts, few)
        for own, parts, few in zip(measured.own, added, rows, strict=True)
    ]
    return _certain(torch.stack(found)) if found else rows.new_zeros(rows.shape[:2])


def _coupled_error(network: Network, image: Tensor) -> float:
    region = Region.around(network, image[None], 0.0)
    return RegionError(region, Centre.of(network, image[None])).value


def _row_errors(
    network: Network, known: Propagation, own: Tensor, added: Tensor, rows: Tensor
) -> Tensor:
    """Of one image: its last node's rounding [d], what its nodes add [nodes], rows [m, d]."""
    lengths = rows.norm(dim=1)  # [m]
    constants = lengths[:, None] * torch.tensor(known.suffix, dtype=torch.float64)  # [m, nodes]
    constants = torch.minimum(constants, _constants_by_row(network, known, rows, lengths))
    # Of the last node only its own sums have a direction; the drift of its inputs has none.
    last = rows.abs() @ own + lengths * (added[-1] - own.norm())
    last = torch.minimum(last, lengths * added[-1])
    return torch.mv(constants[:, :-1], added[:-1]).add(last).mul(MARGIN)


def _certain(errors: Tensor) -> Tensor:
    """Where an error is no number, an operation overflowed at the image: nothing is known."""
    return errors.nan_to_num(nan=torch.inf, posinf=torch.inf)


def _weighted(constants: list[float], added: list[Tensor]) -> Tensor:
    """Sum over the nodes of what each adds, times the constant of what follows it."""
    total = constants[0] * added[0]
    for constant, part in zip(constants[1:], added[1:], strict=True):
        total = total + constant * part
    return total


def _constants_by_row(
    network: Network, known: Propagation, rows: Tensor, lengths: Tensor
) -> Tensor:
    """Per row c and node a constant of its value -> ``c . feature``, [m, nodes].

    ``||c W||`` times the constant of value -> what W, the affine end of the network, reads;
    infinite for the nodes of W itself.
    """
    pulled, absolute, index = rows, lengths, len(known.gain) - 1
    while index != known.head:
        node = known.affine(index)
        pulled = node.linear.adjoint(pulled.reshape(len(rows), *node.shape))
        absolute = known.absolute[index] * absolute
        index = node.source
    sizes = pulled.flatten(1).norm(dim=1) + ROUNDING * absolute  # [m]
    constants: Tensor = sizes[:, None] * torch.tensor(known.to_head, dtype=torch.float64)
    constants[:, known.head + 1 :] = torch.inf
    return constants
