"""The books looked at again and again: reports and ends of the log from Kafka, rows from ClickHouse.

reconciling = Reconciling(client, reports, topic, generation)
ledger = reconciling.look()
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from infra.service.clickhouse import Client
from streams.accounts import Accounts, Name, Point, Reports
from streams.ledger import Ledger, Reported, judge, reached
from streams.topic_generations import Topic

GRACE = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class _Frozen:
    """What was told of a partition, and the end of its log right afterwards."""

    told: Mapping[Name, tuple[Point, ...]]
    end: int


class Reconciling:
    """For one thread. A look raises errors of Kafka and ClickHouse; the next one is as good as the first."""

    def __init__(
        self,
        client: Client,
        reports: Reports,
        topic: Topic,
        generation: int,
        *,
        hours: float | None = None,
        grace: float = GRACE,
        closing: float = 86_400.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        """hours: how far back it looks; None: as far as there are reports and rows. For the rest see `ledger.judge`."""
        self._client = client
        self._reports = reports
        self._topic = topic
        self._generation = generation
        self._hours = hours
        self._grace = grace
        self._closing = closing
        self._now = now
        self._accounts = Accounts(self._since())
        self._frozen: dict[int, _Frozen] = {}
        self.behind: frozenset[int] = frozenset()  # partitions that the worker had not come to the end of, at that look

    def look(self) -> Ledger:
        """The books as of now.

        Of a partition that is behind, what was told at an earlier look is judged until its rows have come that far.
        """
        self._reports.read(self._accounts)
        since_ms = self._since()
        self._accounts.forget(since_ms)
        partitions = self._accounts.partitions()
        ends = self._topic.ends(partitions)
        for partition in partitions - self._frozen.keys():
            self._frozen[partition] = _Frozen(self._accounts.frozen([partition]), ends[partition])
        rows = reached(self._client, self._generation, partitions)
        settled = frozenset(p for p in partitions if rows[p] >= self._frozen[p].end)
        told = {name: points for frozen in self._frozen.values() for name, points in frozen.told.items()}
        ledger = judge(
            self._client,
            Reported(told, settled, self._accounts.by_name),
            since_ms=since_ms,
            grace=self._grace,
            closing=self._closing,
        )
        for partition in settled:
            del self._frozen[partition]
        self.behind = frozenset(partitions - settled)
        return ledger

    def close(self) -> None:
        """Closes its connections to Kafka."""
        self._reports.close()
        self._topic.close()

    def _since(self) -> int:
        return 0 if self._hours is None else int((self._now() - self._hours * 3600) * 1000)
