"""Packets that wait for Kafka: what goes to the disk, who is answered, and in which order it all leaves."""

from __future__ import annotations

import asyncio
import errno
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from unittest import mock

import pytest
import uvloop

from infra.service.files import locked
from ingest.line import Packet
from ingest.pace import Pace
from ingest.spool import log as logs
from ingest.spool.log import SpoolError, folders
from ingest.spool.spool import Spool
from schemas.packets import decode
from schemas.reports import Report
from tests.ingest.memory import until
from tests.ingest.test_packing import PARTITIONS, POLICY, Bench, Waiting

AFTER = 0.05


def in_folder(test: Callable[[Path], Awaitable[None]]) -> Callable[[Path], None]:
    """Runs a test in an event loop, with an empty folder for the spools."""

    def run(tmp_path: Path) -> None:
        uvloop.run(cast(Any, test(tmp_path / "spool")))

    run.__name__ = test.__name__
    return run


class Process:
    """A collector's packing with its spool, over a Kafka that acknowledges when told."""

    def __init__(self, root: Path, writer: int, now_ms: int = 1_000_000, **overrides: Any) -> None:
        self.now_ms = now_ms
        limits = {"limit_bytes": 1 << 30, "limit_seconds": 86400.0, "segment_bytes": 4096} | overrides
        self.spool = Spool[Packet](root, writer, now_ms, now_ms=lambda: self.now_ms, **limits)
        self.announced: list[tuple[bytes, bytes]] = []
        self.bench = Bench(
            writer=writer,
            spool=self.spool,
            spool_after=AFTER,
            announce=lambda version, policies: self.announced.append((version, policies)),
            pace=Pace(1_000_000, 0.001, 0.001),
        )
        self.delivery = self.bench.delivery
        self.packing = self.bench.packing

    async def began(self) -> Process:
        await self.spool.search(again=False)
        self.tick()
        return self

    def add(self, partition: int, query: str) -> Waiting:
        return self.bench.add(partition, query=query)

    def tick(self) -> bool:
        self.packing.tick(60)
        self.spool.tick()
        return True

    def release(self) -> bool:
        self.delivery.release()
        return True

    async def settle(self, *waiting: Waiting) -> None:
        """Returns when all are answered."""
        await until(lambda: self.tick() and all(w.answers for w in waiting))
        assert [w.answers for w in waiting] == [["stored"]] * len(waiting)

    async def drain(self) -> None:
        """Kafka is there: returns when the spool is empty."""
        self.delivery.held = False
        await until(lambda: self.tick() and self.release() and not self.spool.packets)
        await until(lambda: self.tick() and self.packing.empty() and not self.spool.bytes)

    def log(self) -> dict[int, list[tuple[int, int, str]]]:
        """(writer, seq, query of the first event) of all that was sent, by partition."""
        found = defaultdict(list)
        for record in self.delivery.packets():
            head, columns = decode(record.value)
            assert record.partition is not None
            found[record.partition].append((head.writer, head.seq, columns.event(0).query))
        return found

    async def die(self) -> None:
        """As after a kill: nothing is said or tidied, and the locks are free."""
        await asyncio.sleep(0.01)
        for of in self.spool._logs:
            of.leave()


@in_folder
async def test_who_waits_is_answered_when_the_disk_has_it(root: Path) -> None:
    process = await Process(root, 7).began()
    first = process.add(0, "a")
    await until(process.bench.sent)
    second = process.add(0, "b")
    third = process.add(2, "c")
    await process.settle(first, second, third)
    assert process.bench.sent() == [(0, 0, 1)]
    assert process.packing.empty()
    assert process.spool.packets == 3
    late = process.add(0, "d")
    await process.settle(late)
    await process.drain()
    assert process.log() == {0: [(7, 0, "a"), (7, 1, "b"), (7, 2, "d")], 2: [(7, 0, "c")]}
    assert process.bench.books.events == 4
    assert process.packing.waiting == 0
    await process.spool.close()
    assert folders(root) == []


