"""Records of `video.results` and `worker.status` become rows of `video_jobs` and `worker_samples`.

A row is named by what it tells: (job, attempt, state), and (worker, at). The tables are ReplacingMergeTree over these
names, so a record that is read twice is one row for readers who ask with FINAL, and at least once is exact for them.
Records are acknowledged after their rows are stored, and the commit that follows never passes what is stored, even
when Faust, on its way down, has acknowledged more (streams that close do).

Records of `recordings.raw` are read beside them, in a thread of their own (`streams.recordings`), under the same rules.

It is a part of the stream worker's process, and a Faust application of its own beside that of the events: its offsets
live in Kafka, not in ClickHouse, it goes on when the events' partitions are set back, and when it fails it is made anew
while the events go on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ClassVar

import faust
import pyarrow as pa
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from infra.service.logs import describe, logger
from infra.service.metrics import counter
from infra.service.settings import Settings
from schemas.topics import RECORDINGS_RAW, VIDEO_RESULTS, WORKER_STATUS
from schemas.video_tables import VIDEO_JOBS_TABLE, WORKER_SAMPLES_TABLE
from streams.patience import Patience, Stopping
from streams.recordings import Recordings
from streams.storing import Store
from streams.video_rows import job_row, sample_row, table

log = logger(__name__)

TAKE = 500  # records at once
RECORDINGS_TAKE = 8  # of recordings, which are large
WITHIN = 0.2  # seconds that a record waits for others
SESSION, HEARTBEAT = 6.0, 0.5  # seconds
FOR_EVER = 7 * 24 * 3600.0  # ClickHouse may be away for so long before the broker is left
LOOK = 0.5  # seconds between two looks at whether it goes on
STUCK = 120.0  # seconds at one batch, while ClickHouse answers, after which it is made anew
STOP = 30.0  # seconds that a failed application has to end in
AGAIN_FIRST, AGAIN_LAST = 1.0, 30.0  # seconds before it is made anew
AWAY_LAST = 5.0  # the same while it fails because Kafka is away
LASTING = 60.0  # seconds after which a life counts as a good one
IN_VAIN = 10  # short lives in a row, after which only a new process helps

rows_stored = counter("video_results", "rows", "Rows stored of the video path", ["table"])
failures = counter("video_results", "failures", "Times that the part of the video results was made anew")

Row = Callable[[bytes], dict[str, Any]]
Put = Callable[[Sequence[Any]], None]  # of messages


class _Thread(driver.AIOKafkaConsumerThread):
    """Commits what is stored and no more."""

    logger = driver.logger

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        stored: dict[TP, int] = self.consumer.app.stored  # type: ignore[attr-defined]
        mine = self.assignment()
        wanted = {
            TopicPartition(*tp): OffsetAndMetadata(min(offset, stored[tp]), "")
            for tp, offset in offsets.items()
            if tp in mine and tp in stored
        }
        try:
            if wanted:
                await self._ensure_consumer().commit(wanted)
        except KafkaError as error:
            log.debug("commit_failed", error=type(error).__name__)
            return False
        return True


class _Consumer(driver.Consumer):
    logger = driver.logger

    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await super().on_partitions_assigned(assigned, generation_id)
        self.app.joined = True  # type: ignore[attr-defined]

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's watch over slow streams is off: this module has its own."""


class _Transport(driver.Transport):
    Consumer: ClassVar[type[_Consumer]] = _Consumer


class App(faust.App):
    """Faust's App whose commits are bounded by `stored`: the offset after the last stored record of each partition.

    `joined`: a rebalance has told which partitions are this member's, be it none.
    """

    logger = logging.getLogger("faust.app")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stored: dict[TP, int] = {}
        self.joined = False

    def _create_directories(self) -> None:
        """Without tables there is nothing to keep in a folder."""

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)


