"""Jobs that wait for another attempt: on the topics VIDEO_RETRIES, until they are due and go back to their lane.

Every worker has a thread for it, and a group of its own gives each topic to one of them, whether it is at a job or not.
What waits on one topic waits equally long, so the record at its head is the next that is due; until then the partition
is paused. When a record is due says its header, so neither a restart nor `kill -9` makes a job wait anew or forget its
attempts. A record that was handed on and not committed is handed on again: `gpu_workers.leases` takes one of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from gpu_workers import metrics
from gpu_workers.lanes import LANES
from gpu_workers.reports import Reporter
from infra.service.consumer import Consumer, StandsStill
from infra.service.health import Progress
from infra.service.logs import describe, logger
from infra.service.settings import Settings
from schemas.attempts import carried
from schemas.topics import VIDEO_RETRIES, VIDEO_RETRIES_GROUP
from schemas.videos import LANE_HEADER, Priority

log = logger(__name__)

POLL = 0.2  # seconds
AGAIN = 1.0  # seconds after Kafka has failed
ACKNOWLEDGED = 5.0  # seconds
LOOK = 5.0  # seconds without a record between looks at whether there is one


def waiting_topic(failed: int) -> str:
    """Where a job waits after so many failures, at least one."""
    return VIDEO_RETRIES[min(failed, len(VIDEO_RETRIES)) - 1]


class Retries(ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands on, between `start` and `end`. `progress` tells whether it goes on."""

    def __init__(self, settings: Settings, reporter: Reporter) -> None:
        self._settings = settings
        self._reporter = reporter
        self._topics = [settings.topic(name) for name in VIDEO_RETRIES]
        self._consumer: Any = None
        self._due: dict[TopicPartition, int] = {}  # partitions that are paused, and until when (ms)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retries", daemon=True)
        self.progress = Progress("what hands waiting jobs on", 120.0)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def end(self, seconds: float) -> None:
        """Stops; what waits goes on waiting."""
        self._stop.set()
        self._thread.join(seconds)

    # Called in the consumer's own thread.

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Partitions that were not ours before: read from what is committed."""
        log.info("partitions_assigned", what="retries", partitions=_named(assigned))

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Another worker hands these on."""
        log.info("partitions_revoked", what="retries", partitions=_named(revoked))
        for place in revoked:
            self._due.pop(place, None)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._read()
            except StandsStill as error:
                log.warning("consumer_renewed", what="retries", **describe(error))
                metrics.renewed.labels("retries").inc()
            except (KafkaError, OSError) as error:
                log.warning("waiting", what="retries", **describe(error))
            except Exception as error:
                log.error("retries_failed", **describe(error))
            finally:
                self._close()
            self._stop.wait(AGAIN)

    def _read(self) -> None:
        self.progress.mark()
        self._due.clear()
        self._consumer = Consumer(
            bootstrap_servers=self._settings.kafka.split(","),
            client_id="veilstream-video-retries",
            group_id=self._settings.topic(VIDEO_RETRIES_GROUP),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=500,
            request_timeout_ms=10_000,
            bootstrap_timeout_ms=5_000,
            reconnect_backoff_max_ms=2_000,
            metadata_max_age_ms=5_000,  # a topic that is made later is found
            metrics_enabled=False,
        )
        self._consumer.subscribe(self._topics, listener=self)
        looked = 0.0
        while not self._stop.is_set():
            self.progress.mark()
            now = time.time() * 1000
            for place in [place for place, due in self._due.items() if due <= now]:
                del self._due[place]
                self._consumer.resume(place)
            found = self._consumer.poll(timeout_ms=int(POLL * 1000))
            for place, records in found.items():
                self._hand_on(place, records)
            if found or not looked:
                looked = time.monotonic()
                self._consumer.read_nothing(False)
            elif time.monotonic() - looked > LOOK:
                looked = time.monotonic()
                self._consumer.read_nothing(self._something_waits())

    def _something_waits(self) -> bool:
        """Whether there is a record to read now."""
        places = [place for place in self._consumer.assignment() if place not in self._due]
        ends = self._consumer.end_offsets(places, timeout_ms=int(ACKNOWLEDGED * 1000)) if places else {}
        positions = {place: self._consumer.position(place, timeout_ms=int(ACKNOWLEDGED * 1000)) for place in ends}
        return any((positions[place] or 0) < end for place, end in ends.items())

    def _hand_on(self, place: TopicPartition, records: list[Any]) -> None:
        """What is due of a partition, in its order; raises KafkaError where that cannot be done."""
        for record in records:
            due = carried(record.headers).due_ms
            if due > time.time() * 1000:
                self._consumer.pause(place)
                self._consumer.seek(place, record.offset)
                self._due[place] = due
                return
            lane = next((value.decode(errors="replace") for name, value in record.headers if name == LANE_HEADER), "")
            topic = LANES[Priority(lane) if lane in set(Priority) else Priority.INTERACTIVE]
            if not self._reporter.send(topic, record.value, record.key, record.headers, ACKNOWLEDGED):
                raise KafkaError("a job was not handed on")
            self._consumer.commit({place: OffsetAndMetadata(record.offset + 1, "", -1)}, timeout_ms=5000)
            metrics.handed_on.inc()

    def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.close(autocommit=False, timeout_ms=2000)
            except (KafkaError, OSError) as error:
                log.warning("consumer_not_closed", error=type(error).__name__)


def _named(places: Iterable[TopicPartition]) -> list[str]:
    return [f"{place.topic}-{place.partition}" for place in sorted(places)]
