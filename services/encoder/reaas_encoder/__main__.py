"""`python -m reaas_encoder` and `reaas-encoder`."""

from __future__ import annotations

import sys

from reaas.v1.encoder_pb2_grpc import add_EncoderServiceServicer_to_server
from reaas_runtime import run_service

from reaas_encoder.servicer import EncoderServicer
from reaas_encoder.settings import EncoderSettings


def main(arguments: list[str] | None = None) -> int:
    """Run the encoder service; returns the exit status."""
    return run_service(
        EncoderSettings, EncoderServicer, add_EncoderServiceServicer_to_server, arguments
    )


if __name__ == "__main__":
    sys.exit(main())
