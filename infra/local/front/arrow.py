"""Whether Arrow data are complete: a stream cut between two batches reads as a shorter one, so its end is looked for.

Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

import struct

from infra.local.front.errors import UNEXPECTED_END_OF_FILE, FrontError

INCORRECT_DATA = 117
_CONTINUATION = 0xFFFFFFFF
_MAGIC = b"ARROW1"
_BODY_LENGTH = 3  # field of table Message (format/Message.fbs)


def check_complete(format: str, data: bytes | memoryview) -> None:
    """Raises FrontError for Arrow data without their end; other formats pass."""
    if format == "ArrowStream":
        _check_stream(data)
    elif format == "Arrow" and bytes(data[-6:]) != _MAGIC:
        raise FrontError(
            UNEXPECTED_END_OF_FILE, "The Arrow file ended early: its last bytes are missing. Nothing was inserted"
        )


def _check_stream(data: bytes | memoryview) -> None:
    position = 0
    try:
        while True:
            (length,) = struct.unpack_from("<I", data, position)
            position += 4
            if length == _CONTINUATION:
                (length,) = struct.unpack_from("<I", data, position)
                position += 4
            if length == 0:
                return
            body = _body_length(data, position, length)
            position += length + body
            if body < 0 or position > len(data):
                break
    except struct.error:
        pass
    raise FrontError(
        UNEXPECTED_END_OF_FILE,
        f"The Arrow stream ended early: no end-of-stream mark within its {len(data)} bytes. Nothing was inserted",
    )


def _body_length(data: bytes | memoryview, start: int, length: int) -> int:
    """From the message's flatbuffer: the root table's vtable gives the place of a field, 0 for its default."""
    (root,) = struct.unpack_from("<I", data, start)
    table = start + root
    (back,) = struct.unpack_from("<i", data, table)
    vtable = table - back
    if not start <= vtable < start + length:
        raise FrontError(INCORRECT_DATA, "The data are no Arrow stream")
    (size,) = struct.unpack_from("<H", data, vtable)
    slot = 4 + 2 * _BODY_LENGTH
    (place,) = struct.unpack_from("<H", data, vtable + slot) if slot + 2 <= size else (0,)
    return int(struct.unpack_from("<q", data, table + place)[0]) if place else 0
