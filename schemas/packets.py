"""The packet: the value of a record on `events.raw`, all events of one partition that arrived in one flush.

    offset size
    0      4    magic "VSP" and the format's version, 1
    4      1    codec of the body: 0 none, 1 zstd
    5      1    seal: 0 none, 1 AES-256-GCM
    6      2    routing version
    8      8    writer: random, one per start of a collector process
    16     8    seq: rises by one per packet of a partition, without gaps, from 0
    24     4    count of events
    28     16   version of the policy set by which the collector judged the events
    44     4    key id (0 when not sealed)
    48     2    length of the wrapped key, which follows
    50     n    wrapped key
    50+n        body

All numbers are little-endian. The body is a msgpack array of columns (`_Body`), compressed, then sealed. The
name of an event is (writer, partition, seq, index); the partition is the record's own and, once sealing is
on, part of the authenticated data.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

MAGIC = b"VSP\x01"
HEADER = struct.Struct("<4sBBHQQI16sIH")
CODEC_NONE, CODEC_ZSTD = 0, 1
SEAL_NONE, SEAL_AES_GCM = 0, 1
ZSTD_LEVEL = 1
BODY_LIMIT = 64 << 20  # bytes after decompression; a packet is far smaller, a bomb is not
MAPPED_IPV4 = b"\0" * 10 + b"\xff\xff"


class Flag(IntFlag):
    """What the collector read from the headers and cookies of a request; stored in a packet as one number."""

    DNT = 1  # `DNT: 1` or `X-Do-Not-Track: 1`
    GPC = 2  # `Sec-GPC: 1`
    OPT_OUT = 4  # cookie matomo_ignore, piwik_ignore or mtm_consent_removed
    CONSENT = 8  # cookie mtm_consent
    COOKIE_CONSENT = 16  # cookie mtm_cookie_consent
    PREFETCH = 32  # X-Purpose: preview or instant; X-Moz: prefetch
    URL_FROM_REFERER = 64  # `url` was missing and is the Referer header
    BAD_TOKEN = 128  # a token was sent that is not one of the site


class Role(IntEnum):
    """What the request's token allows on its site."""

    NONE = 0
    VIEW = 1
    WRITE = 2
    ADMIN = 3
    SUPERUSER = 4


class Repeat:
    """First byte of `Event.repeat`: what tells a repeat from a second event."""

    KEY = b"K"  # then 16 bytes: hash of Idempotency-Key, site and token
    BODY = b"B"  # then 16 bytes: hash of the body of a bulk of two or more


class Event(msgspec.Struct):
    """One event as it leaves the collector; this is the closed list of what leaves it.

    received_ms: milliseconds since 1970 UTC. address: 16 bytes, IPv4 as ::ffff:a.b.c.d. query: printable
    ASCII (`parameters.safe`), without token_auth and send_image. hints: the Sec-CH-UA headers as JSON, or "".
    repeat: b"" or `Repeat` and 16 bytes. items, index: size of the request's bulk and place in it.
    """

    received_ms: int
    site: int
    address: bytes
    role: int
    flags: int
    agent: str
    language: str
    hints: str
    query: str
    repeat: bytes = b""
    items: int = 1
    index: int = 0


@dataclass(frozen=True, slots=True)
class Header:
    """What is readable without opening the body."""

    writer: int
    seq: int
    count: int
    routing: int
    policy: bytes
    codec: int
    seal: int
    key_id: int
    wrapped_key: bytes


@dataclass(frozen=True, slots=True)
class Columns:
    """The events of a packet, one column each, all of length `len(site)`; address has shape (n, 16)."""

    received_ms: npt.NDArray[np.int64]
    site: npt.NDArray[np.uint32]
    address: npt.NDArray[np.uint8]
    role: npt.NDArray[np.uint8]
    flags: npt.NDArray[np.uint16]
    items: npt.NDArray[np.uint32]
    index: npt.NDArray[np.uint32]
    agent: list[str]
    language: list[str]
    hints: list[str]
    repeat: list[bytes]
    query: str  # joined by newlines; a query never holds one

    def event(self, i: int) -> Event:
        """Event number i, for the per-event reference."""
        return Event(
            received_ms=int(self.received_ms[i]),
            site=int(self.site[i]),
            address=self.address[i].tobytes(),
            role=int(self.role[i]),
            flags=int(self.flags[i]),
            agent=self.agent[i],
            language=self.language[i],
            hints=self.hints[i],
            query=self.query.split("\n")[i],
            repeat=self.repeat[i],
            items=int(self.items[i]),
            index=int(self.index[i]),
        )


class BadPacket(ValueError):
    """The bytes are not a packet; the message says which part is wrong and holds nothing of the content."""


class _Body(msgspec.Struct, array_like=True):
    received_ms: bytes
    site: bytes
    address: bytes
    role: bytes
    flags: bytes
    items: bytes
    index: bytes
    agent: list[str]
    language: list[str]
    hints: list[str]
    repeat: list[bytes]
    query: str


