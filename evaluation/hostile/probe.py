"""Asks a service for its health until standard input ends; prints the latencies as JSON."""

from __future__ import annotations

import json
import sys
import threading
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_EVERY_S, _PATIENCE_S = 0.05, 10.0


def main(address: str) -> None:
    """Probe `address`."""
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.readline()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    latencies: list[float] = []
    failed = 0
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while not ended.wait(_EVERY_S):
            begun = time.monotonic()
            try:
                reply = health.Check(health_pb2.HealthCheckRequest(), timeout=_PATIENCE_S)
                failed += reply.status != health_pb2.HealthCheckResponse.SERVING
            except grpc.RpcError:
                failed += 1
            latencies.append(time.monotonic() - begun)
    print(json.dumps({"latencies_s": latencies, "failed": failed}))


if __name__ == "__main__":
    main(sys.argv[1])
