"""Kafka's Produce request, version 8, with one record per partition and `acks=all`, from the loop itself.

A flush is one request per broker, written and answered in the event loop: no thread is woken, and nothing waits for
the interpreter's lock. That takes a fifth of the time of kafka-python's way, which remains for everything but the good
case: here nothing is tried again. At the first error, a lost connection or an answer that is late, whoever uses this
takes back all that is not acknowledged and hands it to kafka-python. So a producer id, which tells the broker a repeat
of one connection, would have nothing to do here; a second copy of a packet is known by its name.

Formats: https://kafka.apache.org/protocol and KIP-98 (record batches, magic 2).
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, cast

from crc32c import crc32c

PRODUCE, VERSION = 0, 8
ACKS_ALL = -1
RESPONSE_LIMIT = 1 << 20  # bytes; an answer has about 50 per partition
CONNECT_SECONDS = 5.0

Place = tuple[str, int]  # topic, partition
Address = tuple[str, int]  # host, port of a broker

_head = struct.Struct(">hhi").pack  # API, version, correlation id
_settings = struct.Struct(">hhii").pack  # transactional id (none), acks, timeout, number of topics
_int32, _int16 = struct.Struct(">i"), struct.Struct(">h")
_partition = struct.Struct(">iiqiibI").pack  # number, bytes; batch: base offset, length, leader epoch, magic, crc
_batch = struct.Struct(">hiqqqhii").pack  # attributes, last offset delta, first and last time, producer, count
_outcome = struct.Struct(">ihqqqi")  # partition, error, base offset, time, log start, number of record errors


class Outgoing(Protocol):
    """What is sent: see `delivery.Record`."""

    topic: str
    value: bytes
    key: bytes | None
    partition: int | None


class BadAnswer(ValueError):
    """A broker's answer cannot be read."""


def request(correlation: int, client: str, timeout_ms: int, records: Iterable[Outgoing], now_ms: int) -> bytes:
    """The whole request with its length. At most one record per partition, each of which must be named."""
    topics: dict[str, list[bytes]] = {}
    counts: dict[str, int] = {}
    for record in records:
        pieces = topics.setdefault(record.topic, [])
        counts[record.topic] = counts.get(record.topic, 0) + 1
        pieces += batch(cast(int, record.partition), record.key, record.value, now_ms)
    parts = [
        _head(PRODUCE, VERSION, correlation),
        _text(client),
        _settings(-1, ACKS_ALL, timeout_ms, len(topics)),
    ]
    for topic, pieces in topics.items():
        parts += (_text(topic), _int32.pack(counts[topic]), *pieces)
    return b"".join((_int32.pack(sum(map(len, parts))), *parts))


def batch(partition: int, key: bytes | None, value: bytes, now_ms: int) -> tuple[bytes, ...]:
    """The entry of a partition, in pieces: a batch of one record."""
    name = b"\x01" if key is None else _varint(len(key)) + key
    head = b"\0\0\0" + name + _varint(len(value))  # attributes, time and offset beside those of the batch
    record = _varint(len(head) + len(value) + 1) + head
    body = _batch(0, 0, now_ms, now_ms, -1, -1, -1, 1) + record
    checksum = crc32c(b"\0", crc32c(value, crc32c(body)))
    length = 9 + len(body) + len(value) + 1  # from the leader epoch on
    return _partition(partition, length + 12, 0, length, -1, 2, checksum), body, value, b"\0"


def outcomes(answer: bytes) -> list[tuple[str, int, int]]:
    """(topic, partition, error code) of an answer behind its correlation id; raises BadAnswer."""
    found = []
    try:
        topics, at = _count(answer, 0)
        for _ in range(topics):
            (size,) = _int16.unpack_from(answer, at)
            topic = answer[at + 2 : at + 2 + size].decode("ascii")
            partitions, at = _count(answer, at + 2 + size)
            for _ in range(partitions):
                partition, error, _, _, _, errors = _outcome.unpack_from(answer, at)
                at += _outcome.size
                for _ in range(errors):
                    at = _skip_text(answer, at + 4)
                at = _skip_text(answer, at)
                found.append((topic, partition, error))
    except (struct.error, UnicodeDecodeError):
        raise BadAnswer("a Produce answer ends early") from None
    return found


