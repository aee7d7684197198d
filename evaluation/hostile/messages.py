"""Hostile messages: real ones with some fields changed by their descriptors, and spoilt bytes."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_INTS = (0, 1, -1, 2, 7, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-308, 5e-324, 1e308, math.inf, -math.inf, math.nan, 0.5)
_TEXTS = (
    "",
    "moco-sn",
    "1",
    "../../etc/passwd",
    "a" * 300,
    "b" * 200_000,
    "nul\x00byte",
    "\u202e\U0001f4a3 line\nbreak\x1b[31m",
    "'; DROP TABLE runs; --",
    "${jndi:ldap://x}",
    "[" * 5000,
    "1" + "0" * 5000,
    "nan",
)
_COUNTS = (1, 2, 3, 17, 300, 20_000)
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}
_DEEPEST = 4


def mutated(seed: Message, rng: random.Random, share: float = 0.2) -> Message:
    """A copy of `seed` in which about this share of the fields has another value, or none."""
    copy = type(seed)()
    copy.CopyFrom(seed)
    _change(copy, rng, share, depth=0)
    return copy


def spoilt(data: bytes, rng: random.Random) -> bytes:
    """Bytes that were a message: flipped, cut, doubled, or nothing of it."""
    kind = rng.randrange(5)
    if kind == 0:
        return rng.randbytes(rng.choice((0, 1, 5, 100, 10_000)))
    if kind == 1:
        return data[: rng.randrange(len(data) + 1)]
    if kind == 2:
        return data + data[: rng.randrange(len(data) + 1)]
    if kind == 3:  # A field whose length is a lie.
        return bytes([rng.randrange(256)]) + b"\xff\xff\xff\xff\x7f" + data
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 30))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _change(message: Any, rng: random.Random, share: float, depth: int) -> None:
    for field in message.DESCRIPTOR.fields:
        if rng.random() < share:
            message.ClearField(field.name)
            if rng.random() < 0.8:
                _fill(message, field, rng, depth)
        elif _is_single_message(field) and message.HasField(field.name):
            _change(getattr(message, field.name), rng, share, depth + 1)


def _fill(message: Any, field: FieldDescriptor, rng: random.Random, depth: int) -> None:
    if depth > _DEEPEST:
        return
    value = getattr(message, field.name)
    if _is_map(field):
        for _ in range(rng.choice(_COUNTS[:5])):
            value[rng.choice(_TEXTS) + str(rng.randrange(1000))] = rng.choice(_TEXTS)
    elif field.is_repeated:
        values = _many(field, rng)
        if values:
            value.extend(values)
    elif _is_single_message(field):
        value.SetInParent()
        _change(value, rng, 0.5, depth + 1)
    else:
        setattr(message, field.name, _scalar(field, rng))


def _many(field: FieldDescriptor, rng: random.Random) -> Sequence[Any]:
    if field.message_type is not None:
        return ()
    first = _scalar(field, rng)
    if isinstance(first, str | bytes) and len(first) > 1000:
        return [first]
    return [first] * rng.choice(_COUNTS)


def _scalar(field: FieldDescriptor, rng: random.Random) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return rng.randbytes(rng.choice((0, 1, 3, 48, 3072, 100_000)))
        return rng.choice(_TEXTS)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
        return rng.choice(_FLOATS)
    least, most = _RANGES[field.cpp_type]
    return min(max(rng.choice(_INTS), least), most)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _is_single_message(field: FieldDescriptor) -> bool:
    return field.message_type is not None and not field.is_repeated
