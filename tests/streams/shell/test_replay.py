"""A worker that was stopped anywhere and started again writes the same tables, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from infra.service.clickhouse import Client
from schemas.reasons import Repeated
from streams.batch import Record
from streams.patience import Patience
from streams.pipeline import Pipeline
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import DUMPS, dump, events, packets, with_repeats

EVENTS = 2_000
SHORT = 12  # holes in the short run
PARTITIONS = (0, 1)
BATCH = 24  # records


@dataclass(frozen=True)
class Hole:
    """What a stop left behind: all before `batch`, of it the rows of `tables` but for one row."""

    batch: int
    tables: tuple[str, ...]
    missing: tuple[str, int, int, int] | None = None  # table, partition, offset, index

    def __str__(self) -> str:
        if self.missing is None:
            return f"batch {self.batch}: {', '.join(self.tables) or 'nothing'}"
        return "batch {}: without row {} {}/{}/{}".format(self.batch, *self.missing)


def stream() -> list[list[Record]]:
    """Batches of two partitions' records; bad records and second copies among them."""
    records: list[list[Record]] = []
    for partition in PARTITIONS:
        found = with_repeats(events(EVENTS // len(PARTITIONS), seed=partition))
        values = packets(found, writer=7 + partition)
        values.insert(10, values[4])  # a second copy
        values.insert(20, b"no packet")
        records.append(
            [
                Record(partition, offset, 1, found[0].received_ms + 500 * offset, value)
                for offset, value in enumerate(values)
            ]
        )
    mixed = [record for pair in zip(*records, strict=True) for record in pair]
    return [mixed[at : at + BATCH] for at in range(0, len(mixed), BATCH)]


class Replay:
    """A finished run, kept aside, and the way back to any moment of it."""

    def __init__(self, client: Client, make_pipeline: MakePipeline) -> None:
        self.client = client
        self.pipeline = make_pipeline()
        self.batches = stream()
        run(self.pipeline, self.batches)
        self.tables = dump(client)
        self.epoch = count(1)
        for table in DUMPS:
            client.command(f"CREATE TABLE whole_{table} AS {table}")
            client.command(f"INSERT INTO whole_{table} SELECT * FROM {table}")

    def holes(self) -> Iterator[Hole]:
        """A stop at every boundary, between the tables of every batch, and with every single row missing."""
        for batch, records in enumerate(self.batches):
            yield from (Hole(batch, DUMPS[:n]) for n in range(len(DUMPS)))
            places = {(record.partition, record.offset) for record in records}
            for n, table in enumerate(DUMPS):
                rows = self.tables[table]
                index = rows["index"] if table != "packets" else rows["kind"]
                names = zip(*(column.to_pylist() for column in (rows["partition"], rows["offset"], index)), strict=True)
                for partition, offset, at in names:
                    if (partition, offset) in places:
                        yield Hole(batch, DUMPS[: n + 1], (table, partition, offset, at))

    def tear(self, hole: Hole) -> None:
        """Make the tables what the stop left behind."""
        before = self.places(range(hole.batch))
        within = self.places([hole.batch])
        for table in DUMPS:
            self.client.command(f"TRUNCATE TABLE {table}")
            kept = before
            if table in hole.tables:
                kept = f"({before}) OR ({within})"
            if hole.missing is not None and hole.missing[0] == table:
                _, partition, offset, index = hole.missing
                name = "" if table == "packets" else f" AND `index` = {index}"
                kept = f"({kept}) AND NOT (`partition` = {partition} AND `offset` = {offset}{name})"
            self.client.command(f"INSERT INTO {table} SELECT * FROM whole_{table} WHERE {kept}")

    def places(self, batches: Sequence[int] | range) -> str:
        """The SQL of being in these batches."""
        found = []
        for partition in PARTITIONS:
            offsets = [r.offset for batch in batches for r in self.batches[batch] if r.partition == partition]
            if offsets:
                found.append(f"(`partition` = {partition} AND `offset` BETWEEN {min(offsets)} AND {max(offsets)})")
        return " OR ".join(found) or "0"

    def again(self) -> dict[str, pa.Table]:
        """What the tables become when a new worker takes over and reads to the end."""
        old = self.pipeline
        fresh = Pipeline(old.client, old.topic, old.generation, old.lookups, Patience())
        wanted = fresh.assign(dict.fromkeys(PARTITIONS, 0))
        rest = [r for batch in self.batches for r in batch if r.offset >= wanted[r.partition]]
        middle = len(rest) // 3
        run(fresh, [rest[:middle], rest[middle:]])
        for partition in PARTITIONS:
            assert fresh.partitions[partition].state == old.partitions[partition].state
        return dump(self.client)


def run(pipeline: Pipeline, batches: Sequence[Sequence[Record]]) -> None:
    """Feed the batches; all of them are taken."""
    if not pipeline.partitions:
        pipeline.assign(dict.fromkeys(PARTITIONS, 0))
    for batch in batches:
        turn = pipeline.run(batch)
        assert not turn.back
        for record in batch:
            assert turn.done[record.partition] > record.offset


@pytest.fixture
def replay(client: Client, make_pipeline: MakePipeline) -> Replay:
    """The finished run of the whole stream."""
    return Replay(client, make_pipeline)


def check(replay: Replay, holes: Sequence[Hole]) -> None:
    assert replay.tables["events"].num_rows > 0.8 * EVENTS
    assert replay.tables["rejects"].num_rows > 0
    assert all(pc.sum(replay.tables["packets"][f"repeats_{reason}"]).as_py() > 20 for reason in Repeated)
    kinds = replay.tables["packets"]["kind"].to_pylist()
    assert {kinds.count(kind) for kind in (2, 3)} == {len(PARTITIONS)}
    for hole in holes:
        replay.tear(hole)
        found = replay.again()
        for table in DUMPS:
            assert found[table].equals(replay.tables[table]), f"{hole}: table {table} came out differently"


def test_stopped_with_a_hole(replay: Replay) -> None:
    every = list(replay.holes())
    boundaries = [hole for hole in every if hole.missing is None]
    single = [hole for hole in every if hole.missing is not None]
    draw = random.Random(1)
    check(replay, draw.sample(boundaries, SHORT // 4) + draw.sample(single, SHORT - SHORT // 4))


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_stopped_everywhere(replay: Replay) -> None:
    check(replay, list(replay.holes()))


@pytest.mark.long
def test_the_cut_into_batches_does_not_matter(replay: Replay) -> None:
    replay.tear(Hole(0, ()))
    fresh = Pipeline(
        replay.pipeline.client, replay.pipeline.topic, replay.pipeline.generation, replay.pipeline.lookups, Patience()
    )
    run(fresh, [[record] for batch in replay.batches[:4] for record in batch])
    run(fresh, [[record for batch in replay.batches[4:] for record in batch]])
    found = dump(replay.client)
    for table in DUMPS:
        assert found[table].equals(replay.tables[table])
