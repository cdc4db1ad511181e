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
    44     4    key id: the hour to whose public key the data key is wrapped (0 when not sealed)
    48     2    length of the wrapped key, which follows
    50     n    wrapped key
    50+n        body

All numbers are little-endian. The body is a msgpack array of columns (`Body`), compressed, then sealed
(`schemas.sealing`). The name of an event is (writer, partition, seq, index); the partition is the record's own and,
in a sealed packet, part of the authenticated data.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import zstandard

from schemas.sealing import Sealer

MAGIC = b"VSP\x01"
HEADER = struct.Struct("<4sBBHQQI16sIH")
CODEC_NONE, CODEC_ZSTD = 0, 1
SEAL_NONE, SEAL_AES_GCM = 0, 1
ZSTD_LEVEL = 1
EVENT_BYTES = 64  # of an event in a body, beside its texts; an estimate
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
    DATA_SAVER = 256  # `Via` names Chrome's data saver, whose addresses are Google's and whose visitors are people


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


class Header(msgspec.Struct, frozen=True):
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


class KeyDestroyed(BadPacket):
    """The packet is sealed to an hour whose key is gone: nobody can ever read it."""


class Opener(Protocol):
    """Who opens sealed packets."""

    def open(self, value: bytes, head: Header, partition: int) -> bytes:
        """The compressed body of a sealed packet; raises BadPacket, KeyDestroyed, and what says that a key is awaited.

        `partition`: of the record.
        """
        ...


class Body(msgspec.Struct, array_like=True):
    """The columns as they lie in a packet; numbers are little-endian, of the widths of `Columns`."""

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
_decode_body = msgspec.msgpack.Decoder(Body).decode
_compress = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True).compress
_own = threading.local()


def encode_rows(
    writer: int,
    seq: int,
    routing: int,
    policy: bytes,
    rows: Sequence[tuple[Any, ...]],
    sealer: Sealer | None = None,
    partition: int = 0,
) -> bytes:
    """The packet of these events (at least one), each a tuple of the fields of `Event` in its order.

    A packet's bytes are made once: it keeps name and bytes through every retry. With a `sealer` it is sealed, for
    `partition` alone.
    """
    (received, site, address, role, flags, agent, language, hints, query, repeat, items, index) = zip(
        *rows, strict=True
    )
    body = _encode_body(
        (  # the fields of `Body`
            _column("q", received),
            _column("I", site),
            b"".join(address),
            bytes(role),
            _column("H", flags),
            _column("I", items),
            _column("I", index),
            agent,
            language,
            hints,
            repeat,
            "\n".join(query),
        )
    )
    if sealer is None:
        head = HEADER.pack(MAGIC, CODEC_ZSTD, SEAL_NONE, routing, writer, seq, len(rows), policy, 0, 0)
        return head + _compress(body)
    wrapped = sealer.wrapped
    fields = (MAGIC, CODEC_ZSTD, SEAL_AES_GCM, routing, writer, seq, len(rows), policy, sealer.hour, len(wrapped))
    head = HEADER.pack(*fields) + wrapped
    return head + sealer.seal(partition, seq, head, _compress(body))


def _column(code: str, values: tuple[int, ...]) -> bytes:
    return struct.pack(f"<{len(values)}{code}", *values)


def encode(
    writer: int,
    seq: int,
    routing: int,
    policy: bytes,
    events: Sequence[Event],
    sealer: Sealer | None = None,
    partition: int = 0,
) -> bytes:
    """The packet of these events (at least one); see `encode_rows`."""
    rows = [msgspec.structs.astuple(event) for event in events]
    return encode_rows(writer, seq, routing, policy, rows, sealer, partition)


def _decompressor() -> zstandard.ZstdDecompressor:
    """This thread's own; to make one takes longer than to open a small packet."""
    try:
        made: zstandard.ZstdDecompressor = _own.decompressor
    except AttributeError:
        made = _own.decompressor = zstandard.ZstdDecompressor()
    return made


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


def body(value: bytes, head: Header, opener: Opener | None = None, partition: int = 0) -> Body:
    """The body of a packet whose header was read; raises BadPacket on anything that `encode` does not make.

    A sealed one needs an `opener`, whose exceptions pass, and the partition of its record.
    """
    if head.seal == SEAL_NONE:
        data: bytes = value[HEADER.size + len(head.wrapped_key) :]
    elif head.seal != SEAL_AES_GCM:
        raise BadPacket(f"seal {head.seal} is not known")
    elif opener is None:
        raise BadPacket("packet is sealed, and nobody here opens it")
    else:
        data = opener.open(value, head, partition)
    try:
        if head.codec == CODEC_ZSTD:
            if zstandard.frame_content_size(data) > BODY_LIMIT:
                raise BadPacket(f"body is larger than {BODY_LIMIT} bytes")
            data = _decompressor().decompress(data, max_output_size=BODY_LIMIT)
        elif head.codec != CODEC_NONE:
            raise BadPacket(f"codec {head.codec} is not known")
        found = _decode_body(data)
    except (zstandard.ZstdError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadPacket(f"body is not readable ({type(error).__name__})") from None
    n = head.count
    if not (
        n
        == len(found.role)
        == len(found.agent)
        == len(found.language)
        == len(found.hints)
        == len(found.repeat)
        == found.query.count("\n") + 1
        and 4 * n == len(found.site) == len(found.items) == len(found.index)
        and 8 * n == len(found.received_ms)
        and 16 * n == len(found.address)
        and 2 * n == len(found.flags)
        and found.query.isascii()
    ):
        raise BadPacket(f"columns do not hold the {n} events that the header names")
    return found


def decode(value: bytes, opener: Opener | None = None, partition: int = 0) -> tuple[Header, Columns]:
    """Header and columns; raises BadPacket, and what `opener` raises."""
    head = header(value)
    n, found = head.count, body(value, head, opener, partition)
    return head, Columns(
        np.frombuffer(found.received_ms, "<i8"),
        np.frombuffer(found.site, "<u4"),
        np.frombuffer(found.address, np.uint8).reshape(n, 16),
        np.frombuffer(found.role, np.uint8),
        np.frombuffer(found.flags, "<u2"),
        np.frombuffer(found.items, "<u4"),
        np.frombuffer(found.index, "<u4"),
        found.agent,
        found.language,
        found.hints,
        found.repeat,
        found.query,
    )
