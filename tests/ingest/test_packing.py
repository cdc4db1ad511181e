"""Packets: when they leave, in which order, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import uvloop

from ingest.exchange import Exchange
from ingest.pace import Pace
from ingest.packing import Packing
from ingest.reports import Books
from ingest.requests import Row, size_of
from schemas.packets import decode, header
from tests.ingest.memory import MemoryDelivery, until

POLICY, OTHER = b"p" * 16, b"q" * 16
PARTITIONS = 4


class Waiting:
    """Stands for an exchange: what Packing sees of one."""

    def __init__(self) -> None:
        self.left = 0
        self.done = False
        self.answers: list[str] = []

    def settle(self) -> None:
        self.done = True
        self.answers.append("stored")

    def unavailable(self, _text: str) -> None:
        if not self.done:
            self.done = True
            self.answers.append("unknown")


class Bench:
    """A Packing over a MemoryDelivery that acknowledges when told."""

    def __init__(self, **overrides: Any) -> None:
        self.delivery = MemoryDelivery(lambda: self.packing.acknowledged())
        self.delivery.held = True
        self.books = Books(7, 0)
        self.stored: list[tuple[int, float]] = []
        values: dict[str, Any] = {
            "writer": 7,
            "topic": "events.raw",
            "partitions": PARTITIONS,
            "policy": POLICY,
            "policies": b"set " + POLICY,
            "delivery": self.delivery,
            "books": self.books,
            "pace": Pace(1_000_000, 0.001, 0.001),
            "packet_bytes": 20_000,
            "memory_bytes": 1 << 20,
            "stored": lambda size, seconds: self.stored.append((size, seconds)),
        }
        self.packing = Packing(**(values | overrides))
        self.packing.publish(POLICY)

    def add(self, partition: int, waiting: Waiting | None = None, query: str = "q") -> Waiting:
        waiting = waiting or Waiting()
        row: Row = (1, partition + 1, bytes(16), 0, 0, "", "", "", query, b"", 1, 0)
        self.packing.add(partition, row, size_of(row), cast(Exchange, waiting))
        return waiting

    def sent(self) -> list[tuple[int | None, int, int]]:
        """(partition, seq, count) of all packets sent so far."""
        return [(r.partition, header(r.value).seq, header(r.value).count) for r in self.delivery.packets()]


def on_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        uvloop.run(cast(Any, test()))

    run.__name__ = test.__name__
    return run


@on_loop
async def test_events_of_one_flush_share_a_packet_and_wait_for_it() -> None:
    bench = Bench()
    first, second, other = bench.add(0), bench.add(0), bench.add(2)
    await until(bench.sent)
    assert bench.sent() == [(0, 0, 2), (2, 0, 1)]
    assert first.answers == []
    bench.delivery.release(0)
    assert (first.answers, second.answers, other.answers) == (["stored"], ["stored"], [])
    bench.delivery.release(2)
    assert other.answers == ["stored"]
    assert bench.packing.empty()
    assert bench.packing.waiting == 0


@on_loop
async def test_one_flush_is_in_flight_and_the_next_takes_what_came_meanwhile() -> None:
    bench = Bench()
    bench.add(0)
    await until(bench.sent)
    late = [bench.add(partition) for partition in (0, 1, 1)]
    await asyncio.sleep(0.05)
    assert bench.sent() == [(0, 0, 1)]
    bench.delivery.release()
    await until(lambda: len(bench.sent()) == 3)
    assert bench.sent()[1:] == [(0, 1, 1), (1, 0, 2)]
    bench.delivery.release()
    assert [waiting.answers for waiting in late] == [["stored"]] * 3


@on_loop
async def test_a_partition_that_is_held_up_holds_up_no_other_and_keeps_its_order() -> None:
    bench = Bench()
    bench.add(0)
    bench.add(1)
    await until(bench.sent)
    bench.delivery.release(1)
    for number in range(3):
        bench.add(0)
        waiting = bench.add(1)

        def due(waiting: Waiting = waiting) -> bool:
            bench.packing.tick(60)
            bench.delivery.release(1)
            return bool(waiting.answers)

        await until(due)
        assert [seq for partition, seq, _ in bench.sent() if partition == 0] == [0], number
    bench.delivery.release(0)
    await until(lambda: (0, 1, 3) in bench.sent())
    bench.delivery.release(0)
    assert bench.packing.empty()


@on_loop
async def test_a_full_packet_leaves_at_once_and_no_packet_is_larger() -> None:
    bench = Bench(pace=Pace(1, 60, 60))
    for _ in range(25):
        bench.add(0, query="x" * 1000)
    sizes = []
    while not bench.packing.empty():
        bench.delivery.release()
        bench.packing.flush()
        await asyncio.sleep(0)
    for record in bench.delivery.packets():
        _, columns = decode(record.value)
        sizes.append(len(columns.query))
    assert [seq for _, seq, _ in bench.sent()] == list(range(len(sizes)))
    assert len(sizes) == 3
    assert max(sizes) <= 20_000
    assert sum(count for _, _, count in bench.sent()) == 25


@on_loop
async def test_a_request_over_several_packets_is_answered_after_the_last() -> None:
    bench = Bench()
    waiting = Waiting()
    for partition in (0, 1, 0, 3):
        bench.add(partition, waiting)
    await until(bench.sent)
    assert waiting.left == 3
    for partition in (3, 0):
        bench.delivery.release(partition)
        assert waiting.answers == []
    bench.delivery.release(1)
    assert waiting.answers == ["stored"]


@on_loop
async def test_who_waits_too_long_is_told_once_and_the_packet_stays() -> None:
    bench = Bench()
    both, one, late = Waiting(), Waiting(), Waiting()
    bench.add(0, both)
    bench.add(1, both)
    bench.add(1, one)
    await until(bench.sent)
    bench.delivery.release(1)
    bench.add(0, late)
    bench.packing.tick(-1)
    assert (both.answers, one.answers, late.answers) == (["unknown"], ["stored"], ["unknown"])
    assert bench.packing.unknown == 2
    bench.delivery.held = False
    bench.delivery.release()
    await until(bench.packing.empty)
    assert bench.sent() == [(0, 0, 1), (1, 0, 2), (0, 1, 1)]
    assert (both.answers, late.answers) == (["unknown"], ["unknown"])
    assert bench.books.events == 4


@on_loop
async def test_nothing_leaves_before_its_policy_is_published_and_versions_do_not_mix() -> None:
    bench = Bench()
    bench.delivery.held = False
    bench.add(0)
    bench.packing.adopt(OTHER, b"set")
    bench.add(0)
    bench.add(1)
    await asyncio.sleep(0.05)
    policies = [header(record.value).policy for record in bench.delivery.packets()]
    assert policies == [POLICY]
    bench.packing.publish(OTHER)
    await until(bench.packing.empty)
    assert bench.sent() == [(0, 0, 1), (0, 1, 1), (1, 0, 1)]
    assert [header(record.value).policy for record in bench.delivery.packets()] == [POLICY, OTHER, OTHER]


@on_loop
async def test_waiting_bytes_are_bounded_and_released() -> None:
    bench = Bench(memory_bytes=50_000)
    count = 0
    while not bench.packing.full():
        bench.add(count % PARTITIONS, query=str(count) * 200)
        count += 1
    assert 20 < count < 250
    assert bench.packing.full()
    assert not Bench(memory_bytes=50_000).packing.full()
    assert Bench(memory_bytes=50_000).packing.full(50_000)
    bench.delivery.held = False
    bench.delivery.release()
    await until(bench.packing.empty)
    assert bench.packing.waiting == 0


@pytest.mark.parametrize(
    ("sent", "now", "expected"),
    [
        ([], 1000.0, 0.005),  # nothing sent yet: at once
        ([(8, 1000.0)], 1000.0, 0.005),  # the budget of a pause is in hand
        ([(50, 1000.0)], 1000.0, 0.005),
        ([(50, 1000.0), (8, 1000.0)], 1000.0, 0.04),  # used up: 8 packets at 200 a second
        ([(50, 1000.0), (8, 1000.0)], 1000.04, 0.005),
        ([(500, 1000.0)], 1000.0, 0.25),  # never longer
        ([(500, 1000.0)], 1010.0, 0.005),
    ],
)
def test_pace(sent: list[tuple[int, float]], now: float, expected: float) -> None:
    pace = Pace(200, 0.005, 0.25)
    for packets, at in sent:
        pace.sent(packets, at)
    assert pace.delay(now) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("partitions", [1, 2, 8, 40])
def test_pace_keeps_the_rate_under_steady_load(partitions: int) -> None:
    pace, now, packets = Pace(200, 0.005, 0.25), 1000.0, 0
    while now < 1060.0:
        now += pace.delay(now)
        packets += partitions
        pace.sent(partitions, now)
    in_hand = 200 * 0.25
    assert packets <= 200 * (now - 1000.0) + in_hand + partitions
    assert packets >= min(200 * 60, partitions * 60 / 0.006)
