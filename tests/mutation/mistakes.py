"""Mistakes that an engine like this one could have, each as a change of its source.

A mistake names the tests that are to catch it: few, so that the run takes minutes. A change whose
text is no longer in the file is an error, so that the list keeps up with the engine.
"""

from __future__ import annotations

from dataclasses import dataclass

_OPTIONS = "graph/operators/options.py"
_LINEAR = "graph/operators/linear.py"


@dataclass(frozen=True)
class Mistake:
    """One wrong line: ``old`` becomes ``new`` in ``file`` of reaas_bounds."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MISTAKES = (
    Mistake(
        "padding off by one",
        _OPTIONS,
        "    found = Geometry(kernel, stride, pads, dilation)  # type: ignore[arg-type]",
        "    pads = pads[1:] + pads[:1]\n"
        "    found = Geometry(kernel, stride, pads, dilation)  # type: ignore[arg-type]",
        ("tests/differential/test_grid.py",),
    ),
    Mistake(
        "dilation ignored",
        _OPTIONS,
        "    found = Geometry(kernel, stride, pads, dilation)  # type: ignore[arg-type]",
        "    found = Geometry(kernel, stride, pads, (1, 1))  # type: ignore[arg-type]",
        ("tests/differential/test_grid.py",),
    ),
    Mistake(
        "epsilon of a batch normalisation ignored",
        _LINEAR,
        '    factor = gamma / torch.sqrt(variance + given["epsilon"])',
        "    factor = gamma / torch.sqrt(variance)",
        ("tests/differential/test_grid.py", "tests/bounds/test_operators.py"),
    ),
    Mistake(
        "float32 error dropped",
        "rounding.py",
        "    return _certain(found)\n",
        "    return _certain(found) * 0\n",
        ("tests/bounds/test_flushing.py", "tests/bounds/test_rounding.py"),
    ),
    Mistake(
        "float32 error a hundred times too small",
        "summation.py",
        "UNIT_32 = 2.0**-24",
        "UNIT_32 = 2.0**-24 / 100",
        ("tests/bounds/test_flushing.py",),
    ),
    Mistake(
        "underflow left out",
        "flushing.py",
        "        lost.append(_scaled(LOST, own))",
        "        lost.append(_scaled(0.0, own))",
        ("tests/bounds/test_flushing.py",),
    ),
    Mistake(
        "overflow left out",
        "rounding.py",
        "    return [min(max(0.0, safe - length), FARTHEST) for length in lengths]",
        "    return [FARTHEST for length in lengths]",
        ("tests/bounds/test_flushing.py",),
    ),
    Mistake(
        "upper and lower line of a ReLU swapped",
        "bounds/relaxation.py",
        "        lower_slope=(active | steep).to(at.dtype),\n"
        "        upper_slope=torch.where(active, 1.0, chord),",
        "        upper_slope=(active | steep).to(at.dtype),\n"
        "        lower_slope=torch.where(active, 1.0, chord),",
        ("tests/bounds/test_crown.py", "tests/soundness/test_attacks.py"),
    ),
    Mistake(
        "kink between parallel lines dropped",
        "bounds/crown_joint.py",
        "            kink = torch.where(bends, slope * at - function.value(at), 0.0)",
        "            kink = torch.where(bends, 0.0, 0.0)",
        ("tests/bounds/test_crown.py", "tests/soundness/test_attacks.py"),
    ),
    Mistake(
        "offset of a chord dropped",
        "bounds/relaxation.py",
        "        upper_offset=torch.where(unstable, -chord * interval.lower - value, 0.0),",
        "        upper_offset=torch.zeros_like(at),",
        ("tests/bounds/test_crown.py", "tests/soundness/test_attacks.py"),
    ),
    Mistake(
        "paths that meet added as if they were at right angles",
        "bounds/lipschitz.py",
        "(math.hypot(*paths) if node.disjoint else sum(paths), Chain())",
        "(math.hypot(*paths), Chain())",
        ("tests/bounds/test_bounds.py", "tests/soundness/test_attacks.py"),
    ),
    Mistake(
        "K Q^2 of an envelope halved",
        "bounds/envelope.py",
        "        bent += curvature * local.reach[source] * local.reach[source]",
        "        bent += curvature * local.reach[source] * local.reach[source] / 2",
        ("tests/bounds/test_envelope.py", "tests/bounds/test_margins.py"),
    ),
    Mistake(
        "what an envelope's activations lose dropped",
        "bounds/envelope.py",
        "    return Relaxed(image.norm(), torch.stack(offsets).sum(), sizes)",
        "    return Relaxed(image.norm(), 0 * torch.stack(offsets).sum(), sizes)",
        ("tests/bounds/test_envelope.py",),
    ),
    Mistake(
        "offsets of the joint bound dropped",
        "bounds/crown_joint.py",
        "        joint = (self.stretch * radius + self.rest) * (1 + RELATIVE_MARGIN)",
        "        joint = self.stretch * radius * (1 + RELATIVE_MARGIN)",
        ("tests/bounds/test_crown.py", "tests/soundness/test_attacks.py"),
    ),
    Mistake(
        "averaged operators without the factor where nothing is cut",
        "bounds/lipschitz.py",
        "            uncut *= abs(sum(chain.slopes[start])) / 2",
        "            uncut *= abs(sum(chain.slopes[start])) / 4",
        ("tests/bounds/test_bounds.py", "tests/soundness/test_exact.py"),
    ),
    Mistake(
        "the second feature's float32 error forgotten",
        "pairs.py",
        "        allowance = feature_radii - 2 * float32_error_at(network, inputs)  # [n]",
        "        allowance = feature_radii - 0.1 * float32_error_at(network, inputs)  # [n]",
        ("tests/bounds/test_rounding.py", "tests/soundness/test_attacks.py"),
    ),
    Mistake(
        "five outputs of a batch normalisation read as inference",
        "graph/signatures.py",
        "    if not 1 <= len(outputs) <= signature.outputs:",
        "    if not 1 <= len(outputs):",
        ("tests/differential",),
    ),
)