_encode_body = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder(_Body).decode
_compress = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True).compress


class Builder:
    """The open packet of one partition. `size` estimates its body, in bytes before compression."""

    __slots__ = ("_append", "_events", "size")

    def __init__(self) -> None:
        self._events: list[tuple[Any, ...]] = []
        self._append = self._events.append
        self.size = 0

    def __len__(self) -> int:
        return len(self._events)

    def append(
        self,
        received_ms: int,
        site: int,
        address: bytes,
        role: int,
        flags: int,
        agent: str,
        language: str,
        hints: str,
        query: str,
        repeat: bytes = b"",
        items: int = 1,
        index: int = 0,
    ) -> None:
        """Add one event; the arguments are the fields of `Event`, in its order."""
        self._append((received_ms, site, address, role, flags, agent, language, hints, query, repeat, items, index))
        self.size += 64 + len(agent) + len(language) + len(hints) + len(query)

    def encode(self, writer: int, seq: int, policy: bytes, routing: int) -> bytes:
        """The packet's bytes. They are made once: a packet keeps name and bytes through every retry."""
        (received, site, address, role, flags, agent, language, hints, query, repeat, items, index) = zip(
            *self._events, strict=True
        )
        body = _encode_body(
            _Body(
                np.array(received, "<i8").tobytes(),
                np.array(site, "<u4").tobytes(),
                b"".join(address),
                bytes(role),
                np.array(flags, "<u2").tobytes(),
                np.array(items, "<u4").tobytes(),
                np.array(index, "<u4").tobytes(),
                list(agent),
                list(language),
                list(hints),
                list(repeat),
                "\n".join(query),
            )
        )
        head = HEADER.pack(MAGIC, CODEC_ZSTD, SEAL_NONE, routing, writer, seq, len(self._events), policy, 0, 0)
        return head + _compress(body)


def encode(writer: int, seq: int, routing: int, policy: bytes, events: Sequence[Event]) -> bytes:
    """The packet of these events (at least one)."""
    builder = Builder()
    for event in events:
        builder.append(*msgspec.structs.astuple(event))
    return builder.encode(writer, seq, policy, routing)


def header(value: bytes) -> Header:
    """The header alone; raises BadPacket when the bytes do not begin with one."""
    if len(value) < HEADER.size:
        raise BadPacket(f"record of {len(value)} bytes is shorter than a packet's header")
    magic, codec, seal, routing, writer, seq, count, policy, key_id, wrapped = HEADER.unpack_from(value)
    if magic != MAGIC:
        raise BadPacket("record does not begin with the magic of packet format 1")
    if len(value) < HEADER.size + wrapped:
        raise BadPacket("record ends within the wrapped key")
    key = value[HEADER.size : HEADER.size + wrapped]
    return Header(writer, seq, count, routing, policy, codec, seal, key_id, key)


def decode(value: bytes) -> tuple[Header, Columns]:
    """Header and columns; raises BadPacket on anything that `encode` does not make."""
    head = header(value)
    if head.seal != SEAL_NONE:
        raise BadPacket(f"seal {head.seal} is not known")
    data: bytes = value[HEADER.size + len(head.wrapped_key) :]
    try:
        if head.codec == CODEC_ZSTD:
            if zstandard.frame_content_size(data) > BODY_LIMIT:
                raise BadPacket(f"body is larger than {BODY_LIMIT} bytes")
            data = zstandard.ZstdDecompressor().decompress(data, max_output_size=BODY_LIMIT)
        elif head.codec != CODEC_NONE:
            raise BadPacket(f"codec {head.codec} is not known")
        body = _decode_body(data)
    except (zstandard.ZstdError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadPacket(f"body is not readable ({type(error).__name__})") from None
    n = head.count
    sizes = (
        (body.received_ms, 8),
        (body.site, 4),
        (body.address, 16),
        (body.role, 1),
        (body.flags, 2),
        (body.items, 4),
        (body.index, 4),
    )
    lists: tuple[list[Any], ...] = (body.agent, body.language, body.hints, body.repeat)
    if (
        n == 0
        or any(len(column) != n * width for column, width in sizes)
        or any(len(column) != n for column in lists)
        or body.query.count("\n") != n - 1
        or not body.query.isascii()
    ):
        raise BadPacket(f"columns do not hold the {n} events that the header names")
    return head, Columns(
        np.frombuffer(body.received_ms, "<i8"),
        np.frombuffer(body.site, "<u4"),
        np.frombuffer(body.address, np.uint8).reshape(n, 16),
        np.frombuffer(body.role, np.uint8),
        np.frombuffer(body.flags, "<u2"),
        np.frombuffer(body.items, "<u4"),
        np.frombuffer(body.index, "<u4"),
        body.agent,
        body.language,
        body.hints,
        body.repeat,
        body.query,
    )
