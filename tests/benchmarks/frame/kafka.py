"""What a benchmark asks the broker: how many events are in the topic, and to take records."""

from __future__ import annotations

from collections.abc import Iterable

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from infra.service.settings import Settings
from schemas import topics
from schemas.packets import header

FETCH_BYTES = 16 << 20
POLL_MS = 500


class Topic:
    """Reads `events.raw` on from where the last count ended."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=settings.kafka.split(","),
            group_id=None,
            enable_auto_commit=False,
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_bytes=4 * FETCH_BYTES,
        )
        name = settings.topic(topics.EVENTS_RAW)
        self._partitions = [TopicPartition(name, number) for number in range(settings.events_partitions)]
        self._consumer.assign(self._partitions)
        self._consumer.seek_to_beginning(*self._partitions)

    def new(self) -> tuple[int, int]:
        """Packets and events that have come since the last call."""
        packets = events = 0
        ends = self._consumer.end_offsets(self._partitions)
        while any(self._consumer.position(partition) < end for partition, end in ends.items()):
            for records in self._consumer.poll(timeout_ms=POLL_MS).values():
                packets += len(records)
                events += sum(header(record.value).count for record in records)
        return packets, events

    def close(self) -> None:
        """Leaves the broker."""
        self._consumer.close()


class Producer:
    """Puts records into one topic, as fast as the client can."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        self._producer = KafkaProducer(
            bootstrap_servers=settings.kafka.split(","),
            acks="all",
            batch_size=512 << 10,
            linger_ms=5,
            max_request_size=topics.RECORD_LIMIT,
            metrics_enabled=False,
        )

    def send(self, records: Iterable[tuple[int, bytes]]) -> None:
        """Stores these (partition, value), in their order, and returns when the broker has acknowledged all."""
        sent = [self._producer.send(self._topic, value=value, partition=partition) for partition, value in records]
        self._producer.flush(120)
        for future in sent:
            future.get(0)

    def close(self) -> None:
        """Leaves the broker."""
        self._producer.close()