@in_folder
async def test_nothing_goes_to_the_disk_while_kafka_answers(root: Path) -> None:
    process = await Process(root, 7).began()
    process.delivery.held = False
    for number in range(50):
        await process.settle(process.add(number % PARTITIONS, str(number)))
        process.tick()
    assert process.spool.written == 0
    assert [path.name for folder in folders(root) for path in folder.iterdir()] == ["lock"]


@in_folder
async def test_the_next_process_sends_what_the_last_one_left_before_its_own(root: Path) -> None:
    dead = await Process(root, 7).began()
    for number in range(30):
        await dead.settle(dead.add(number % 3, f"old {number}"))
    await dead.die()
    heir = Process(root, 8)
    fresh = [heir.add(partition, "new") for partition in range(PARTITIONS)]
    await asyncio.sleep(0.02)
    assert heir.bench.sent() == []  # not before it has looked
    await heir.began()
    await until(lambda: heir.tick() and len(heir.bench.sent()) == PARTITIONS)
    heir.packing.publish(POLICY)
    await heir.drain()
    await heir.settle(*fresh)
    for partition in range(3):
        sent = [f"old {number}" for number in range(partition, 30, 3)]
        assert heir.log()[partition] == [(7, n, text) for n, text in enumerate(sent)] + [(8, 0, "new")]
    assert heir.log()[3] == [(8, 0, "new")]
    reports: list[Report] = [books.report(5) for books in heir.packing.inheritance.values()]
    assert [(r.writer, {p: (of.below, of.events) for p, of in r.partitions.items()}) for r in reports] == [
        (7, {0: (10, 10), 1: (10, 10), 2: (10, 10)})
    ]
    assert heir.bench.books.events == PARTITIONS
    await heir.spool.close()
    assert folders(root) == []


@in_folder
async def test_an_unknown_outcome_comes_back_after_two_hours_under_its_name_and_in_its_place(root: Path) -> None:
    """Kafka has the first packet, but its answer was lost; the process died, and the next one starts hours later."""
    dead = await Process(root, 7).began()
    first = dead.add(0, "stored, never acknowledged")
    await until(dead.bench.sent)
    await dead.settle(first, dead.add(0, "after it"))
    kept = dead.delivery.packets()[0].value
    await dead.die()
    heir = await Process(root, 8, now_ms=1_000_000 + 7_200_000).began()
    assert heir.spool.oldest_seconds() == 7200
    newer = heir.add(0, "newer")
    await heir.drain()
    await heir.settle(newer)
    assert [query for _, _, query in heir.log()[0]] == ["stored, never acknowledged", "after it", "newer"]
    assert heir.delivery.packets()[0].value == kept


@in_folder
async def test_a_long_queue_on_the_disk_is_joined_and_a_short_one_waited_for(root: Path) -> None:
    process = await Process(root, 7).began()
    waiting = [process.add(0, "x" * 15_000) for _ in range(100)]
    await process.settle(*waiting)
    written = process.spool.written
    assert written == 100
    process.delivery.release()
    last = process.add(0, "last")
    await process.settle(last)
    assert process.spool.written == written + 1  # behind more than a megabyte: at once
    await process.drain()
    short = process.add(0, "short")
    await process.settle(short)
    assert process.spool.written == written + 1
    assert [seq for _, seq, _ in process.log()[0]] == list(range(102))


@in_folder
async def test_versions_of_the_policies_are_announced_before_packets_that_name_them_leave(root: Path) -> None:
    dead = await Process(root, 7).began()
    dead.packing.adopt(b"q" * 16, b"the set of q")  # never published: Kafka is away
    await dead.settle(dead.add(0, "judged by q"))
    await dead.die()
    heir = await Process(root, 8).began()
    assert heir.announced == [(b"q" * 16, b"the set of q")]
    heir.delivery.held = False
    await asyncio.sleep(0.05)
    heir.tick()
    assert heir.bench.sent() == []
    heir.packing.publish(b"q" * 16)
    await heir.drain()
    assert heir.log() == {0: [(7, 0, "judged by q")]}


