"""From Kafka's records to ClickHouse's rows, exactly once. The protocol, in the order in which the code runs it:

On assignment (`assign`)
 1. The topic's current id is the one that this process began with; otherwise the process must begin anew. Each id
    has a generation, the first part of every place.
 2. A partition whose claim is still the highest keeps its state. Others are claimed: a pair (epoch + 1, random owner)
    is added to `ownership` and read back. The highest pair owns; who does not own leaves the partition alone.
 3. Inserts that run under lower pairs are ended, and waited for.
 4. The restart offset is the lowest offset of this generation, at or above the log's start, without a row in
    `packets`. What is stored from there on is read back, the state before it is built from rows, and the partition is
    read from there, whatever was committed.

Per batch (`run`)
 5. The topic's id is still the same, so the records, fetched before, are of this generation.
 6. Of each partition the records that continue it without a gap are taken; those before are stored already, and where
    one is missing the partition is set back.
 7. The core turns packets into rows. What is missing around it is fetched, among it the identities and the visits of
    events so late that memory does not reach back to them; a partition that still misses it waits.
 8. A partition with too many internal errors stops, with an alarm, before anything of the batch is stored.
 9. Rows that are stored already are dropped. The rest is inserted, events, then rejects, then packets, each under the
    condition that all claims of the batch are still the highest; an insert that wrote fewer rows than were sent is
    fenced or unknown, never stored.
10. After a fenced insert ownership is read, after an error the partitions are claimed anew (so that the insert can't
    land later); what was lost is dropped, what stands is read back, the rest is inserted, with back-off, for ever.
11. Only when all counts hold, state changes take effect and the offsets are done, in order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow.compute as pc

from infra.service.clickhouse import Client
from infra.service.logs import logger
from infra.service.vault import VaultError
from schemas.reasons import Rejected, Repeated
from schemas.tables import PacketKind
from streams import metrics
from streams.batch import Begun, Outcome, Record, process
from streams.lookups import Shelf
from streams.ownership import Ownership
from streams.partitions import Life, Partition
from streams.patience import Patience
from streams.restart import restart, state_before, stored_repeats, stored_visits
from streams.sink import ERRORS, Rows, Sink
from streams.stored import Stored, read_back
from streams.surroundings import RepeatsMissing, SiteKeyMissing, Surroundings, VisitsMissing
from streams.topic_generations import KafkaError
from streams.upkeep import Upkeep

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a batch came to. done: partition -> offset below which all is stored. back: partitions whose records don't
    continue at the offset that is wanted, which is given. events: how many were processed."""

    done: Mapping[int, int]
    back: Mapping[int, int]
    events: int = 0


