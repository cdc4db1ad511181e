"""Webhooks: who asked for it is told that a job is done or has failed, signed in the manner of Standard Webhooks.

A hook lies in the storage from the request on (`schemas.videos.webhook_key`). When its job has ended, as
`video.results` tells, the message is put into it before the result is committed; it is removed once the receiver has
answered 2xx or the time is over. So a message is sent at least once, whatever is killed, under the same id each time.
Of several processes the one to which Kafka gives the partition sends.

It runs in threads of its own, beside the API: neither requests nor workers ever wait for a receiver, and one that does
not answer takes no more than its share of the senders.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import hmac
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import msgspec
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from infra.service import webhook_secrets
from infra.service.consumer import Consumer
from infra.service.health import Progress
from infra.service.logs import describe, logger
from infra.service.metrics import counter
from infra.service.outbound import NotAllowed, Outbound, OutboundError
from infra.service.settings import Settings
from infra.service.storage import Storage
from ingest.videos.answers import Event, moment, video_of
from schemas.topics import VIDEO_RESULTS
from schemas.videos import Result, State, decode_result, webhook_key

log = logger(__name__)

SENDERS = 8  # messages under way at once
OF_A_SITE = 2  # of which for one site
BACK_OFF = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0)  # seconds before the second, third, ... attempt
JITTER = 0.2  # of the back-off, more or less
POLL = 0.5  # seconds
AGAIN = 2.0  # seconds after Kafka or the storage has failed
GONE = 410  # the receiver wants no more of it

outcomes = counter("video_webhooks", "attempts", "Attempts to send a webhook", ["outcome"])


class Hook(msgspec.Struct, frozen=True):
    """What lies in the storage. `body`: the message, empty while the job has not ended; times are milliseconds."""

    url: str
    site: int
    id: str = ""
    body: str = ""
    ended_ms: int = 0
    due_ms: int = 0
    attempts: int = 0


def signature(keys: Iterable[bytes], identity: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: HMAC-SHA256 over id, timestamp and body, one for each key."""
    signed = f"{identity}.{timestamp}.".encode() + body
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}" for key in keys)


def message(result: Result) -> tuple[str, str]:
    """The id and the body of the message about a job that has ended."""
    event = Event(f"video.{result.state}", moment(datetime.fromtimestamp(result.at_ms / 1000, UTC)), video_of(result))
    return f"msg_{result.job}", msgspec.json.encode(event).decode()


