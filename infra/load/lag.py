"""How many records of `events.raw` have no row in `packets` yet: the broker's end offsets against the table."""

from __future__ import annotations

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from infra.load.sql import Sql


class Lag:
    """Asks a broker and a database; call it for the number of records, or None where the broker does not answer."""

    def __init__(self, kafka: str, topic: str, sql: Sql) -> None:
        self._kafka, self._topic, self._sql = kafka, topic, sql

    def __call__(self) -> int | None:
        try:
            consumer = KafkaConsumer(bootstrap_servers=self._kafka.split(","), group_id=None)
            try:
                partitions = [TopicPartition(self._topic, n) for n in consumer.partitions_for_topic(self._topic) or ()]
                ends = consumer.end_offsets(partitions)
            finally:
                consumer.close()
        except KafkaError:
            return None
        newest = "generation = (SELECT max(generation) FROM packets)"
        rows = self._sql.rows(f"SELECT partition, max(offset) + 1 FROM packets WHERE {newest} GROUP BY partition")
        reached = {int(partition): int(offset) for partition, offset in rows}
        return sum(max(0, int(end) - reached.get(place.partition, 0)) for place, end in ends.items())
