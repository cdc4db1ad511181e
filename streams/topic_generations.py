"""Kafka's topic ids, numbered in the order in which workers met them: the first part of an event's place.

A topic that was deleted and made again has a new id (KIP-516) and offsets from 0. All places of an earlier id come
before those of a later one, so each id gets the next generation. Of several rows of one id the lowest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.errors import KafkaError

from infra.service.clickhouse import Client, quote

__all__ = ["GenerationError", "KafkaError", "Topic", "TopicReplaced", "generation_of"]

TIMEOUT_MS = 10_000
RECONNECT_MS = (
    1_000  # longest pause between two tries to connect; the client's own grows to 30 s while a broker is away
)


class TopicReplaced(RuntimeError):
    """The topic was deleted, or deleted and made again; the process must begin anew under the new id."""


class GenerationError(RuntimeError):
    """Two topic ids have the same generation, so that the order of their places is not known."""


class Topic:
    """A topic as the broker describes it now. For one thread at a time; methods raise KafkaError."""

    def __init__(self, servers: str, name: str) -> None:
        self.name = name
        self._servers = servers.split(",")
        self._admin: KafkaAdminClient | None = None

    def id(self) -> UUID | None:
        """The topic's id; None when there is no such topic."""
        for found in self._ask().describe_topics([self.name]):
            topic_id = found.get("topic_id")
            if found["name"] == self.name and not found["error_code"] and topic_id and UUID(str(topic_id)).int:
                return UUID(str(topic_id))
        return None

    def expect(self, topic_id: UUID) -> None:
        """Raises TopicReplaced when the topic has another id by now, or none."""
        found = self.id()
        if found != topic_id:
            raise TopicReplaced(f"topic {self.name} had id {topic_id}, now it has {found or 'none: it was deleted'}")

    def starts(self, partitions: Iterable[int]) -> dict[int, int]:
        """The lowest offset that each partition still has."""
        return self._offsets(partitions, OffsetSpec.EARLIEST)

    def ends(self, partitions: Iterable[int]) -> dict[int, int]:
        """The offset that the next record of each partition will get."""
        return self._offsets(partitions, OffsetSpec.LATEST)

    def at(self, moment: datetime, partitions: Iterable[int]) -> dict[int, int]:
        """The lowest offset of each partition that was appended at or after a moment; the end where there is none."""
        numbers = list(partitions)
        found = self._offsets(numbers, int(moment.timestamp() * 1000))
        ends = self.ends(numbers) if any(offset < 0 for offset in found.values()) else {}
        return {number: offset if offset >= 0 else ends[number] for number, offset in found.items()}

    def committed(self, groups: Iterable[str], partitions: Iterable[int]) -> dict[tuple[str, int], int]:
        """What consumer groups have committed, by group and partition; what never was is missing."""
        wanted = [TopicPartition(self.name, partition) for partition in partitions]
        found = self._ask().list_group_offsets(dict.fromkeys(groups, wanted))
        return {
            (group, tp.partition): known.offset
            for group, offsets in found.items()
            for tp, known in offsets.items()
            if known.offset >= 0
        }

    def delete_below(self, offsets: Mapping[int, int]) -> None:
        """Let the log of partitions begin at these offsets (Kafka's DeleteRecords)."""
        self._ask().delete_records({TopicPartition(self.name, number): offset for number, offset in offsets.items()})

    def close(self) -> None:
        """Close the connection; the next question opens a new one."""
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def _offsets(self, partitions: Iterable[int], spec: Any) -> dict[int, int]:
        wanted = {TopicPartition(self.name, partition): spec for partition in partitions}
        if not wanted:
            return {}
        found = self._ask().list_partition_offsets(wanted)
        return {tp.partition: result.offset for tp, result in found.items()}

    def _ask(self) -> KafkaAdminClient:
        if self._admin is None:
            self._admin = KafkaAdminClient(
                bootstrap_servers=self._servers,
                request_timeout_ms=TIMEOUT_MS,
                reconnect_backoff_max_ms=RECONNECT_MS,
            )
        return self._admin


def generation_of(client: Client, topic_id: UUID) -> int:
    """The generation of a topic id, added as the next one when the id is new; raises GenerationError."""
    known = (
        f"SELECT topic_id, min(generation) FROM topic_generations GROUP BY topic_id "
        f"HAVING topic_id = {quote(str(topic_id))}"
    )
    rows = client.query(known).result_rows
    if not rows:
        highest = client.query("SELECT max(generation) FROM topic_generations").result_rows[0][0]
        client.insert(
            "topic_generations",
            [[topic_id, highest + 1]],
            column_names=["topic_id", "generation"],
            settings={"async_insert": 0},
        )
        rows = client.query(known).result_rows
    generation = int(rows[0][1])
    others = client.query(
        f"SELECT count() FROM (SELECT topic_id, min(generation) AS g FROM topic_generations GROUP BY topic_id) "
        f"WHERE g = {generation}"
    ).result_rows[0][0]
    if others != 1:
        raise GenerationError(
            f"{others} topic ids have generation {generation} in topic_generations; remove the rows of all but the "
            "oldest and start again"
        )
    return generation