class Webhooks(ConsumerRebalanceListener):  # type: ignore[misc]
    """Sends, between `start` and `stop`. `progress` tells whether it goes on."""

    def __init__(
        self, settings: Settings, storage: Storage, outbound: Outbound, back_off: Sequence[float] = BACK_OFF
    ) -> None:
        self._settings = settings
        self._private = storage.private
        self._outbound = outbound
        self._back_off = back_off
        self._folder = settings.webhook_secrets
        self._topic = settings.topic(VIDEO_RESULTS)
        self._consumer: Any = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="webhook")
        self._lock = threading.Lock()  # over the two that follow
        self._due: list[tuple[int, str, int]] = []  # (milliseconds, job, site), a heap
        self._sending: Counter[int] = Counter()  # messages under way, by site
        self._mine = False
        self._assigned = False
        self.progress = Progress("the webhooks", 120.0)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; what is not sent is sent after the next start."""
        self._stop.set()
        self._thread.join(self._settings.video_webhook_seconds)
        self._senders.shutdown(wait=False, cancel_futures=True)

    # Called in the consumer's own thread

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """This process sends from now on, also what an earlier one has left."""
        if list(assigned):
            self._assigned = True

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Another process does."""
        if list(revoked):
            self._mine = self._assigned = False

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._read()
            except (KafkaError, OSError) as error:
                log.warning("waiting", what="webhooks", **describe(error))
            except Exception as error:
                log.error("webhooks_failed", **describe(error))
            finally:
                self._close()
            self._stop.wait(AGAIN)

    def _read(self) -> None:
        self.progress.mark()
        self._consumer = Consumer(
            bootstrap_servers=self._settings.kafka.split(","),
            client_id="veilstream-webhooks",
            group_id=self._settings.topic("veilstream.video-webhooks"),
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            max_poll_records=500,
            session_timeout_ms=6_000,
            heartbeat_interval_ms=500,
            request_timeout_ms=10_000,
            bootstrap_timeout_ms=5_000,
            reconnect_backoff_max_ms=2_000,
            metadata_max_age_ms=5_000,  # a topic that is made later is found
            metrics_enabled=False,
        )
        self._consumer.subscribe([self._topic], listener=self)
        while not self._stop.is_set():
            self.progress.mark()
            polled = self._consumer.poll(timeout_ms=int(POLL * 1000))
            if self._assigned:
                self._assigned, self._mine = False, True
                self._remember()
            for partition, records in polled.items():
                for record in records:
                    self.progress.mark()
                    self._ended(record.value or b"")
                self._consumer.commit({partition: OffsetAndMetadata(records[-1].offset + 1, "", -1)})
            if self._mine:
                self._hand_out()

    def _close(self) -> None:
        self._mine = self._assigned = False
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            try:
                consumer.close(autocommit=False, timeout_ms=2000)
            except (KafkaError, OSError) as error:
                log.warning("consumer_not_closed", error=type(error).__name__)

    def _remember(self) -> None:
        """All messages that are to be sent yet."""
        with self._lock:
            self._due.clear()
        for key in self._private.old(webhook_key(""), time.time() + 3600):
            job = key.removeprefix(webhook_key(""))
            self.progress.mark()
            if (hook := self._hook(job)) is not None and hook.body:
                self._schedule(job, hook)

    def _ended(self, value: bytes) -> None:
        """A result: where its job has a hook, the message is in it afterwards."""
        try:
            result = decode_result(value)
        except msgspec.DecodeError:
            return  # the stream worker counts and logs it
        if result.state not in (State.DONE, State.FAILED):
            return
        hook = self._hook(result.job)
        if hook is None or hook.body:
            return
        identity, body = message(msgspec.structs.replace(result, site=hook.site))
        now = int(time.time() * 1000)
        hook = msgspec.structs.replace(hook, id=identity, body=body, ended_ms=now, due_ms=now)
        self._private.put(webhook_key(result.job), msgspec.json.encode(hook))
        self._schedule(result.job, hook)

    def _hook(self, job: str) -> Hook | None:
        content = self._private.read(webhook_key(job))
        try:
            return None if content is None else msgspec.json.decode(content, type=Hook)
        except msgspec.DecodeError:
            log.error("bad_hook", job=job)
            return None

    def _schedule(self, job: str, hook: Hook) -> None:
        with self._lock:
            heapq.heappush(self._due, (hook.due_ms, job, hook.site))

    def _hand_out(self) -> None:
        """Gives the senders what is due; what its site has no sender for stays."""
        now, waiting = int(time.time() * 1000), []
        with self._lock:
            while self._due and self._due[0][0] <= now and self._sending.total() < SENDERS:
                due, job, site = heapq.heappop(self._due)
                if self._sending[site] < OF_A_SITE:
                    self._sending[site] += 1
                    self._senders.submit(self._send, job, site)
                else:
                    waiting.append((due, job, site))
            for item in waiting:
                heapq.heappush(self._due, item)

    def _send(self, job: str, site: int) -> None:
        try:
            hook = self._hook(job)
            if hook is not None and hook.body:
                self._attempt(job, hook)
        except Exception as error:
            # The storage, or a defect: either way the hook is still there.
            log.error("webhook_failed", job=job, **describe(error))
            with self._lock:
                heapq.heappush(self._due, (int((time.time() + self._back_off[0]) * 1000), job, site))
        finally:
            with self._lock:
                self._sending[site] -= 1

    def _attempt(self, job: str, hook: Hook) -> None:
        outcome, final = self._posted(hook)
        attempts = hook.attempts + 1
        now = time.time()
        wait = self._back_off[min(attempts, len(self._back_off)) - 1] * random.uniform(1 - JITTER, 1 + JITTER)
        over = now + wait - hook.ended_ms / 1000 > self._settings.video_webhook_hours * 3600
        outcomes.labels("given_up" if over and not final else outcome).inc()
        if final or over:
            log.info("webhook_ended", job=job, outcome=outcome, attempts=attempts)
            self._private.remove(webhook_key(job))
            return
        log.warning("webhook_not_taken", job=job, outcome=outcome, attempts=attempts)
        hook = msgspec.structs.replace(hook, attempts=attempts, due_ms=int((now + wait) * 1000))
        self._private.put(webhook_key(job), msgspec.json.encode(hook))
        self._schedule(job, hook)

    def _posted(self, hook: Hook) -> tuple[str, bool]:
        """The outcome of one attempt, and whether it is the last word."""
        timestamp, body = int(time.time()), hook.body.encode()
        try:
            keys = webhook_secrets.read(self._folder, hook.site)
        except webhook_secrets.SecretError as error:
            log.error("bad_secrets", problem=str(error))
            keys = []
        if not keys:
            return "no_secret", False
        headers = {
            "Content-Type": "application/json",
            "webhook-id": hook.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(keys, hook.id, timestamp, body),
        }
        try:
            status = self._outbound.post(hook.url, headers, body, seconds=self._settings.video_webhook_seconds)
        except NotAllowed:
            return "not_allowed", True
        except OutboundError as error:
            return type(error).__name__.lower(), False
        if 200 <= status < 300:
            return "taken", True
        return ("gone", True) if status == GONE else (f"status_{status // 100}xx", False)
