"""Records of `video.results` and `worker.status` become rows of `video_jobs` and `worker_samples`.

A row is named by what it tells: (job, attempt, state), and (worker, at). The tables are ReplacingMergeTree over these
names, so a record that is read twice is one row for readers who ask with FINAL, and at least once is exact for them.
Records are acknowledged after their rows are stored, and the commit that follows never passes what is stored, even
when Faust, on its way down, has acknowledged more (streams that close do).

It is a Faust application of its own beside that of the events: its offsets live in Kafka, not in ClickHouse, and it
goes on when the events' partitions are set back.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, ClassVar

import faust
import msgspec
import pyarrow as pa
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from infra.service.clickhouse import Client, connect, insert_if
from infra.service.logs import logger
from infra.service.metrics import counter
from infra.service.settings import Settings
from schemas.topics import VIDEO_RESULTS, WORKER_STATUS
from schemas.videos import (
    VIDEO_JOBS_TABLE,
    WORKER_SAMPLES_TABLE,
    Gpu,
    Result,
    WorkerStatus,
    decode_result,
    decode_status,
)
from streams.patience import Patience, Stopping
from streams.sink import ERRORS

log = logger(__name__)

TAKE = 500  # records at once
WITHIN = 0.2  # seconds that a record waits for others
SESSION, HEARTBEAT = 6.0, 0.5  # seconds
FOR_EVER = 7 * 24 * 3600.0  # ClickHouse may be away for so long before the broker is left
STUCK = 120.0  # seconds at one batch, while ClickHouse answers, after which the process counts as stuck

rows_stored = counter("video_results", "rows", "Rows stored of the video path", ["table"])
unreadable = counter("video_results_unreadable", "records", "Records that are not of this version", ["topic"])


def job_row(value: bytes) -> dict[str, Any]:
    """The row of a record on `video.results`; raises msgspec.DecodeError for anything else."""
    result: Result = decode_result(value)
    source = result.source
    return {
        "job": result.job,
        "queued_at": _moment(result.queued_ms),
        "attempt": result.attempt,
        "state": result.state.value,
        "at": _moment(result.at_ms),
        "worker": result.worker,
        "engine": result.engine.value if result.engine else "",
        "seconds": result.seconds,
        "reason": result.reason.value if result.reason else "",
        "detail": result.detail,
        "source_width": source.width if source else 0,
        "source_height": source.height if source else 0,
        "source_duration": source.duration if source else 0.0,
        "source_rotation": source.rotation if source else 0,
        "source_codec": source.codec if source else "",
        "source_pixel_format": source.pixel_format if source else "",
        "output_kind": [output.kind.value for output in result.outputs],
        "output_path": [output.path for output in result.outputs],
        "output_width": [output.width for output in result.outputs],
        "output_height": [output.height for output in result.outputs],
        "output_time": [output.time for output in result.outputs],
    }


def sample_row(value: bytes) -> dict[str, Any]:
    """The row of a record on `worker.status`; raises msgspec.DecodeError for anything else."""
    status: WorkerStatus = decode_status(value)

    def of_each(measure: Callable[[Gpu], float | int | None]) -> list[float]:
        return [math.nan if (found := measure(gpu)) is None else float(found) for gpu in status.gpus]

    return {
        "worker": status.worker,
        "at": _moment(status.at_ms),
        "started_at": _moment(status.started_ms),
        "state": status.state.value,
        "done": status.done,
        "failed": status.failed,
        "job_seconds": status.job_seconds,
        "nvml": status.nvml.value,
        "driver": status.driver,
        "gpu_uuid": [gpu.uuid for gpu in status.gpus],
        "gpu_name": [gpu.name for gpu in status.gpus],
        "gpu_utilisation": of_each(lambda gpu: gpu.utilisation),
        "gpu_decoder": of_each(lambda gpu: gpu.decoder),
        "gpu_memory_used": of_each(lambda gpu: gpu.memory_used),
        "gpu_memory_total": of_each(lambda gpu: gpu.memory_total),
        "gpu_temperature": of_each(lambda gpu: gpu.temperature),
        "gpu_power": of_each(lambda gpu: gpu.power),
    }


def table(schema: pa.Schema, row: Callable[[bytes], dict[str, Any]], values: Sequence[bytes], topic: str) -> pa.Table:
    """The rows of the records that can be read; the others are counted, and logged without their content."""
    good = []
    for value in values:
        try:
            good.append(pa.Table.from_pylist([row(value)], schema))
        except (msgspec.DecodeError, pa.ArrowException, ValueError, OverflowError, OSError) as error:
            unreadable.labels(topic).inc()
            log.error("bad_record", topic=topic, error=type(error).__name__)
    return pa.concat_tables(good) if good else schema.empty_table()


class Store:
    """Inserts, in one thread and with one client, until they succeed. `waiting_for`: what is away, "" when nothing."""

    def __init__(self, settings: Settings, patience: Patience) -> None:
        self._settings = settings
        self._patience = patience
        self._client: Client | None = None

    @property
    def waiting_for(self) -> str:
        """What is away now, "" when nothing is."""
        return self._patience.waiting_for

    def put(self, name: str, rows: pa.Table) -> None:
        """Returns once all rows are stored; after an error they are sent again, which changes nothing for readers.

        Raises Stopping.
        """
        if rows.num_rows:
            self._patience.insist("clickhouse", lambda: self._insert(name, rows), *ERRORS)
            rows_stored.labels(name).inc(rows.num_rows)

    def _insert(self, name: str, rows: pa.Table) -> None:
        try:
            if self._client is None:
                self._client = connect(self._settings)
            query_id = f"video-{secrets.token_hex(8)}"
            written = insert_if(self._client, name, rows, "1", query_id=query_id)
        except ERRORS:
            self._client = None
            raise
        if written != rows.num_rows:
            raise OSError(f"{written} of {rows.num_rows} rows were written into {name}")


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

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's watch over slow streams is off: this module has its own."""


