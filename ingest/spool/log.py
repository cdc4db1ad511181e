"""The spool's files of one collector process: a folder that one living process holds, with segments and policies.

    <started, ms>-<writer, hex>/
        lock                     flock'ed by the process that writes or drains this folder
        <position, hex>.segment  records (`records`); the name is the position of the first byte
        <version, hex>.policies  the policy set that packets here name, as it goes to `site.policies`

Positions count bytes over all segments. A segment is deleted when all of its packets are acknowledged, the folder with
the last one. Files are readable by their owner only: until they are sealed they hold personal data.

Everything here blocks and belongs into a thread; one thread at a time writes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from crc32c import crc32c

from infra.service.files import locked, sync
from ingest.spool import records

LOCK, SEGMENT, POLICIES = "lock", ".segment", ".policies"
SEGMENTS, ALL_POLICIES = "[0-9a-f]" * 16 + SEGMENT, "[0-9a-f]" * 32 + POLICIES  # as glob patterns
HIDDEN = "."  # a folder that is being made
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class SpoolError(OSError):
    """The spool's folder cannot be used; the message names it."""


class Entry(NamedTuple):
    """A packet to be written. `before`: events of the partition in the writer's earlier packets."""

    partition: int
    value: bytes
    before: int


@dataclass(slots=True)
class Segment:
    """A file: size in bytes, packets in it that wait, and when the first was written (ms)."""

    size: int = 0
    waiting: int = 0
    since_ms: int = 0


@dataclass(slots=True)
class Contents:
    """What an inherited log holds: positions and bytes of waiting packets by partition, and what could not be read."""

    positions: dict[int, array[int]] = field(default_factory=dict)
    bytes: dict[int, int] = field(default_factory=dict)
    broken: int = 0  # bytes


class Spot(NamedTuple):
    """A segment, by its position, and an offset in it."""

    base: int
    offset: int


class Written(NamedTuple):
    """Where a batch lies: the segment's position and size after it, and the positions of the packets."""

    base: int
    size: int
    positions: list[int]


