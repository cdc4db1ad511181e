"""The worker's place in the group: the next record of the lane whose turn it is, held for as long as its job takes.

Interactive jobs come first; while both lanes wait, one of `video_batch_every` jobs is batch's. What waits is asked of
the broker before every job, so no batch job goes ahead of an interactive one that was there before but by that share.

While a record is held, all partitions are paused and polling goes on, so that the group does not take the worker for
dead. What is known of the record's attempts is the metadata of the group's offset, so it outlives the worker.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.structs import MemberState, OffsetAndMetadata, TopicPartition

from gpu_workers import metrics
from gpu_workers.assignor import LaneAssignor
from infra.service.consumer import Consumer, StandsStill
from infra.service.health import Progress
from infra.service.logs import describe, logger
from infra.service.settings import Settings
from schemas import attempts
from schemas.attempts import Attempts
from schemas.topics import VIDEO_GROUP, VIDEO_JOBS, VIDEO_JOBS_BATCH
from schemas.videos import Priority

log = logger(__name__)

SESSION_MS, HEARTBEAT_MS = 6_000, 500
POLL = 0.5  # seconds; while a job runs, between two polls
ACKNOWLEDGED = 2.0  # seconds that one wait for the broker takes, between two polls
KAFKA_AGAIN = 1.0  # seconds before a call of Kafka that failed is tried again
LANES = {Priority.INTERACTIVE: VIDEO_JOBS, Priority.BATCH: VIDEO_JOBS_BATCH}


class GivenUp(Exception):
    """The lease is not ours any more, or the worker stops; the job will be done again."""


class Lanes(ConsumerRebalanceListener):  # type: ignore[misc]
    """For one thread. `lost` is set once the record that is held belongs to another worker. `problem`: why nothing can
    be taken; "" when it can."""

    def __init__(self, settings: Settings, worker: str, stop: threading.Event, progress: Progress) -> None:
        self._settings = settings
        self._worker = worker
        self._stop = stop
        self._progress = progress
        self._topics = {lane: settings.topic(name) for lane, name in LANES.items()}
        self._consumer: Any = None
        self._fresh: set[TopicPartition] = set()
        self._held: TopicPartition | None = None
        self._since_batch = 0  # jobs taken while batch waited
        self.lost = threading.Event()
        self.problem = "starting"

    # Called in the consumer's own thread, so nothing here waits.

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Partitions that were not ours before: nothing is taken of them before their lane's turn."""
        log.info("partitions_assigned", what="lanes", partitions=len(set(assigned)))
        self._fresh |= set(assigned)
        self._consumer.pause(*assigned)

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Partitions that go to another worker, or are lost."""
        log.info("partitions_revoked", what="lanes", partitions=len(set(revoked)))
        if self._held in set(revoked):
            self.lost.set()

    def connect(self) -> bool:
        """Joins, however long that takes; False when told to stop meanwhile."""
        while not self._stop.is_set():
            self._progress.mark()
            try:
                self._consumer = Consumer(
                    bootstrap_servers=self._settings.kafka.split(","),
                    client_id=self._worker,
                    group_id=self._settings.topic(VIDEO_GROUP),
                    auto_offset_reset="earliest",
                    enable_auto_commit=False,
                    allow_auto_create_topics=False,
                    partition_assignment_strategy=(LaneAssignor,),
                    max_poll_records=1,
                    session_timeout_ms=SESSION_MS,
                    heartbeat_interval_ms=HEARTBEAT_MS,
                    request_timeout_ms=10_000,
                    bootstrap_timeout_ms=5_000,
                    reconnect_backoff_max_ms=2_000,
                    metadata_max_age_ms=30_000,
                    metrics_enabled=False,
                )
                self._consumer.subscribe(list(self._topics.values()), listener=self)
                return True
            except (KafkaError, OSError) as error:
                self._away(error)
        return False

    def close(self) -> None:
        """Leaves."""
        self.problem = "stopping"
        if self._consumer is not None:
            try:
                self._consumer.close(autocommit=False, timeout_ms=3000)
            except (KafkaError, OSError) as error:
                log.warning("consumer_not_closed", error=type(error).__name__)

    def next(self) -> tuple[TopicPartition, Any] | None:
        """A record, which is held from now on; None when there is none within POLL seconds."""
        self.problem = "" if self._is_member() else "not (yet) a member of the group"
        try:
            lane, contended = self._turn()
            self._open(lane)
            for place, records in self._consumer.poll(timeout_ms=int(POLL * 1000), max_records=1).items():
                taken = place.topic == self._topics[Priority.BATCH]
                self._since_batch = 0 if taken or not contended else self._since_batch + 1
                self._consumer.read_nothing(False)
                return place, records[0]
            self._consumer.read_nothing(lane is not None)
        except StandsStill as error:
            log.warning("consumer_renewed", what="lanes", **describe(error))
            metrics.renewed.labels("lanes").inc()
            self.close()
            self.problem = "joins the group anew"
            self.connect()
        except (KafkaError, OSError) as error:
            self._away(error)
        return None

    def hold(self, place: TopicPartition) -> None:
        """Says that this record is worked on. Raises GivenUp where it is another worker's."""
        self.lost.clear()
        self._held = place
        if place not in self._consumer.assignment():
            raise GivenUp("lost")

    def release(self) -> None:
        """Says that no record is worked on."""
        self._held = None

    def keep(self) -> None:
        """Stays in the group while a job runs: polls, and takes nothing. Raises GivenUp once the lease is lost."""
        self._progress.mark()
        if self.lost.is_set():
            raise GivenUp("lost")
        try:
            self._poll_and_take_nothing(0.0)
            if not self.lost.is_set() and not self._is_member():
                self._poll_and_take_nothing(POLL)  # as one that does not wait never sees the end of a join
        except (KafkaError, OSError) as error:
            log.warning("waiting", what="kafka", **describe(error))
        if self.lost.is_set():
            raise GivenUp("lost")

    def begun(self, place: TopicPartition, offset: int) -> Attempts | None:
        """What a worker that is gone has left of this record; None where it has left nothing."""
        while place in self._fresh:
            self.keep()
            try:
                found = self._consumer.committed(place, metadata=True, timeout_ms=int(ACKNOWLEDGED * 1000))
            except (KafkaError, OSError) as error:
                log.warning("waiting", what="kafka", **describe(error))
                self.unanswered()
                continue
            self._fresh.discard(place)
            if found is None or found.offset != offset or not found.metadata:
                return None
            return attempts.read(found.metadata)
        return None

    def commit(self, place: TopicPartition, offset: int, left: Attempts | None = None) -> None:
        """Commits an offset, and what is known of the attempts at its record. Raises GivenUp."""
        while True:
            self.keep()
            try:
                self._committed(place, offset, left)
                return
            except (KafkaError, OSError) as error:
                log.warning("waiting", what="commit", **describe(error))
                self.unanswered()

    def give_back(self, place: TopicPartition, offset: int, left: Attempts) -> None:
        """Says that an attempt that was cut off does not count, if that can be said."""
        try:
            self._committed(place, offset, left)
        except (KafkaError, OSError) as error:
            log.info("attempt_not_returned", error=type(error).__name__)

    def unanswered(self) -> None:
        """After a call that failed: waits; raises GivenUp when the worker is told to stop meanwhile."""
        if self._stop.wait(KAFKA_AGAIN):
            raise GivenUp("stopping")

    def _committed(self, place: TopicPartition, offset: int, left: Attempts | None) -> None:
        text = left.text if left is not None else ""
        self._consumer.commit({place: OffsetAndMetadata(offset, text, -1)}, timeout_ms=int(ACKNOWLEDGED * 1000))

    def _turn(self) -> tuple[Priority | None, bool]:
        """The lane whose turn it is, None where nothing waits; and whether both wait."""
        places = list(self._consumer.assignment())
        ends = self._consumer.end_offsets(places, timeout_ms=int(ACKNOWLEDGED * 1000)) if places else {}
        waiting = {
            lane
            for lane, topic in self._topics.items()
            for place, end in ends.items()
            if place.topic == topic and self._position(place) < end
        }
        if len(waiting) < 2:
            return next(iter(waiting), None), False
        batch = self._since_batch >= self._settings.video_batch_every - 1
        return Priority.BATCH if batch else Priority.INTERACTIVE, True

    def _position(self, place: TopicPartition) -> int:
        found = self._consumer.position(place, timeout_ms=int(ACKNOWLEDGED * 1000))
        return found if found is not None else 0

    def _open(self, lane: Priority | None) -> None:
        """Lets a lane through, or both."""
        places = self._consumer.assignment()
        through = [place for place in places if lane is None or place.topic == self._topics[lane]]
        self._consumer.resume(*through)
        self._consumer.pause(*(place for place in places if place not in through))

    def _poll_and_take_nothing(self, seconds: float) -> None:
        self._consumer.pause(*self._consumer.assignment())
        for place, records in self._consumer.poll(timeout_ms=int(seconds * 1000), max_records=1).items():
            # It was assigned in between; its record is read again once the job is over.
            self._consumer.seek(place, records[0].offset)
            self._consumer.pause(place)

    def _is_member(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    def _away(self, error: Exception) -> None:
        self.problem = "Kafka does not answer"
        log.warning("waiting", what="kafka", **describe(error))
        self._stop.wait(KAFKA_AGAIN)
