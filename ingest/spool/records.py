"""A packet as it lies in a segment of the spool.

    offset size
    0      4    magic "VSS" and the format's version, 1
    4      1    state: 0 waits, 1 acknowledged by Kafka; written in place, so not under a checksum
    5      1    0
    6      2    partition
    8      4    length of the packet
    12     4    CRC-32C of the packet
    16     8    when it was written, milliseconds since 1970 UTC
    24     8    events of the partition in all earlier packets of the writer
    32     4    CRC-32C of the 32 bytes before, with state 0
    36     n    the packet (`schemas.packets`), which names writer, seq and count

All numbers are little-endian. A file may end anywhere and hold anything: what reads it goes on behind what is broken,
at the next head that is whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from crc32c import crc32c

MAGIC = b"VSS\x01"
_FIELDS = struct.Struct("<4sBxHIIQQ")
_CRC = struct.Struct("<I")
HEAD_BYTES = _FIELDS.size + _CRC.size
STATE_OFFSET = 4
WAITS, ACKNOWLEDGED = 0, 1
LONGEST = 64 << 20  # bytes of a packet; a head that says more is broken
_LOOK = 1 << 20  # bytes read at once while looking for a head


class Head(NamedTuple):
    """What stands before a packet."""

    state: int
    partition: int
    length: int
    crc: int
    written_ms: int
    before: int

    @property
    def size(self) -> int:
        """Bytes of the whole record."""
        return HEAD_BYTES + self.length


class Broken(NamedTuple):
    """Bytes of a file that are no record."""

    offset: int
    size: int


def encode(partition: int, value: bytes, written_ms: int, before: int) -> bytes:
    """The head of a record; `value` follows it."""
    fields = _FIELDS.pack(MAGIC, WAITS, partition, len(value), crc32c(value), written_ms, before)
    return fields + _CRC.pack(crc32c(fields))


def head(data: bytes) -> Head | None:
    """The head that these bytes begin with, or None."""
    if len(data) < HEAD_BYTES or data[:STATE_OFFSET] != MAGIC:
        return None
    fields, (checksum,) = bytearray(data[: _FIELDS.size]), _CRC.unpack_from(data, _FIELDS.size)
    state, fields[STATE_OFFSET] = fields[STATE_OFFSET], WAITS
    if crc32c(bytes(fields)) != checksum:
        return None
    _, _, partition, length, crc, written_ms, before = _FIELDS.unpack(fields)
    return None if length > LONGEST else Head(state, partition, length, crc, written_ms, before)


def read(file: int, offset: int) -> tuple[Head, bytes] | None:
    """The record at this offset, or None where head or packet are not what was written."""
    found = head(os.pread(file, HEAD_BYTES, offset))
    if found is None:
        return None
    value = os.pread(file, found.length, offset + HEAD_BYTES)
    return (found, value) if len(value) == found.length and crc32c(value) == found.crc else None


def scan(file: int) -> Iterator[tuple[int, Head] | Broken]:
    """Offsets and heads of all records of a file, in order, and what lies between them; packets are not read."""
    size = os.fstat(file).st_size
    offset = 0
    while offset < size:
        found = head(os.pread(file, HEAD_BYTES, offset))
        if found is not None and offset + found.size <= size:
            yield offset, found
            offset += found.size
        else:
            end = _next(file, offset + 1, size)
            yield Broken(offset, end - offset)
            offset = end


def _next(file: int, offset: int, size: int) -> int:
    """Where the next whole head lies, at or after `offset`; the file's size where there is none."""
    while offset < size:
        data = os.pread(file, _LOOK, offset)
        at = data.find(MAGIC)
        while at >= 0:
            found = head(os.pread(file, HEAD_BYTES, offset + at))
            if found is not None and offset + at + found.size <= size:
                return offset + at
            at = data.find(MAGIC, at + 1)
        if offset + len(data) >= size:
            break
        offset += max(len(data) - len(MAGIC) + 1, 1)
    return size
