"""The two Native blocks that the engine does not give: a result's columns without rows, and the answer to a hello.

Revision 0 of the format is what the engine speaks: no BlockInfo, no serialization byte per column.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What clickhouse-go asks first on each connection, before it knows the server's revision.
HELLO = re.compile(
    rb"\s*SELECT\s+displayName\(\)\s*,\s*version\(\)\s*,\s*revision\(\)\s*,\s*timezone\(\)\s*;?\s*", re.IGNORECASE
)

# BlockInfo of revisions from 51903: field 1 is_overflows = 0, field 2 bucket_num = -1, end.
_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_DEFAULT_SERIALIZATION = b"\x00"  # one byte per column from revision 54454 on


def columns_block(columns: Iterable[tuple[str, str]]) -> bytes:
    """A block of no rows, so that a reader learns names and types."""
    columns = list(columns)
    return _number(len(columns)) + _number(0) + b"".join(_text(name) + _text(type_) for name, type_ in columns)


def hello_block(display_name: str, version: str, timezone: str) -> bytes:
    """One row for HELLO, in the revision that clickhouse-go reads it in (54460).

    The revision told is 0, so the client reads and writes all later blocks as the engine does.
    """
    columns = (
        ("displayName()", "String", _text(display_name)),
        ("version()", "String", _text(version)),
        ("revision()", "UInt32", (0).to_bytes(4, "little")),
        ("timezone()", "String", _text(timezone)),
    )
    block = _BLOCK_INFO + _number(len(columns)) + _number(1)
    return block + b"".join(
        _text(name) + _text(type_) + _DEFAULT_SERIALIZATION + value for name, type_, value in columns
    )


def _number(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _number(len(encoded)) + encoded
