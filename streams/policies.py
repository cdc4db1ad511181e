"""Policy sets by version, read from the compacted topic `site.policies` and from nowhere else."""

from __future__ import annotations

from collections import OrderedDict

from kafka import KafkaConsumer, TopicPartition

from infra.service.logs import logger
from schemas.sites import PolicySet, SitesError

log = logger(__name__)

KEPT = 64  # versions in memory; older ones are read again when a packet names them
POLL_MS = 1_000
REQUEST_TIMEOUT_MS = 10_000


class Policies:
    """For one thread at a time."""

    def __init__(self, servers: str, topic: str) -> None:
        self._servers = servers.split(",")
        self._topic = topic
        self._sets: OrderedDict[bytes, PolicySet] = OrderedDict()

    def get(self, version: bytes) -> PolicySet | None:
        """The set of this version, from memory."""
        found = self._sets.get(version)
        if found is not None:
            self._sets.move_to_end(version)
        return found

    def refresh(self) -> None:
        """Read the topic to its end, for the sites that it names; raises KafkaError."""
        self.fetch(b"")

    def sites_with_keys(self) -> tuple[int, ...]:
        """The sites that need a permanent key under any set that is known here."""
        found = {
            number for one in self._sets.values() for number, site in one.sites.items() if site.privacy.needs_site_key
        }
        return tuple(sorted(found))

    def fetch(self, wanted: bytes) -> bool:
        """Read the topic to its end; whether `wanted` is known now. Raises KafkaError.

        A record whose content is not the set that its key names is left out.
        """
        consumer = KafkaConsumer(
            bootstrap_servers=self._servers,
            group_id=None,
            enable_auto_commit=False,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            partitions = [TopicPartition(self._topic, n) for n in consumer.partitions_for_topic(self._topic) or ()]
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
            ends = consumer.end_offsets(partitions)
            while any(consumer.position(partition) < end for partition, end in ends.items()):
                for records in consumer.poll(timeout_ms=POLL_MS).values():
                    for record in records:
                        self._add(record.key, record.value)
        finally:
            consumer.close()
        while len(self._sets) > KEPT:
            oldest = next(version for version in self._sets if version != wanted)
            del self._sets[oldest]
        return wanted in self._sets

    def _add(self, key: bytes | None, value: bytes | None) -> None:
        if key is None or value is None:
            return
        try:
            version = bytes.fromhex(key.decode("ascii"))
            found = PolicySet.load(value)
        except (ValueError, SitesError) as error:
            log.error("policy_unreadable", error=type(error).__name__)
            return
        if version == found.version:
            self._sets.setdefault(version, found)
        else:
            log.error("policy_misnamed", version=version.hex(), content=found.version.hex())
