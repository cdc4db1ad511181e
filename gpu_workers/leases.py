"""The job loop: a job is a lease on one record of its lane's topic, held for as long as the work takes.

The order, which the code keeps:
1. Take one record of the lane whose turn it is, and stay in the group meanwhile (`gpu_workers.lanes`). Of a job that
   has waited for another attempt, only the record that was the first to be taken counts: it may come twice.
2. Say in the group's offsets that attempt n at this record has begun: the record's own offset is committed with
   `attempt=n` as its metadata. So a worker that dies takes its attempt with it, and a job that kills every worker ends.
3. Tell `running`, and every second or so how far it is; do the work in the decoder's process, write the outputs whole,
   then the file that says so.
4. Tell `done` and wait for the broker's acknowledgement. Where the attempt failed in a way that may pass, say so in the
   group's offsets, put the job on a topic of waiting ones (`gpu_workers.retries`) and tell `waiting`: no other job
   waits with it. Where the decoder crashed, the next attempt takes the command line; a job that fails there too is
   quarantined: no third one. What else has failed, or failed too often, goes to `video.dead`, with the reason, the
   engine and ffmpeg's last words, and is told as `failed`.
5. Commit the next offset.
Whatever is cut off between two steps is done again under the same names: at least once, with the same outcome. A job
whose outputs are complete is not done again but told again. A job that was deleted is cut off; as the API removes
outputs after it has marked the job, and the worker looks for the mark after its last write, none are left either way.

When a partition goes to another worker, its job is cut off and left to that worker; as a group that rebalances takes no
commit, the attempt cannot be taken back. When the worker is told to stop, a job may go on for a while, then it is cut
off too, and that attempt does not count. So attempts that fail are few (`video_attempts`), and those that merely came
to no end may be LOST times as many; these begin anew at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
from kafka.structs import TopicPartition

from gpu_workers import metrics, outcomes, router
from gpu_workers.failures import Failure
from gpu_workers.inputs import limits_of
from gpu_workers.lanes import ACKNOWLEDGED, POLL, GivenUp, Lanes
from gpu_workers.progress import Progress as JobProgress
from gpu_workers.reports import Reporter
from gpu_workers.retries import waiting_topic
from gpu_workers.sources import destination, source
from gpu_workers.supervisor import Cancelled, Decoder
from gpu_workers.thumbnails import Made, Task
from infra.service.health import Progress
from infra.service.logs import describe, logger
from infra.service.outbound import Outbound
from infra.service.settings import Settings
from infra.service.storage import storage
from schemas.attempts import Attempts, carried, carrying, delay
from schemas.videos import (
    LANE_HEADER,
    RETRIED,
    DeadLetter,
    Engine,
    Job,
    Reason,
    Result,
    State,
    attempt_key,
    decode_job,
    deleted_key,
    is_id,
    output_key,
    upload_key,
    url_key,
    webhook_key,
)

log = logger(__name__)

DELETED_LOOK = 2.0  # seconds between looks at whether the job under way was deleted
QUARANTINE = Engine.CPU_CLI  # for a job at which the decoder has crashed
LOST = 3  # attempts without an end that a job may have, for each of `video_attempts`


class Deleted(Exception):
    """The job was deleted; nothing of it is to be left."""


class Leases:
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
        costs: router.Table = router.DEFAULT,
    ) -> None:
        self._settings = settings
        self.device = device  # number of the GPU that jobs may use; None: none, from the next job on
        self._costs = costs
        self._worker = worker
        self._reporter = reporter
        self._outbound = outbound
        self._stop = stop
        self._limits = limits_of(settings)
        self._storage = storage(settings)
        # The decoder is started by this thread, which lives as long as it shall.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decoder")
        self._decoder = Decoder(settings.video_memory_bytes, on_gpu=device is not None)
        self._stopping_since = 0.0
        self._seen: JobProgress | None = None  # of the job under way
        self.progress = Progress("the job loop", 60.0)
        self._lanes = Lanes(settings, worker, stop, self.progress)
        self.done = 0
        self.failed = 0
        self.working_since = 0.0

    @property
    def problem(self) -> str:
        """Why no job can be taken; "" when one can."""
        return self._lanes.problem

    def run(self) -> None:
        """Takes jobs until told to stop."""
        try:
            self._thread.submit(self._decoder.start).result()
            if not self._lanes.connect():
                return
            while not self._stop.is_set():
                self.progress.mark()
                if (found := self._lanes.next()) is not None:
                    self._take(*found)
        finally:
            self._lanes.close()
            self._thread.submit(self._decoder.stop).result()
            self._thread.shutdown()

    # One record

    def _take(self, place: TopicPartition, record: Any) -> None:
        self.working_since = time.monotonic()
        try:
            self._lanes.hold(place)
            self._settle(place, record)
        except GivenUp as why:
            metrics.returned.labels(str(why)).inc()
            log.info("job_returned", partition=place.partition, offset=record.offset, why=str(why))
        finally:
            self._lanes.release()
            self.working_since = 0.0

    def _settle(self, place: TopicPartition, record: Any) -> None:
        """Brings the record's job to its end, or to where it waits for another attempt, tells it and commits. Raises
        GivenUp."""
        try:
            job = decode_job(record.value or b"")
        except msgspec.DecodeError:
            self._tell_end(self._unreadable(record))
            self._lanes.commit(place, record.offset + 1)
            return
        before = carried(record.headers)
        if before.begun and not self._is_first(job, before.begun, place, record.offset):
            log.info("copy_of_a_job", job=job.id, partition=place.partition, offset=record.offset)
            self._lanes.commit(place, record.offset + 1)
            return
        before = self._lanes.begun(place, record.offset) or msgspec.structs.replace(before, due_ms=0)
        try:
            self._not_deleted(job)
            result = outcomes.told_before(self._storage, job) or self._attempt(job, place, record, before)
            self._not_deleted(job)
        except Deleted:
            result = self._removed(job, before.begun)
        self._tell_end(result)
        self._lanes.commit(place, record.offset + 1)
        if result is not None:
            outcomes.forget(self._storage, job, keep_uploads=self._settings.video_keep_uploads)

    def _tell_end(self, result: Result | None) -> None:
        if result is None:
            return
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

    def _is_first(self, job: Job, attempt: int, place: TopicPartition, offset: int) -> bool:
        """Whether this record of a job that has waited after this attempt is the one that counts."""
        key, mine = attempt_key(job.id, attempt), f"{place.topic} {place.partition} {offset}".encode()
        while True:
            try:
                return self._storage.private.create(key, mine) or self._storage.private.read(key) == mine
            except OSError as error:
                self._storage_away(error)

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
        self._lanes.keep()
        self._lanes.unanswered()

    def _attempt(self, job: Job, place: TopicPartition, record: Any, before: Attempts) -> Result | None:
        """The end of a job, after one attempt more; None where it waits for another."""
        if before.due_ms:  # a worker that is gone had decided so
            return self._postponed(job, place, record, before, Failure(before.reason or Reason.INTERNAL_ERROR, ""))
        if before.begun >= LOST * self._settings.video_attempts:
            lost = Failure(Reason.WORKER_LOST, f"{before.begun - before.failed} attempts came to no end")
            return self._dead(job, before, lost, 0.0)
        now = Attempts(before.begun + 1, before.failed, before.engine)
        self._lanes.commit(place, record.offset, now)
        metrics.attempts.inc()
        self._tell(self._result(job, State.RUNNING, now.begun))
        began = time.monotonic()
        try:
            made = self._work(job, place, record.offset, before, now)
            seconds = round(time.monotonic() - began, 3)
            result = self._result(
                job,
                State.DONE,
                now.begun,
                engine=made.engine,
                seconds=seconds,
                source=made.source,
                outputs=made.outputs,
            )
            outcomes.finish(self._storage, job, result)
            return result
        except Failure as error:
            failure = error
            log.warning("attempt_failed", job=job.id, attempt=now.begun, reason=failure.reason, detail=failure.detail)
        finally:
            metrics.job_seconds.observe(time.monotonic() - began)
            metrics.decoder_starts.set(self._decoder.starts)
        if now.engine is QUARANTINE and failure.reason in (Reason.CRASHED, Reason.UNSUPPORTED_CODEC):
            failure = Failure(Reason.QUARANTINED, f"two engines came to grief: {failure.detail}", failure.tail)
        failed = now.failed + 1
        if failure.reason not in RETRIED or failed >= self._settings.video_attempts:
            return self._dead(job, now, failure, round(time.monotonic() - began, 3))
        wait = delay(failed, self._settings.video_retries)
        engine = QUARANTINE if failure.reason is Reason.CRASHED else now.engine
        due = int((time.time() + wait) * 1000)
        return self._postponed(job, place, record, Attempts(now.begun, failed, engine, failure.reason, due), failure)

    def _postponed(
        self, job: Job, place: TopicPartition, record: Any, left: Attempts, failure: Failure
    ) -> Result | None:
        """Puts a job where it waits, perhaps twice, and tells so; None."""
        self._lanes.commit(place, record.offset, left)
        headers = [(name, value) for name, value in carrying(record.headers, left) if name != LANE_HEADER]
        headers.append((LANE_HEADER, job.priority.encode()))
        topic = waiting_topic(left.failed)
        self._insist(lambda: self._reporter.send(topic, record.value, record.key, headers, ACKNOWLEDGED))
        self._tell(
            self._result(
                job, State.WAITING, left.begun, reason=failure.reason, detail=failure.detail, due_ms=left.due_ms
            )
        )
        metrics.retried.labels(failure.reason).inc()
        return None

    def _dead(self, job: Job, left: Attempts, failure: Failure, seconds: float) -> Result:
        """The end of a job that is not tried again: with a letter, perhaps two."""
        result = self._result(
            job, State.FAILED, left.begun, reason=failure.reason, detail=failure.detail, seconds=seconds
        )
        letter = DeadLetter(job, result, left.engine, failure.tail)
        self._insist(lambda: self._reporter.bury(letter, ACKNOWLEDGED))  # first, so that no job fails without one
        return result

    def _work(self, job: Job, place: TopicPartition, offset: int, before: Attempts, now: Attempts) -> Made:
        cancel = threading.Event()
        self._see(None)
        future = self._thread.submit(self._make, job, cancel, now.engine)
        told = 0.0
        try:
            looked = time.monotonic()
            while not future.done():
                self._lanes.keep()
                self._drained()
                if time.monotonic() - looked > DELETED_LOOK:
                    self._not_deleted(job)
                    looked = time.monotonic()
                if (seen := self._seen) is not None and seen.share > told:
                    told = seen.share  # it never sinks, also where another engine begins anew
                    self._reporter.tell(
                        self._result(job, State.RUNNING, now.begun, progress=seen.share, making=seen.making)
                    )
                _wait(future, POLL)
        except (GivenUp, Deleted) as why:
            cancel.set()
            ended = isinstance(future.exception(), Cancelled | None)
            if ended and isinstance(why, GivenUp) and not self._lanes.lost.is_set():
                self._lanes.give_back(place, offset, before)
            raise
        return future.result()

    def _make(self, job: Job, cancel: threading.Event, engine: Engine | None) -> Made:
        """The outputs of a job, in the decoder's thread. Raises Failure, or Cancelled once `cancel` is set."""
        with (
            source(job, self._settings, self._storage, self._outbound, cancel) as found,
            destination(self._settings, self._storage) as (root, keep),
        ):
            task = Task(
                path=found.path,
                folder=found.folder,
                outputs=job.outputs,
                root=str(root),
                name=job.id,
                limits=self._limits,
                engine=engine,
                device=self.device,
                costs=self._costs,
                in_parts=found.fetch is not None,
            )
            made = self._decoder.run(task, self._settings.video_job_seconds, cancel, self._see, found.fetch)
            keep(made.outputs)
            return made

    def _see(self, progress: JobProgress | None) -> None:
        """Called in the decoder's thread."""
        self._seen = progress

    def _drained(self) -> None:
        """Raises GivenUp once a worker that stops has waited long enough for its job."""
        if not self._stop.is_set():
            return
        if not self._stopping_since:
            self._stopping_since = time.monotonic()
        if time.monotonic() - self._stopping_since > self._settings.video_drain_seconds:
            raise GivenUp("stopping")

    def _tell(self, result: Result) -> None:
        self._insist(lambda: self._reporter.report(result, ACKNOWLEDGED))

    def _insist(self, send: Callable[[], bool]) -> None:
        """Sends until it is acknowledged: Kafka may be away for as long as it likes. Raises GivenUp."""
        self._lanes.keep()
        while not send():
            self._lanes.unanswered()
            self._lanes.keep()

    def _result(self, job: Job, state: State, attempt: int, **fields: Any) -> Result:
        now = int(time.time() * 1000)
        return Result(
            job.id,
            state,
            now,
            job.queued_ms,
            attempt,
            worker=self._worker,
            site=job.site,
            priority=job.priority,
            **fields,
        )


def _wait(future: Future[Made], seconds: float) -> None:
    """Until the future is done, but not longer than `seconds`."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    done.wait(seconds)