class Broker(asyncio.Protocol):
    """A connection to one broker. `answered(correlation, answer)`; `lost()` once, when it ends, however it does."""

    def __init__(self, answered: Callable[[int, bytes], None], lost: Callable[[str], None]) -> None:
        self._answered = answered
        self._lost = lost
        self._buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._lost("a broker closed the connection" if exc is None else type(exc).__name__)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        while len(buffer) >= 8:
            size, correlation = struct.unpack_from(">ii", buffer)
            if not 4 <= size <= RESPONSE_LIMIT:
                self._lost("a broker's answer has an impossible size")
                return
            if len(buffer) < 4 + size:
                break
            answer, buffer = buffer[8 : 4 + size], buffer[4 + size :]
            self._answered(correlation, answer)
        self._buffer = buffer


class Direct:
    """The leaders of all partitions, connected.

    `acknowledged(places)` is called for what every answer holds, `failed(why)` once, at the first thing that is wrong;
    from then on this is over: `close` it, and see to what was sent and is not acknowledged.
    """

    def __init__(
        self,
        leaders: Mapping[Place, Address],
        *,
        client: str,
        timeout: float,
        acknowledged: Callable[[list[Place]], None],
        failed: Callable[[str], None],
    ) -> None:
        """`timeout`: seconds that an answer may take."""
        self._leaders = leaders
        self._client = client
        self._timeout = timeout
        self._acknowledged = acknowledged
        self._report = failed
        self._brokers: dict[Address, Broker] = {}
        self._correlation = 0
        self._flying: dict[int, float] = {}  # correlation id -> when it was sent
        self._over = False

    async def connect(self) -> None:
        """Connects to all leaders; raises OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        for host, port in sorted(set(self._leaders.values())):
            connecting = loop.create_connection(lambda: Broker(self._answered, self._fail), host, port)
            _, broker = await asyncio.wait_for(connecting, CONNECT_SECONDS)
            self._brokers[host, port] = broker
        if self._over:
            raise ConnectionError("a broker closed the connection")

    def reaches(self, record: Outgoing) -> bool:
        """Whether the leader of the record's partition is known."""
        return not self._over and (record.topic, record.partition) in self._leaders

    def send(self, records: Iterable[Outgoing]) -> None:
        """Sends records that it reaches, one request per broker."""
        by_broker: dict[Address, list[Outgoing]] = {}
        for record in records:
            by_broker.setdefault(self._leaders[record.topic, cast(int, record.partition)], []).append(record)
        now = time.time_ns() // 1_000_000
        for address, some in by_broker.items():
            transport = self._brokers[address].transport
            if transport is None:
                continue  # it was lost, and `failed` is on its way
            self._correlation = (self._correlation + 1) & 0x7FFFFFFF
            self._flying[self._correlation] = time.monotonic()
            transport.write(request(self._correlation, self._client, int(self._timeout * 1000), some, now))

    def watch(self) -> None:
        """Called now and then: notices an answer that is late."""
        if self._flying and time.monotonic() - next(iter(self._flying.values())) > self._timeout:
            self._fail("an answer is late")

    def close(self) -> None:
        """Ends; what is not answered stays unknown."""
        self._over = True
        for broker in self._brokers.values():
            if broker.transport is not None:
                broker.transport.abort()

    def _answered(self, correlation: int, answer: bytes) -> None:
        if self._over or self._flying.pop(correlation, None) is None:
            return
        try:
            found = outcomes(answer)
        except BadAnswer as error:
            self._fail(str(error))
            return
        if stored := [(topic, partition) for topic, partition, error in found if not error]:
            self._acknowledged(stored)
        if wrong := [error for _, _, error in found if error]:
            self._fail(f"error {wrong[0]}")

    def _fail(self, why: str) -> None:
        if not self._over:
            self._over = True
            self._report(why)


def _varint(number: int) -> bytes:
    """A number from 0 on, zigzag."""
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(text: str) -> bytes:
    data = text.encode("utf-8")
    return _int16.pack(len(data)) + data


def _count(answer: bytes, at: int) -> tuple[int, int]:
    (count,) = _int32.unpack_from(answer, at)
    return count, at + 4


def _skip_text(answer: bytes, at: int) -> int:
    (size,) = _int16.unpack_from(answer, at)
    return at + 2 + max(int(size), 0)
