"""What collectors say was acknowledged: the reports on `ingest.reports`, by writer and partition.

A report is cumulative. Of each account a number of them is kept, thinned the older they are, so that a count that does
not hold can be narrowed down to the packets between two reports. Collectors have one packet of a partition under way
at a time, so that all is told by `below`; ranges beyond it count once `below` has reached them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from kafka import KafkaConsumer, TopicPartition

from infra.service.logs import logger
from schemas.reports import Report, decode

log = logger(__name__)

POINTS = 32  # reports kept of one account
ACCOUNTS = 20_000  # kept; beyond it those that were silent longest are forgotten
POLL_RECORDS = 5_000

Name = tuple[int, int]  # writer, partition


class Point(NamedTuple):
    """All packets of `seq` < below are acknowledged, `events` in all; told_ms: the broker's time of the report."""

    below: int
    events: int
    told_ms: int


@dataclass(slots=True)
class Account:
    """One partition of one writer. points: rising; what lies below the first one was judged before or never."""

    points: list[Point]
    final: bool = False

    @property
    def first(self) -> Point:
        """Where the account begins."""
        return self.points[0]

    @property
    def last(self) -> Point:
        """The newest report."""
        return self.points[-1]

    def add(self, point: Point) -> None:
        """Notes a report; one that tells less than an earlier one changes nothing."""
        last = self.last
        if point.below < last.below:
            return
        if point.below == last.below and len(self.points) > 1:
            self.points[-1] = point
            return
        self.points.append(point)
        if len(self.points) > POINTS:  # every second one of the older half goes
            half = POINTS // 2
            self.points = [self.points[0], *self.points[1:half:2], *self.points[half:]]

    def forget(self, before_ms: int) -> None:
        """Lets the account begin at the last report that was told before this moment."""
        at = max((n for n, point in enumerate(self.points) if point.told_ms < before_ms), default=0)
        if at:
            del self.points[:at]


@dataclass(slots=True)
class Accounts:
    """All accounts. since_ms: the moment from which on reports are read; 0 for all that there are.

    A writer that was started before it has an account that begins with its first report from then on.
    """

    since_ms: int = 0
    by_name: dict[Name, Account] = field(default_factory=dict)

    def add(self, report: Report, told_ms: int) -> None:
        """Notes a report. told_ms: the broker's time of it."""
        for partition, told in report.partitions.items():
            point = Point(told.below, told.events, told_ms)
            account = self.by_name.get((report.writer, partition))
            if account is None:
                young = report.started_ms >= self.since_ms
                account = Account([Point(0, 0, told_ms)] if young else [point])
                self.by_name[report.writer, partition] = account
            account.add(point)
        if report.final:
            for (writer, _), account in self.by_name.items():
                account.final = account.final or writer == report.writer

    def forget(self, before_ms: int) -> None:
        """Bounds what is kept: see `Account.forget`, and the accounts that were silent longest where they are many."""
        self.since_ms = max(self.since_ms, before_ms)
        for account in self.by_name.values():
            account.forget(before_ms)
        if (many := len(self.by_name) - ACCOUNTS) > 0:
            for name in sorted(self.by_name, key=lambda name: self.by_name[name].last.told_ms)[:many]:
                del self.by_name[name]

    def frozen(self, partitions: Iterable[int]) -> Mapping[Name, tuple[Point, ...]]:
        """The points of these partitions as of now."""
        wanted = set(partitions)
        return {name: tuple(account.points) for name, account in self.by_name.items() if name[1] in wanted}

    def partitions(self) -> set[int]:
        """The partitions that any account is of."""
        return {partition for _, partition in self.by_name}


class Reports:
    """Reads the topic. For one thread; methods raise KafkaError."""

    def __init__(self, servers: str, topic: str) -> None:
        """`topic` as on the broker."""
        self._servers = servers.split(",")
        self._place = TopicPartition(topic, 0)
        self._consumer: KafkaConsumer | None = None

    def read(self, accounts: Accounts) -> int:
        """Notes all reports from where it was, or from `accounts.since_ms` on, to the end; returns how many."""
        consumer = self._consumer or self._open(accounts.since_ms)
        self._consumer = consumer
        try:
            return sum(self._note(accounts, records) for records in self._batches(consumer))
        except Exception:
            self.close()
            accounts.by_name.clear()  # it begins anew
            raise

    def close(self) -> None:
        """Closes the connection; the next reading begins anew."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def _open(self, since_ms: int) -> KafkaConsumer:
        consumer = KafkaConsumer(bootstrap_servers=self._servers, group_id=None, enable_auto_commit=False)
        try:
            consumer.assign([self._place])
            found = consumer.offsets_for_times({self._place: since_ms})[self._place] if since_ms else None
            if found is not None:
                consumer.seek(self._place, found.offset)
            elif since_ms:
                consumer.seek_to_end(self._place)
            else:
                consumer.seek_to_beginning(self._place)
        except Exception:
            consumer.close()
            raise
        return consumer

    def _batches(self, consumer: KafkaConsumer) -> Iterator[list[object]]:
        end = consumer.end_offsets([self._place])[self._place]
        while consumer.position(self._place) < end:
            yield from consumer.poll(timeout_ms=500, max_records=POLL_RECORDS).values()

    @staticmethod
    def _note(accounts: Accounts, records: Iterable[object]) -> int:
        read = 0
        for record in records:
            try:
                report = decode(record.value or b"")  # type: ignore[attr-defined]
            except msgspec.DecodeError:
                log.warning("bad_report", offset=record.offset)  # type: ignore[attr-defined]
                continue
            accounts.add(report, record.timestamp)  # type: ignore[attr-defined]
            read += 1
        return read
