"""What a message holds, counted on its bytes: before anything is made of it.

Parsing makes an object of every element, and Python waits meanwhile: 60 MB of one-byte dimensions
are 60 million integers. The product's large messages are large in `bytes` alone, so everything else
in them is counted first.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from reaas_runtime.errors import DomainError, Reason

# The pure-Python and the C class of descriptors have no common base.
Descriptor: TypeAlias = Any

# Below, nothing that a message can hold takes long.
SMALL_BYTES = 16_384
# All that is not `bytes`: names, shapes, options, recipes with their overrides.
_MOST_FIELDS = 4096
_MOST_OTHER_BYTES = 65_536
_DEEPEST = 16

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def check_wire(raw: bytes, descriptor: Descriptor) -> None:
    """Refuse a message in which anything but `bytes` is large, without parsing it.

    Time and memory do not depend on the size of `raw`. Raises DomainError UNDECODABLE_MESSAGE.
    """
    if len(raw) > SMALL_BYTES:
        _Counting(memoryview(raw)).message(0, len(raw), descriptor, "", _DEEPEST)


class _Counting:
    def __init__(self, raw: memoryview) -> None:
        self._raw = raw
        self._fields = 0
        self._other_bytes = 0

    def message(
        self, at: int, end: int, descriptor: Descriptor | None, path: str, depth: int
    ) -> None:
        """Count the fields in [at, end); `descriptor` None: nobody knows what they are."""
        if depth == 0:
            raise _undecodable("message", f"more than {_DEEPEST} messages inside each other")
        while at < end:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise _undecodable(path or "message", f"more than {_MOST_FIELDS} fields")
            tag, at = self._varint(at, end)
            kind, number = tag & 7, tag >> 3
            if kind == _VARINT:
                _, at = self._varint(at, end)
            elif kind in (_FIXED64, _FIXED32):
                at += 8 if kind == _FIXED64 else 4
            elif kind == _BYTES:
                size, at = self._varint(at, end)
                if size > end - at:
                    raise _undecodable(path or "message", "a length beyond the end of the message")
                self._delimited(at, size, descriptor, number, path, depth)
                at += size
            else:
                raise _undecodable(path or "message", f"wire type {kind}")
        if at != end:
            raise _undecodable(path or "message", "a field beyond the end of the message")

    def _delimited(
        self, at: int, size: int, descriptor: Descriptor | None, number: int, path: str, depth: int
    ) -> None:
        field = None if descriptor is None else descriptor.fields_by_number.get(number)
        if field is None or field.type == FieldDescriptor.TYPE_BYTES:
            return  # One object, however long.
        name = f"{path}.{field.name}" if path else field.name
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            self.message(at, at + size, field.message_type, name, depth - 1)
            return
        self._other_bytes += size
        if self._other_bytes > _MOST_OTHER_BYTES:
            raise _undecodable(
                name, f"{size} bytes; all but tensors' data together may have {_MOST_OTHER_BYTES}"
            )

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for index in range(10):
            if at >= end:
                break
            byte = self._raw[at]
            at += 1
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value, at
        raise _undecodable("message", "a number without an end")


def _undecodable(field: str, why: str) -> DomainError:
    return DomainError(
        Reason.UNDECODABLE_MESSAGE,
        f"{field} cannot be decoded: {why}",
        field=field,
        got=why,
        limit=f"{_MOST_FIELDS} fields, {_MOST_OTHER_BYTES} bytes beside tensors' data",
    )
