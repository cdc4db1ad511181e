"""What a worker tells: results with an acknowledgement, heartbeats without."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError

from infra.service.logs import logger
from infra.service.settings import Settings
from schemas.topics import VIDEO_DEAD, VIDEO_RESULTS, WORKER_STATUS
from schemas.videos import DeadLetter, Result, WorkerStatus, encode

log = logger(__name__)

CONNECT_SECONDS = 5.0
DELIVERY_SECONDS = 20.0


class Reporter:
    """An idempotent producer, renewed when it fails. May be called by different threads."""

    def __init__(self, settings: Settings, client: str) -> None:
        self._servers = settings.kafka.split(",")
        self._client = client
        self._topic = settings.topic
        self._lock = threading.Lock()
        self._producer: Any = None

    def report(self, result: Result, seconds: float) -> bool:
        """Sends a result and waits up to `seconds`; whether it was acknowledged. A False leaves it unknown."""
        return self.send(VIDEO_RESULTS, encode(result), result.job.encode(), [], seconds)

    def tell(self, result: Result) -> None:
        """Sends a result and forgets it: what follows tells more. It may come after a later one."""
        try:
            self._open().send(self._topic(VIDEO_RESULTS), value=encode(result), key=result.job.encode())
        except (KafkaError, OSError, AssertionError) as error:
            log.debug("progress_not_sent", error=type(error).__name__)

    def bury(self, letter: DeadLetter, seconds: float) -> bool:
        """Sends a dead letter and waits up to `seconds`; whether it was acknowledged."""
        return self.send(VIDEO_DEAD, encode(letter), letter.job.id.encode(), [], seconds)

    def send(
        self, topic: str, value: bytes, key: bytes | None, headers: Iterable[tuple[str, bytes]], seconds: float
    ) -> bool:
        """Sends any record and waits up to `seconds`; whether it was acknowledged."""
        try:
            future = self._open().send(self._topic(topic), value=value, key=key, headers=[*headers])
            future.get(timeout=seconds)
        except (KafkaError, OSError, AssertionError) as error:
            log.warning("not_acknowledged", topic=topic, error=type(error).__name__)
            self._renew()
            return False
        return True

    def beat(self, status: WorkerStatus) -> None:
        """Sends a heartbeat and forgets it: the next one follows."""
        try:
            self._open().send(self._topic(WORKER_STATUS), value=encode(status), key=status.worker.encode())
        except (KafkaError, OSError, AssertionError) as error:
            log.debug("heartbeat_not_sent", error=type(error).__name__)

    def close(self, seconds: float) -> None:
        """Sends what is left, for `seconds` at most."""
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            producer.close(timeout=seconds)

    def _open(self) -> Any:
        with self._lock:
            if self._producer is None:
                self._producer = KafkaProducer(
                    bootstrap_servers=self._servers,
                    client_id=self._client,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=0,
                    max_block_ms=int(CONNECT_SECONDS * 1000),
                    request_timeout_ms=int(DELIVERY_SECONDS * 500),
                    delivery_timeout_ms=int(DELIVERY_SECONDS * 1000),
                    bootstrap_timeout_ms=int(CONNECT_SECONDS * 1000),
                    reconnect_backoff_max_ms=2_000,
                    allow_auto_create_topics=False,
                    metrics_enabled=False,
                )
            return self._producer

    def _renew(self) -> None:
        """A producer that gave a record up may refuse all that follow."""
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            threading.Thread(target=producer.close, kwargs={"timeout": 1.0}, daemon=True).start()
