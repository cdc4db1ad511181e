"""How many records of `events.raw` have no row in `packets` yet: the broker's end offsets against the table."""

from __future__ import annotations

import time
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from infra.load.sql import Sql

FETCH_MS = 1_000  # waited for the oldest records


@dataclass(frozen=True, slots=True)
class Behind:
    """packets: in the log and not in the table. seconds: since the oldest of them was appended; None: not known."""

    packets: int
    seconds: float | None


class Lag:
    """Asks a broker and a database; call it for the number of records, or None where the broker does not answer."""

    def __init__(self, kafka: str, topic: str, sql: Sql) -> None:
        self._kafka, self._topic, self._sql = kafka, topic, sql

    def __call__(self) -> int | None:
        try:
            consumer = KafkaConsumer(bootstrap_servers=self._kafka.split(","), group_id=None)
            try:
                return sum(self._behind(consumer)[0].values())
            finally:
                consumer.close()
        except KafkaError:
            return None

    def behind(self) -> Behind | None:
        """The same, and how old it is; it fetches a record of each partition that is behind."""
        try:
            consumer = KafkaConsumer(
                bootstrap_servers=self._kafka.split(","), group_id=None, enable_auto_commit=False, max_poll_records=1
            )
            try:
                counts, reached = self._behind(consumer)
                late = [place for place, count in counts.items() if count]
                return Behind(sum(counts.values()), self._oldest(consumer, late, reached) if late else 0.0)
            finally:
                consumer.close()
        except KafkaError:
            return None

    def _behind(self, consumer: KafkaConsumer) -> tuple[dict[TopicPartition, int], dict[int, int]]:
        """Records that wait, by partition, and the offset behind the last row of each that has one."""
        places = [TopicPartition(self._topic, n) for n in consumer.partitions_for_topic(self._topic) or ()]
        ends = consumer.end_offsets(places)
        newest = "generation = (SELECT max(generation) FROM packets)"
        rows = self._sql.rows(f"SELECT partition, max(offset) + 1 FROM packets WHERE {newest} GROUP BY partition")
        reached = {int(partition): int(offset) for partition, offset in rows}
        return {place: max(0, int(end) - reached.get(place.partition, 0)) for place, end in ends.items()}, reached

    @staticmethod
    def _oldest(consumer: KafkaConsumer, late: list[TopicPartition], reached: dict[int, int]) -> float | None:
        consumer.assign(late)
        starts = consumer.beginning_offsets(late)
        for place in late:
            consumer.seek(place, max(reached.get(place.partition, 0), starts[place]))
        end = time.monotonic() + FETCH_MS / 1000
        oldest: dict[TopicPartition, int] = {}
        while len(oldest) < len(late) and time.monotonic() < end:
            for place, records in consumer.poll(timeout_ms=100).items():
                oldest.setdefault(place, records[0].timestamp)
                consumer.pause(place)
        return max(time.time() - min(oldest.values()) / 1000, 0.0) if len(oldest) == len(late) else None
