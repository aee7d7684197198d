"""No key, image, radius or margin reaches a log, on any way that a call can end, at any level."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from reaas.v1 import f2i_pb2
from reaas_runtime.keys import add_key

from tests.hostile.service import F2I, TOY, UNLIMITED, Attacked, attacked
from tests.runtime.toy import request
from tests.support.f2i import perturb_request, tensor
from tests.support.models import FEATURE_DIM, conv_encoder, publish
from tests.support.wire import raw_request

# A text, and numbers that no log has by chance.
IMAGE = b"CANARYIMAGE0123456789"
PIXEL, RADIUS, MARGIN = 0.73519284, 0.61728394, 0.48261937


def written(value: float) -> list[str]:
    """How a number may appear: in full, in short, rounded to float32, as its bytes."""
    packed = struct.pack("<d", value)
    return [
        str(value),
        f"{value:g}",
        str(np.float32(value)),
        packed.hex(),
        repr(packed)[2:-1],
        f"{value:.4f}",
    ]


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


def end_in_every_way(service: Attacked, key: str, method: str, messages: list[bytes]) -> set[str]:
    """Send the messages with right, wrong, doubled and broken metadata, and cut some off."""
    codes = set()
    metadata: list[Any] = [
        bearer(key),
        bearer(key + "x"),
        (("authorization", key),),
        bearer(key) + bearer(key),
        (*bearer(key), ("x-reaas-draws", "00" + key)),
        (*bearer(key), ("x-reaas-draws", "9" * 500)),
        (*bearer(key), ("x-reaas-scheme", key)),
        (*bearer(key), ("x-reaas-other", key), ("x-reaas-other", key)),
    ]
    with grpc.insecure_channel(service.address, UNLIMITED) as channel:
        call: Any = channel.unary_unary(method)
        for message in messages:
            for pairs in metadata:
                for timeout in (20, 0.001):
                    done = call.future(message, timeout=timeout, metadata=pairs)
                    codes.add(done.code().name)
            call.future(message, metadata=bearer(key)).cancel()
            call.future(
                message, metadata=bearer(key), compression=grpc.Compression.Gzip, timeout=5
            ).code()
        stream: Any = channel.stream_stream(method + "Stream")
        with pytest.raises(grpc.RpcError):
            list(stream(iter([*messages, b"\xff"]), metadata=bearer(key), timeout=30))
    raw_request(service.port, method.encode(), (b"authorization", b"Bearer \xff" + key.encode()))
    raw_request(service.port, b"/\xff" + key.encode())
    raw_request(service.port, method.encode(), (key.encode().lower(), key.encode()))
    time.sleep(0.5)
    assert service.process.poll() is None
    return codes


def test_calls_that_fail_inside(tmp_path: Path) -> None:
    """ "bug" raises with a message of its own in a worker; others are refused."""
    publish(tmp_path / "models", conv_encoder())
    keys = tmp_path / "keys.txt"
    key = add_key("alice", keys)
    names = ("bug", "tiny")
    messages = [request(name, 3 * IMAGE).SerializeToString() for name in names]
    messages += [3 * IMAGE, b"\x0a\x30" + IMAGE]
    with attacked(TOY, tmp_path / "models", "--api-keys-file", str(keys), debug=True) as service:
        codes = end_in_every_way(service, key, "/reaas.v1.EncoderService/Encode", messages)
        log = service.log
    assert {"OK", "INTERNAL", "UNAUTHENTICATED", "INVALID_ARGUMENT"} <= codes
    assert "ZeroDivisionError" in log, "what went wrong has to be found"
    assert "toy.py" in log
    for secret in (key, key[6:], "CANARYIMAGE", "/secret/path"):
        assert secret not in log
    assert max(map(len, log.splitlines())) < 8000


def test_questions_about_a_classifier(tmp_path: Path) -> None:
    publish(tmp_path / "models", conv_encoder())
    keys = tmp_path / "keys.txt"
    key = add_key("alice", keys)
    images = np.full((1, 8, 8, 3), PIXEL, np.float32)
    good = perturb_request(images, [RADIUS])
    margins = perturb_request(images, [RADIUS], method=f2i_pb2.METHOD_LIPSCHITZ)
    margins.margins.normals.CopyFrom(tensor(np.full((1, 2, FEATURE_DIM), MARGIN)))
    margins.margins.offsets.CopyFrom(tensor(np.full((1, 2), MARGIN)))
    wrong = [good, margins]
    for change in ("model", "length", "tolerance", "method"):
        for base in (good, margins):
            odd = f2i_pb2.PerturbRequest()
            odd.CopyFrom(base)
            if change == "model":
                odd.model.name = "none"
            elif change == "length":
                odd.inputs.data = odd.inputs.data[:-4]
            elif change == "tolerance":
                odd.search.relative_tolerance = RADIUS + 1
            else:
                odd.method = 99  # type: ignore[assignment]
            wrong.append(odd)
    beyond = perturb_request(images + 1, [RADIUS])
    negative = perturb_request(images, [-RADIUS])
    infinite = f2i_pb2.PerturbRequest()
    infinite.CopyFrom(margins)
    infinite.margins.offsets.CopyFrom(tensor(np.array([[MARGIN, np.inf]])))
    wrong += [beyond, negative, infinite]
    with attacked(F2I, tmp_path / "models", "--api-keys-file", str(keys), debug=True) as service:
        codes = end_in_every_way(
            service,
            key,
            "/reaas.v1.F2IService/Perturb",
            [message.SerializeToString() for message in wrong],
        )
        log = service.log
    assert {"OK", "INVALID_ARGUMENT", "UNAUTHENTICATED"} <= codes
    assert key not in log
    for value in (PIXEL, PIXEL + 1, RADIUS, RADIUS + 1, MARGIN):
        for form in written(value):
            assert form not in log
