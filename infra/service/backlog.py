"""What the media workers have before them, per lane: jobs, and the seconds of decode work as expected.

A lane's jobs are what its group has not committed, so those under way are among them, and beside these those that wait
for another attempt. Seconds, and not jobs, are what to scale by: as many workers as are to be through with the work in
a given time. Of a long lane the first READ jobs are looked at, and stand for the rest.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from urllib3.exceptions import HTTPError

from infra.service import pace
from infra.service.clickhouse import ClickHouseError, connect
from infra.service.logs import describe, logger
from infra.service.metrics import gauge
from infra.service.pace import Pace
from infra.service.settings import Settings
from schemas.topics import VIDEO_GROUP, VIDEO_JOBS, VIDEO_JOBS_BATCH, VIDEO_RETRIES, VIDEO_RETRIES_GROUP
from schemas.videos import Job, Priority, decode_job

log = logger(__name__)

READ = 1000  # jobs of a topic
WITHIN = 5.0  # seconds that reading them may take
EVERY = 15.0  # seconds between two looks
ANSWER_MS = 10_000
LANES = {Priority.INTERACTIVE: VIDEO_JOBS, Priority.BATCH: VIDEO_JOBS_BATCH}

seconds_before = gauge("video_backlog", "seconds", "Decode work that waits or is under way, as expected", ["lane"])
jobs_before = gauge("video_backlog", "jobs", "Jobs that wait or are under way", ["lane"])
jobs_waiting = gauge("video_backlog_waiting", "jobs", "Those of them that wait for another attempt", ["lane"])
age = gauge("video_backlog_looked", "seconds", "When the backlog was looked at last, as seconds since 1970")


@dataclass(frozen=True, slots=True)
class Lane:
    """jobs: all, waiting: those of them that wait for another attempt. seconds: of decode work, as expected."""

    jobs: int = 0
    waiting: int = 0
    seconds: float = 0.0


Backlog = Mapping[Priority, Lane]


class NoAnswer(Exception):
    """Kafka cannot be asked."""


def backlog(settings: Settings, fleet: Pace) -> Backlog:
    """As it is now. Raises NoAnswer."""
    try:
        with _asking(settings, VIDEO_GROUP) as consumer:
            lanes = {lane: _lane(consumer, settings.topic(topic), fleet) for lane, topic in LANES.items()}
        with _asking(settings, VIDEO_RETRIES_GROUP) as consumer:
            for topic in VIDEO_RETRIES:
                number, jobs = _uncommitted(consumer, settings.topic(topic))
                for job in jobs:
                    lane = lanes[job.priority]
                    share = number / len(jobs)  # of those that were not looked at
                    lanes[job.priority] = replace(
                        lane,
                        jobs=lane.jobs + round(share),
                        waiting=lane.waiting + round(share),
                        seconds=lane.seconds + share * fleet.seconds(job),
                    )
    except (KafkaError, OSError, AssertionError) as error:
        raise NoAnswer(f"Kafka does not answer: {type(error).__name__}") from None
    return {lane: replace(found, seconds=round(found.seconds, 1)) for lane, found in lanes.items()}


def measured(settings: Settings) -> Pace:
    """What was measured; nothing where ClickHouse does not answer."""
    try:
        client = connect(settings, timeout=10.0)
        try:
            return pace.measured(client)
        finally:
            client.close()
    except (ClickHouseError, HTTPError, OSError) as error:
        log.warning("pace_unknown", **describe(error))
        return Pace()


@contextmanager
def _asking(settings: Settings, group: str) -> Iterator[Any]:
    """A consumer that can ask what a group has committed, and is no member of it."""
    consumer: Any = KafkaConsumer(
        bootstrap_servers=settings.kafka.split(","),
        group_id=settings.topic(group),
        enable_auto_commit=False,
        allow_auto_create_topics=False,
        bootstrap_timeout_ms=ANSWER_MS,
        request_timeout_ms=ANSWER_MS,
        metrics_enabled=False,
    )
    try:
        yield consumer
    finally:
        with suppress(KafkaError, OSError):
            consumer.close(autocommit=False, timeout_ms=1000)


def _lane(consumer: Any, topic: str, fleet: Pace) -> Lane:
    number, jobs = _uncommitted(consumer, topic)
    mean = sum(map(fleet.seconds, jobs)) / len(jobs) if jobs else fleet.mean
    return Lane(number, 0, number * mean)


def _uncommitted(consumer: Any, topic: str) -> tuple[int, list[Job]]:
    """How many records of a topic its group has not committed, and the jobs that the first of them are."""
    places = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    if not places:
        return 0, []
    consumer.assign(places)
    first, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
    begins = {}
    for place in places:
        committed = consumer.committed(place, timeout_ms=ANSWER_MS)
        begins[place] = min(max(first[place], committed if committed is not None else 0), ends[place])
        consumer.seek(place, begins[place])
    number = sum(ends[place] - begins[place] for place in places)
    return number, _read(consumer, places, ends) if number else []


def _read(consumer: Any, places: Sequence[TopicPartition], ends: Mapping[TopicPartition, int]) -> list[Job]:
    found: list[Job] = []
    until = time.monotonic() + WITHIN
    while len(found) < READ and time.monotonic() < until:
        if all(consumer.position(place) >= ends[place] for place in places):
            break
        for records in consumer.poll(timeout_ms=200, max_records=READ - len(found)).values():
            for record in records:
                with suppress(msgspec.DecodeError):
                    found.append(decode_job(record.value or b""))
    return found


class Watch:
    """Shows the backlog in this process's metrics, between `start` and `stop`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backlog", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; a look that is under way is left alone."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                show(backlog(self._settings, measured(self._settings)))
                age.set(time.time())
            except NoAnswer as error:
                log.warning("backlog_unknown", problem=str(error))
            except Exception as error:
                log.error("backlog_failed", **describe(error))
            self._stop.wait(EVERY)


def show(found: Backlog) -> None:
    """Sets the metrics."""
    for lane, before in found.items():
        seconds_before.labels(lane).set(before.seconds)
        jobs_before.labels(lane).set(before.jobs)
        jobs_waiting.labels(lane).set(before.waiting)
