"""The packets of one partition, from its first event to Kafka's acknowledgement, in the order in which they leave."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterator

from ingest.exchange import Exchange
from ingest.requests import Row
from ingest.spool.log import Log
from ingest.spool.spool import Place
from schemas.packets import header


class Packet:
    """Events of one partition under one version of the policies, and who waits for them.

    policies: the set of that version as it goes to `site.policies`; empty in a packet that comes from the spool.
    before: events of the partition in the writer's earlier packets. place: where it lies in the spool, once it does.
    """

    __slots__ = (
        "acknowledged",
        "before",
        "count",
        "exchanges",
        "flush",
        "hour",
        "loaded",
        "opened_at",
        "partition",
        "place",
        "policies",
        "policy",
        "rows",
        "sent_at",
        "seq",
        "size",
        "spooled",
        "value",
    )

    def __init__(self, partition: int, policy: bytes, policies: bytes, opened_at: float) -> None:
        self.partition = partition
        self.policy = policy
        self.policies = policies
        self.opened_at = opened_at  # monotonic
        self.rows: list[Row] = []  # empty once the packet is closed
        self.seq = 0
        self.count = 0  # events, once it is closed
        self.hour = 0  # to whose key it is sealed, once it is closed; 0 where it is not
        self.before = 0
        self.exchanges: list[Exchange] = []
        self.flush = 0
        self.sent_at = 0.0  # monotonic
        self.size = 0  # bytes: of the body before compression while it is open, then of the value
        self.value = b""  # set when the packet is closed, never changed after
        self.spooled = False  # was given to the spool, or comes from it
        self.loaded = False  # comes from the spool
        self.place: Place | None = None
        self.acknowledged = False

    @classmethod
    def of_spool(cls, partition: int, place: Place, value: bytes, before: int) -> Packet:
        """A packet that comes from the spool; raises schemas.packets.BadPacket."""
        head = header(value)
        packet = cls(partition, head.policy, b"", 0.0)
        packet.seq, packet.count, packet.before = head.seq, head.count, before
        packet.value, packet.size, packet.hour = value, len(value), head.key_id
        packet.spooled, packet.loaded, packet.place = True, True, place
        return packet


class Run:
    """Packets of one log, by position, of which the first `taken` are gone."""

    __slots__ = ("log", "positions", "taken")

    def __init__(self, log: Log, positions: array[int]) -> None:
        self.log = log
        self.positions = positions
        self.taken = 0


class Shelf:
    """Packets of a partition that lie in the spool and nowhere else, 8 bytes each."""

    __slots__ = ("_runs", "bytes")

    def __init__(self) -> None:
        self.bytes = 0  # of the packets here, and of those read from here that are not acknowledged
        self._runs: deque[Run] = deque()

    def __bool__(self) -> bool:
        return bool(self._runs)

    def add(self, place: Place, size: int) -> None:
        """Puts a packet behind all others."""
        if not self._runs or self._runs[-1].log is not place.log:
            self._runs.append(Run(place.log, array("Q")))
        self._runs[-1].positions.append(place.position)
        self.bytes += size

    def precede(self, log: Log, positions: array[int], size: int, writer: int) -> None:
        """Puts the packets of an inherited log before those of this process's `writer`, behind those of other logs."""
        behind = self._runs.pop() if self._runs and self._runs[-1].log.writer == writer else None
        self._runs.append(Run(log, positions))
        if behind is not None:
            self._runs.append(behind)
        self.bytes += size

    def take(self, most: int) -> Iterator[Place]:
        """Takes up to `most` packets away, the first ones."""
        while most and self._runs:
            run = self._runs[0]
            end = min(run.taken + most, len(run.positions))
            most -= end - run.taken
            for position in run.positions[run.taken : end]:
                yield Place(run.log, position)
            run.taken = end
            if end == len(run.positions):
                self._runs.popleft()
            elif end > 4096 and end > len(run.positions) // 2:
                del run.positions[:end]
                run.taken = 0


class Line:
    """What waits of one partition, but for the packet that is open: read from the front, each part before the next."""

    __slots__ = ("closed", "loaded", "loading", "outstanding", "shelf", "writing")

    def __init__(self) -> None:
        self.outstanding: Packet | None = None  # given to Kafka
        self.loaded: deque[Packet] = deque()  # read from the spool
        self.loading = 0  # packets that are being read
        self.shelf = Shelf()
        self.writing: deque[Packet] = deque()  # given to the spool
        self.closed: deque[Packet] = deque()

    def next(self) -> Packet | None:
        """The packet to be sent next; None where there is none, or it is not in memory yet."""
        if self.loaded:
            return self.loaded[0]
        if self.loading or self.shelf:
            return None
        return self.writing[0] if self.writing else self.closed[0] if self.closed else None

    def advance(self) -> None:
        """Takes away what `next` gave."""
        (self.loaded or self.writing or self.closed).popleft()

    def empty(self) -> bool:
        """Whether nothing is left that would be lost with this process."""
        out = self.outstanding
        return (out is None or out.place is not None) and not self.writing and not self.closed

    def in_memory(self) -> Iterator[Packet]:
        """All packets whose events may still have somebody who waits, in order."""
        if self.outstanding is not None:
            yield self.outstanding
        yield from self.writing
        yield from self.closed
