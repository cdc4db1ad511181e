"""Open packets, one per partition, and when they leave.

One flush is in flight: it takes the next packet of every partition that has one and nothing outstanding, and the next
flush starts when its packets are acknowledged and the pace allows it. So under load packets grow by themselves. A
partition whose packet is not acknowledged holds up itself only: after `STALL_SECONDS` the others go on without it.

A partition never has two packets outstanding, so its packets reach the log in rising `seq` whatever fails and is
tried again. Packets queue behind the one outstanding, within a bound on all bytes that wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from ingest.exchange import Exchange
from ingest.reports import Books
from ingest.requests import Row
from schemas.packets import EVENT_BYTES, encode_rows
from schemas.routing import ROUTING_VERSION

STALL_SECONDS = 0.5  # a flush that lasts longer lets the next one start without its partitions
HEADROOM = 8 * 1024  # bytes kept free in a packet for the headers of its last event
EVENT_OVERHEAD = 320  # bytes of a waiting event beyond its text: the row's tuple, the heads of its strings


class Record:
    """A record for Kafka. `done` is called in the loop once it is acknowledged, never before, never twice."""

    __slots__ = ("done", "handed_at", "key", "partition", "topic", "value")

    def __init__(
        self,
        topic: str,
        value: bytes,
        done: Callable[[], None],
        *,
        key: bytes | None = None,
        partition: int | None = None,
    ) -> None:
        self.topic = topic
        self.value = value
        self.done = done
        self.key = key
        self.partition = partition
        self.handed_at = 0.0


class Delivery(Protocol):
    """Takes records and keeps trying, under their name and bytes, until each is acknowledged."""

    def send(self, *records: Record) -> None:
        """Never blocks and never raises; each `record.done` follows in a later turn of the loop, or never.

        What is given together is meant to travel together.
        """


class Pace:
    """When the next flush may start: a budget of packets per second, with `longest` seconds of it in hand.

    After a pause a flush follows the first event within `shortest` seconds; under steady load flushes are as far
    apart as their number of packets asks for, at most `longest`.
    """

    __slots__ = ("_paid", "_rate", "longest", "shortest")

    def __init__(self, packets_per_second: float, shortest: float, longest: float) -> None:
        self._rate = packets_per_second
        self.shortest = shortest
        self.longest = longest
        self._paid = 0.0  # the moment until which the packets sent so far use up the budget

    def sent(self, packets: int, now: float) -> None:
        """Notes a flush."""
        self._paid = max(self._paid, now - self.longest) + packets / self._rate

    def delay(self, now: float) -> float:
        """Seconds from the first event of a flush to the flush."""
        return min(max(self._paid - now, self.shortest), self.longest)


class Packet:
    """Events of one partition under one version of the policies, and who waits for them."""

    __slots__ = ("count", "exchanges", "flush", "opened_at", "partition", "policy", "rows", "size", "value")

    def __init__(self, partition: int, policy: bytes, opened_at: float) -> None:
        self.partition = partition
        self.policy = policy
        self.opened_at = opened_at  # monotonic
        self.rows: list[Row] = []  # empty once the packet is closed
        self.count = 0  # events, once it is closed
        self.exchanges: list[Exchange] = []
        self.flush = 0
        self.size = 0  # bytes: of the body before compression while it is open, then of the value
        self.value = b""  # set when the packet is closed, never changed after


class Packing:
    """All packets of one collector process that are not acknowledged yet."""

    def __init__(
        self,
        *,
        writer: int,
        topic: str,
        partitions: int,
        policy: bytes,
        delivery: Delivery,
        books: Books,
        pace: Pace,
        packet_bytes: int,
        memory_bytes: int,
        stored: Callable[[int, float], None],
    ) -> None:
        """`stored(bytes, seconds)` is told of every packet that was acknowledged: its size, and how long it took."""
        self.waiting = 0  # bytes
        self.unknown = 0  # events whose request was answered 503 although the packet is still tried
        self.policy = policy
        self._published: set[bytes] = set()
        self._writer = writer
        self._topic = topic
        self._delivery = delivery
        self._books = books
        self._pace = pace
        self._room = max(packet_bytes - HEADROOM, 0)
        self._memory_bytes = memory_bytes
        self._stored = stored
        self._loop = asyncio.get_running_loop()
        self._seq = [0] * partitions
        self._open: list[Packet | None] = [None] * partitions
        self._closed: list[deque[Packet]] = [deque() for _ in range(partitions)]
        self._outstanding: list[Packet | None] = [None] * partitions
        self._flush = 0  # number of the flush in flight
        self._left = 0  # packets of it that are not acknowledged
        self._started = 0.0
        self._armed = False  # a timer for the next flush runs, or the flush is due
        self._due = False  # the pace allows a flush as soon as the one in flight is over

    def full(self, more: int = 0) -> bool:
        """Whether no more may be taken; `more`: bytes that are being received."""
        return self.waiting + more >= self._memory_bytes

    def empty(self) -> bool:
        """Whether everything is acknowledged."""
        return not any(self._outstanding) and not any(self._open) and not any(self._closed)

    def packets(self) -> int:
        """How many packets are not acknowledged."""
        return sum(packet is not None for packet in self._outstanding + self._open) + sum(map(len, self._closed))

    def add(self, partition: int, row: Row, size: int, exchange: Exchange) -> None:
        """Puts an event into its partition's packet; `exchange` waits for that packet too from now on.

        `size`: bytes of the event's texts.
        """
        packet = self._open[partition]
        if packet is None:
            packet = self._begin(partition)
        elif packet.size + size > self._room:
            self._close(packet)
            self._ask_for_flush()
            packet = self._begin(partition)
        packet.rows.append(row)
        size += EVENT_BYTES
        packet.size += size
        self.waiting += size + EVENT_OVERHEAD
        exchanges = packet.exchanges
        if not exchanges or exchanges[-1] is not exchange:
            exchanges.append(exchange)
            exchange.left += 1
        if not self._armed:
            self._arm()

    def publish(self, policy: bytes) -> None:
        """The version is on `site.policies`: packets that name it may leave."""
        self._published.add(policy)
        self._ask_for_flush()

    def adopt(self, policy: bytes) -> None:
        """Events that follow are judged by this version."""
        for packet in self._open:
            if packet is not None:
                self._close(packet)
        self.policy = policy

    def acknowledged(self) -> None:
        """Called after one or more records were acknowledged: the next flush may be due."""
        if self._due and self._may_flush():
            self._flush_now()

    def flush(self) -> None:
        """Sends what is there without waiting for the pace (at stop)."""
        self._ask_for_flush()

    def tick(self, deadline: float) -> None:
        """Called a few times a second. Requests that wait longer than `deadline` seconds are to be answered 503.

        Their packets stay in line: what becomes of their events is unknown to the client.
        """
        if self._due and self._may_flush():
            self._flush_now()
        oldest = monotonic() - deadline
        for partition, queue in enumerate(self._closed):
            for packet in (self._outstanding[partition], *queue, self._open[partition]):
                if packet is not None and packet.exchanges and packet.opened_at < oldest:
                    self._give_up_waiting(packet)

    def give_up(self) -> int:
        """Answers 503 to all that wait (the process must stop). Returns the number of packets not acknowledged."""
        self.tick(-1.0)
        return self.packets()

    def oldest_age(self) -> float:
        """Seconds since the oldest packet that waits for its acknowledgement was opened; 0.0 without one."""
        return max((monotonic() - packet.opened_at for packet in self._outstanding if packet), default=0.0)

    # Inside

    def _begin(self, partition: int) -> Packet:
        packet = self._open[partition] = Packet(partition, self.policy, monotonic())
        return packet

    def _give_up_waiting(self, packet: Packet) -> None:
        exchanges, packet.exchanges = packet.exchanges, []
        self.unknown += packet.count or len(packet.rows)
        for exchange in exchanges:
            exchange.unavailable("The event could not be stored in time; whether it will be is unknown.")

    def _close(self, packet: Packet) -> None:
        """Names and encodes a packet. From here on its bytes do not change."""
        partition = packet.partition
        self._open[partition] = None
        seq = self._seq[partition]
        self._seq[partition] = seq + 1
        rows, packet.rows = packet.rows, []
        packet.count = len(rows)
        packet.value = encode_rows(self._writer, seq, ROUTING_VERSION, packet.policy, rows)
        self.waiting += len(packet.value) - packet.size - EVENT_OVERHEAD * packet.count
        packet.size = len(packet.value)
        self._closed[partition].append(packet)

    def _arm(self) -> None:
        self._armed = True
        self._loop.call_later(self._pace.delay(monotonic()), self._ask_for_flush)

    def _may_flush(self) -> bool:
        return self._left == 0 or monotonic() - self._started > STALL_SECONDS

    def _ask_for_flush(self) -> None:
        self._armed = True
        if self._may_flush():
            self._flush_now()
        else:
            self._due = True

    def _flush_now(self) -> None:
        self._due = self._armed = False
        sending: list[Packet] = []
        for partition, queue in enumerate(self._closed):
            if self._outstanding[partition] is not None:
                continue  # what waits there is looked at when this one is acknowledged
            packet = self._open[partition]
            if not queue and packet is not None and packet.policy in self._published:
                self._close(packet)
            if queue and queue[0].policy in self._published:
                sending.append(queue.popleft())
        if not sending:
            return
        self._flush += 1
        self._left = len(sending)
        self._started = monotonic()
        self._pace.sent(len(sending), self._started)
        for packet in sending:
            packet.flush = self._flush
            self._outstanding[packet.partition] = packet
        self._delivery.send(*map(self._record, sending))

    def _record(self, packet: Packet) -> Record:
        return Record(self._topic, packet.value, lambda: self._packet_acknowledged(packet), partition=packet.partition)

    def _packet_acknowledged(self, packet: Packet) -> None:
        partition = packet.partition
        self._outstanding[partition] = None
        self.waiting -= packet.size
        self._books.acknowledged(partition, packet.count)
        if packet.flush == self._flush:
            self._left -= 1
        if self._closed[partition]:
            self._armed = self._due = True
        elif self._open[partition] is not None and not self._armed:
            self._arm()
        self._stored(packet.size, monotonic() - packet.opened_at)
        for exchange in packet.exchanges:
            exchange.left -= 1
            if not exchange.left and not exchange.done:
                exchange.settle()
