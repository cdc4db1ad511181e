"""How a record is handed to the stream: at once where it can be, and given up where a rebalance begins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from mode import Service

from streams.consumer import Consumer

Test = Callable[[Consumer], Awaitable[None]]


def run(test: Test) -> None:
    async def body() -> None:
        consumer = Consumer.__new__(Consumer)
        Service.__init__(consumer)  # without Kafka: only the waiting is tried
        await test(consumer)

    asyncio.run(body())


def test_a_delivery_that_need_not_wait_makes_no_task() -> None:
    tasks: list[int] = []

    async def delivery() -> str:
        tasks.append(len(asyncio.all_tasks()))
        return "delivered"

    async def test(consumer: Consumer) -> None:
        found = await consumer.wait_first(delivery(), asyncio.Event().wait())
        assert found.results == ["delivered"]

    run(test)
    assert tasks == [1]


def test_a_delivery_that_waits_goes_on() -> None:
    async def test(consumer: Consumer) -> None:
        room = asyncio.Event()

        async def delivery() -> str:
            await room.wait()
            await asyncio.sleep(0.001)
            return "delivered"

        asyncio.get_running_loop().call_later(0.01, room.set)
        found = await consumer.wait_first(delivery(), asyncio.Event().wait())
        assert found.results == ["delivered"]

    run(test)


def test_a_delivery_that_waits_is_given_up_when_a_rebalance_begins() -> None:
    ended: list[str] = []

    async def test(consumer: Consumer) -> None:
        rebalance = asyncio.Event()

        async def delivery() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("given up")
                raise

        asyncio.get_running_loop().call_later(0.01, rebalance.set)
        await asyncio.wait_for(consumer.wait_first(delivery(), rebalance.wait()), 10)
        await asyncio.sleep(0.01)

    run(test)
    assert ended == ["given up"]


@pytest.mark.parametrize("waits", [False, True])
def test_what_a_delivery_raises_is_raised(waits: bool) -> None:
    async def delivery() -> None:
        if waits:
            await asyncio.sleep(0.001)
        raise ValueError("broken")

    async def test(consumer: Consumer) -> None:
        with pytest.raises(ValueError, match="broken"):
            await consumer.wait_first(delivery(), asyncio.Event().wait())

    run(test)
