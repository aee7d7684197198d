"""From a model's name to one exact encoder."""

from __future__ import annotations

from reaas import Client, ModelRef


def pin_model(client: Client, model: str | ModelRef) -> ModelRef:
    """The version and digest that the encoder service has for `model` now; not a metered query.

    Every later query names this digest: if the encoder changes in the middle, the service refuses,
    and answers of two encoders are never mixed in one certificate. Raises ModelNotFoundError.
    """
    return client.model(model).ref
