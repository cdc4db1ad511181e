"""The job loop: a job is a lease on one record of `video.jobs`, held for as long as the work takes.

The order, which the code keeps:
1. Take one record; all partitions are paused, and polling goes on, so that the group does not take the worker for dead.
2. Say in the group's offsets that attempt n at this record has begun: the record's own offset is committed with
   `attempt=n` as its metadata. So a worker that dies takes its attempt with it, and a job that kills every worker ends.
3. Tell `running`, do the work in the decoder's process, write the outputs whole, then the file that says so. Where the
   decoder crashed, the next attempt takes the command line; a job that fails there too is quarantined: no third one.
   A job that has failed goes to `video.dead`, with the reason, the engine and ffmpeg's last words.
4. Tell `done` or `failed` and wait for the broker's acknowledgement.
5. Commit the next offset.
Whatever is cut off between two steps is done again under the same names: at least once, with the same outcome. A job
whose outputs are complete is not done again but told again. A job that was deleted is cut off; as the API removes
outputs after it has marked the job, and the worker looks for the mark after its last write, none are left either way.

When a partition goes to another worker, its job is cut off and left to that worker; as a group that rebalances takes no
commit, the attempt cannot be taken back. When the worker is told to stop, a job may go on for a while, then it is cut
off too, and that attempt does not count. So attempts that fail are few (`video_attempts`), and those that merely came
to no end may be LOST times as many.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
from kafka import KafkaConsumer
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError
from kafka.structs import MemberState, OffsetAndMetadata, TopicPartition

from gpu_workers import metrics, outcomes
from gpu_workers.failures import Failure
from gpu_workers.inputs import limits_of
from gpu_workers.reports import Reporter
from gpu_workers.sources import destination, source
from gpu_workers.supervisor import Cancelled, Decoder
from gpu_workers.thumbnails import Made, Task
from infra.service.health import Progress
from infra.service.logs import describe, logger
from infra.service.outbound import Outbound
from infra.service.settings import Settings
from infra.service.storage import storage
from schemas.topics import VIDEO_JOBS
from schemas.videos import (
    RETRIED,
    DeadLetter,
    Engine,
    Job,
    Reason,
    Result,
    State,
    decode_job,
    deleted_key,
    is_id,
    output_key,
    upload_key,
    url_key,
    webhook_key,
)

log = logger(__name__)

SESSION_MS, HEARTBEAT_MS = 6_000, 500
POLL = 0.5  # seconds; while a job runs, between two polls
REJOIN = 5.0  # seconds that one wait for the end of a rebalance takes
ACKNOWLEDGED = 2.0  # seconds that one wait for the broker takes, between two polls
BACK_OFF = (1.0, 5.0, 15.0)  # seconds before the second, third, ... attempt
KAFKA_AGAIN = 1.0  # seconds before a call of Kafka that failed is tried again
DELETED_LOOK = 2.0  # seconds between looks at whether the job under way was deleted
ATTEMPT = "attempt="
QUARANTINE = Engine.CPU_CLI  # for a job at which the decoder has crashed
LOST = 3  # attempts without an end that a job may have, for each of `video_attempts`


class GivenUp(Exception):
    """The lease is not ours any more, or the worker stops; the job will be done again."""


class Deleted(Exception):
    """The job was deleted; nothing of it is to be left."""


def group(settings: Settings) -> str:
    """The consumer group of the media workers."""
    return settings.topic("veilstream.videos")


class Leases(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs in one thread, which calls `run`; its attributes may be read by others.

    `done`, `failed`: jobs ended since the start. `working_since`: monotonic time, 0 without a job.
    """

    def __init__(
        self,
        settings: Settings,
        worker: str,
        reporter: Reporter,
        stop: threading.Event,
        outbound: Outbound,
        device: int | None = None,
    ) -> None:
        self._settings = settings
        self.device = device  # number of the GPU that jobs may use; None: none, from the next job on
        self._worker = worker
        self._reporter = reporter
        self._outbound = outbound
        self._stop = stop
        self._limits = limits_of(settings)
        self._storage = storage(settings)
        # The decoder is started by this thread, which lives as long as it shall.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoder")
        self._decoder = Decoder(settings.video_memory_bytes, on_gpu=device is not None)
        self._consumer: Any = None
        self._fresh: set[TopicPartition] = set()
        self._held: TopicPartition | None = None
        self._lost = threading.Event()
        self._stopping_since = 0.0
        self.progress = Progress("the job loop", 60.0)
        self.problem = "starting"  # why no job can be taken; "" when one can
        self.done = 0
        self.failed = 0
        self.working_since = 0.0

    # The group's side; called in the consumer's own thread, so nothing here waits.

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Partitions that were not ours before."""
        self._fresh |= set(assigned)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Partitions that go to another worker, or are lost."""
        if self._held in set(revoked):
            self._lost.set()

    # The loop

    def run(self) -> None:
        """Takes jobs until told to stop."""
        try:
            self._thread.submit(self._decoder.start).result()
            if not self._connect():
                return
            while not self._stop.is_set():
                self.progress.mark()
                self._look()
                for partition, records in self._polled(POLL).items():
                    for record in records:
                        self._take(partition, record)
        finally:
            self.problem = "stopping"
            self._close()

    def _connect(self) -> bool:
        while not self._stop.is_set():
            self.progress.mark()
            try:
                self._consumer = KafkaConsumer(
                    bootstrap_servers=self._settings.kafka.split(","),
                    client_id=self._worker,
                    group_id=group(self._settings),
                    auto_offset_reset="earliest",
                    enable_auto_commit=False,
                    allow_auto_create_topics=False,
                    partition_assignment_strategy=(CooperativeStickyAssignor,),
                    max_poll_records=1,
                    session_timeout_ms=SESSION_MS,
                    heartbeat_interval_ms=HEARTBEAT_MS,
                    request_timeout_ms=10_000,
                    bootstrap_timeout_ms=5_000,
                    reconnect_backoff_max_ms=2_000,
                    metadata_max_age_ms=30_000,
                    metrics_enabled=False,
                )
                self._consumer.subscribe([self._settings.topic(VIDEO_JOBS)], listener=self)
                return True
            except (KafkaError, OSError) as error:
                self.problem = "Kafka does not answer"
                log.warning("waiting", what="kafka", **describe(error))
                self._stop.wait(KAFKA_AGAIN)
        return False

    def _close(self) -> None:
        if self._consumer is not None:
            try:
                self._consumer.close(autocommit=False, timeout_ms=3000)
            except (KafkaError, OSError) as error:
                log.warning("consumer_not_closed", error=type(error).__name__)
        self._thread.submit(self._decoder.stop).result()
        self._thread.shutdown()

    def _look(self) -> None:
        self.problem = "" if self._is_member() else "not (yet) a member of the group"

    def _polled(self, seconds: float) -> dict[TopicPartition, list[Any]]:
        try:
            found: dict[TopicPartition, list[Any]] = self._consumer.poll(timeout_ms=int(seconds * 1000), max_records=1)
            return found
        except (KafkaError, OSError) as error:
            self.problem = "Kafka does not answer"
            log.warning("waiting", what="kafka", **describe(error))
            self._stop.wait(KAFKA_AGAIN)
            return {}

    def _keep(self) -> None:
        """Stays in the group while a job runs: polls, and takes nothing. Raises GivenUp once the lease is lost."""
        self.progress.mark()
        if self._lost.is_set():
            raise GivenUp("lost")
        try:
            self._poll_and_take_nothing(0.0)
            # A poll that does not wait begins a rebalance and never sees its end: each one would join anew.
            until = time.monotonic() + REJOIN
            while not self._lost.is_set() and not self._is_member() and time.monotonic() < until:
                self._poll_and_take_nothing(POLL)
        except (KafkaError, OSError) as error:
            log.warning("waiting", what="kafka", **describe(error))
        if self._lost.is_set():
            raise GivenUp("lost")

    def _poll_and_take_nothing(self, seconds: float) -> None:
        self._consumer.pause(*self._consumer.assignment())
        for partition, records in self._consumer.poll(timeout_ms=int(seconds * 1000), max_records=1).items():
            # It was assigned in between; its record is read again once the job is over.
            self._consumer.seek(partition, records[0].offset)
            self._consumer.pause(partition)

    def _is_member(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    # One record

    def _take(self, partition: TopicPartition, record: Any) -> None:
        self._lost.clear()
        self._held = partition
        self.working_since = time.monotonic()
        try:
            if partition not in self._consumer.assignment():
                raise GivenUp("lost")
            self._settle(partition, record)
        except GivenUp as why:
            metrics.returned.labels(str(why)).inc()
            log.info("job_returned", partition=partition.partition, offset=record.offset, why=str(why))
        finally:
            self._held = None
            self.working_since = 0.0
            if not self._stop.is_set():
                self._consumer.resume(*self._consumer.paused())

    def _settle(self, partition: TopicPartition, record: Any) -> None:
        """Brings the record's job to its end, tells it and commits. Raises GivenUp."""
        job: Job | None = None
        try:
            job = decode_job(record.value or b"")
        except msgspec.DecodeError:
            result = self._unreadable(record)
        else:
            attempt = self._begun(partition, record.offset)
            try:
                self._not_deleted(job)
                result = outcomes.told_before(self._storage, job) or self._attempts(
                    job, partition, record.offset, attempt
                )
                self._not_deleted(job)
            except Deleted:
                result = self._removed(job, attempt)
        if result is not None:
            self._tell(result)
            self.done += result.state is State.DONE
            self.failed += result.state is State.FAILED
            metrics.jobs.labels(result.state, result.reason or "").inc()
            log.info(
                "job_ended",
                job=result.job,
                state=result.state,
                reason=result.reason,
                detail=result.detail,
                attempt=result.attempt,
                seconds=result.seconds,
            )
        self._commit(partition, record.offset + 1)
        if job is not None:
            outcomes.forget(self._storage, job, keep_uploads=self._settings.video_keep_uploads)

    def _unreadable(self, record: Any) -> Result | None:
        key = (record.key or b"").decode(errors="replace")
        log.error("bad_job", partition=record.partition, offset=record.offset)
        if not is_id(key):
            self.failed += 1
            return None
        return outcomes.unreadable(key, record, self._worker)

    def _not_deleted(self, job: Job) -> None:
        """Raises Deleted where the job was deleted."""
        while True:
            try:
                if self._storage.private.stat(deleted_key(job.id)) is not None:
                    raise Deleted
                return
            except OSError as error:
                self._storage_away(error)

    def _removed(self, job: Job, attempt: int) -> Result:
        """Leaves nothing of a deleted job."""
        while True:
            try:
                self._storage.outputs.remove(output_key(job.id))
                for key in (upload_key, url_key, webhook_key):
                    self._storage.private.remove(key(job.id))
                return self._result(job, State.DELETED, attempt)
            except OSError as error:
                self._storage_away(error)

    def _storage_away(self, error: OSError) -> None:
        log.warning("waiting", what="storage", **describe(error))
        self._keep()
        self._unanswered()

    def _attempts(self, job: Job, partition: TopicPartition, offset: int, begun: int) -> Result:
        """Attempt after attempt until the job is done, cannot be done, or has had enough of them. `begun`: attempts
        of workers that have not told their end."""
        attempt, failures, seconds = begun, 0, 0.0
        engine: Engine | None = None
        failure = Failure(Reason.WORKER_LOST, f"none of {begun} attempts came to an end")
        while failures < self._settings.video_attempts and begun < LOST * self._settings.video_attempts:
            attempt += 1
            self._commit(partition, offset, f"{ATTEMPT}{attempt}")
            metrics.attempts.inc()
            self._tell(self._result(job, State.RUNNING, attempt))
            began = time.monotonic()
            try:
                made = self._work(job, partition, offset, attempt, engine)
                seconds = time.monotonic() - began
                result = self._result(
                    job,
                    State.DONE,
                    attempt,
                    engine=made.engine,
                    seconds=round(seconds, 3),
                    source=made.source,
                    outputs=made.outputs,
                )
                outcomes.finish(self._storage, job, result)
                return result
            except Failure as error:
                failure, failures, seconds = error, failures + 1, time.monotonic() - began
                log.warning("attempt_failed", job=job.id, attempt=attempt, reason=error.reason, detail=error.detail)
            finally:
                metrics.job_seconds.observe(time.monotonic() - began)
                metrics.decoder_starts.set(self._decoder.starts)
            if engine is QUARANTINE and failure.reason in (Reason.CRASHED, Reason.UNSUPPORTED_CODEC):
                failure = Failure(Reason.QUARANTINED, f"two engines came to grief: {failure.detail}", failure.tail)
            if failure.reason not in RETRIED:
                break
            if failure.reason is Reason.CRASHED:
                engine = QUARANTINE
            if failures < self._settings.video_attempts:
                self._wait(BACK_OFF[min(failures, len(BACK_OFF)) - 1])
        result = self._result(
            job, State.FAILED, attempt, reason=failure.reason, detail=failure.detail, seconds=round(seconds, 3)
        )
        self._bury(DeadLetter(job, result, engine, failure.tail))
        return result

    def _work(self, job: Job, partition: TopicPartition, offset: int, attempt: int, engine: Engine | None) -> Made:
        cancel = threading.Event()
        future = self._thread.submit(self._make, job, cancel, engine)
        try:
            looked = time.monotonic()
            while not future.done():
                self._keep()
                self._drained()
                if time.monotonic() - looked > DELETED_LOOK:
                    self._not_deleted(job)
                    looked = time.monotonic()
                _wait(future, POLL)
        except (GivenUp, Deleted) as why:
            cancel.set()
            ended = isinstance(future.exception(), Cancelled | None)
            if ended and isinstance(why, GivenUp) and not self._lost.is_set():
                self._return(partition, offset, attempt)
            raise
        return future.result()

    def _make(self, job: Job, cancel: threading.Event, engine: Engine | None) -> Made:
        """The outputs of a job, in the decoder's thread. Raises Failure, or Cancelled once `cancel` is set."""
        with (
            source(job, self._settings, self._storage, self._outbound, cancel) as (path, folder),
            destination(self._settings, self._storage) as (root, keep),
        ):
            task = Task(
                path=path,
                folder=folder,
                outputs=job.outputs,
                root=str(root),
                name=job.id,
                limits=self._limits,
                engine=engine,
                device=self.device,
            )
            made = self._decoder.run(task, self._settings.video_job_seconds, cancel)
            keep(made.outputs)
            return made

    def _return(self, partition: TopicPartition, offset: int, attempt: int) -> None:
        """Says that an attempt that was cut off does not count."""
        try:
            self._consumer.commit(
                {partition: OffsetAndMetadata(offset, f"{ATTEMPT}{attempt - 1}", -1)},
                timeout_ms=int(ACKNOWLEDGED * 1000),
            )
        except (KafkaError, OSError) as error:
            log.info("attempt_not_returned", error=type(error).__name__)

    def _drained(self) -> None:
        """Raises GivenUp once a worker that stops has waited long enough for its job."""
        if not self._stop.is_set():
            return
        if not self._stopping_since:
            self._stopping_since = time.monotonic()
        if time.monotonic() - self._stopping_since > self._settings.video_drain_seconds:
            raise GivenUp("stopping")

    def _wait(self, seconds: float) -> None:
        """Waits between two attempts; raises GivenUp when told to stop."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._keep()
            if self._stop.wait(min(POLL, max(0.0, until - time.monotonic()))):
                raise GivenUp("stopping")

    # What Kafka is told; it may be away for as long as it likes

    def _tell(self, result: Result) -> None:
        while True:
            self._keep()
            if self._reporter.report(result, ACKNOWLEDGED):
                return
            self._unanswered()

    def _bury(self, letter: DeadLetter) -> None:
        """Before its end is told, so that no job fails without one; perhaps twice."""
        while True:
            self._keep()
            if self._reporter.bury(letter, ACKNOWLEDGED):
                return
            self._unanswered()

    def _begun(self, partition: TopicPartition, offset: int) -> int:
        """How many attempts at this record were begun before, by workers that are gone."""
        while partition in self._fresh:
            self._keep()
            try:
                found = self._consumer.committed(partition, metadata=True, timeout_ms=int(ACKNOWLEDGED * 1000))
            except (KafkaError, OSError) as error:
                log.warning("waiting", what="kafka", **describe(error))
                self._unanswered()
                continue
            self._fresh.discard(partition)
            text = found.metadata if found is not None and found.offset == offset else ""
            number = text.removeprefix(ATTEMPT) if text else ""
            return int(number) if number.isdigit() else 0
        return 0

    def _commit(self, partition: TopicPartition, offset: int, metadata: str = "") -> None:
        while True:
            self._keep()
            try:
                self._consumer.commit(
                    {partition: OffsetAndMetadata(offset, metadata, -1)}, timeout_ms=int(ACKNOWLEDGED * 1000)
                )
                return
            except (KafkaError, OSError) as error:
                log.warning("waiting", what="commit", **describe(error))
                self._unanswered()

    def _unanswered(self) -> None:
        """After a call of Kafka that failed: waits; raises GivenUp when the worker is told to stop meanwhile."""
        if self._stop.wait(KAFKA_AGAIN):
            raise GivenUp("stopping")

    def _result(self, job: Job, state: State, attempt: int, **fields: Any) -> Result:
        now = int(time.time() * 1000)
        return Result(job.id, state, now, job.queued_ms, attempt, worker=self._worker, site=job.site, **fields)


def _wait(future: Future[Made], seconds: float) -> None:
    """Until the future is done, but not longer than `seconds`."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    done.wait(seconds)