@dataclass(slots=True)
class Pipeline:
    """For one thread. `same_topic` raises TopicReplaced when the topic has another id than that of `generation`."""

    client: Client
    topic: str
    generation: int
    lookups: Shelf
    patience: Patience = field(default_factory=Patience)
    same_topic: Callable[[], None] = lambda: None
    upkeep: Upkeep | None = None
    partitions: dict[int, Partition] = field(default_factory=dict)
    ownership: Ownership = field(init=False)
    sink: Sink = field(init=False)

    def __post_init__(self) -> None:
        self.ownership = Ownership(self.client, self.topic)
        self.sink = Sink(self.client, self.ownership, self.generation, self.patience)

    def assign(self, starts: Mapping[int, int]) -> dict[int, int]:
        """Take over partitions, given with the log's start of each; raises Stopping, TopicReplaced.

        Returns the offset to read next of each that is running. One that was running and still is keeps its state; one
        that is lost is claimed, so call it again, after a while, for those that are missing in the answer.
        """
        self.patience.insist("kafka", self.same_topic, KafkaError)
        for number in starts:
            self.partitions.setdefault(number, Partition(number))
        mine = [self.partitions[number] for number in starts if self.partitions[number].life is not Life.STOPPED]
        running = self.patience.insist("clickhouse", lambda: self._keep_or_claim(mine, starts), *ERRORS)
        self._count()
        return running

    def run(self, records: Sequence[Record]) -> Turn:
        """Store a batch; raises Stopping, TopicReplaced. Any other exception is a defect."""
        started = time.monotonic()
        self.patience.insist("kafka", self.same_topic, KafkaError)
        batch, back = self._continued(records)
        received = 0
        for part, outcome in self._processed(batch):
            received += self._store(part, outcome)
        self._count()
        if batch:
            metrics.batches.inc()
            metrics.batch_events.observe(received)
            metrics.batch_seconds.observe(time.monotonic() - started)
        return Turn(self.running(), back, received)

    def running(self) -> dict[int, int]:
        """The offset to read next of each partition that is running; any thread may ask."""
        return {p.number: p.wanted for p in list(self.partitions.values()) if p.life is Life.RUNNING}

    def resume(self, numbers: Iterable[int]) -> None:
        """Try waiting partitions again."""
        for number in numbers:
            partition = self.partitions.get(number)
            if partition is not None and partition.life is Life.WAITING:
                partition.life, partition.why = Life.RUNNING, ""

    def stop(self, number: int, why: str) -> None:
        """Stop a partition with an alarm."""
        log.error("partition_stopped", partition=number, why=why)
        self.partitions[number].stop(why)
        self._count()

    def prepare(self) -> None:
        """Fetch secrets ahead of need, and make them when partition 0 is ours; tried again at the next call."""
        first = self.partitions.get(0)
        maker = self.ownership.condition([first.claim]) if first is not None and first.claim is not None else None
        try:
            self.lookups.prepare(maker)
        except (*ERRORS, KafkaError, VaultError) as error:
            log.warning("secrets_not_fetched", exc_info=error)

    def tidy(self) -> None:
        """Let go of what is stored and needed no more, and of keys when partition 0 is ours; tried again later.

        With partition 0 goes that changes of stored rows which were left behind come to their end, copies and all.

        Raises TopicReplaced.
        """
        if self.upkeep is None:
            return
        try:
            self.same_topic()
            self._look_at_claims()
            running = [p for p in self.partitions.values() if p.life is Life.RUNNING]
            owned = {p.number: (p.claim, p.wanted) for p in running if p.claim is not None}
            self.upkeep.trim(self.ownership, owned)
            if 0 in owned:
                self.ownership.settle()
                self.upkeep.destroy(self.ownership.condition([owned[0][0]]))
        except (*ERRORS, KafkaError) as error:
            log.warning("upkeep_failed", exc_info=error)

    def _look_at_claims(self) -> None:
        """Lose the partitions that others have claimed; one that has no events would never hear of it otherwise."""
        running = [p for p in self.partitions.values() if p.life is Life.RUNNING]
        held = self.ownership.held(p.claim for p in running if p.claim is not None)
        for partition in running:
            if partition.number not in held:
                log.warning("partition_lost", partition=partition.number)
                partition.lose()

    def _keep_or_claim(self, mine: Sequence[Partition], starts: Mapping[int, int]) -> dict[int, int]:
        held = self.ownership.held([p.claim for p in mine if p.claim is not None and p.state is not None])
        new = [partition for partition in mine if partition.number not in held]
        for partition in new:
            partition.assign()
        claims = self.ownership.claim(partition.number for partition in new)
        for partition in new:
            if partition.number not in claims:
                log.warning("partition_lost", partition=partition.number)
                partition.lose()
                continue
            at = restart(self.client, partition.number, self.generation, starts[partition.number])
            stored = read_back(self.client, partition.number, self.generation, at.offset)
            state = state_before(self.client, partition.number, self.generation, at.offset)
            claim = claims[partition.number]
            partition.run(claim, at.offset, state, stored)
            log.info("partition_owned", partition=partition.number, epoch=claim.epoch, offset=at.offset)
        for partition in mine:
            start = starts[partition.number]
            if partition.life is Life.RUNNING and partition.wanted < start:
                log.error("offsets_lost", partition=partition.number, ranges=[(partition.wanted, start - 1)])
                restart(self.client, partition.number, self.generation, start)
                partition.wanted = start
        return {p.number: p.wanted for p in mine if p.life is Life.RUNNING}

    def _continued(self, records: Iterable[Record]) -> tuple[list[Record], dict[int, int]]:
        batch, back, wanted = [], {}, self.running()
        for record in records:
            expected = wanted.get(record.partition)
            if expected is None or record.offset < expected:
                continue
            if record.offset > expected:
                back[record.partition] = expected
                continue
            batch.append(record)
            wanted[record.partition] = expected + 1
        return batch, {number: wanted[number] for number in back}

    def _processed(self, batch: Sequence[Record]) -> Iterable[tuple[Sequence[Record], Outcome]]:
        if not batch:
            return
        try:
            yield batch, self._process(batch)
            return
        except Surroundings:
            pass
        apart: dict[int, list[Record]] = {}
        for record in batch:
            apart.setdefault(record.partition, []).append(record)
        for number, records in apart.items():
            try:
                outcome = self._process(records)
            except Surroundings as missing:
                log.warning("partition_waits", partition=number, exc_info=missing)
                self.partitions[number].wait(str(missing))
            else:
                yield records, outcome

    def _process(self, batch: Sequence[Record]) -> Outcome:
        partitions = [self.partitions[number] for number in {record.partition for record in batch}]
        states = {partition.number: partition.state for partition in partitions if partition.state is not None}
        fetched: set[tuple[object, ...]] = set()
        begun: list[Begun] = []
        while True:  # once for each thing that is missing
            started = time.monotonic()
            try:
                return process(batch, states, self.lookups, begun)
            except Surroundings as missing:
                if (what := (type(missing), *vars(missing).values())) in fetched:
                    raise
                fetched.add(what)
                cause = missing
            finally:
                metrics.process_seconds.observe(time.monotonic() - started)
            if isinstance(cause, SiteKeyMissing):
                self.prepare()  # the owner of partition 0 makes it at once, others wait until that one's next round
            self.patience.insist("surroundings", partial(self._fetch, cause), KafkaError, *ERRORS)

    def _fetch(self, missing: Surroundings) -> None:
        if isinstance(missing, RepeatsMissing):
            self.lookups.hold(missing.asked, stored_repeats(self.client, missing.asked))
        elif isinstance(missing, VisitsMissing):
            self.lookups.hold_visits(missing.asked, stored_visits(self.client, missing.asked))
        else:
            self.lookups.fetch(missing)

    def _store(self, batch: Sequence[Record], outcome: Outcome) -> int:
        numbers = {record.partition for record in batch}
        counts = _counts(outcome)
        for number in sorted(numbers):
            if self.partitions[number].failures.too_many(*counts[number][:2]):
                self.stop(number, "too many events were rejected for an internal error")
                numbers.discard(number)
        rows = Rows(outcome.events, outcome.rejects, outcome.packets)
        claims = {number: claim for number in numbers if (claim := self.partitions[number].claim) is not None}
        stored = {number: known for number in claims if (known := self.partitions[number].stored).end}
        if set(claims) != {record.partition for record in batch}:
            rows = rows.of(set(claims))
        held = self.sink.store(rows, claims, stored) if claims else {}
        outcome.apply()
        received = 0
        for number in numbers:
            partition = self.partitions[number]
            if number not in held:
                log.warning("partition_lost", partition=number)
                partition.lose()
                continue
            partition.claim = held[number]
            partition.wanted = 1 + max(record.offset for record in batch if record.partition == number)
            if partition.stored.end <= partition.wanted:
                partition.stored = Stored()
            partition.failures.add(*counts[number][:2])
            received += counts[number][0]
        _account(rows if len(held) == len(claims) else rows.of(set(held)))
        return received

    def _count(self) -> None:
        states = [p.state for p in self.partitions.values()]
        metrics.identities.set(sum(len(state.repeats) for state in states if state is not None))
        reasons = [p.why for p in self.partitions.values() if p.life is Life.STOPPED]
        for reason in set(reasons):
            metrics.stopped.labels(reason).set(reasons.count(reason))


