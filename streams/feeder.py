"""Between Faust and the pipeline: what Faust delivers waits here, bounded, and is stored batch by batch.

Everything that asks ClickHouse or may take long runs in one thread, the pipeline's, so that the event loop goes on and
nothing of a partition ever runs twice at once. Whatever goes wrong between Kafka and the pipeline (records that are
delivered twice, dropped, or out of turn after a rebalance) ends the same way: the partition is held, set back to the
offset that the pipeline wants, and read on from there.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar
from uuid import UUID

from faust.types import TP, EventT

from infra.service.logs import logger
from schemas.packets import BadPacket, header
from streams import metrics
from streams.batch import Record
from streams.consumer import Consumer
from streams.lag import Ages
from streams.partitions import Life
from streams.patience import Patience, Stopping
from streams.pipeline import Pipeline
from streams.topic_generations import KafkaError, Topic

log = logger(__name__)

BATCH_EVENTS = 30_000  # a batch is closed when it holds so many
WAITING_BYTES = 32 << 20  # records that wait here; beyond it Faust's own buffer fills, then fetching stops
LINGER = 0.25  # seconds from the start of a small batch to that of the next one; a batch has its price, however small
SMALL = 2_000  # events; a batch of fewer is small
WATCH = 2.0  # seconds between two looks at the partitions
SETTLE = 0.1  # seconds in which what was delivered before a partition was held arrives here
STILL = 10.0  # seconds without progress after which a partition is set back
STUCK = 60.0  # seconds without progress after which the process is not alive; after twice as many it leaves
LAGGING = (Life.RUNNING, Life.WAITING, Life.STOPPED)
RETRY_FIRST, RETRY_LAST = 1.0, 30.0  # seconds until a lost or waiting partition is tried again

T = TypeVar("T")


class Stuck(RuntimeError):
    """Nothing goes on although everything around answers; only a new process helps."""


class Feeder:
    """Lives in the event loop. `fatal` is called, once, with what makes going on impossible; it does not return."""

    def __init__(
        self,
        pipeline: Pipeline,
        topic: Topic,
        topic_id: UUID,
        fatal: Callable[[BaseException], None],
        upkeep_seconds: float = 300.0,
    ) -> None:
        """`topic` is for this object's own use: `topic_id` is the id of the pipeline's generation.

        upkeep_seconds: between two fetches of secrets ahead of need, after which the pipeline tidies.
        """
        self._upkeep_seconds = upkeep_seconds
        self.pipeline = pipeline
        self._topic = topic
        self._topic_id = topic_id
        self._fatal = fatal
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pipeline")
        self._patience = Patience(pipeline.patience.stop)
        self._broker = ThreadPoolExecutor(1, thread_name_prefix="broker")
        self._waiting: deque[tuple[EventT[bytes], Record, int]] = deque()
        self._bytes = 0
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._assigned: set[int] | None = None
        self._assignments = 0
        self._ends: dict[int, int] = {}
        self._ages = Ages()
        self._under_way: list[Record] = []
        self._shown: set[int] = set()
        self._moved: dict[int, tuple[int, float]] = {}
        self._retries: dict[int, tuple[float, float]] = {}
        self._turning_back: set[int] = set()
        self._busy = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.consumer: Consumer | None = None
        self.topic_name = topic.name
        self.progressed = time.monotonic()

    # What Faust's side calls

    def wanted(self) -> Mapping[int, int]:
        """The offset to read next of each partition that is running."""
        return self.pipeline.running()

    def assigned(self, consumer: Consumer, partitions: set[int]) -> None:
        """A rebalance gave this worker exactly these partitions; the consumer holds them all."""
        self.consumer = consumer
        self._assigned = partitions
        self._assignments += 1
        self._retries.clear()
        self._start(self._take_over(partitions))

    async def put(self, events: Iterable[EventT[bytes]]) -> None:
        """Take what Faust delivers; waits while too much is waiting here already."""
        await self._room.wait()
        for event in events:
            message = event.message
            value = message.value or b""
            record = Record(
                message.partition,
                message.offset,
                self.pipeline.generation,
                round((message.timestamp or 0.0) * 1000),
                value,
            )
            self._waiting.append((event, record, _count(value)))
            self._bytes += len(value)
        metrics.waiting.set(len(self._waiting))
        self._some.set()
        if self._bytes >= WAITING_BYTES:
            self._room.clear()

    # Its own loops

    def start(self) -> None:
        """Begin to store what is delivered."""
        self._start(self._pump())
        self._start(self._watch())

    async def stop(self) -> None:
        """End the loops; the batch under way is finished or given up, and nothing of it is acknowledged then."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._broker.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._thread.shutdown, wait=True, cancel_futures=True)

    def alive(self) -> str:
        """A check for /livez: records wait, what is around answers, and yet no batch is finished."""
        return self._stuck(STUCK)

    def _stuck(self, limit: float) -> str:
        running = self.pipeline.running()
        behind = self._waiting or self._busy or self._assigned is None or any(map(self._behind, running))
        if not behind or self.pipeline.patience.waiting_for or self._patience.waiting_for:
            self.progressed = time.monotonic()
        age = time.monotonic() - self.progressed
        return f"records wait and no batch was finished for {age:.0f} s" if age > limit else ""

    def owns(self, number: int) -> bool:
        """Whether a partition is assigned to this worker and running; any thread may ask."""
        return number in (self._assigned or ()) and number in self.pipeline.running()

    def ready(self) -> str:
        """A check for /readyz: assigned, owned, and nothing away or stopped."""
        if self._assigned is None:
            return "no partitions were assigned yet"
        if self.pipeline.patience.waiting_for:
            return f"waiting for {self.pipeline.patience.waiting_for}"
        for number in sorted(self._assigned):
            partition = self.pipeline.partitions.get(number)
            if partition is None or partition.life is not Life.RUNNING:
                life = partition.life if partition else Life.ASSIGNED
                return f"partition {number} is {life}{': ' + partition.why if partition and partition.why else ''}"
        return ""

    def _start(self, coroutine: object) -> None:
        task = asyncio.ensure_future(self._guard(coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, coroutine: object) -> None:
        try:
            await coroutine  # type: ignore[misc]
        except Stopping:
            pass
        except Exception as error:
            self._fatal(error)

    async def _call(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    async def _ask(self, question: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._broker, question, *arguments)

    async def _pump(self) -> None:
        while True:
            await self._some.wait()
            started = time.monotonic()
            events, records = self._batch()
            self._busy, self._under_way = True, records
            try:
                turn = await self._call(self.pipeline.run, records)
            finally:
                self._busy, self._under_way = False, []
            self.progressed = time.monotonic()
            for event in events:
                if event.message.offset < turn.done.get(event.message.partition, 0):
                    event.ack()
            for number, offset in turn.back.items():
                if number not in self._turning_back:
                    log.warning("out_of_turn", partition=number, wanted=offset)
                    self._start(self._set_back({number}, "gap"))
            del events, records
            if turn.events < SMALL:
                await asyncio.sleep(max(0.0, started + LINGER - time.monotonic()))

    def _batch(self) -> tuple[list[EventT[bytes]], list[Record]]:
        events: list[EventT[bytes]] = []
        records: list[Record] = []
        total = 0
        while self._waiting and (not records or total + self._waiting[0][2] <= BATCH_EVENTS):
            event, record, count = self._waiting.popleft()
            events.append(event)
            records.append(record)
            total += count
            self._bytes -= len(record.value)
        metrics.waiting.set(len(self._waiting))
        if not self._waiting:
            self._some.clear()
        if self._bytes < WAITING_BYTES:
            self._room.set()
        return events, records

    async def _take_over(self, partitions: set[int]) -> None:
        assignment = self._assignments
        starts = await self._ask(self._starts, sorted(partitions))
        running = await self._call(self.pipeline.assign, starts)
        if assignment == self._assignments:
            now = time.monotonic()
            for number in running:
                self._retries.pop(number, None)
                self._moved[number] = (running[number], now)
            await self._release(running)

    async def _set_back(self, numbers: set[int], why: str) -> None:
        consumer = self.consumer
        numbers = numbers - self._turning_back
        if consumer is None or not numbers:
            return
        self._turning_back |= numbers
        try:
            consumer.hold(self._tp(number) for number in numbers)
            metrics.sought.labels(why).inc(len(numbers))
            await asyncio.sleep(SETTLE)
            self._forget(numbers)
            await self._take_over(numbers)
        finally:
            self._turning_back -= numbers

    def _forget(self, numbers: set[int]) -> None:
        kept = [item for item in self._waiting if item[1].partition not in numbers]
        self._waiting = deque(kept)
        self._bytes = sum(len(record.value) for _, record, _ in kept)

    async def _release(self, offsets: Mapping[int, int]) -> None:
        if self.consumer is not None and offsets:
            await self.consumer.release({self._tp(number): offset for number, offset in offsets.items()})

    async def _watch(self) -> None:
        prepared = 0.0
        while True:
            await asyncio.sleep(WATCH)
            assigned = self._assigned or set()
            await self._look(sorted(assigned))
            if why := self._stuck(2 * STUCK):
                raise Stuck(why)
            now = time.monotonic()
            if now - prepared > self._upkeep_seconds:
                prepared = now
                await self._call(self.pipeline.prepare)
                await self._call(self.pipeline.tidy)
            await self._retry(assigned, now)
            running = self.pipeline.running()
            for number in assigned & running.keys():
                wanted, since = self._moved.get(number, (-1, now))
                if running[number] != wanted:
                    self._moved[number] = (running[number], now)
                elif self._behind(number) and now - since > STILL and not self._busy and not self._waiting:
                    log.warning("partition_still", partition=number, wanted=wanted, end=self._ends[number])
                    self._moved[number] = (wanted, now)
                    await self._set_back({number}, "still")

    async def _look(self, assigned: Sequence[int]) -> None:
        """Ask the broker for the ends of the partitions; an end below what is stored means a log that was cut."""
        try:
            await self._ask(self._topic.expect, self._topic_id)
            self._ends = await self._ask(self._topic.ends, assigned)
        except KafkaError as error:
            log.warning("waiting", what="kafka", error=type(error).__name__)
            self.progressed = time.monotonic()
            return
        running = self.pipeline.running()
        self._show_lag(running)
        for number, end in self._ends.items():
            if running.get(number, 0) > end:
                await self._call(
                    self.pipeline.stop, number, "the log ends below what is stored; delete the topic and make it again"
                )

    def _show_lag(self, running: Mapping[int, int]) -> None:
        now = time.time()
        metrics.owned.set(len(self._ends.keys() & running.keys()))  # not what is kept for partitions that come back
        self._ages.seen(self._ends, now)
        oldest: dict[int, float] = {}
        for record in chain(self._under_way, (record for _, record, _ in self._waiting)):
            if record.offset >= running.get(record.partition, 0):
                oldest.setdefault(record.partition, record.appended_ms / 1000)
        for gone in self._shown - self._ends.keys():  # another worker shows it now
            for metric in (metrics.lag, metrics.lag_seconds):
                metric.remove(str(gone))
        self._shown = set(self._ends)
        for number, end in self._ends.items():
            known = self.pipeline.partitions.get(number)
            # what is not read now lags all the more; of what was never owned nothing is known
            wanted = known.wanted if known is not None and known.life in LAGGING else end
            metrics.lag.labels(str(number)).set(max(end - wanted, 0))
            metrics.lag_seconds.labels(str(number)).set(self._ages.age(number, wanted, oldest.get(number), now))

    async def _retry(self, assigned: set[int], now: float) -> None:
        due: set[int] = set()
        for number in assigned:
            partition = self.pipeline.partitions.get(number)
            if partition is None or partition.life not in (Life.LOST, Life.WAITING):
                self._retries.pop(number, None)
                continue
            at, wait = self._retries.get(number, (0.0, RETRY_FIRST))
            if not at:
                if self.consumer is not None:
                    self.consumer.hold([self._tp(number)])
                self._retries[number] = (now + wait, wait)
            elif now >= at:
                self._retries[number] = (now + min(2 * wait, RETRY_LAST), min(2 * wait, RETRY_LAST))
                due.add(number)
        if due:
            await self._call(self.pipeline.resume, due)
            await self._set_back(due, "retry")

    def _starts(self, partitions: Sequence[int]) -> dict[int, int]:
        return self._patience.insist("kafka", lambda: self._topic.starts(partitions), KafkaError)

    def _behind(self, number: int) -> bool:
        return self._ends.get(number, 0) > self.pipeline.running().get(number, 0)

    def _tp(self, number: int) -> TP:
        return TP(self.topic_name, number)


def _count(value: bytes) -> int:
    try:
        return min(header(value).count, BATCH_EVENTS)
    except BadPacket:
        return 1
