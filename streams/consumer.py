"""Faust's Kafka consumer, told where to read by what ClickHouse holds instead of by committed offsets.

Five things differ from Faust's own:
1. `perform_seek`, which runs after every rebalance, seeks to the offsets that the pipeline wants. Faust would seek to
   what was committed, and it may commit past a record that is still under way (faust issue 606).
2. A partition is *held* from its assignment until the pipeline owns it, and whenever it must be set back. Nothing of a
   held partition is delivered, whatever Faust pauses, resumes or buffers meanwhile.
3. Faust drops records below the highest offset it has delivered. That would swallow what was sought back, so every
   record is delivered; the pipeline tells by the offset what continues and what is stored.
4. A commit that fails is left for the next one, as commits serve only to show the lag, and Faust's watch over slow
   streams is off, as the worker has its own (`streams.feeder`).
5. A record that can be delivered at once is delivered without a task (`wait_first`). Faust makes four tasks for each,
   so that a delivery that must wait can be given up when a rebalance begins; one that waits is still treated so.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar, Protocol

from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.services import WaitResults

from infra.service.logs import logger

log = logger(__name__)


class Positions(Protocol):
    """What the consumer asks of the worker, and tells it."""

    def wanted(self) -> Mapping[int, int]:
        """The offset to read next of each partition that is running."""
        ...

    def assigned(self, consumer: Consumer, partitions: set[int]) -> None:
        """A rebalance gave this worker exactly these partitions; all are held now."""
        ...


class _NoReadOffsets(dict[TP, int | None]):
    """Remembers nothing, so that every record is delivered."""

    def __getitem__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        pass

    def update(self, *args: Any, **kwargs: Any) -> None:
        pass


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread in which aiokafka runs."""

    logger = driver.logger

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        mine = self.assignment()
        wanted = {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items() if tp in mine}
        try:
            if wanted:
                await self._ensure_consumer().commit(wanted)
        except KafkaError as error:
            log.debug("commit_failed", error=type(error).__name__)
            return False
        return True

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """Seek, in aiokafka's own thread; partitions that are not assigned any more are left out."""
        await self.call_thread(self._seek_all, offsets)

    async def _seek_all(self, offsets: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        for tp, offset in offsets.items():
            try:
                consumer.seek(TopicPartition(*tp), offset)
            except IllegalStateError:
                log.debug("seek_unassigned", partition=tp.partition)


class Consumer(driver.Consumer):
    """One per worker; its methods run in the main thread's event loop."""

    logger = driver.logger
    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.positions: Positions = self.app.positions  # type: ignore[attr-defined]
        self.held: set[TP] = set()
        self._read_offset = _NoReadOffsets()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def hold(self, tps: Iterable[TP]) -> None:
        """Deliver nothing of these partitions until they are released."""
        tps = set(tps)
        self.held |= tps
        self._get_active_partitions().difference_update(tps)
        self._buffered_partitions.difference_update(tps)

    async def release(self, offsets: Mapping[TP, int]) -> None:
        """Read these partitions on from the given offsets."""
        await self._thread.seek_all(offsets)
        for tp, offset in offsets.items():
            self._start_at(tp, offset)
        self.held.difference_update(offsets)
        if not self.app.rebalancing:
            self.resume_partitions(set(offsets) & self.assignment())

    def _start_at(self, tp: TP, offset: int) -> None:
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        self._committed_offset[tp] = offset or None

    async def perform_seek(self) -> None:
        wanted = self.positions.wanted()
        offsets = {
            tp: wanted[tp.partition] for tp in self.assignment() if tp not in self.held and tp.partition in wanted
        }
        await self._thread.seek_all(offsets)
        for tp, offset in offsets.items():
            self._start_at(tp, offset)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.hold(assigned)
        await super().on_partitions_assigned(assigned, generation_id)
        self.held &= assigned
        self.positions.assigned(self, {tp.partition for tp in assigned})

    def _set_active_tps(self, tps: set[TP]) -> set[TP]:
        active = super()._set_active_tps(tps)
        active.difference_update(self.held)
        return active

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        super().resume_partitions(set(tps) - self.held)

    def on_buffer_full(self, tp: TP) -> None:
        if tp not in self.held:
            super().on_buffer_full(tp)

    def on_buffer_drop(self, tp: TP) -> None:
        if tp not in self.held:
            super().on_buffer_drop(tp)

    def verify_event_path(self, now: float, tp: TP) -> None:
        pass

    async def wait_first(self, *coros: Any, timeout: Any = None) -> WaitResults:
        """Of a delivery and the wait for a rebalance, the first that ends; see 5."""
        if len(coros) != 2 or not all(map(asyncio.iscoroutine, coros)):
            return await super().wait_first(*coros, timeout=timeout)
        delivery, rebalance = coros
        try:
            waited = delivery.send(None)
        except StopIteration as done:
            rebalance.close()
            return WaitResults([delivery], [done.value], False)
        except BaseException:
            rebalance.close()
            raise
        return await super().wait_first(_went_on(delivery, waited), rebalance, timeout=timeout)


async def _went_on(coroutine: Coroutine[Any, Any, Any], waited: Any) -> Any:
    """The rest of a coroutine that has begun, and now waits for `waited`."""
    return await _rest(coroutine, waited)


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, Any], waited: Any) -> Generator[Any, Any, Any]:
    while True:
        try:
            step = partial(coroutine.send, (yield waited))
        except BaseException as error:
            step = partial(coroutine.throw, error)
        try:
            waited = step()
        except StopIteration as done:
            return done.value


class Transport(driver.Transport):
    """Faust's aiokafka transport with this consumer."""

    Consumer: ClassVar[type[Consumer]] = Consumer
