"""A file of which only parts are here: what the demuxer reads is fetched just before it reads.

A video in an object storage is mostly not needed whole: a poster or a storyboard of a long one takes the index and some
keyframes. The file has its whole size from the beginning, with holes; blocks are fetched once each, more at a time the
longer reading goes on without a jump. Whoever asks is the decoder, which has no network; whoever fetches is its keeper.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import msgspec

BLOCK = 256 << 10  # bytes
AHEAD = 16 << 20  # bytes that are fetched at once at most


class Needs(msgspec.Struct, frozen=True, tag="needs"):
    """The decoder asks for bytes `first` to `last`, without the last."""

    first: int
    last: int


Fetch = Callable[[int, int], None]


class Parts:
    """What is here of the file behind a descriptor. `fetch(first, last)` brings these bytes; it raises Failure."""

    def __init__(self, descriptor: int, fetch: Fetch) -> None:
        self._descriptor = descriptor
        self._fetch = fetch
        self.size = os.fstat(descriptor).st_size
        self._blocks = -(-self.size // BLOCK)
        self._here = bytearray(self._blocks)
        self._next = -1  # the block behind the last one that was fetched
        self._ahead = 1  # blocks

    def need(self, first: int, last: int) -> None:
        """Sees to it that these bytes are here, as far as the file goes."""
        for start, end in self._missing(first // BLOCK, min(-(-last // BLOCK), self._blocks)):
            self._ahead = min(2 * self._ahead, AHEAD // BLOCK) if start == self._next else 1
            until = max(end, min(start + self._ahead, self._blocks))
            if (known := self._here.find(1, start, until)) >= 0:
                until = known
            self._fetch(start * BLOCK, min(until * BLOCK, self.size))
            self._here[start:until] = b"\1" * (until - start)
            self._next = until

    def whole(self) -> None:
        """Sees to it that all of it is here."""
        for first in range(0, self.size, AHEAD):
            self.need(first, min(first + AHEAD, self.size))

    def reader(self) -> Reader:
        """The file from its beginning, as PyAV reads it."""
        return Reader(self._descriptor, self)

    def _missing(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        while start < end and (first := self._here.find(0, start, end)) >= 0:
            found = self._here.find(1, first, end)
            start = end if found < 0 else found
            yield first, start


class Reader:
    """A place in the file; what a binary file has, as far as it is needed to read."""

    def __init__(self, descriptor: int, parts: Parts) -> None:
        self._descriptor = descriptor
        self._parts = parts
        self._place = 0

    def read(self, size: int) -> bytes:
        """The next bytes, b"" at the end."""
        self._parts.need(self._place, self._place + size)
        found = os.pread(self._descriptor, size, self._place)
        self._place += len(found)
        return found

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a place, which may lie behind the end; returns it. Raises ValueError for one before the beginning."""
        place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._parts.size}[whence]
        if place < 0:
            raise ValueError("there is no such place")
        self._place = place
        return place

    def tell(self) -> int:
        """The place."""
        return self._place
