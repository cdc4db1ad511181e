"""The journal of a load run: what was sent and what became of it, readable even when the run was killed.

A file of 32 bytes of header and then records of 16, all little-endian, only ever appended to. The record SENT of a
number is with the kernel before the request's bytes are; a number without a later record is one whose outcome is
unknown. A number is sent once, never again; a request that is sent again has new numbers here, the old ones in it.

    header   8 magic "VSLOAD1\\n", 8 start of the run (ms since 1970), 8 seed, 8 first number
    record   8 number, 4 ms since the start, 1 outcome, 1 expected fates, 2 HTTP status (or CUT, TIMED_OUT)

In a record SENT the highest bit of the fates says that the number is of the same request as the one before it.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from pathlib import Path

import numpy as np
import numpy.typing as npt

MAGIC = b"VSLOAD1\n"
HEADER = struct.Struct("<8sQQQ")
RECORD = np.dtype([("number", "<u8"), ("moment", "<u4"), ("outcome", "u1"), ("expected", "u1"), ("status", "<u2")])
CUT, TIMED_OUT = 0, 1  # in place of an HTTP status: the connection ended first; no answer in time
_pack = struct.Struct("<QIBBH").pack
_FLUSH_BYTES = 1 << 13
_CONTINUED = 0x80  # beside the fates
NEVER = np.iinfo(np.int64).max  # when a number ended that has no outcome


class JournalError(ValueError):
    """The file is not a journal, or says what cannot be; the message names the file."""


class Outcome(IntEnum):
    """What the client learned of a number; UNKNOWN is neither of the other two and never counted as one."""

    SENT = 0
    ACKNOWLEDGED = 1
    REFUSED = 2
    UNKNOWN = 3


class Fate(IntFlag):
    """What may become of an event, by the rules; several bits where it depends on what lies around it."""

    STORED = 1
    EXCLUDED = 2  # acknowledged, and no row by rule
    REJECTED = 4  # acknowledged, and no row because it cannot be understood
    REFUSED = 8  # answered 400, or `invalid` within a bulk
    REPEATED = 16  # acknowledged, and no row because it was stored before under the number that it was first sent with


class Journal:
    """The writer. Not shared between threads; several may append to one file."""

    def __init__(self, path: Path, *, seed: int, first: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._buffer = bytearray()
        if os.fstat(self._file).st_size:
            with path.open("rb") as existing:
                self._started = _header(path, existing.read(HEADER.size))[1] / 1000
        else:
            self._started = time.time()
            os.write(self._file, HEADER.pack(MAGIC, int(self._started * 1000), seed, first))

    def _moment(self) -> int:
        return min(max(int((time.time() - self._started) * 1000), 0), 0xFFFFFFFF)

    def sent(self, first: int, expected: bytes) -> None:
        """Numbers first, first + 1, … are about to be sent in one request; on return the kernel has it."""
        moment = self._moment()
        for number, fate in enumerate(expected, first):
            self._buffer += _pack(number, moment, Outcome.SENT, fate | (_CONTINUED if number > first else 0), 0)
        self.flush()

    def ended(self, first: int, outcomes: Sequence[int], status: int) -> None:
        """What became of numbers first, first + 1, …; kept back for a moment (`flush`)."""
        moment = self._moment()
        for number, outcome in enumerate(outcomes, first):
            self._buffer += _pack(number, moment, outcome, 0, status)
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything to the kernel."""
        while self._buffer:
            del self._buffer[: os.write(self._file, self._buffer)]

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class Entries:
    """All numbers of one or more journals, rising; arrays of one length. outcome is never SENT.

    request: the first number of the request that the number was sent in. sent, ended: milliseconds since 1970, before
    the request was written and after its answer had come; NEVER where none has.
    """

    number: npt.NDArray[np.int64]
    expected: npt.NDArray[np.uint8]
    outcome: npt.NDArray[np.uint8]
    request: npt.NDArray[np.int64]
    sent: npt.NDArray[np.int64]
    ended: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.number)


def read(paths: Iterable[Path]) -> Entries:
    """The entries of these journals together; raises JournalError where a number was sent twice."""
    parts = [_records(path) for path in paths]
    records = np.concatenate([found for found, _ in parts]) if parts else np.empty(0, RECORD)
    moments = np.concatenate([at for _, at in parts]) if parts else np.empty(0, np.int64)
    order = np.argsort(records["number"], kind="stable")
    records, moments = records[order], moments[order]
    is_sent = records["outcome"] == Outcome.SENT
    sent, ends = records[is_sent], records[~is_sent]
    if (twice := np.flatnonzero(np.diff(sent["number"]) == 0)).size:
        raise JournalError(f"number {sent['number'][twice[0]]} was sent twice: the runs' numbers overlap")
    if (twice := np.flatnonzero(np.diff(ends["number"]) == 0)).size:
        raise JournalError(f"number {ends['number'][twice[0]]} has two outcomes")
    place = np.searchsorted(sent["number"], ends["number"])
    known = place < len(sent)
    known[known] = sent["number"][place[known]] == ends["number"][known]
    if not known.all():
        raise JournalError(f"number {ends['number'][~known][0]} has an outcome but was never sent")
    outcome = np.full(len(sent), Outcome.UNKNOWN, np.uint8)
    outcome[place] = ends["outcome"]
    ended = np.full(len(sent), NEVER, np.int64)
    ended[place] = moments[~is_sent]
    number = sent["number"].astype(np.int64)
    begins = (sent["expected"] & _CONTINUED) == 0
    request = np.maximum.accumulate(np.where(begins, number, 0)) if len(number) else number
    expected = sent["expected"] & ~np.uint8(_CONTINUED)
    return Entries(number, expected, outcome, request, moments[is_sent], ended)


def _header(path: Path, data: bytes) -> tuple[bytes, int, int, int]:
    if len(data) < HEADER.size or data[: len(MAGIC)] != MAGIC:
        raise JournalError(f"{path}: is not the journal of a load run")
    magic, started, seed, first = HEADER.unpack_from(data)
    return magic, started, seed, first


def _records(path: Path) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]:
    """The records, and their moments in milliseconds since 1970."""
    data = path.read_bytes()
    started = _header(path, data)[1]
    whole = (len(data) - HEADER.size) // RECORD.itemsize  # a record torn by a kill is dropped
    records = np.frombuffer(data, RECORD, whole, HEADER.size)
    return records, records["moment"].astype(np.int64) + started


class Watch:
    """Counts what a journal says while it is being written; `look` reads only what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._place = HEADER.size
        self.sent = self.acknowledged = self.refused = self.unknown = 0

    def look(self) -> Watch:
        """Brings the counts up to date; a journal that is not there yet counts nothing."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._place)
                data = file.read()
            whole = len(data) // RECORD.itemsize
            self._place += whole * RECORD.itemsize
            counts = np.bincount(np.frombuffer(data, RECORD, whole)["outcome"], minlength=4)
            self.sent += int(counts[Outcome.SENT])
            self.acknowledged += int(counts[Outcome.ACKNOWLEDGED])
            self.refused += int(counts[Outcome.REFUSED])
            self.unknown += int(counts[Outcome.UNKNOWN])
        return self