class _Transport(driver.Transport):
    Consumer: ClassVar[type[_Consumer]] = _Consumer


class App(faust.App):
    """Faust's App whose commits are bounded by `stored`: the offset after the last stored record of each partition."""

    logger = logging.getLogger("faust.app")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stored: dict[TP, int] = {}

    def _create_directories(self) -> None:
        """Without tables there is nothing to keep in a folder."""

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)


def attach(
    app: App, settings: Settings, store: Store, mark: Callable[[str, bool], None] = lambda _table, _busy: None
) -> None:
    """Adds the two agents to an application. `mark` is told when a batch of a table is taken up (True) and
    when it is stored."""
    threads = ThreadPoolExecutor(1, thread_name_prefix="video-results")

    def agent(topic: str, name: str, schema: pa.Schema, row: Callable[[bytes], dict[str, Any]]) -> None:
        async def keep(stream: Any) -> None:
            async for events in stream.noack_take(TAKE, within=WITHIN):
                mark(name, True)
                # Nothing may be raised in here: Faust would let the agent stand still for good.
                try:
                    values = [event.message.value or b"" for event in events]
                    rows = table(schema, row, values, topic)
                    await asyncio.get_running_loop().run_in_executor(threads, store.put, name, rows)
                except Stopping:
                    return
                except Exception as error:
                    log.error("batch_failed", table=name, error=type(error).__name__)
                    await asyncio.Event().wait()  # stands still, unacknowledged, until the process is started again
                for event in events:
                    message = event.message
                    app.stored[message.tp] = max(app.stored.get(message.tp, 0), message.offset + 1)
                    event.ack()
                mark(name, False)

        source = app.topic(settings.topic(topic), key_type=bytes, value_type=bytes, internal=False)
        app.agent(source, name=name)(keep)

    agent(VIDEO_RESULTS, "video_jobs", VIDEO_JOBS_TABLE, job_row)
    agent(WORKER_STATUS, "worker_samples", WORKER_SAMPLES_TABLE, sample_row)


def application(
    settings: Settings, store: Store, mark: Callable[[str, bool], None] = lambda _table, _busy: None
) -> App:
    """An application with the two agents and nothing else."""
    app = App(
        settings.topic("veilstream.video-results"),
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
    attach(app, settings, store, mark)
    return app


class VideoResults:
    """The application as a part of the stream worker's process: `start`, `stop`, and whether it goes on."""

    def __init__(self, settings: Settings, patience: Patience) -> None:
        """`patience` must be this object's own, over the process's stop event."""
        self._store = Store(settings, patience)
        self._busy: dict[str, float] = {}
        self._app = application(settings, self._store, self._mark)

    async def start(self) -> None:
        """Joins the group; returns before it has partitions."""
        self._app.finalize()
        await self._app.start()

    async def stop(self, seconds: float) -> None:
        """Ends; what is not stored is read again by the next."""
        try:
            await asyncio.wait_for(self._app.stop(), seconds)
        except Exception as error:
            log.warning("stopped_hard", error=type(error).__name__)

    def alive(self) -> str:
        """A check for /livez. Waiting for ClickHouse is no failure."""
        if self._app.crashed:
            return "Faust has crashed in the video results"
        busy = max((time.monotonic() - since for since in self._busy.values()), default=0.0)
        if busy > STUCK and not self._store.waiting_for:
            return f"the video results have been at one batch for {busy:.0f} s"
        return ""

    def _mark(self, name: str, busy: bool) -> None:
        if busy:
            self._busy[name] = time.monotonic()
        else:
            self._busy.pop(name, None)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
