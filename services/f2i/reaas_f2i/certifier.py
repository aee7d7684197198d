"""One encoder as the F2I service holds it: networks for the clients' image sizes, and constants."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import structlog
import torch
from reaas_bounds import (
    ACCEPTED,
    CertifiedConstants,
    InvalidModelError,
    LinearOp,
    MarginMethod,
    MarginOptions,
    Method,
    Network,
    ReplicateChannels,
    SearchOptions,
    SeparableResize,
    UnsupportedOperatorError,
    certified_constants,
    condensed,
    interruptible,
    load_network,
)
from reaas_gate import ServedOtherwiseError, check_served
from reaas_runtime import DomainError, ModelEntry, Reason, resize_matrix

from reaas_f2i.patience import Patience
from reaas_f2i.sizes import Shape, SizedEncoder, Sizes
from reaas_f2i.targets import Answer, Ball, Margins, Question

_log = structlog.get_logger("reaas.f2i")
# Constants are recomputed at load; on another processor the last bits of float64 differ, and with
# them the norms that proofs end at (5e-12 were seen). A tenth of the reserve of 1e-9 that constants
# are published with: what a client computes from them holds.
_AGREEMENT = 1e-10


class Certifier:
    """Answers F2IPerturb for one exact encoder. Thread-safe.

    Raises DomainError UNSUPPORTED_OPERATOR or MODEL_BROKEN where the ONNX file has no bound, or
    where the manifest publishes constants that the file does not have, or ONNX Runtime computes
    other features than the network that is certified: clients rely on them.
    """

    def __init__(
        self, entry: ModelEntry, max_shapes: int, device: torch.device | str = "cpu"
    ) -> None:
        self._manifest = entry.manifest
        self._device = device
        self.sizes = Sizes(self._manifest.input.shape, self._sized, max_shapes)
        self._network = self._lower(entry.onnx)
        self._check_interface()
        own = self._manifest.input.shape
        self._verify(self.sizes.at(own).constants)
        self._check_served(entry.onnx)
        self._warm_up()

    def answer(
        self, question: Question, deadline: float | None, rounds: int = 1
    ) -> Sequence[Answer]:
        """Image-space certified radii of all images (see `reaas_f2i.targets`).

        A search that would not end before `deadline` (`time.monotonic()` seconds) is cut short,
        within a step if need be: what it has certified by then counts. It may use one part in
        `rounds` of the time left: the rest is for those that wait for it to end.
        """
        encoder, target = self.sizes.at(question.images.shape[1:]), question.target
        patience = Patience(deadline, encoder.step_seconds.get(target.slowest, 0.0), rounds)
        images = np.ascontiguousarray(question.images.transpose(0, 3, 1, 2), np.float64)
        with interruptible(patience.over):
            answers = target.certify(
                encoder.network,
                encoder.constants,
                torch.from_numpy(images),  # [n, c, h, w]
                patience,
            )
        # AUTO may have taken cheap steps only, and a busy machine may have got faster.
        known = encoder.step_seconds.get(target.slowest, 0.0)
        encoder.step_seconds[target.slowest] = max(patience.longest_step, known / 2)
        return answers

    def at_shape(self, shape: Shape) -> SizedEncoder:
        """The encoder on a client's own [height, width, channels]; made now if it is new."""
        return self.sizes.at(shape)

    def _sized(self, shape: Shape) -> SizedEncoder:
        """The encoder on a client's own [height, width, channels]."""
        network = self._network.with_input(self._input_maps(shape))
        return SizedEncoder(network.to(self._device), certified_constants(network))

    def prepare(self, shape: Shape, client: str) -> None:
        """Make ready for images of `shape` what every question about them needs: seconds."""
        encoder = self.sizes.at(shape, client)
        condensed(encoder.network)
        image = torch.zeros(1, shape[2], *shape[:2], dtype=torch.float64)
        Ball(np.ones(1), Method.LIPSCHITZ, SearchOptions()).certify(
            encoder.network, encoder.constants, image, lambda: False
        )

    def _input_maps(self, shape: Shape) -> list[LinearOp]:
        """The linear maps that `reaas_runtime.prepare_batch` applies in front of the graph."""
        height, width, channels = self._manifest.input.shape
        maps: list[LinearOp] = []
        if shape[:2] != (height, width):
            rows, columns = resize_matrix(shape[0], height), resize_matrix(shape[1], width)
            maps.append(SeparableResize(rows, columns))
        if shape[2] != channels:
            maps.append(ReplicateChannels(channels))
        return maps

    def _lower(self, onnx: bytes) -> Network:
        try:
            return load_network(onnx)
        except UnsupportedOperatorError as error:
            raise DomainError(
                Reason.UNSUPPORTED_OPERATOR,
                f"model {self._manifest.name!r} cannot be certified: {error}",
                field="model",
                got=f"{error.operator} in node {error.node}",
            ) from error
        except InvalidModelError as error:
            raise self._broken(str(error)) from error

    def _check_served(self, onnx: bytes) -> None:
        """What a certificate speaks of must be what ONNX Runtime serves (see `reaas_gate`)."""
        try:
            checked = check_served(onnx, self._network, self._manifest.input.accepted_range)
        except ServedOtherwiseError as error:
            raise self._broken(str(error)) from error
        _log.info(
            "served as certified",
            model=self._manifest.name,
            version=self._manifest.version,
            runtime=checked.runtime,
            images=checked.images,
            batches=checked.batches,
            worst=round(checked.worst, 5),
        )

    def _check_interface(self) -> None:
        height, width, channels = self._manifest.input.shape
        found = (*self._network.input_shape, self._network.feature_dim)
        wanted = (channels, height, width, self._manifest.feature.dim)
        if found != wanted:
            raise self._broken(
                f"the graph takes {list(found[:3])} and gives {found[3]} numbers, the manifest "
                f"says {list(wanted[:3])} and {wanted[3]}"
            )
        low, high = self._manifest.input.accepted_range
        if self._network.coupled and (low < ACCEPTED[0] or high > ACCEPTED[1]):
            raise self._broken(
                f"activations are multiplied, so its constants hold for values in "
                f"{list(ACCEPTED)} only; the manifest accepts {[low, high]}"
            )

    def _verify(self, actual: CertifiedConstants) -> None:
        """Every published constant must be at least what the file's own weights give."""
        published = self._manifest.certified
        pairs = {
            "lipschitz": (published.lipschitz, actual.lipschitz),
            "float32_error.slope": (published.float32_error.slope, actual.float32_slope),
            "float32_error.offset": (published.float32_error.offset, actual.float32_offset),
        }
        for name, (claimed, certified) in pairs.items():
            if not (math.isfinite(claimed) and claimed >= certified * (1 - _AGREEMENT)):
                raise self._broken(
                    f"the manifest says certified.{name} is {claimed:.9g}, its weights give "
                    f"{certified:.9g}"
                )

    def _warm_up(self) -> None:
        """First calls allocate and choose kernels; the first client should not pay for that.

        It also tells how long a step of each search takes.
        """
        self._try_out(Method.IBP)
        self._try_out(MarginMethod.ENVELOPE)

    def _try_out(self, method: Method | MarginMethod) -> None:
        """Ask about a grey image, with a target that is met about as far away as is usual."""
        image = np.full((1, *self._manifest.input.shape), 0.5, np.float32)
        reach, feature_dim = self._manifest.certified.lipschitz, self._manifest.feature.dim
        target: Ball | Margins
        if isinstance(method, Method):
            target = Ball(np.array([reach]), method, SearchOptions(max_steps=2))
        else:
            normal = np.full((1, 1, 1, feature_dim), feature_dim**-0.5)
            offset, everywhere = np.full((1, 1, 1), reach), np.full((1, 1), np.inf)
            target = Margins(normal, offset, everywhere, method, MarginOptions(max_envelopes=2))
        self.answer(Question(image, target), None)

    def _broken(self, why: str) -> DomainError:
        name, version = self._manifest.name, self._manifest.version
        return DomainError(
            Reason.MODEL_BROKEN,
            f"model {name!r} version {version!r} is broken: {why}",
            field="model",
        )
