"""Open packets, one per partition, and when they leave.

One flush is in flight: it takes the next packet of every partition that has one and nothing outstanding, and the next
flush starts when its packets are acknowledged and the pace allows it. So under load packets grow by themselves. A
partition whose packet is not acknowledged holds up itself only: after `STALL_SECONDS` the others go on without it.

A partition never has two packets outstanding, so its packets reach the log in rising `seq` whatever fails and is
tried again. Packets queue behind the one outstanding: in memory, and in the spool when Kafka does not answer in time
or the queue is long. Whoever waits for a packet is answered when Kafka has acknowledged it or the spool has it on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

from infra.service.logs import logger
from ingest.delivery import Delivery, Record
from ingest.exchange import Exchange
from ingest.hours import Hours
from ingest.line import Line, Packet
from ingest.pace import Pace
from ingest.reports import Books
from ingest.requests import Row
from ingest.spool.log import Contents, Log
from ingest.spool.spool import Place, Spool
from schemas.packets import EVENT_BYTES, BadPacket, encode_rows
from schemas.routing import ROUTING_VERSION

log = logger(__name__)

STALL_SECONDS = 0.5  # a flush that lasts longer lets the next one start without its partitions
HEADROOM = 8 * 1024  # bytes kept free in a packet for the headers of its last event
EVENT_OVERHEAD = 320  # bytes of a waiting event beyond its text: the row's tuple, the heads of its strings
BEHIND_BYTES = 1 << 20  # of a partition in the spool; with more, its new packets go there too without waiting
LOAD_PACKETS = 4  # of a partition that are read from the spool at once
LOAD_AT_ONCE = 64  # packets
LOAD_BYTES = 16 << 20  # read and not acknowledged; with more, nothing more is read
SCARCE = 16  # the part of the memory that may be used once the spool takes no more, as 1 / SCARCE


class Packing:
    """All packets of one collector process that are not acknowledged yet."""

    def __init__(
        self,
        *,
        writer: int,
        topic: str,
        partitions: int,
        policy: bytes,
        policies: bytes,
        delivery: Delivery,
        books: Books,
        pace: Pace,
        packet_bytes: int,
        memory_bytes: int,
        stored: Callable[[int, float | None], None],
        spool: Spool[Packet] | None = None,
        spool_after: float = 1.0,
        announce: Callable[[bytes, bytes], None] = lambda _version, _policies: None,
        hours: Hours | None = None,
    ) -> None:
        """policy, policies: the version in force and its set, as `adopt` changes them. `stored(bytes, seconds)` is told
        of every packet that was acknowledged: its size, and how long it took (None for one from the spool).
        spool_after: seconds that a packet may wait for Kafka in memory. `announce(version, policies)` must see to it
        that a policy set of an inherited spool is on `site.policies`, then call `publish`. hours: to whose keys
        packets are sealed; None: they are not.
        """
        self.waiting = 0  # bytes
        self.sealed_off = False  # there is no key to seal with, so nothing may be taken
        self.unknown = 0  # events whose request was answered 503 although the packet is still tried
        self.policy = policy
        self._policies = policies
        self._published: set[bytes] = set()
        self._writer = writer
        self._topic = topic
        self._delivery = delivery
        self._books = books
        self._pace = pace
        self._room = max(packet_bytes - HEADROOM, 0)
        self._memory_bytes = memory_bytes
        self._stored = stored
        self._spool = spool
        self._spool_after = spool_after
        self._announce = announce
        self._hours = hours
        self.inheritance: dict[Log, Books] = {}  # of processes that are gone, whose spools are drained here
        self._loop = asyncio.get_running_loop()
        self._seq = [0] * partitions
        self._events = [0] * partitions  # in closed packets
        self._open: list[Packet | None] = [None] * partitions
        self._lines = [Line() for _ in range(partitions)]
        self._loaded = 0  # bytes of packets that were read from the spool
        self._scarce = False  # packets should go into the spool, and it takes none
        self._flush = 0  # number of the flush in flight
        self._left = 0  # packets of it that are not acknowledged
        self._started = 0.0
        self._armed = False  # a timer for the next flush runs, or the flush is due
        self._due = False  # the pace allows a flush as soon as the one in flight is over
        if spool is not None:
            spool.attach(self)

    def full(self, more: int = 0) -> bool:
        """Whether no more may be taken; `more`: bytes that are being received."""
        waiting = self.waiting + more
        if self.sealed_off:
            return True
        return waiting >= self._memory_bytes or (self._scarce and waiting >= self._memory_bytes // SCARCE)

    def empty(self) -> bool:
        """Whether everything is acknowledged or in the spool."""
        return not any(self._open) and all(line.empty() for line in self._lines)

    def packets(self) -> int:
        """How many packets are neither acknowledged nor in the spool."""
        lines = sum(packet.place is None for line in self._lines for packet in line.in_memory())
        return lines + sum(packet is not None for packet in self._open)

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

    def add_all(self, events: Iterable[tuple[int, Row]], exchange: Exchange) -> None:
        """As `add`, for events of one request, each with its partition; in half the time."""
        open_, room, added = self._open, self._room, 0
        for partition, row in events:
            size = len(row[5]) + len(row[6]) + len(row[7]) + len(row[8])  # as size_of gives it
            packet = open_[partition]
            if packet is None:
                packet = self._begin(partition)
            elif packet.size + size > room:
                self._close(packet)
                self._ask_for_flush()
                packet = self._begin(partition)
            packet.rows.append(row)
            size += EVENT_BYTES
            packet.size += size
            added += size + EVENT_OVERHEAD
            exchanges = packet.exchanges
            if not exchanges or exchanges[-1] is not exchange:
                exchanges.append(exchange)
                exchange.left += 1
        self.waiting += added
        if added and not self._armed:
            self._arm()

    def publish(self, policy: bytes) -> None:
        """The version is on `site.policies`: packets that name it may leave."""
        self._published.add(policy)
        self._ask_for_flush()

    def adopt(self, policy: bytes, policies: bytes) -> None:
        """Events that follow are judged by this version; `policies`: its set, as it goes to `site.policies`."""
        for packet in self._open:
            if packet is not None:
                self._close(packet)
        self.policy, self._policies = policy, policies

    def acknowledged(self) -> None:
        """Called after one or more records were acknowledged: the next flush may be due."""
        if self._spool is not None and self._spool.packets:
            self._load()
        if self._due and self._may_flush():
            self._flush_now()

    def flush(self) -> None:
        """Sends what is there without waiting for the pace (at stop)."""
        self._ask_for_flush()

    def tick(self, deadline: float) -> None:
        """Called a few times a second. Requests that wait longer than `deadline` seconds are to be answered 503.

        Their packets stay in line: what becomes of their events is unknown to the client.
        """
        if self._spool is not None:
            self._to_spool(self._spool)
            self._load()
        if self._due and self._may_flush():
            self._flush_now()
        oldest = monotonic() - deadline
        for line, opened in zip(self._lines, self._open, strict=True):
            for packet in line.in_memory():
                if packet.exchanges and packet.opened_at < oldest:
                    self._give_up_waiting(packet)
            if opened is not None and opened.opened_at < oldest:
                self._give_up_waiting(opened)

    def give_up(self) -> int:
        """Answers 503 to all that wait (the process must stop). Returns the number of packets not acknowledged."""
        self.tick(-1.0)
        return self.packets()

    def oldest_age(self) -> float:
        """Seconds since the oldest packet that waits for its acknowledgement was opened; 0.0 without one."""
        outstanding = (line.outstanding for line in self._lines)
        opened = [packet.opened_at for packet in outstanding if packet is not None and packet.place is None]
        return max(monotonic() - min(opened), 0.0) if opened else 0.0

    # Told by the spool

    def spooled(self, packet: Packet, place: Place) -> None:
        """See `spool.Owner`."""
        packet.place = place
        if packet.acknowledged:
            self._release(place)
            return
        line = self._lines[packet.partition]
        if packet is not line.outstanding:
            line.writing.popleft()
            line.shelf.add(place, packet.size)
            self.waiting -= packet.size
        self._answer(packet)

    def loaded(self, partition: int, place: Place, value: bytes | None, before: int) -> None:
        """See `spool.Owner`."""
        line = self._lines[partition]
        line.loading -= 1
        try:
            packet = None if value is None else Packet.of_spool(partition, place, value, before)
        except BadPacket as error:
            log.error("spooled_packet_bad", partition=partition, problem=str(error))
            packet = None
        if packet is None:
            self._release(place)
        else:
            line.loaded.append(packet)
            self._loaded += packet.size
        self._ask_for_flush()

    def inherited(self, of: Log, contents: Contents, policies: dict[bytes, bytes]) -> None:
        """See `spool.Owner`."""
        for version, data in policies.items():
            if version not in self._published:
                self._announce(version, data)
        for partition, positions in contents.positions.items():
            if partition < len(self._lines):
                self._lines[partition].shelf.precede(of, positions, contents.bytes[partition], self._writer)
            else:
                log.error("spooled_partition_unknown", folder=of.folder.name, partition=partition)
        self._load()

    # Inside

    def _begin(self, partition: int) -> Packet:
        packet = self._open[partition] = Packet(partition, self.policy, self._policies, monotonic())
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
        packet.seq = self._seq[partition]
        self._seq[partition] += 1
        rows, packet.rows = packet.rows, []
        packet.count = len(rows)
        packet.before = self._events[partition]
        self._events[partition] += packet.count
        sealer = None
        if self._hours is not None:
            sealer = self._hours.sealer()
            packet.hour = sealer.hour
            self._hours.packed(packet.hour)
        packet.value = encode_rows(self._writer, packet.seq, ROUTING_VERSION, packet.policy, rows, sealer, partition)
        self.waiting += len(packet.value) - packet.size - EVENT_OVERHEAD * packet.count
        packet.size = len(packet.value)
        self._lines[partition].closed.append(packet)

    def _to_spool(self, spool: Spool[Packet]) -> None:
        """Gives the spool what has waited too long, and what would queue behind much that is there already."""
        now, given = monotonic(), list[Packet]()
        takes, self._scarce = spool.takes(), False
        for line, opened in zip(self._lines, self._open, strict=True):
            out = line.outstanding
            first = line.closed[0] if line.closed else opened
            late = now - self._spool_after
            if not (
                (out is not None and out.sent_at < late and (first is not None or not out.spooled))
                or (first is not None and (first.opened_at < late or line.shelf.bytes > BEHIND_BYTES))
            ):
                continue
            if not takes:
                self._scarce = True
                continue
            if opened is not None:
                self._close(opened)
            if out is not None and not out.spooled:
                given.append(out)
            given += line.closed
            line.writing += line.closed
            line.closed.clear()
        for packet in given:
            packet.spooled = True
        if given:
            spool.append(given)

    def _load(self) -> None:
        """Reads on in the spool, as far as memory allows."""
        spool = self._spool
        if spool is None or spool.loading or not spool.packets:
            return
        places: list[tuple[int, Place]] = []
        room = LOAD_AT_ONCE if self._loaded < LOAD_BYTES else 0
        for partition, line in enumerate(self._lines):
            if line.shelf and len(line.loaded) < LOAD_PACKETS and room > len(places):
                taken = list(line.shelf.take(min(LOAD_PACKETS, room - len(places))))
                line.loading += len(taken)
                places += ((partition, place) for place in taken)
        if places:
            spool.load(places)

    def _release(self, place: Place) -> None:
        assert self._spool is not None
        self._spool.acknowledged(place)

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
        if self._spool is not None and not self._spool.searched:
            self._due = True  # what an earlier process left comes first
            return
        self._due = self._armed = False
        sending: list[Packet] = []
        for partition, line in enumerate(self._lines):
            if line.outstanding is not None:
                continue  # what waits there is looked at when this one is acknowledged
            packet = line.next()
            if packet is None and not (line.loading or line.shelf):
                opened = self._open[partition]
                if opened is not None and opened.policy in self._published:
                    self._close(opened)
                    packet = opened
            if packet is not None and packet.policy in self._published:
                line.advance()
                sending.append(packet)
        if not sending:
            return
        self._flush += 1
        self._left = len(sending)
        self._started = monotonic()
        self._pace.sent(sum(not packet.loaded for packet in sending), self._started)
        for packet in sending:
            packet.flush = self._flush
            packet.sent_at = self._started
            self._lines[packet.partition].outstanding = packet
        self._delivery.send(*map(self._record, sending))

    def _books_of(self, packet: Packet) -> Books:
        if packet.place is None or packet.place.log.writer == self._writer:
            return self._books
        of = packet.place.log
        books = self.inheritance.get(of)
        if books is None:
            books = self.inheritance[of] = Books(of.writer, of.started_ms)
        return books

    def _record(self, packet: Packet) -> Record:
        return Record(self._topic, packet.value, lambda: self._packet_acknowledged(packet), partition=packet.partition)

    def _packet_acknowledged(self, packet: Packet) -> None:
        partition = packet.partition
        line = self._lines[partition]
        line.outstanding = None
        packet.acknowledged = True
        if packet.place is not None:
            self._release(packet.place)
        if packet.loaded:
            line.shelf.bytes -= packet.size
            self._loaded -= packet.size
        else:
            self.waiting -= packet.size
        books = self._books_of(packet)
        books.acknowledged(partition, packet.seq, packet.before, packet.count)
        if packet.hour and self._hours is not None and books is self._books:
            self._hours.acknowledged(packet.hour)
        if packet.flush == self._flush:
            self._left -= 1
        if line.next() is not None:
            self._armed = self._due = True
        elif self._open[partition] is not None and not self._armed:
            self._arm()
        self._stored(packet.size, None if packet.loaded else monotonic() - packet.opened_at)
        self._answer(packet)

    @staticmethod
    def _answer(packet: Packet) -> None:
        """Answers who waits for nothing but this packet."""
        exchanges, packet.exchanges = packet.exchanges, []
        for exchange in exchanges:
            exchange.left -= 1
            if not exchange.left and not exchange.done:
                exchange.settle()
