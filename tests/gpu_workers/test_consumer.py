"""Pausing and resuming partitions, on a real broker."""

from __future__ import annotations

import time

from kafka import KafkaProducer, TopicPartition

from gpu_workers.consumer import Consumer
from infra import topics
from infra.service.settings import Settings
from schemas.topics import VIDEO_JOBS

LIMIT = 30.0  # seconds


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
