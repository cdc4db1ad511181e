"""A consumer that pauses, resumes and joins, on a real broker."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from gpu_workers import lanes, retries
from gpu_workers.lanes import Lanes
from gpu_workers.reports import Reporter
from gpu_workers.retries import Retries
from infra import topics
from infra.service import consumer as consumers
from infra.service.consumer import Consumer
from infra.service.health import Progress
from infra.service.settings import Settings
from schemas.attempts import Attempts, carrying
from schemas.topics import VIDEO_JOBS, VIDEO_RETRIES

LIMIT = 60.0  # seconds


def test_a_partition_that_was_resumed_goes_on(settings: Settings) -> None:
    topics.ensure(settings)
    topic = settings.topic(VIDEO_JOBS)
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    producer = KafkaProducer(bootstrap_servers=settings.kafka.split(","))
    for place in (first, second):
        for number in range(3):
            producer.send(topic, str(number).encode(), partition=place.partition)
    producer.close()
    consumer = Consumer(bootstrap_servers=settings.kafka.split(","), group_id=None, enable_auto_commit=False)
    found: dict[TopicPartition, list[bytes]] = {first: [], second: []}

    def read(place: TopicPartition, amount: int) -> None:
        deadline = time.monotonic() + LIMIT
        while len(found[place]) < amount:
            assert time.monotonic() < deadline, f"stands still after {found}"
            for of, records in consumer.poll(timeout_ms=200, max_records=1).items():
                found[of] += [record.value for record in records]

    try:
        consumer.assign([first, second])
        consumer.seek_to_beginning(first, second)
        consumer.pause(second)
        read(first, 1)  # the rest of what was fetched is parked
        consumer.pause(first)
        consumer.resume(second)
        read(second, 3)
        consumer.resume(first)
        read(first, 3)
    finally:
        consumer.close()
    assert found == {first: [b"0", b"1", b"2"], second: [b"0", b"1", b"2"]}


def test_a_join_that_a_new_topic_begins_is_seen_through_however_short_the_polls(settings: Settings) -> None:
    first, second = settings.topic("first"), settings.topic("second")
    admin: Any = KafkaAdminClient(bootstrap_servers=settings.kafka.split(","))
    consumer = Consumer(
        bootstrap_servers=settings.kafka.split(","),
        group_id=settings.topic("group"),
        allow_auto_create_topics=False,
        enable_auto_commit=False,
        metadata_max_age_ms=300,
    )

    def assigned(*topics: str) -> bool:
        deadline = time.monotonic() + LIMIT
        while {place.topic for place in consumer.assignment()} != set(topics) and time.monotonic() < deadline:
            consumer.poll(timeout_ms=1)
            time.sleep(0.05)  # a join that is under way gets through meanwhile
        return {place.topic for place in consumer.assignment()} == set(topics)

    try:
        admin.create_topics([NewTopic(first, 1, 1)])
        consumer.subscribe([first, second])
        assert assigned(first)
        admin.create_topics([NewTopic(second, 1, 1)])
        assert assigned(first, second)
    finally:
        consumer.close()
        admin.close()


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> list[Consumer]:
    """The consumers that were made, of which the first never gives anything, as a client would that is at fault."""
    made: list[Consumer] = []

    class Sometimes(Consumer):
        def __init__(self, *topics: str, **config: Any) -> None:
            super().__init__(*topics, **config)
            made.append(self)

        def poll(self, *args: Any, **kwargs: Any) -> Any:
            found = super().poll(*args, **kwargs)
            if self is not made[0]:
                return found
            for place, records in found.items():
                self.seek(place, records[0].offset)
            return {}

    monkeypatch.setattr(lanes, "Consumer", Sometimes)
    monkeypatch.setattr(retries, "Consumer", Sometimes)
    monkeypatch.setattr(retries, "LOOK", 0.2)
    monkeypatch.setattr(consumers, "STILL", 1.0)
    return made


@pytest.fixture
def topic_of_jobs(settings: Settings) -> str:
    topics.ensure(settings)
    return settings.topic(VIDEO_JOBS)


def send(settings: Settings, topic: str, value: bytes, attempts: Attempts) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.kafka.split(","))
    producer.send(settings.topic(topic), value, headers=carrying([], attempts)).get(LIMIT)
    producer.close()


def test_lanes_whose_client_reads_nothing_get_another(
    settings: Settings, topic_of_jobs: str, deaf: list[Consumer]
) -> None:
    send(settings, VIDEO_JOBS, b"job", Attempts())
    held = Lanes(settings, "worker", threading.Event(), Progress("a test", LIMIT))
    assert held.connect()
    try:
        deadline, found = time.monotonic() + LIMIT, None
        while found is None and time.monotonic() < deadline:
            found = held.next()
    finally:
        held.close()
    assert found is not None
    assert (found[0].topic, found[1].value) == (topic_of_jobs, b"job")
    assert len(deaf) == 2


def test_retries_whose_client_reads_nothing_get_another(
    settings: Settings, topic_of_jobs: str, deaf: list[Consumer]
) -> None:
    send(settings, VIDEO_RETRIES[0], b"job", Attempts(1, 1))
    reporter = Reporter(settings, "reporter")
    waiting = Retries(settings, reporter)
    waiting.start()
    consumer = Consumer(topic_of_jobs, bootstrap_servers=settings.kafka.split(","), auto_offset_reset="earliest")
    try:
        deadline, found = time.monotonic() + LIMIT, list[bytes]()
        while not found and time.monotonic() < deadline:
            found = [record.value for records in consumer.poll(timeout_ms=200).values() for record in records]
    finally:
        consumer.close()
        waiting.end(LIMIT)
        reporter.close(1.0)
    assert found == [b"job"]
    assert len(deaf) == 2
