"""Replaying rejects: what was not understood runs through today's stages, while its packet is still in the log.

The one exception to the floor. Under the partition's epoch (which its worker loses, and takes again afterwards) the
packet is opened and processed with the state before its place; of its events only those are stored whose names stand
in `rejects`. Then a row for each in `rejects_replayed` corrects the books. Cut off anywhere and done again it is exact:
rows that stand are not inserted again, and a name that has its correction is not looked at.

A row gets the visit that it would have had; rows after it stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from kafka import KafkaConsumer, TopicPartition

from infra.service.clickhouse import Client, insert_if, quote
from schemas.reasons import Rejected
from schemas.tables import EVENTS
from streams.batch import Record, process
from streams.lookups import Shelf
from streams.ownership import Claim, Ownership
from streams.restart import state_before, stored_repeats, stored_visits
from streams.state import PartitionState
from streams.surroundings import RepeatsMissing, Surroundings, VisitsMissing

TRIES = 5  # at a partition that is taken away meanwhile
NO_EVENTS = (Rejected.BAD_PACKET, Rejected.KEY_DESTROYED)  # a whole packet, of which nobody knows the events
_NAME = ("writer", "partition", "seq", "index", "generation", "offset")
_CORRECTIONS = pa.schema([EVENTS.field(name) for name in _NAME])


class ReplayError(RuntimeError):
    """The replay cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """Numbers of rejects: stored now, rejected or left out by the rules again, and those whose packet left the log."""

    stored: int = 0
    again: int = 0
    gone: int = 0


class Replay:
    """`topic` as on the broker; `generation` of its current id."""

    def __init__(self, client: Client, servers: str, topic: str, generation: int, shelf: Shelf) -> None:
        self._client = client
        self._servers = servers.split(",")
        self._topic = topic
        self._generation = generation
        self._shelf = shelf
        self._ownership = Ownership(client, topic)

    def run(self, *, reason: str = "", site: int | None = None, store: bool = True) -> Replayed:
        """Replays what was rejected for a reason (any) at a site (all); without `store` only tells what would be."""
        total = Replayed()
        for partition, offsets in self._wanted(reason, site).items():
            records = self._records(partition, sorted(offsets))
            gone = sum(len(indexes) for offset, indexes in offsets.items() if offset not in records)
            total = Replayed(total.stored, total.again, total.gone + gone)
            claim = self._claim(partition) if store and records else None
            for offset, record in records.items():
                rows = self._rows(record, offsets[offset])
                if claim is not None and rows.num_rows:
                    claim = self._store(rows, claim)
                stored = rows.num_rows
                total = Replayed(total.stored + stored, total.again + len(offsets[offset]) - stored, total.gone)
        return total

    def _wanted(self, reason: str, site: int | None) -> dict[int, dict[int, set[int]]]:
        """Indexes of rejects by partition and offset."""
        without = ", ".join(quote(text) for text in NO_EVENTS)
        where = f"generation = {self._generation} AND reason NOT IN ({without})"
        where += f" AND reason = {quote(reason)}" if reason else ""
        where += f" AND site_id = {site}" if site is not None else ""
        rows = self._client.query(
            f"SELECT DISTINCT `partition`, `offset`, `index` FROM rejects WHERE {where} "
            "AND (writer, `partition`, seq, `index`) NOT IN "
            "(SELECT writer, `partition`, seq, `index` FROM rejects_replayed)"
        ).result_rows
        found: dict[int, dict[int, set[int]]] = {}
        for partition, offset, index in rows:
            found.setdefault(int(partition), {}).setdefault(int(offset), set()).add(int(index))
        return found

    def _records(self, partition: int, offsets: Sequence[int]) -> dict[int, Record]:
        """Those that the log still has."""
        place = TopicPartition(self._topic, partition)
        consumer = KafkaConsumer(bootstrap_servers=self._servers, group_id=None, enable_auto_commit=False)
        found: dict[int, Record] = {}
        try:
            consumer.assign([place])
            (start,) = consumer.beginning_offsets([place]).values()
            for offset in offsets:
                if offset < start:
                    continue
                consumer.seek(place, offset)
                while consumer.position(place) <= offset:
                    for batch in consumer.poll(timeout_ms=1000, max_records=1).values():
                        for r in batch:
                            if r.offset == offset:
                                found[offset] = Record(partition, offset, self._generation, r.timestamp, r.value or b"")
        finally:
            consumer.close()
        return found

    def _rows(self, record: Record, indexes: set[int]) -> pa.Table:
        """The rows of those events of a packet that are understood now."""
        state = state_before(self._client, record.partition, self._generation, record.offset)
        events = self._processed(record, state)
        keep = np.isin(events["index"].to_numpy(), np.array(sorted(indexes), np.uint32))
        return events.filter(pa.array(keep))

    def _processed(self, record: Record, state: PartitionState) -> pa.Table:
        fetched: set[str] = set()
        while True:
            try:
                return process([record], {record.partition: state}, self._shelf).events
            except Surroundings as missing:
                if str(missing) in fetched:
                    raise ReplayError(str(missing)) from None
                fetched.add(str(missing))
                if isinstance(missing, RepeatsMissing):
                    self._shelf.hold(missing.asked, stored_repeats(self._client, missing.asked))
                elif isinstance(missing, VisitsMissing):
                    self._shelf.hold_visits(missing.asked, stored_visits(self._client, missing.asked))
                else:
                    self._shelf.fetch(missing)

    def _claim(self, partition: int) -> Claim:
        for _ in range(TRIES):
            if found := self._ownership.claim([partition]):
                return found[partition]
        raise ReplayError(f"partition {partition} is taken away each time; try again")

    def _store(self, rows: pa.Table, claim: Claim) -> Claim:
        """Inserts rows and their corrections; returns the claim under which they stand."""
        for _ in range(TRIES):
            condition, query_id = self._ownership.condition([claim]), self._ownership.query_id
            missing = self._not_stored(rows, claim.partition)
            fine = not missing.num_rows or (
                insert_if(self._client, "events", missing, condition, query_id=query_id([claim])) == missing.num_rows
            )
            names = pa.table({name: rows[name] for name in _NAME}, _CORRECTIONS)
            if (
                fine
                and insert_if(self._client, "rejects_replayed", names, condition, query_id=query_id([claim]))
                == rows.num_rows
            ):
                return claim
            claim = self._claim(claim.partition)
        raise ReplayError(f"partition {claim.partition} is taken away each time; try again")

    def _not_stored(self, rows: pa.Table, partition: int) -> pa.Table:
        offset = rows["offset"][0].as_py()
        there = self._client.query(
            f"SELECT `index` FROM events WHERE `partition` = {partition} AND generation = {self._generation} "
            f"AND `offset` = {offset}"
        ).result_rows
        stored = np.array([int(index) for (index,) in there], np.uint32)
        return rows.filter(pa.array(~np.isin(rows["index"].to_numpy(), stored)))
