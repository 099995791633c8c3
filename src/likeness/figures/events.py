"""Event files as TensorBoard reads them, in the few fields that a log needs.

A file is a sequence of records (TFRecord):

    length    uint64, little-endian
    crc       uint32, the masked CRC32C of those 8 bytes
    event     `length` bytes: the protocol buffer `Event`
    crc       uint32, the masked CRC32C of the event

and an Event has wall_time (field 1, double), step (2, int64), file_version (3, string) or summary (5), which
is a list (1) of values with a tag (1, string) and simple_value (2, float) or image (4: height 1, width 2,
colours 3, and the PNG file 4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

RGB = 3
VARINT, DOUBLE, BYTES, FLOAT = 0, 1, 2, 5
"""wire types of protocol buffers"""


@cache
def _table() -> tuple[int, ...]:
    """Of CRC32C (Castagnoli), reflected: what each byte does to the remainder."""
    out = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        out.append(value)
    return tuple(out)


def crc32c(data: bytes) -> int:
    table, crc = _table(), 0xFFFF_FFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFF_FFFF


def masked(data: bytes) -> int:
    """As records store it: turned by 15 bits, and a constant added, since a CRC of data that hold CRCs is
    weak."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFF_FFFF


def record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return length + struct.pack("<I", masked(length)) + event + struct.pack("<I", masked(event))


# Protocol buffers


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; not for negative numbers."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | float | str | bytes) -> bytes:
    """A float is a double; simple_value alone is not, and has single()."""
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | DOUBLE) + struct.pack("<d", value)
    blob = value.encode(errors="backslashreplace") if isinstance(value, str) else value
    return varint(number << 3 | BYTES) + varint(len(blob)) + blob


def single(number: int, value: float) -> bytes:
    return varint(number << 3 | FLOAT) + struct.pack("<f", value)


def first(at: float) -> bytes:
    """What every file begins with.  at: seconds since 1970, here and below."""
    return field(1, at) + field(3, "brain.Event:2")


def scalars(at: float, step: int, values: Mapping[str, float]) -> bytes:
    summary = b"".join(field(1, field(1, tag) + single(2, value)) for tag, value in values.items())
    return field(1, at) + field(2, step) + field(5, summary)


def image(at: float, step: int, tag: str, png: bytes, height: int, width: int) -> bytes:
    picture = field(1, height) + field(2, width) + field(3, RGB) + field(4, png)
    return field(1, at) + field(2, step) + field(5, field(1, field(1, tag) + field(4, picture)))


# And back, as far as going on needs it


class Event(NamedTuple):
    step: int
    kind: str
    """"scalars", "image", or "" for anything else"""


def read(content: bytes) -> Iterator[tuple[int, Event]]:
    """The whole records that a file begins with, each with the place of its end; a torn one ends it."""
    at = 0
    while at + 12 <= len(content):
        head = content[at : at + 8]
        (length,), (crc,) = struct.unpack("<Q", head), struct.unpack("<I", content[at + 8 : at + 12])
        end = at + 16 + length
        if crc != masked(head) or end > len(content):
            return
        yield end, _event(content[at + 12 : end - 4])
        at = end


def _event(blob: bytes) -> Event:
    fields = dict[int, Any](_fields(blob))
    values = dict[int, Any](_fields(fields.get(5, b"")))
    inside = dict[int, Any](_fields(values.get(1, b"")))
    return Event(fields.get(2, 0), "image" if 4 in inside else "scalars" if 2 in inside else "")


def _fields(blob: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(blob):
        key, at = _varint(blob, at)
        if key & 7 == VARINT:
            value, at = _varint(blob, at)
            yield key >> 3, value
            continue
        size = {DOUBLE: 8, FLOAT: 4}.get(key & 7)
        if size is None:
            size, at = _varint(blob, at)
        yield key >> 3, blob[at : at + size]
        at += size


def _varint(blob: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while blob[at] > 127:
        value |= (blob[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | blob[at] << shift, at + 1