class Log:
    """One folder. `segments` by position, in rising order, is kept by whoever holds the log."""

    def __init__(self, folder: Path, writer: int, started_ms: int, lock: int) -> None:
        self.folder = folder
        self.writer = writer
        self.started_ms = started_ms
        self.segments: dict[int, Segment] = {}
        self._lock = lock
        self._policies: set[bytes] = set()
        self._file = -1  # the segment that is written to
        self._base = 0  # its position
        self._end = 0  # its bytes that are good
        self._next = 0  # position of the next segment

    # Making, finding, leaving

    @classmethod
    def create(cls, root: Path, writer: int, started_ms: int) -> Log:
        """A new folder, held by this process from its first moment; raises OSError."""
        name = f"{started_ms:013d}-{writer:016x}"
        root.mkdir(parents=True, exist_ok=True)
        making = root / f"{HIDDEN}{name}"
        making.mkdir(mode=0o700, exist_ok=True)  # it may be left of an attempt that failed
        lock = locked(making / LOCK)
        assert lock is not None  # nobody else knows the folder
        try:
            making.rename(root / name)
            sync(root)
        except OSError:
            os.close(lock)
            raise
        return cls(root / name, writer, started_ms, lock)

    @classmethod
    def inherit(cls, folder: Path) -> Log | None:
        """A folder whose process is gone, now held by this one; None when it is held, gone, or none of ours."""
        started, _, writer = folder.name.partition("-")
        try:
            log = cls(folder, int(writer, 16), int(started), -1)
            lock = locked(folder / LOCK)
        except (ValueError, FileNotFoundError, NotADirectoryError):
            return None
        if lock is None:
            return None
        # Whoever held it may have deleted it after it was opened here.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(lock), os.stat(folder / LOCK)):
                log._lock = lock
                return log
        os.close(lock)
        return None

    def read_all(self) -> Contents:
        """Looks through the segments of an inherited log."""
        contents = Contents()
        for base in sorted(int(path.stem, 16) for path in self.folder.glob(SEGMENTS)):
            segment = self.segments[base] = Segment()
            with _opened(self._path(base)) as file:
                segment.size = os.fstat(file).st_size
                for found in records.scan(file):
                    if isinstance(found, records.Broken):
                        contents.broken += found.size
                        continue
                    offset, head = found
                    if head.state != records.WAITS:
                        continue
                    segment.waiting += 1
                    segment.since_ms = segment.since_ms or head.written_ms
                    contents.positions.setdefault(head.partition, array("Q")).append(base + offset)
                    contents.bytes[head.partition] = contents.bytes.get(head.partition, 0) + head.length
            self._next = base + segment.size
        return contents

    def policies(self) -> dict[bytes, bytes]:
        """The policy sets that packets here name, by version; one that is not whole was never needed."""
        found = {}
        for path in self.folder.glob(ALL_POLICIES):
            data = path.read_bytes()
            if len(data) > 4 and crc32c(data[4:]) == int.from_bytes(data[:4], "little"):
                found[bytes.fromhex(path.stem)] = data[4:]
        return found

    def remove(self) -> None:
        """Deletes the folder and lets go of it."""
        for path in sorted(self.folder.iterdir(), key=lambda path: path.name == LOCK):  # the lock last
            path.unlink()
        self.folder.rmdir()
        self._let_go()

    def leave(self) -> None:
        """Lets go of the folder; the packets in it are the next process's. Without any it is deleted."""
        if self._lock >= 0 and not any(self.folder.glob(SEGMENTS)):
            self.remove()
        else:
            self._let_go()

    # Writing

    def keep(self, version: bytes, policies: bytes) -> None:
        """Keeps a policy set beside the packets that name it, before they are written."""
        if version not in self._policies:
            path = self.folder / (version.hex() + POLICIES)
            with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
                _write(file, crc32c(policies).to_bytes(4, "little") + policies)
                os.fsync(file)
            sync(self.folder)
            self._policies.add(version)

    def append(self, entries: Sequence[Entry], now_ms: int, segment_bytes: int) -> Written:
        """Writes packets and returns when they are on the disk.

        Raises OSError, after which none of them counts as written: the segment ends where the last batch did, and the
        next one begins a new segment, as nobody knows what a disk kept of a failed write.
        """
        if self._file < 0 or self._end >= segment_bytes:
            self._begin()
        pieces: list[bytes] = []
        positions: list[int] = []
        at = self._base + self._end
        for partition, value, before in entries:
            positions.append(at)
            pieces += (records.encode(partition, value, now_ms, before), value)
            at += records.HEAD_BYTES + len(value)
        try:
            _write(self._file, b"".join(pieces))
            os.fdatasync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            self._abandon()
            raise
        self._end = at - self._base
        return Written(self._base, self._end, positions)

    def mark(self, base: int, offsets: Iterable[int]) -> None:
        """Notes in place that packets are acknowledged. Nothing is waited for: a lost mark makes a second copy only."""
        with _opened(self._path(base), os.O_WRONLY) as file:
            for offset in offsets:
                os.pwrite(file, bytes([records.ACKNOWLEDGED]), offset + records.STATE_OFFSET)

    def drop(self, base: int) -> None:
        """Deletes a segment."""
        if base == self._base:
            self._close()
        self._path(base).unlink(missing_ok=True)

    # Reading

    def read(self, spots: Sequence[Spot]) -> list[tuple[records.Head, bytes] | None]:
        """The records there, None for one that is not what was written."""
        with contextlib.ExitStack() as stack:
            files = {base: stack.enter_context(_opened(self._path(base))) for base in {spot.base for spot in spots}}
            return [records.read(files[base], offset) for base, offset in spots]

    def spot(self, position: int) -> Spot:
        """Where a position lies; to be asked by the holder of `segments`."""
        bases = list(self.segments)
        base = bases[bisect_right(bases, position) - 1]
        return Spot(base, position - base)

    # Inside

    def _let_go(self) -> None:
        self._close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _path(self, base: int) -> Path:
        return self.folder / f"{base:016x}{SEGMENT}"

    def _begin(self) -> None:
        self._close()
        base = self._next
        self._file = os.open(self._path(base), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._base, self._end = base, 0
        try:
            sync(self.folder)
        except OSError:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Ends a segment that was not written as it should; nobody knows of one in which nothing is good."""
        if not self._end:
            with contextlib.suppress(OSError):
                self._path(self._base).unlink()
        self._close()

    def _close(self) -> None:
        if self._file >= 0:
            # A failed write may have left more than what is good, and the next position must lie behind it.
            self._next = self._base + max(os.fstat(self._file).st_size, self._end, 1)
            os.close(self._file)
            self._file = -1


def folders(root: Path) -> list[Path]:
    """The folders of all processes, the one that started first leading."""
    try:
        return sorted(path for path in root.iterdir() if not path.name.startswith(HIDDEN) and path.is_dir())
    except FileNotFoundError:
        return []


def _write(file: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


@contextlib.contextmanager
def _opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    file = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield file
    finally:
        os.close(file)
