"""The Produce request as kafka-python reads it, its answers, and a connection to a broker that misbehaves."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch

from ingest.delivery import Record
from ingest.produce import BadAnswer, Direct, batch, outcomes, request
from tests.ingest.memory import until

NOW = 1_700_000_000_123


def record(partition: int, value: bytes = b"v", key: bytes | None = None, topic: str = "t") -> Record:
    return Record(topic, value, lambda: None, key=key, partition=partition)


@given(st.binary(max_size=300), st.none() | st.binary(max_size=200), st.integers(0, 4000))
def test_a_batch_reads_back(value: bytes, key: bytes | None, partition: int) -> None:
    data = b"".join(batch(partition, key, value, NOW))
    number, size = struct.unpack_from(">ii", data)
    assert (number, size) == (partition, len(data) - 8)
    found = DefaultRecordBatch(data[8:])
    assert found.validate_crc()
    (only,) = found
    assert (only.key, only.value, only.timestamp, only.headers) == (key, value, NOW, [])
    assert found.size_in_bytes == size


@pytest.mark.parametrize("size", [63, 64, 8191, 8192, 1 << 20])
def test_lengths_around_the_steps_of_their_coding(size: int) -> None:
    found = DefaultRecordBatch(b"".join(batch(0, None, b"x" * size, NOW))[8:])
    assert found.validate_crc()
    assert [len(only.value) for only in found] == [size]


def test_a_request_names_every_topic_once() -> None:
    records = [record(3), record(1, b"w"), record(0, b"r", b"k", topic="other")]
    data = request(7, "c", 10_000, records, NOW)
    assert struct.unpack_from(">ihhi", data) == (len(data) - 4, 0, 8, 7)
    assert data[12:26] == b"\0\x01c" + struct.pack(">hhi", -1, -1, 10_000) + b"\0\0\0"
    assert data.count(b"\0\x01t\0\0\0\x02") == 1
    assert data.count(b"\0\x05other\0\0\0\x01") == 1


def answer(*partitions: tuple[int, int], said: bytes | None = None) -> bytes:
    """A Produce answer of topic t behind its correlation id."""
    out = struct.pack(">ih", 1, 1) + b"t" + struct.pack(">i", len(partitions))
    for partition, error in partitions:
        out += struct.pack(">ihqqq", partition, error, 5, -1, 0)
        out += struct.pack(">i", 0) if said is None else struct.pack(">iih", 1, 0, len(said)) + said
        out += struct.pack(">h", -1) if said is None else struct.pack(">h", len(said)) + said
    return out + struct.pack(">i", 0)


def test_answers() -> None:
    assert outcomes(answer((0, 0), (3, 6))) == [("t", 0, 0), ("t", 3, 6)]
    assert outcomes(answer((0, 87), (1, 0), said=b"no")) == [("t", 0, 87), ("t", 1, 0)]
    whole = answer((0, 0))
    for end in range(len(whole) - 4):
        with pytest.raises(BadAnswer):
            outcomes(whole[:end])


class FakeBroker:
    """A listener that answers each request as told: bytes, or None to close, or "" to say nothing."""

    def __init__(self, replies: list[Any]) -> None:
        self.replies = replies
        self.requests = 0
        self.port = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        while head := await reader.read(4):
            data = await reader.readexactly(struct.unpack(">i", head)[0])
            (correlation,) = struct.unpack_from(">i", data, 4)
            self.requests += 1
            reply = self.replies.pop(0)
            if reply is None:
                break
            if reply:
                body = struct.pack(">i", correlation) + reply
                for byte in struct.pack(">i", len(body)) + body:  # in single bytes
                    writer.write(bytes((byte,)))
                    await writer.drain()
        writer.close()


def with_broker(replies: list[Any]) -> Callable[[Callable[..., Awaitable[None]]], Callable[[], None]]:
    def decorate(test: Callable[..., Awaitable[None]]) -> Callable[[], None]:
        async def inside() -> None:
            broker = FakeBroker(replies)
            server = await asyncio.start_server(broker.serve, "127.0.0.1", 0)
            broker.port = server.sockets[0].getsockname()[1]
            stored: list[tuple[str, int]] = []
            failures: list[str] = []
            direct = Direct(
                {("t", number): ("127.0.0.1", broker.port) for number in range(4)},
                client="c",
                timeout=0.2,
                acknowledged=stored.extend,
                failed=failures.append,
            )
            try:
                await direct.connect()
                await test(direct, broker, stored, failures)
            finally:
                direct.close()
                for writer in broker.writers:
                    writer.close()
                server.close()

        def run() -> None:
            uvloop.run(inside())

        run.__name__ = test.__name__
        return run

    return decorate


@with_broker([answer((0, 0), (2, 0))])
async def test_one_request_for_a_flush(
    direct: Direct, broker: FakeBroker, stored: list[Any], failures: list[str]
) -> None:
    direct.send([record(0), record(2)])
    await until(lambda: stored)
    assert (stored, broker.requests, failures) == ([("t", 0), ("t", 2)], 1, [])
    assert direct.reaches(record(3))
    assert not direct.reaches(record(4))
    assert not direct.reaches(record(0, topic="other"))


@with_broker([answer((0, 0), (1, 6))])
async def test_an_error_ends_it_and_spares_what_was_stored(
    direct: Direct, broker: FakeBroker, stored: list[Any], failures: list[str]
) -> None:
    direct.send([record(0), record(1)])
    await until(lambda: failures)
    assert (stored, failures) == ([("t", 0)], ["error 6"])
    assert not direct.reaches(record(0))


@with_broker([None])
async def test_a_closed_connection_ends_it(
    direct: Direct, broker: FakeBroker, stored: list[Any], failures: list[str]
) -> None:
    direct.send([record(0)])
    await until(lambda: failures)
    assert len(failures) == 1
    assert stored == []


@with_broker([b"\x7f\xff\xff\xff"])
async def test_an_answer_that_is_none_ends_it(
    direct: Direct, broker: FakeBroker, stored: list[Any], failures: list[str]
) -> None:
    direct.send([record(0)])
    await until(lambda: failures)
    assert failures == ["a Produce answer ends early"]


@with_broker([""])
async def test_a_late_answer_ends_it(
    direct: Direct, broker: FakeBroker, stored: list[Any], failures: list[str]
) -> None:
    direct.watch()
    direct.send([record(0)])

    def failed() -> list[str]:
        direct.watch()
        return failures

    await until(failed)
    assert (stored, failures) == ([], ["an answer is late"])


async def _no_broker() -> None:
    direct = Direct(
        {("t", 0): ("127.0.0.1", 1)},
        client="c",
        timeout=1.0,
        acknowledged=cast(Any, None),
        failed=cast(Any, None),
    )
    with pytest.raises(OSError):
        await direct.connect()


def test_nobody_listens() -> None:
    uvloop.run(_no_broker())
