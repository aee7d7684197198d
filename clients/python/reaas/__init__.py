"""Client of REaaS: features and certified radii from a served encoder.

    import reaas

    with reaas.Client("127.0.0.1:50051", "127.0.0.1:50052", api_key=key) as client:
        features = client.encode(images, "moco-sn")        # x -> f(x), one query an image
        ...                                                # label and R' by `reaas.certify`
        radii = client.perturb(images, feature_radii, features.model)   # R' -> R, one more

Images are uint8, or float32 in [0,1]; every radius is L2 in those units.
"""

from reaas._aio import AsyncClient
from reaas._channel import TLS, ChannelOptions
from reaas._client import Client
from reaas._errors import (
    DeadlineExceededError,
    DigestMismatchError,
    InvalidArgumentError,
    ModelNotFoundError,
    ModelUnusableError,
    OverloadedError,
    ProtocolError,
    ReaasError,
    ServerError,
    ServiceUnavailableError,
    UnauthenticatedError,
)
from reaas._ledger import Ledger, LedgerKey, Usage
from reaas._model import (
    CertifiedConstants,
    Features,
    InputSpec,
    Limits,
    Method,
    ModelInfo,
    ModelRef,
    Phase,
    Radii,
    ResizeSpec,
    Scheme,
    Service,
    ServiceInfo,
)

__all__ = [
    "TLS",
    "AsyncClient",
    "CertifiedConstants",
    "ChannelOptions",
    "Client",
    "DeadlineExceededError",
    "DigestMismatchError",
    "Features",
    "InputSpec",
    "InvalidArgumentError",
    "Ledger",
    "LedgerKey",
    "Limits",
    "Method",
    "ModelInfo",
    "ModelNotFoundError",
    "ModelRef",
    "ModelUnusableError",
    "OverloadedError",
    "Phase",
    "ProtocolError",
    "Radii",
    "ReaasError",
    "ResizeSpec",
    "Scheme",
    "ServerError",
    "Service",
    "ServiceInfo",
    "ServiceUnavailableError",
    "UnauthenticatedError",
    "Usage",
]