@in_folder
async def test_a_full_spool_takes_no_more_and_nothing_in_it_is_lost(root: Path) -> None:
    process = await Process(root, 7, limit_bytes=20_000).began()
    taken: list[Waiting] = []
    while process.spool.takes():
        taken.append(process.add(0, "x" * 1000))
        await process.settle(taken[-1])
    assert len(taken) == 40  # small ones count 512 bytes, for their place in memory
    assert process.spool.refusal() == "the spool is full"
    assert not process.packing.full()
    more = [process.add(0, random.randbytes(5000).hex()) for _ in range(40)]  # of a memory of 1 MB
    await asyncio.sleep(2 * AFTER)
    process.tick()
    assert process.packing.full()
    assert [w.answers for w in more] == [[]] * 40
    await process.drain()
    await process.settle(*more)
    assert [seq for _, seq, _ in process.log()[0]] == list(range(len(taken) + 40))
    assert not process.packing.full()


@in_folder
async def test_packets_that_are_too_old_close_the_spool_and_are_kept(root: Path) -> None:
    process = await Process(root, 7, limit_seconds=3600.0).began()
    await process.settle(process.add(0, "old"))
    process.now_ms += 3_599_000
    assert process.spool.takes()
    process.now_ms += 1000
    assert "too old" in process.spool.refusal()
    await process.drain()
    assert process.spool.takes()
    assert process.log() == {0: [(7, 0, "old")]}


@in_folder
async def test_a_write_that_fails_is_tried_again_and_nobody_is_answered_before(root: Path) -> None:
    process = await Process(root, 7).began()
    await process.settle(process.add(0, "before"))
    with failing_disk(errno.ENOSPC, "No space left on device"):
        waiting = process.add(0, "while full")
        await until(lambda: process.tick() and process.spool.problem)
        assert process.spool.refusal() == "the spool cannot be written: No space left on device"
        assert waiting.answers == []
    await process.settle(waiting)
    assert process.spool.takes()
    await process.die()
    heir = await Process(root, 8).began()
    await heir.drain()
    assert heir.log() == {0: [(7, 0, "before"), (7, 1, "while full")]}


@in_folder
async def test_kafka_comes_back_while_the_disk_fails(root: Path) -> None:
    process = await Process(root, 7).began()
    with failing_disk(errno.EIO, "Input/output error"):
        waiting = [process.add(0, "one"), process.add(1, "two")]
        await until(lambda: process.tick() and process.spool.problem)
        process.delivery.held = False
        await until(lambda: process.tick() and process.release() and all(w.answers for w in waiting))
    assert [w.answers for w in waiting] == [["stored"]] * 2
    await process.drain()
    assert sorted(process.bench.sent()) == [(0, 0, 1), (1, 0, 1)]
    await until(lambda: process.tick() and not list(root.glob("*/*.segment")))


@in_folder
async def test_bytes_that_the_disk_changed_cost_one_packet_and_are_counted(root: Path) -> None:
    dead = await Process(root, 7).began()
    for text in ("one", "two", "three"):
        await dead.settle(dead.add(0, text))
    await dead.die()
    (segment,) = [path for folder in folders(root) for path in folder.glob("*.segment")]
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    heir = await Process(root, 8).began()
    await heir.drain()
    assert [query for _, _, query in heir.log()[0]] == ["one", "three"]
    assert heir.spool.unreadable == 1


@in_folder
async def test_several_heirs_share_nothing(root: Path) -> None:
    for writer in (1, 2, 3):
        dead = await Process(root, writer, now_ms=writer).began()
        await dead.settle(dead.add(0, f"of {writer}"))
        await dead.die()
    heirs = [Process(root, writer) for writer in (11, 12)]
    await asyncio.gather(*(heir.began() for heir in heirs))
    for heir in heirs:
        await heir.drain()
    sent = [entry[0] for heir in heirs for entry in heir.log()[0]]
    assert sorted(sent) == [1, 2, 3]


