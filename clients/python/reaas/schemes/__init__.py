"""Schemes: an encoder service and a client's certification put together.

`ReaasScheme` asks for the feature and for the radius; `SeaasScheme` is the baseline that only has
the Feature-API. Both take a `reaas.Client` and images as numpy arrays.
"""

from reaas.schemes._certificates import ImageCertificates, NotApplicableError
from reaas.schemes._noise import noisy_batches
from reaas.schemes._pinning import pin_model
from reaas.schemes._reaas_scheme import ReaasScheme
from reaas.schemes._seaas_scheme import BASE_NOT_APPLICABLE, SeaasScheme

__all__ = [
    "BASE_NOT_APPLICABLE",
    "ImageCertificates",
    "NotApplicableError",
    "ReaasScheme",
    "SeaasScheme",
    "noisy_batches",
    "pin_model",
]
