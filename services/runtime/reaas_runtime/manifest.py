"""`manifest.json`: what a model is, what it takes and what is certified about it (schema 1)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from reaas.v1 import model_pb2, tensor_pb2

Size = tuple[PositiveInt, PositiveInt]
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
_DTYPES = {"uint8": tensor_pb2.DATA_TYPE_UINT8, "float32": tensor_pb2.DATA_TYPE_FLOAT32}


class _Strict(BaseModel):
    # A misspelt key would silently change what is served, hence forbidden.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Resize(_Strict):
    """Other image sizes that are accepted: [height, width] from `min_size` to `max_size`."""

    method: Literal["bilinear"]
    min_size: Size
    max_size: Size


class InputSpec(_Strict):
    """What one input looks like; `shape` is [height, width, channels]."""

    kind: Literal["image"]
    shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    dtypes: Annotated[tuple[Literal["uint8", "float32"], ...], Field(min_length=1)]
    value_range: tuple[float, float]
    accepted_range: tuple[float, float]
    resize: Resize | None
    grey: bool

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        (low, high), (lowest, highest) = self.value_range, self.accepted_range
        if not lowest <= low < high <= highest:
            raise ValueError("value_range must be increasing and lie inside accepted_range")
        return self

    def wire_dtypes(self) -> list[tensor_pb2.DataType]:
        """Accepted element types as on the wire."""
        return [_DTYPES[name] for name in self.dtypes]


class Feature(_Strict):
    """The encoder's output."""

    dim: PositiveInt


class Float32Error(_Strict):
    """||served float32 feature - f(x)||_2 <= slope * ||x||_2 + offset."""

    slope: NonNegativeFloat
    offset: NonNegativeFloat


class Certified(_Strict):
    """Constants of f at its own input shape, certified in float64 with a stated margin."""

    lipschitz: PositiveFloat
    method: str
    layer_norms: tuple[NonNegativeFloat, ...]
    relative_rounding: NonNegativeFloat
    float32_error: Float32Error


class Probe(_Strict):
    """The exact feature of one of `recorded_images`, and how far a served one may be from it."""

    features: tuple[float, ...]
    error: NonNegativeFloat


class CheckedRecord(_Strict):
    """By which runtime the file was held against the engine, and probes for any other runtime."""

    runtime: str
    images: PositiveInt
    batches: PositiveInt
    worst: NonNegativeFloat
    probes: Annotated[tuple[Probe, ...], Field(max_length=3)]


class Manifest(_Strict):
    """Everything in `manifest.json`. `training` and `quality` are free: they are for people."""

    schema_version: Literal[1] = Field(alias="schema")
    name: Name
    version: Name
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    description: str
    input: InputSpec
    feature: Feature
    certified: Certified
    checked: CheckedRecord | None = None
    training: dict[str, Any]
    quality: dict[str, Any]

    def to_info(self, *, latest: bool) -> model_pb2.ModelInfo:
        """The manifest as the contract's ModelInfo."""
        certified = self.certified
        return model_pb2.ModelInfo(
            model=model_pb2.ModelRef(name=self.name, version=self.version, digest=self.digest),
            description=self.description,
            input=_input_spec(self.input),
            feature_dim=self.feature.dim,
            constants=model_pb2.CertifiedConstants(
                lipschitz=certified.lipschitz,
                method=certified.method,
                relative_rounding=certified.relative_rounding,
                float32_error_slope=certified.float32_error.slope,
                float32_error_offset=certified.float32_error.offset,
            ),
            latest=latest,
            manifest_json=self.model_dump_json(by_alias=True, exclude={"checked": {"probes"}}),
        )


def _input_spec(spec: InputSpec) -> model_pb2.InputSpec:
    message = model_pb2.InputSpec(
        kind=spec.kind,
        shape=spec.shape,
        dtypes=spec.wire_dtypes(),
        value_range=model_pb2.ValueRange(min=spec.value_range[0], max=spec.value_range[1]),
        accepted_range=model_pb2.ValueRange(min=spec.accepted_range[0], max=spec.accepted_range[1]),
        grey=spec.grey,
    )
    if spec.resize is not None:
        resize = spec.resize
        message.resize.method = resize.method
        message.resize.min_size.extend(resize.min_size)
        message.resize.max_size.extend(resize.max_size)
    return message