@in_folder
async def test_memory_holds_a_position_per_packet_however_many_wait(root: Path) -> None:
    process = await Process(root, 7, segment_bytes=1 << 20).began()
    for number in range(200):
        await process.settle(process.add(0, f"{number} " + "x" * 10_000))
    assert process.packing.waiting < 20_000  # the one that is outstanding
    await process.die()
    heir = await Process(root, 8).began()
    heir.tick()
    await asyncio.sleep(0.05)
    assert sum(len(line.loaded) for line in heir.packing._lines) <= 4
    await heir.drain()
    assert [seq for _, seq, _ in heir.log()[0]] == list(range(200))


def test_a_folder_that_cannot_be_used_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def start() -> None:
        Process(tmp_path / "file" / "spool", 7)

    with pytest.raises(SpoolError, match="file/spool cannot be used: Not a directory"):
        asyncio.run(start())


@contextmanager
def failing_disk(code: int, text: str) -> Iterator[None]:
    """Every write of packets fails, after half of it."""
    write = logs._write

    def fail(file: int, data: bytes) -> None:
        write(file, data[: len(data) // 2])
        raise OSError(code, text)

    logs._write = fail
    try:
        yield
    finally:
        logs._write = write


@in_folder
async def test_what_is_being_written_when_the_process_stops_is_kept(root: Path) -> None:
    process = await Process(root, 7).began()
    waiting = process.add(0, "last")
    await asyncio.sleep(2 * AFTER)
    process.packing.tick(60)  # the batch is on its way to the disk
    await process.spool.close()
    heir = await Process(root, 8).began()
    await heir.drain()
    assert heir.log() == {0: [(7, 0, "last")]}
    await until(lambda: waiting.answers)


@in_folder
async def test_segments_are_deleted_while_others_are_written(root: Path) -> None:
    """Kafka takes partition 0 only, and the disk is written to in every turn."""
    process = await Process(root, 7).began()
    await process.settle(*(process.add(0, random.randbytes(3000).hex()) for _ in range(10)))
    first = min(root.glob("*/*.segment"))
    await until(lambda: busy(process) and not first.exists())


def busy(process: Process) -> bool:
    """A turn in which something is being written when the spool tidies up."""
    process.add(1, random.randbytes(10).hex())
    process.delivery.release(0)
    return process.tick()


@in_folder
async def test_a_folder_that_cannot_be_read_keeps_no_other_from_its_heir(root: Path) -> None:
    for writer in (1, 2, 3):
        dead = await Process(root, writer, now_ms=writer).began()
        await dead.settle(dead.add(0, f"of {writer}"))
        await dead.die()
    strange = folders(root)[1]
    (strange / f"{1 << 40:016x}.segment").mkdir()  # no file
    heir = await Process(root, 8).began()
    heir.delivery.held = False
    await until(lambda: heir.tick() and heir.release() and heir.packing.empty() and not heir.spool.packets)
    assert [query for _, _, query in heir.log()[0]] == ["of 1", "of 3"]
    (strange / f"{1 << 40:016x}.segment").rmdir()
    await heir.began()
    await heir.drain()
    assert [query for _, _, query in heir.log()[0]] == ["of 1", "of 3", "of 2"]


@in_folder
async def test_a_folder_that_could_not_be_made_is_made_when_there_is_room(root: Path) -> None:
    left = [1, 1]

    def full(path: Path) -> int | None:
        if left:
            left.pop()
            raise OSError(errno.ENOSPC, "No space left on device")
        return locked(path)

    with mock.patch("ingest.spool.log.locked", full):
        process = await Process(root, 7).began()
        await process.settle(process.add(0, "kept"))
    assert not left
    await process.drain()
    assert process.log() == {0: [(7, 0, "kept")]}


@in_folder
async def test_an_unreadable_packet_leaves_a_gap_in_the_books_and_nowhere_else(root: Path) -> None:
    process = await Process(root, 7).began()
    for number in range(12):  # the first of which are read ahead
        await process.settle(process.add(0, str(number)))
    (segment,) = root.glob("*/*.segment")
    data = bytearray(segment.read_bytes())
    data[len(data) * 3 // 4] ^= 1
    segment.write_bytes(data)
    await process.drain()
    assert process.spool.unreadable == 1
    (part,) = process.bench.books.report(0).partitions.values()
    assert (part.below, part.events) == (12, 12)