class _Reading:
    """One life of the application. It begins with `start`, once, and lasts until `failure` says otherwise or `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._stop = threading.Event()
        self._failure = ""
        self._busy: dict[str, float] = {}
        # By agent: what it waits for, and a thread of its own. Whatever hangs in one is left behind with this life.
        self._patience: dict[str, Patience] = {}
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._upkeep = settings.upkeep_seconds
        self._due = time.monotonic() + self._upkeep
        self.app = _application(settings)
        self._rows(settings, VIDEO_RESULTS, "video_jobs", VIDEO_JOBS_TABLE, job_row)
        self._rows(settings, WORKER_STATUS, "worker_samples", WORKER_SAMPLES_TABLE, sample_row)
        self._recordings = Recordings(settings, self._alone("recordings"))
        self._agent(settings, RECORDINGS_RAW, "recordings", self._recordings.put, RECORDINGS_TAKE)

    async def start(self) -> None:
        """Joins the group; returns before it has partitions. Raises whatever Faust and aiokafka raise."""
        self.app.finalize()
        await self.app.start()

    async def stop(self, seconds: float) -> bool:
        """Ends; what is not stored is read again by the next. Whether it has ended in time."""
        self._stop.set()
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)
        try:
            await asyncio.wait_for(self.app.stop(), seconds)
        except Exception as error:
            log.warning("stopped_hard", error=type(error).__name__)
            return False
        return True

    def failure(self) -> str:
        """Why this life goes on no more; "" while it does. Waiting for what is away is no failure."""
        if self._failure:
            return self._failure
        if self.app.crashed:
            return f"Faust has crashed: {type(self.app.crash_reason).__name__}"
        began = (since for name, since in list(self._busy.items()) if not self._patience[name].waiting_for)
        busy = max((time.monotonic() - since for since in began), default=0.0)
        return f"at one batch for {busy:.0f} s" if busy > STUCK else ""

    def waiting_for(self) -> str:
        """Who waits for what is away, "" when nobody does."""
        waiting = ((name, patience.waiting_for) for name, patience in self._patience.items())
        found = {"recordings" if name == "recordings" else "video results": what for name, what in waiting if what}
        return next((f"{who}: waiting for {what}" for who, what in found.items()), "")

    def tidy(self) -> None:
        """Lets what was destroyed in the vault be forgotten, now and then."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._upkeep
            self._threads["recordings"].submit(self._recordings.tidy)

    def _alone(self, name: str) -> Patience:
        self._threads[name] = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._patience[name] = Patience(self._stop)
        return self._patience[name]

    def _rows(self, settings: Settings, topic: str, name: str, schema: pa.Schema, row: Row) -> None:
        store = Store(settings, self._alone(name))

        def put(messages: Sequence[Any]) -> None:
            rows = table(schema, row, [message.value or b"" for message in messages], topic)
            store.put(name, rows)
            rows_stored.labels(name).inc(rows.num_rows)

        self._agent(settings, topic, name, put, TAKE)

    def _agent(self, settings: Settings, topic: str, name: str, put: Put, most: int) -> None:
        """Hands up to `most` messages of a topic at once to `put`, in the agent's thread."""

        async def keep(stream: Any) -> None:
            async for events in stream.noack_take(most, within=WITHIN):
                # Nothing may be raised in here: Faust would let the agent stand still for good.
                self._busy[name] = time.monotonic()
                try:
                    messages = [event.message for event in events]
                    await asyncio.get_running_loop().run_in_executor(self._threads[name], put, messages)
                except Stopping:
                    return
                except Exception as error:
                    log.error("batch_failed", table=name, **describe(error))
                    self._failure = f"a batch failed: {type(error).__name__}"
                    return
                finally:
                    self._busy.pop(name, None)
                for event in events:
                    message = event.message
                    self.app.stored[message.tp] = max(self.app.stored.get(message.tp, 0), message.offset + 1)
                    event.ack()

        source = self.app.topic(settings.topic(topic), key_type=bytes, value_type=bytes, internal=False)
        self.app.agent(source, name=name)(keep)


class VideoResults:
    """The video results as a part of the stream worker's process: read for as long as the process lives.

    Where the application fails it is made anew, after a while; the process and its other parts do not notice.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = False
        self._reading: _Reading | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[bool] | None = None  # of a life that has failed
        self._problem = "starting"
        self._in_vain = 0
        self._broken = ""

    def start(self) -> None:
        """Begins, in the running event loop."""
        self._task = asyncio.create_task(self._read())

    async def stop(self, seconds: float) -> None:
        """Ends, within `seconds`."""
        self._stopping = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._ending is not None and not self._ending.done():
            with suppress(TimeoutError):  # told to stop twice, an application does not end what it was at
                await asyncio.wait_for(asyncio.shield(self._ending), seconds)
        elif self._reading is not None:
            await self._reading.stop(seconds)

    def alive(self) -> str:
        """A check for /livez: only a new process would help."""
        if self._broken:
            return f"video results: {self._broken}"
        if self._task is not None and self._task.done() and not self._stopping:
            return "the video results are not read any more"
        if self._in_vain >= IN_VAIN:
            return f"the video results have failed {self._in_vain} times in a row, last: {self._problem}"
        return ""

    def ready(self) -> str:
        """A check for /readyz: the group is joined, and what is told is stored."""
        reading = self._reading
        if reading is None or self._problem:
            return f"video results: {self._problem or 'starting'}"
        if waiting := reading.waiting_for():
            return waiting
        return "" if reading.app.joined else "video results: not (yet) a member of the group"

    async def _read(self) -> None:
        wait = AGAIN_FIRST
        while not self._broken:
            began = time.monotonic()
            reading = self._reading = _Reading(self._settings)
            error: BaseException | None = None
            try:
                await reading.start()
                self._problem = ""
                while not reading.failure():
                    await asyncio.sleep(LOOK)
                    reading.tidy()
                self._problem, error = reading.failure(), reading.app.crash_reason
            except Exception as failed:
                self._problem, error = f"cannot start: {type(failed).__name__}", failed
            failures.inc()
            log.error("video_results_failed", why=self._problem, **(describe(error) if error else {}))
            if time.monotonic() - began > LASTING:
                wait, self._in_vain = AGAIN_FIRST, 0
            away = isinstance(error, KafkaError | OSError)
            if not away:
                self._in_vain += 1
            self._ending = asyncio.create_task(reading.stop(STOP))
            if not await asyncio.shield(self._ending):
                # What is left of it may stay in the group, and then nobody else gets its partitions.
                self._broken = f"{self._problem}, and cannot be ended"
            await asyncio.sleep(wait)
            wait = min(wait * 2, AWAY_LAST if away else AGAIN_LAST)


def group(settings: Settings) -> str:
    """The consumer group."""
    return settings.topic("veilstream.video-results")


def _application(settings: Settings) -> App:
    return App(
        group(settings),
        broker=";".join(f"kafka://{server.strip()}" for server in settings.kafka.split(",")),
        autodiscover=False,
        broker_commit_interval=1.0,
        broker_heartbeat_interval=HEARTBEAT,
        broker_max_poll_interval=FOR_EVER,
        broker_session_timeout=SESSION,
        broker_rebalance_timeout=2 * SESSION,
        broker_request_timeout=30.0,
        consumer_auto_offset_reset="earliest",
        key_serializer="raw",
        store="memory://",
        stream_wait_empty=False,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        value_serializer="raw",
        web_enabled=False,
    )
