"""Packets as collectors make them of a stream of events: by time, partition and the pace of each collector.

The clock is that of the events, so the same events give the same packets on any machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

from infra.service.settings import Settings
from ingest.pace import Pace
from schemas.packets import EVENT_BYTES, Event, encode
from schemas.routing import ROUTING_VERSION, partition_of
from tests.benchmarks.frame.events import Tracked

RATE = 45_000.0  # events per second over all collectors: what one worker core is to keep up with


@dataclass(slots=True)
class _Open:
    """size: of the body before compression, in bytes."""

    events: list[Event] = field(default_factory=list)
    size: int = 0

    def add(self, event: Event) -> None:
        self.events.append(event)
        self.size += EVENT_BYTES + len(event.agent) + len(event.language) + len(event.hints) + len(event.query)


@dataclass(slots=True)
class _Collector:
    writer: int
    pace: Pace
    open: dict[int, _Open]
    next_seq: dict[int, int]
    flush_at: float = 0.0


class Collectors:
    """Some collectors behind a balancer, each with a writer's name and a `seq` per partition that go on for ever."""

    def __init__(self, count: int, settings: Settings, policy: bytes, *, seed: int, rate: float = RATE) -> None:
        self._random = Random(seed)
        self._partitions = settings.events_partitions
        self._limit = settings.packet_bytes
        self._policy = policy
        self._rate = rate
        self._now = 0.0
        shortest, longest = settings.flush_min_ms / 1000, settings.flush_max_ms / 1000
        self._collectors = [
            _Collector(self._random.getrandbits(64), Pace(settings.packets_per_second, shortest, longest), {}, {})
            for _ in range(count)
        ]

    def packets(self, events: Iterable[Tracked], start_ms: int) -> Iterator[tuple[int, bytes]]:
        """(partition, packet) in the order in which they'd be sent; the first event is received at `start_ms`."""
        began = self._now
        for event in events:
            self._now += 1 / self._rate
            collector = self._random.choice(self._collectors)
            if not collector.open:
                collector.flush_at = self._now + collector.pace.delay(self._now)
            partition = partition_of(event.site.id, 0, self._partitions)
            packet = collector.open.setdefault(partition, _Open())
            packet.add(
                Event(
                    start_ms + int((self._now - began) * 1000),
                    event.site.id,
                    event.address,
                    0,
                    0,
                    event.visitor.agent.header,
                    event.visitor.language,
                    "",
                    event.query.replace("&send_image=0", "", 1),
                )
            )
            if packet.size >= self._limit:
                yield self._close(collector, partition)
            if self._now >= collector.flush_at:
                yield from self._flush(collector)
        for collector in self._collectors:
            yield from self._flush(collector)

    def _flush(self, collector: _Collector) -> Iterator[tuple[int, bytes]]:
        partitions = sorted(collector.open)
        if partitions:
            collector.pace.sent(len(partitions), self._now)
        for partition in partitions:
            yield self._close(collector, partition)

    def _close(self, collector: _Collector, partition: int) -> tuple[int, bytes]:
        packet = collector.open.pop(partition)
        seq = collector.next_seq.get(partition, 0)
        collector.next_seq[partition] = seq + 1
        return partition, encode(collector.writer, seq, ROUTING_VERSION, self._policy, packet.events)
