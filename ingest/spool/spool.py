"""The spool as the collector sees it: its own log, and the logs of processes that are gone, until they are drained.

Lives in the event loop. What blocks happens in two threads: one writes, marks and deletes, in the order asked for; one
reads. A batch of packets is written at once and costs one wait for the disk. A write that fails is tried again with the
same packets until it succeeds; meanwhile the spool takes no more.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from infra.service.logs import describe, logger
from ingest.spool.log import NO_ROOM, Contents, Entry, Log, Segment, SpoolError, Spot, Written, folders
from ingest.spool.records import HEAD_BYTES

log = logger(__name__)
T = TypeVar("T")

SEGMENT_BYTES = 16 << 20
BATCH_BYTES = 8 << 20  # of packets that are written at once
RETRY_SECONDS = 1.0  # between attempts to write after one failed
LOOK_SECONDS = 5.0  # between looks for logs whose process is gone
LEAST_BYTES = 512  # that a packet counts at least, so that the index in memory (8 bytes each) is bounded too


class Place(NamedTuple):
    """Where a packet lies."""

    log: Log
    position: int


class Waiting(Protocol):
    """A packet as the spool sees it; see `line.Packet`."""

    @property
    def partition(self) -> int: ...
    @property
    def value(self) -> bytes: ...
    @property
    def before(self) -> int: ...
    @property
    def policy(self) -> bytes: ...
    @property
    def policies(self) -> bytes: ...


P = TypeVar("P", bound=Waiting)
Given = TypeVar("Given", bound=Waiting, contravariant=True)


class Owner(Protocol[Given]):
    """Who is told; always in a later turn of the loop."""

    def spooled(self, packet: Given, place: Place) -> None:
        """The packet is on the disk. Packets are told in the order in which they were given."""

    def loaded(self, partition: int, place: Place, value: bytes | None, before: int) -> None:
        """What `load` asked for; None: the bytes on the disk are not those that were written."""

    def inherited(self, log: Log, contents: Contents, policies: dict[bytes, bytes]) -> None:
        """Packets of a process that is gone, to be sent before any newer one."""


class Spool(Generic[P]):
    """See the module. `search` finds the logs left behind; before its first look is over nothing should be sent."""

    def __init__(
        self,
        root: Path,
        writer: int,
        started_ms: int,
        *,
        limit_bytes: int,
        limit_seconds: float,
        segment_bytes: int = SEGMENT_BYTES,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Raises SpoolError: no usable folder."""
        self.problem = ""  # why nothing can be written now
        self.bytes = 0  # of all segments
        self.packets = 0  # on the disk and not acknowledged
        self.written = 0  # packets since the start
        self.drained = 0  # packets acknowledged since the start
        self.unreadable = 0  # packets whose bytes were not those that were written
        self.searched = False  # the first look for logs left behind is over
        self._root = root
        self._writer = writer
        self._started_ms = started_ms
        self._limit_bytes = limit_bytes
        self._limit_seconds = limit_seconds
        self._segment_bytes = segment_bytes
        self._now_ms = now_ms
        self._owner: Owner[P] | None = None
        self._loop = asyncio.get_running_loop()
        self._writing = ThreadPoolExecutor(1, "spool-write")
        self._reading = ThreadPoolExecutor(1, "spool-read")
        self._queue: deque[P] = deque()
        self._queued = 0  # bytes
        self._batch: list[P] = []  # being written
        self._reads = 0  # under way
        self._closed = False
        self._own: Log | None = None
        self._logs: list[Log] = []  # all that are held
        self._marks: dict[tuple[Log, int], list[int]] = {}  # offsets by segment
        try:
            self._open()
        except OSError as error:
            if error.errno not in NO_ROOM:  # a disk may be full now and not when the spool is needed
                raise SpoolError(f"the spool's folder {root} cannot be used: {error.strerror}") from None

    def attach(self, owner: Owner[P]) -> None:
        """Who is told from now on."""
        self._owner = owner

    # Asked by the owner

    def takes(self) -> bool:
        """Whether packets may be given: there is room, nothing failed, nothing is too old."""
        return not self.refusal()

    def refusal(self) -> str:
        """Why packets may not be given; "" when they may."""
        if self.problem:
            return self.problem
        counted = max(self.bytes, self.packets * LEAST_BYTES) + self._queued
        if counted >= self._limit_bytes:
            return "the spool is full"
        if self.oldest_seconds() >= self._limit_seconds:
            return "the spool holds packets that are too old"
        return ""

    def append(self, packets: Iterable[P]) -> None:
        """Writes packets, in this order; `spooled` is told of each."""
        for packet in packets:
            self._queue.append(packet)
            self._queued += HEAD_BYTES + len(packet.value)
        self._write()

    @property
    def loading(self) -> bool:
        """Whether a `load` is under way."""
        return self._reads > 0

    def load(self, places: Sequence[tuple[int, Place]]) -> None:
        """Reads packets, each given with its partition; `loaded` is told of each, in this order."""
        self._reads += 1
        by_log: dict[Log, list[tuple[Place, Spot]]] = {}
        for _, place in places:
            by_log.setdefault(place.log, []).append((place, place.log.spot(place.position)))

        def read() -> dict[Place, tuple[bytes, int] | None]:
            found: dict[Place, tuple[bytes, int] | None] = {}
            for of, wanted in by_log.items():
                for (place, _), record in zip(wanted, of.read([spot for _, spot in wanted]), strict=True):
                    found[place] = record and (record[1], record[0].before)
            return found

        def done(found: dict[Place, tuple[bytes, int] | None]) -> None:
            self._reads -= 1
            for partition, place in places:
                record = found[place]
                if record is None:
                    self.unreadable += 1
                    log.error("spooled_packet_unreadable", folder=place.log.folder.name, partition=partition)
                self._told.loaded(partition, place, *(record or (None, 0)))

        def failed(error: BaseException) -> None:
            # Tried again when it is next asked for: a disk that cannot be read now may be later.
            log.error("spool_read_failed", **describe(error))
            self._loop.call_later(RETRY_SECONDS, again)

        def again() -> None:
            self._reads -= 1
            if not self._closed:
                self.load(places)

        self._run(self._reading, read, done, failed)

    def acknowledged(self, place: Place) -> None:
        """Kafka has this packet."""
        base, offset = place.log.spot(place.position)
        place.log.segments[base].waiting -= 1
        self.packets -= 1
        self.drained += 1
        self._marks.setdefault((place.log, base), []).append(offset)

    def tick(self) -> None:
        """Called a few times a second: notes what was acknowledged, and deletes what nobody waits for."""
        marks, self._marks = self._marks, {}
        for of in list(self._logs):
            empty = [base for base, segment in of.segments.items() if not segment.waiting]
            if of is self._own and self._batch and empty and empty[-1] == max(of.segments):
                empty.pop()  # the batch may be on its way into it
            for base in empty:
                self.bytes -= of.segments.pop(base).size
                marks.pop((of, base), None)
                self._later(partial(of.drop, base))
            if of is not self._own and not of.segments:
                self._logs.remove(of)
                self._later(of.remove)
                log.info("spool_drained", folder=of.folder.name)
        for (of, base), offsets in marks.items():
            self._later(partial(of.mark, base, offsets))

    def oldest_seconds(self) -> float:
        """Seconds since the oldest packet on the disk was written, to the accuracy of a segment; 0.0 without one."""
        since = [s.since_ms for of in self._logs for s in of.segments.values() if s.waiting]
        return max(self._now_ms() - min(since), 0) / 1000 if since else 0.0

    async def search(self, *, again: bool = True) -> None:
        """Takes over the logs of processes that are gone, now and, with `again`, for ever."""
        while True:
            try:
                for of, contents, policies in await asyncio.to_thread(self._inherit):
                    self._take_over(of, contents, policies)
            except OSError as error:
                log.error("spool_search_failed", **describe(error))
            self.searched = True
            if not again:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def close(self) -> None:
        """Lets go of all logs, when what is being written is on the disk; what is in them is for the next process."""
        if self._closed:
            return
        self._closed = True
        self.tick()
        await self._loop.run_in_executor(self._writing, _leave, self._logs)
        self._writing.shutdown(wait=False)
        self._reading.shutdown(wait=False)

    # Inside

    @property
    def _told(self) -> Owner[P]:
        assert self._owner is not None
        return self._owner

    def _open(self) -> Log:
        if self._own is None:
            self._own = Log.create(self._root, self._writer, self._started_ms)
            self._logs.append(self._own)
        return self._own

    def _write(self) -> None:
        if self._batch or not self._queue or self._closed:
            return
        size = 0
        while self._queue and size < BATCH_BYTES:
            packet = self._queue.popleft()
            self._batch.append(packet)
            size += len(packet.value)
        self._try()

    def _try(self) -> None:
        entries = [Entry(packet.partition, packet.value, packet.before) for packet in self._batch]
        policies = {packet.policy: packet.policies for packet in self._batch}
        now_ms = self._now_ms()

        def write() -> tuple[Log, Written]:
            own = self._open()
            for version, data in policies.items():
                own.keep(version, data)
            return own, own.append(entries, now_ms, self._segment_bytes)

        def done(result: tuple[Log, Written]) -> None:
            own, written = result
            self.problem = ""
            batch, self._batch = self._batch, []
            segment = own.segments.setdefault(written.base, Segment(since_ms=now_ms))
            self.bytes += written.size - segment.size
            segment.size = written.size
            segment.waiting += len(batch)
            self.packets += len(batch)
            self.written += len(batch)
            self._queued -= sum(HEAD_BYTES + len(packet.value) for packet in batch)
            for packet, position in zip(batch, written.positions, strict=True):
                self._told.spooled(packet, Place(own, position))
            self._write()

        def failed(error: BaseException) -> None:
            self._write_failed(error)
            if not self._closed:
                self._loop.call_later(RETRY_SECONDS, self._try)

        self._run(self._writing, write, done, failed)

    def _later(self, work: Callable[[], None]) -> None:
        def failed(error: BaseException) -> None:
            # Not tried again: what stays on the disk makes second copies, which are told by their names.
            log.error("spool_tidying_failed", **describe(error))

        self._run(self._writing, work, lambda _: None, failed)

    def _write_failed(self, error: BaseException) -> None:
        why = (isinstance(error, OSError) and error.strerror) or type(error).__name__
        problem = f"the spool cannot be written: {why}"
        if problem != self.problem:
            self.problem = problem
            log.error("spool_write_failed", problem=problem)

    def _inherit(self) -> list[tuple[Log, Contents, dict[bytes, bytes]]]:
        found = []
        held = {of.folder for of in self._logs}
        for folder in folders(self._root):
            if folder not in held and (of := Log.inherit(folder)) is not None:
                try:
                    found.append((of, of.read_all(), of.policies()))
                except OSError as error:
                    # Tried again at the next look; the others must not wait for it.
                    log.error("spool_not_read", folder=folder.name, **describe(error))
                    of.leave()
        return found

    def _take_over(self, of: Log, contents: Contents, policies: dict[bytes, bytes]) -> None:
        self._logs.append(of)
        packets = sum(map(len, contents.positions.values()))
        self.packets += packets
        self.bytes += sum(segment.size for segment in of.segments.values())
        (log.warning if contents.broken else log.info)(
            "spool_inherited", folder=of.folder.name, packets=packets, broken_bytes=contents.broken
        )
        self._told.inherited(of, contents, policies)

    def _run(
        self,
        pool: ThreadPoolExecutor,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        def ended(future: asyncio.Future[T]) -> None:
            if future.cancelled():
                return
            error = future.exception()
            if error is None:
                done(future.result())
            else:
                failed(error)

        self._loop.run_in_executor(pool, work).add_done_callback(ended)


def _leave(logs: Sequence[Log]) -> None:
    for of in logs:
        of.leave()
