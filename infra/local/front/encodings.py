"""Content encodings of requests and responses: gzip, deflate (zlib's form), LZ4 frames, zstd."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Protocol

import lz4.frame
import zstandard

from infra.local.front.errors import (
    CANNOT_DECOMPRESS,
    TOO_MANY_BYTES,
    UNEXPECTED_END_OF_FILE,
    UNKNOWN_COMPRESSION_METHOD,
    FrontError,
)

STEP = 1 << 20  # bytes of output that one call of a decompressor may give

#: Best first, as ClickHouse chooses.
RESPONSE_ENCODINGS = ("lz4", "zstd", "gzip", "deflate")


class _Member(Protocol):
    """One gzip member, LZ4 frame or zstd frame."""

    def feed(self, data: bytes) -> bytes: ...

    @property
    def more(self) -> bool:
        """There is output left that needs no further input."""

    @property
    def ended(self) -> bool: ...

    @property
    def rest(self) -> bytes:
        """What came after the end."""


class _Zlib:
    def __init__(self, window: int) -> None:
        self._object = zlib.decompressobj(window)
        self._full = False

    def feed(self, data: bytes) -> bytes:
        found = self._object.decompress(self._object.unconsumed_tail + data, STEP)
        self._full = len(found) == STEP
        return found

    @property
    def more(self) -> bool:
        # A full piece may have left output inside although all input was taken.
        return (self._full or bool(self._object.unconsumed_tail)) and not self.ended

    @property
    def ended(self) -> bool:
        return self._object.eof

    @property
    def rest(self) -> bytes:
        return self._object.unused_data


class _Lz4:
    def __init__(self) -> None:
        self._object = lz4.frame.LZ4FrameDecompressor()

    def feed(self, data: bytes) -> bytes:
        return bytes(self._object.decompress(data, STEP))

    @property
    def more(self) -> bool:
        return not self._object.needs_input and not self._object.eof

    @property
    def ended(self) -> bool:
        return bool(self._object.eof)

    @property
    def rest(self) -> bytes:
        return bytes(self._object.unused_data or b"")


class _Zstd:
    """zstandard's own object has no bound of its output, so a frame is fed in small pieces."""

    PIECE = 1024

    def __init__(self) -> None:
        self._object = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
        self._waiting = b""
        self._position = 0

    def feed(self, data: bytes) -> bytes:
        if data:
            self._waiting, self._position = self._waiting[self._position :] + data, 0
        piece = self._waiting[self._position : self._position + self.PIECE]
        self._position += len(piece)
        return self._object.decompress(piece) if piece else b""

    @property
    def more(self) -> bool:
        return self._position < len(self._waiting) and not self.ended

    @property
    def ended(self) -> bool:
        return self._object.eof

    @property
    def rest(self) -> bytes:
        return self._object.unused_data + self._waiting[self._position :]


def _member(encoding: str) -> _Member:
    match encoding:
        case "gzip" | "x-gzip":
            return _Zlib(31)
        case "deflate":
            return _Zlib(15)
        case "lz4":
            return _Lz4()
        case _:
            return _Zstd()


class Decoder:
    """Undoes a request's Content-Encoding, piece by piece, giving at most ``limit`` bytes in all.

    A body may be several members in a row, as clickhouse-connect sends one frame per block. Raises FrontError for an
    unknown encoding, for damage, for more than the limit (413), and by ``finish`` for an end in mid-member.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._encoding = encoding.strip().lower()
        if self._encoding not in ("", "identity", "gzip", "x-gzip", "deflate", "lz4", "zstd"):
            raise FrontError(
                UNKNOWN_COMPRESSION_METHOD,
                f"Unknown compression method: {encoding[:32]}. This server reads gzip, deflate, lz4 and zstd",
                close=True,
            )
        self._plain = self._encoding in ("", "identity")
        self._member: _Member | None = None
        self._limit = limit
        self._given = 0

    def feed(self, data: bytes) -> list[bytes]:
        if self._plain:
            self._count(len(data))
            return [data] if data else []
        found: list[bytes] = []
        while data or (self._member is not None and self._member.more):
            if self._member is None:
                self._member = _member(self._encoding)
            try:
                piece = self._member.feed(data)
            except (zlib.error, RuntimeError, zstandard.ZstdError):
                raise FrontError(
                    CANNOT_DECOMPRESS, f"Cannot decompress the body: it is not {self._encoding}", close=True
                ) from None
            data = b""
            if piece:
                self._count(len(piece))
                found.append(piece)
            if self._member.ended:
                data, self._member = self._member.rest, None
        return found

    def finish(self) -> None:
        """To be called when the body has ended."""
        if self._member is not None:
            raise FrontError(
                UNEXPECTED_END_OF_FILE, f"The {self._encoding} body ended early. Nothing was inserted", close=True
            )

    def _count(self, more: int) -> None:
        self._given += more
        if self._given > self._limit:
            raise FrontError(
                TOO_MANY_BYTES, f"The body is larger than {self._limit >> 20} MiB, send it in parts", close=True
            )


class Encoder(Protocol):
    """Compresses a response piece by piece."""

    name: str

    def feed(self, data: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class _ZlibEncoder:
    def __init__(self, name: str, window: int, level: int) -> None:
        self.name = name
        self._object = zlib.compressobj(level, zlib.DEFLATED, window)

    def feed(self, data: bytes) -> bytes:
        return self._object.compress(data)

    def finish(self) -> bytes:
        return self._object.flush()


class _Lz4Encoder:
    name = "lz4"

    def __init__(self) -> None:
        self._object = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        return self._begin() + bytes(self._object.compress(data))

    def finish(self) -> bytes:
        return self._begin() + bytes(self._object.flush())

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return bytes(self._object.begin())


class _ZstdEncoder:
    name = "zstd"

    def __init__(self, level: int) -> None:
        self._object = zstandard.ZstdCompressor(level=level).compressobj()

    def feed(self, data: bytes) -> bytes:
        return self._object.compress(data)

    def finish(self) -> bytes:
        return self._object.flush()


def encoder(accepted: str, parameters: Mapping[str, str]) -> Encoder | None:
    """The encoder for a response: only with ``enable_http_compression=1``, as in ClickHouse, and if one is accepted."""
    if parameters.get("enable_http_compression", "0") not in ("1", "true"):
        return None
    offers = {}
    for offer in accepted.lower().split(","):
        name, _, quality = offer.partition(";")
        offers[name.strip()] = quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    level = parameters.get("http_zlib_compression_level", "3")
    zlib_level = int(level) if level.isdigit() and 1 <= int(level) <= 9 else 3
    for name in RESPONSE_ENCODINGS:
        if offers.get(name):
            match name:
                case "gzip":
                    return _ZlibEncoder("gzip", 31, zlib_level)
                case "deflate":
                    return _ZlibEncoder("deflate", 15, zlib_level)
                case "lz4":
                    return _Lz4Encoder()
                case _:
                    return _ZstdEncoder(1)
    return None
