"""`python -m reaas_f2i` and `reaas-f2i`."""

from __future__ import annotations

import sys

from reaas.v1.f2i_pb2_grpc import add_F2IServiceServicer_to_server
from reaas_runtime import run_service

from reaas_f2i.servicer import F2IServicer
from reaas_f2i.settings import F2ISettings


def main(arguments: list[str] | None = None) -> int:
    """Run the F2I service; returns the exit status."""
    return run_service(F2ISettings, F2IServicer, add_F2IServiceServicer_to_server, arguments)


if __name__ == "__main__":
    sys.exit(main())
