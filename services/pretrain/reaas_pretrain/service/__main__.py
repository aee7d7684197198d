"""`python -m reaas_pretrain.service` and `reaas-pretrain-service`."""

from __future__ import annotations

import sys

from reaas.v1.pretrain_pb2_grpc import add_PretrainServiceServicer_to_server
from reaas_runtime import run_service

from reaas_pretrain.service.servicer import PretrainServicer
from reaas_pretrain.service.settings import PretrainSettings


def main(arguments: list[str] | None = None) -> int:
    """Run the pre-training service; returns the exit status."""
    return run_service(
        PretrainSettings, PretrainServicer, add_PretrainServiceServicer_to_server, arguments
    )


if __name__ == "__main__":
    sys.exit(main())
