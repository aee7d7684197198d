"""One file, read by the engine and run by ONNX Runtime: the same, refused by name, or a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from reaas_bounds import BoundsError, Method, Network, certified_constants, certify_ball
from reaas_bounds import load_network as read
from reaas_bounds.norms.matrix import gamma
from reaas_bounds.rounding import float32_error_at
from reaas_bounds.summation import UNIT_32

Images = NDArray[np.float32]
Features = NDArray[np.float64]
Reader = Callable[[bytes], Network]

# How the encoder service runs a file, and the file as it is written.
LEVELS = {
    "as served": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "not optimised": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


_FLOAT64 = 1e-13


class Kind(Enum):
    """What can become of a file."""

    SAME = "same"  # within the certified float32 error, everywhere
    REFUSED = "refused"  # by the engine, with a typed error
    UNSERVED = "UNSERVED"  # read by the engine, and refused by ONNX Runtime
    WRONG = "WRONG"  # certified for another function than the one served
    CRASHED = "CRASHED"  # a traceback, when it is loaded or when it is asked about

    @property
    def failed(self) -> bool:
        """Whether nobody may ship this."""
        return self not in (Kind.SAME, Kind.REFUSED)


@dataclass(frozen=True)
class Outcome:
    """What became of one file, and why; ``ratio`` = largest difference / certified error."""

    kind: Kind
    reason: str = ""
    ratio: float = 0.0


class _NotServedError(Exception):
    """ONNX Runtime refuses the file, or one batch."""


def judge(data: bytes, *, reader: Reader = read, asked: bool = False) -> Outcome:
    """What becomes of ``data``; ``asked``: questions about balls are asked as well.

    ONNX Runtime sees only what the engine accepts: a hostile file can end its process.
    """
    try:
        network = reader(data)
    except BoundsError as error:
        return _refusal(error)
    except Exception as error:
        return Outcome(Kind.CRASHED, f"load: {type(error).__name__}: {error}")
    try:
        outcome = compared(network, data)
        if asked and outcome.kind is Kind.SAME:
            _ask(network)
    except BoundsError as error:
        return Outcome(Kind.CRASHED, f"refused too late: {type(error).__name__}: {error}")
    except Exception as error:
        return Outcome(Kind.CRASHED, f"query: {type(error).__name__}: {error}")
    return outcome


def _refusal(error: BoundsError) -> Outcome:
    text = str(error)
    if len(text) < 10 or "Traceback" in text:
        return Outcome(Kind.CRASHED, f"a refusal that says nothing: {text!r}")
    return Outcome(Kind.REFUSED, text)


def compared(network: Network, data: bytes) -> Outcome:
    """The engine's network held against the runtime, image by image and in batches."""
    images = pictures(network)
    x = torch.from_numpy(images.astype(np.float64))
    exact = network.forward(x).numpy()
    # What the engine computes in float64 is not exact either.
    allowed = certified_error(network, x) + _FLOAT64 * np.linalg.norm(exact, axis=1)
    if not (np.isfinite(exact).all() and not np.isnan(allowed).any()):
        return Outcome(Kind.WRONG, "the engine's own values are not finite")
    worst, refusals, ran = 0.0, list[str](), False
    for level, setting in LEVELS.items():
        for batch, features in _features(data, setting, images):
            if isinstance(features, str):
                refusals.append(f"{level}, images {batch}: {features}")
                continue
            ran, wanted = True, exact[batch]
            if features.shape != wanted.shape:
                shapes = f"{list(features.shape)} instead of {list(wanted.shape)}"
                return Outcome(Kind.WRONG, f"{level}, images {batch}: features {shapes}")
            off = np.linalg.norm(features - wanted, axis=1)
            found = _ratios(off, allowed[batch])
            worst = max(worst, float(found.max()))
            if worst > 1:
                say = f"off by {off[found.argmax()]:.3g}, {worst:.3g} times the certified error"
                return Outcome(Kind.WRONG, f"{level}, images {batch}: {say}", worst)
    if refusals and ran:
        return Outcome(Kind.WRONG, f"only some batches are served; {refusals[0]}")
    return Outcome(Kind.UNSERVED, refusals[0]) if refusals else Outcome(Kind.SAME, "", worst)


def _ratios(off: Features, allowed: Features) -> Features:
    """Difference / certified error; nothing is certified where that is infinite."""
    ratios = np.full(off.shape, np.inf)
    ratios[(off == 0) | np.isinf(allowed)] = 0.0
    found = np.isfinite(off) & (off > 0) & (allowed > 0) & np.isfinite(allowed)
    ratios[found] = off[found] / allowed[found]
    return ratios


def _features(
    data: bytes, level: ort.GraphOptimizationLevel, images: Images
) -> Iterator[tuple[list[int], Features | str]]:
    """Places of a batch, and its features or why there are none."""
    batches = [[0], [len(images) - 1], list(range(len(images))), [2, 1]]
    try:
        session = ort.InferenceSession(data, _options(level), providers=["CPUExecutionProvider"])
    except Exception as error:
        yield batches[0], _first_line(error)
        return
    for batch in batches:
        try:
            found = session.run(None, {session.get_inputs()[0].name: images[batch]})[0]
        except Exception as error:
            yield batch, _first_line(error)
        else:
            yield batch, np.asarray(found, np.float64)


def _options(level: ort.GraphOptimizationLevel) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    options.log_severity_level = 4
    return options


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


def pictures(network: Network) -> Images:
    """Images [5, C, H, W]: black, white, noise, only the ends, and far out of both."""
    random = np.random.default_rng(0)
    shape = network.input_shape
    chosen = [
        random.random(shape),
        np.zeros(shape),
        np.ones(shape),
        random.integers(0, 2, shape),
        3 * random.normal(size=shape),
    ]
    return np.stack(chosen).astype(np.float32)


def certified_error(network: Network, x: torch.Tensor) -> NDArray[np.float64]:
    """How far the served feature may be from the exact one at images ``x``, [n]."""
    error = float32_error_at(network.before, x)
    if network.least_length is None:
        return np.asarray(error.numpy())
    # A vector of length n that is off by e turns by at most asin(e / n); then it is divided.
    length = network.before.forward(x).norm(dim=1).clamp_min(network.least_length)
    turned = 2 * error / (length - error).clamp_min(1e-30)
    total: Features = (turned + gamma(network.feature_dim + 8, UNIT_32)).numpy()
    return total


def _ask(network: Network) -> None:
    """Any question has an answer: a radius of at least 0 that is a number."""
    constants = certified_constants(network)
    x = torch.from_numpy(pictures(network)[:1].astype(np.float64))
    size = float(network.forward(x).norm())
    for method in (Method.LIPSCHITZ, Method.AUTO):
        radius = torch.tensor([0.1 * size + 1e-3], dtype=torch.float64)
        answer = certify_ball(network, constants, x, radius, method)[0]
        if not answer.radius >= 0:
            raise AssertionError(f"{method}: the radius is {answer.radius}")
