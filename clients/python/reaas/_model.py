"""What a caller gets and gives: models, features, radii. All of it frozen, none of it gRPC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reaas._errors import InvalidArgumentError

E = TypeVar("E", bound=StrEnum)


class Scheme(StrEnum):
    """Which scheme the queries are for; a label of the meters."""

    REAAS = "reaas"
    SEAAS = "seaas"


class Phase(StrEnum):
    """Whether the queries serve training or testing; a label of the meters."""

    TRAIN = "train"
    TEST = "test"


class Service(StrEnum):
    """The two services that a client talks to."""

    ENCODER = "encoder"
    F2I = "f2i"


class Method(StrEnum):
    """How F2IPerturb bounds the change of the feature over a ball of inputs."""

    AUTO = "auto"
    """The largest radius of all sound methods within the deadline."""
    LIPSCHITZ = "lipschitz"
    """The model's certified constant: R = R'/L."""
    CROWN = "crown"
    """CROWN for each feature coordinate, then the 2-norm (the REaaS paper's bound)."""
    IBP = "ibp"
    """Interval bound propagation."""
    ENVELOPE = "envelope"
    """Quadratic envelope of each margin around x; for margins only."""
    LOCAL = "local"
    """Bound made for this very input: of the feature's whole change; of margins, the envelope."""
    CROWN_JOINT = "crown_joint"
    """CROWN with one slope for both sides, so that all coordinates share the 2-norm."""


def member(kind: type[E], value: str, field: str) -> E:
    """`value` as a member of `kind`, or InvalidArgumentError that lists what there is."""
    try:
        return kind(value)
    except ValueError:
        limit = "|".join(kind)
        raise InvalidArgumentError(
            f"{field} is {value!r}; it may be {limit}", field=field, limit=limit, got=str(value)
        ) from None


@dataclass(frozen=True)
class ModelRef:
    """Names one encoder; with a digest exactly one, and a certificate holds for that one only."""

    name: str
    version: str = ""
    """Empty: the latest that the service has ready."""
    digest: str = ""
    """"sha256:" and the hex digest of the served ONNX file; empty: any."""

    @classmethod
    def parse(cls, text: str) -> ModelRef:
        """From `name`, `name@version` or `name@version@sha256:...`."""
        name, _, rest = text.partition("@")
        version, _, digest = rest.partition("@")
        if not name:
            raise InvalidArgumentError(
                f"model is {text!r}; it is written name, name@version or name@version@digest",
                field="model",
                limit="name[@version[@digest]]",
                got=text,
            )
        return cls(name, version, digest)

    def __str__(self) -> str:
        return "@".join(part for part in (self.name, self.version, self.digest) if part)

    def admits(self, served: ModelRef) -> bool:
        """Whether `served` is what this reference asks for; what is empty here asks for nothing."""
        return (
            self.name == served.name
            and self.version in ("", served.version)
            and self.digest in ("", served.digest)
        )


@dataclass(frozen=True)
class ResizeSpec:
    """How the service brings images of another size to the encoder's own; linear, and part of f."""

    method: str
    min_size: tuple[int, ...]
    """Smallest (height, width) in pixels."""
    max_size: tuple[int, ...]
    """Largest (height, width) in pixels."""


@dataclass(frozen=True)
class InputSpec:
    """What one input of an encoder looks like."""

    kind: str
    shape: tuple[int, ...]
    """The encoder's own shape without the batch: (height, width, channels) for an image."""
    dtypes: tuple[str, ...]
    """Element types accepted: `uint8` (scaled by 1/255), `float32`."""
    value_range: tuple[float, float]
    """Values of a clean input after scaling; radii refer to this scale."""
    accepted_range: tuple[float, float]
    """Values that `encode` takes in float32 (an image with noise leaves `value_range`)."""
    resize: ResizeSpec | None
    """None: only the encoder's own size."""
    grey: bool
    """Whether images of one channel are accepted."""


@dataclass(frozen=True)
class CertifiedConstants:
    """||f(x) - f(y)|| <= lipschitz ||x - y|| for inputs of the encoder's own shape, 2-norms, and
    ||served(x) - f(x)|| <= float32_error_slope ||x|| + float32_error_offset."""

    lipschitz: float
    method: str
    relative_rounding: float
    """The outward margin for the rounding of float64 that `lipschitz` has in it."""
    float32_error_slope: float
    float32_error_offset: float


@dataclass(frozen=True)
class ModelInfo:
    """A model that a service serves."""

    ref: ModelRef
    description: str
    input: InputSpec
    feature_dim: int
    constants: CertifiedConstants
    latest: bool
    """Whether this is the version that a reference without one gets."""
    manifest: Mapping[str, Any]
    """Recipe, data, seed, accuracies."""


@dataclass(frozen=True)
class Limits:
    """Every limit that a request to one service can run into."""

    max_batch_inputs: int
    max_request_bytes: int
    max_response_bytes: int
    max_pending_inputs: int
    max_search_steps: int
    """Of one F2IPerturb query; 0 where it does not apply."""
    default_deadline_s: float
    """Longest that a query may take where the caller sets no timeout."""
    max_margin_rows: int = 0
    """Of one set of margins of F2IPerturb; 0 where it does not apply."""
    max_margin_sets: int = 0
    """Of one input of F2IPerturb; 0 where it does not apply."""

    @property
    def default_timeout_s(self) -> float | None:
        """`default_deadline_s`; None where the service names none."""
        return self.default_deadline_s or None


@dataclass(frozen=True)
class ServiceInfo:
    """What a service is and allows."""

    release: str
    service: str
    limits: Limits
    backends: tuple[str, ...]
    client_id: str
    """Id under which this caller's queries are metered."""


@dataclass(frozen=True, eq=False)
class Features:
    """Answer of the Feature-API."""

    model: ModelRef
    """The exact encoder; hand it to `perturb`."""
    values: NDArray[np.float32]
    """Features, [n, d]."""

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Radii:
    """Answer of the F2IPerturb-API. Everything has one element for each input, in order."""

    model: ModelRef
    """The exact encoder that the radii hold for."""
    radius: NDArray[np.float64]
    """Image-space certified radii R, [n]; L2, pixels in [0,1]. 0: nothing could be certified."""
    method: tuple[Method, ...]
    """The bound that certified each radius; never `auto`. Of margins, that of what limits it."""
    upper: NDArray[np.float64]
    """Smallest radius tried that this bound does not certify, [n]; nothing about attacks. The
    radius itself for a closed form and for margins."""
    steps: NDArray[np.int64]
    """Evaluations of a bound spent, [n]."""
    converged: NDArray[np.bool_]
    """False where the deadline or the most steps cut the search short, [n]; the radius is certified
    all the same."""
    margin_set: NDArray[np.int64]
    """The set of margins that certified each radius, from 0, [n]; 0 for balls."""
    limited_by_ball: NDArray[np.bool_]
    """Whether `valid_within` limits that set, and not its margins, [n]; False for balls."""

    def __len__(self) -> int:
        return len(self.radius)


def as_ref(model: ModelRef | str) -> ModelRef:
    """A reference from what callers write: one already, or `name[@version[@digest]]`."""
    return ModelRef.parse(model) if isinstance(model, str) else model
