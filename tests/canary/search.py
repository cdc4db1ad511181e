"""Searching much data for many texts at once, in raw bytes and in what the engine and the log compressed."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import lz4.block
import numpy as np
import zstandard

from tests.canary.marks import Mark, forms

PIECE = 8 << 20
WINDOW = 8  # bytes of a text by which it is looked for
_MIX = np.uint64(0x9E3779B97F4A7C15)
_BLOCK = struct.Struct("<16sBII")  # a compressed block of ClickHouse: checksum, method, sizes with and without
_LZ4, _ZSTD, _NONE = 0x82, 0x90, 0x02


class Searcher:
    """`found` notes by number of mark the places where one was seen; a place is a name, never content."""

    def __init__(self, marks: Sequence[Mark]) -> None:
        self.found: dict[int, set[str]] = {}
        self.bytes = 0
        self._texts: dict[int, list[tuple[bytes, int]]] = {}
        for number, mark in enumerate(marks):
            for form in set(forms(mark.text)):
                if len(form) >= WINDOW:
                    key = int.from_bytes(form[:WINDOW], "little")
                    self._texts.setdefault(key, []).append((form, number))
        self._keys = np.array(sorted(self._texts), np.uint64)
        self._maybe = np.zeros(1 << 22, np.bool_)
        self._maybe[(self._keys * _MIX) >> np.uint64(42)] = True

    def look(self, place: str, data: bytes) -> None:
        """Searches data."""
        self.bytes += len(data)
        data = data.rstrip(b"\0") + bytes(16)  # the log's files are made larger than they are
        longest = 4096
        for start in range(0, len(data), PIECE):
            self._piece(place, data[start : start + PIECE + longest])

    def _piece(self, place: str, data: bytes) -> None:
        for shift in range(WINDOW):
            count = (len(data) - shift) // WINDOW
            if count <= 0:
                return
            windows = np.frombuffer(data, "<u8", count, shift)
            for at in np.flatnonzero(self._maybe[(windows * _MIX) >> np.uint64(42)]).tolist():
                offset = shift + at * WINDOW
                for form, number in self._texts.get(int(windows[at]), ()):
                    if data.startswith(form, offset):
                        self.found.setdefault(number, set()).add(place)


def blocks(data: bytes) -> Iterator[bytes]:
    """What a column file of ClickHouse holds, decompressed; nothing of what is none."""
    at = 0
    while at + _BLOCK.size <= len(data):
        _, method, size, plain = _BLOCK.unpack_from(data, at)
        body = data[at + _BLOCK.size : at + 16 + size]
        if method not in (_LZ4, _ZSTD, _NONE) or size < 9 or len(body) != size - 9 or plain > 1 << 28:
            return
        try:
            if method == _LZ4:
                yield lz4.block.decompress(body, uncompressed_size=plain)
            elif method == _ZSTD:
                yield zstandard.ZstdDecompressor().decompress(body, max_output_size=plain)
            else:
                yield body
        except (lz4.block.LZ4BlockError, zstandard.ZstdError):
            return
        at += 16 + size


def zstd_frames(data: bytes) -> Iterator[bytes]:
    """Every zstd frame that stands anywhere in the data, decompressed, as packets have them."""
    at = data.find(b"\x28\xb5\x2f\xfd")
    while at >= 0:
        with suppress(zstandard.ZstdError):
            yield zstandard.ZstdDecompressor().decompressobj().decompress(data[at:])
        at = data.find(b"\x28\xb5\x2f\xfd", at + 1)


def search_folder(searcher: Searcher, folder: Path) -> int:
    """Every file below a folder, raw and decompressed; returns how many files."""
    count = 0
    for path in sorted(folder.rglob("*")):
        try:
            if not path.is_file() or path.is_symlink():
                continue
            data = path.read_bytes()
        except OSError:  # it left meanwhile, as parts of tables do
            continue
        count += 1
        place = _place(path.relative_to(folder))
        searcher.look(f"{place}, by name", str(path.relative_to(folder)).encode())
        searcher.look(place, data)
        search_inside(searcher, place, data)
    return count


def search_inside(searcher: Searcher, place: str, data: bytes) -> None:
    """What is compressed in data."""
    for number, pieces in enumerate((blocks(data), zstd_frames(data))):
        for piece in pieces:
            searcher.look(f"{place}, {('decompressed', 'a frame in it')[number]}", piece)


def search_all(searcher: Searcher, place: str, records: Iterable[bytes]) -> None:
    """Records, raw and decompressed."""
    for record in records:
        searcher.look(place, record)
        search_inside(searcher, place, record)


def _place(path: Path) -> str:
    """A file's place without what is random in its name."""
    parts = path.parts
    if "store" in parts:
        return f"{'/'.join(parts[: parts.index('store') + 1])}/…/{path.name}"
    return str(path) if len(parts) < 4 else "/".join((*parts[:3], "…", path.name))