def _counts(outcome: Outcome) -> dict[int, tuple[int, int]]:
    """Per partition: events received, and rejected for an internal error."""
    packets = outcome.packets.select(["partition", "received"]).group_by("partition").aggregate([("received", "sum")])
    received = dict(zip(packets["partition"].to_pylist(), packets["received_sum"].to_pylist(), strict=True))
    failed: dict[int, int] = {}
    if outcome.rejects.num_rows:
        reasons = outcome.rejects["reason"].to_pylist()
        for number, reason in zip(outcome.rejects["partition"].to_pylist(), reasons, strict=True):
            if reason == Rejected.INTERNAL_ERROR:
                failed[number] = failed.get(number, 0) + 1
    return {number: (events, failed.get(number, 0)) for number, events in received.items()}


def _account(rows: Rows) -> None:
    packets = rows.packets
    for outcome in ("stored", "excluded", "rejected"):
        metrics.events.labels(outcome).inc(pc.sum(packets[outcome]).as_py() or 0)
    for reason in Repeated:
        metrics.repeated.labels(reason).inc(pc.sum(packets[f"repeats_{reason}"]).as_py() or 0)
    masked = (pc.list_flatten(packets[f"masked_{part}"]).to_pylist() for part in ("kind", "field", "count"))
    for kind, column, count in zip(*masked, strict=True):
        metrics.masked.labels(kind, column).inc(count)
    kinds = packets["kind"].to_pylist()
    metrics.copies.inc(kinds.count(PacketKind.COPY))
    metrics.bad.inc(kinds.count(PacketKind.BAD))
