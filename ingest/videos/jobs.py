"""Jobs, and what the API does to them, to Kafka: taken once the broker has acknowledged it."""

from __future__ import annotations

import threading
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from infra.service.logs import logger
from infra.service.settings import Settings
from schemas.topics import VIDEO_JOBS, VIDEO_JOBS_BATCH, VIDEO_RESULTS
from schemas.videos import SITE_HEADER, Job, Priority, Result, State, encode

log = logger(__name__)

CONNECT_SECONDS = 3.0
ACKNOWLEDGED = 10.0  # seconds until a record counts as not acknowledged
AGAIN = 0.5  # seconds between attempts to reach Kafka


class NotTaken(Exception):
    """Kafka has not acknowledged a record. `sent`: it may have it all the same, and whether it does is unknown."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Jobs:
    """The producer, made in a thread and renewed when it fails. `problem`: why no job is taken now, "" when one is."""

    def __init__(self, settings: Settings) -> None:
        self._servers = settings.kafka.split(",")
        self._lanes = {
            Priority.INTERACTIVE: settings.topic(VIDEO_JOBS),
            Priority.BATCH: settings.topic(VIDEO_JOBS_BATCH),
        }
        self._results = settings.topic(VIDEO_RESULTS)
        self._producer: Any = None
        self._closing = threading.Event()
        self._connecting = threading.Lock()
        self.problem = "has not reached Kafka yet"

    def start(self) -> None:
        """Reaches for Kafka, for as long as it takes."""
        threading.Thread(target=self._connect, name="kafka-connect", daemon=True).start()

    def put(self, job: Job) -> None:
        """Returns when the job is on its lane's topic; raises NotTaken."""
        producer = self._ready()
        key = job.id.encode()
        headers = [(SITE_HEADER, str(job.site).encode())]
        queued = Result(job.id, State.QUEUED, job.queued_ms, job.queued_ms, site=job.site, priority=job.priority)
        try:
            lane = self._lanes[job.priority]
            producer.send(lane, value=encode(job), key=key, headers=headers).get(timeout=ACKNOWLEDGED)
            producer.send(self._results, value=encode(queued), key=key)
        except (KafkaError, OSError, AssertionError) as error:
            raise self._failed(producer, error) from None

    def tell(self, result: Result) -> None:
        """Returns when the result is on `video.results`; raises NotTaken."""
        producer = self._ready()
        try:
            producer.send(self._results, value=encode(result), key=result.job.encode()).get(timeout=ACKNOWLEDGED)
        except (KafkaError, OSError, AssertionError) as error:
            raise self._failed(producer, error) from None

    def close(self) -> None:
        """Sends what is left, shortly."""
        self._closing.set()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=3.0)

    def _ready(self) -> Any:
        producer = self._producer
        if producer is None:
            raise NotTaken(self.problem, sent=False)
        return producer

    def _failed(self, producer: Any, error: Exception) -> NotTaken:
        log.warning("record_not_acknowledged", error=type(error).__name__)
        self._renew(producer)
        return NotTaken("Kafka has not acknowledged it in time", sent=True)

    def _renew(self, failed: Any) -> None:
        """A producer that gave a record up may refuse all that follow."""
        if self._producer is failed:
            self._producer = None
            self.problem = "has lost Kafka"
            threading.Thread(target=failed.close, kwargs={"timeout": 1.0}, daemon=True).start()
            self.start()

    def _connect(self) -> None:
        if not self._connecting.acquire(blocking=False):
            return
        try:
            while self._producer is None and not self._closing.is_set():
                producer = None
                try:
                    producer = KafkaProducer(
                        bootstrap_servers=self._servers,
                        client_id="veilstream-videos",
                        acks="all",
                        enable_idempotence=True,
                        max_block_ms=int(CONNECT_SECONDS * 1000),
                        request_timeout_ms=int(ACKNOWLEDGED * 400),
                        delivery_timeout_ms=int(ACKNOWLEDGED * 900),
                        bootstrap_timeout_ms=int(CONNECT_SECONDS * 1000),
                        reconnect_backoff_max_ms=2_000,
                        allow_auto_create_topics=False,
                        metrics_enabled=False,
                    )
                    missing = [topic for topic in self._lanes.values() if not producer.partitions_for(topic)]
                    if not missing:
                        self._producer, self.problem = producer, ""
                        log.info("kafka_reached")
                        return
                    self.problem = f"there is no topic {missing[0]}; `veilstream migrate` makes it"
                except (KafkaError, OSError) as error:
                    self.problem = f"cannot reach Kafka: {type(error).__name__}"
                if producer is not None:
                    producer.close(timeout=1.0)
                self._closing.wait(AGAIN)
        finally:
            self._connecting.release()
