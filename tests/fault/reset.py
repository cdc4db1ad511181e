"""Committed offsets that somebody sets by hand while no worker runs: to the beginning of the log, to its end, between.

Offsets are committed for the lag alone, so none of it may lose or double anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient, OffsetSpec
from kafka.structs import OffsetAndMetadata

from schemas.topics import EVENTS_RAW
from streams.app import group
from tests.fault.field import Field


class Reset:
    """All stream workers are stopped, the group's offsets are set, and the workers started."""

    name = "reset"
    kinds = ("worker",)
    outage = False
    workers = 1

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        settings = field.stack.settings
        names = field.names(kind)
        for name in names:
            field.stack.stop_part(name)
        admin = KafkaAdminClient(bootstrap_servers=settings.kafka.split(","))
        try:
            who = group(settings)
            field.until("the group has no member", lambda: "'members': []" in str(admin.describe_groups([who])))
            places = [TopicPartition(settings.topic(EVENTS_RAW), n) for n in range(settings.events_partitions)]
            ends = admin.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
            wanted = {p: random.choice((0, ends[p].offset, random.randint(0, ends[p].offset))) for p in places}
            admin.alter_group_offsets(who, {p: OffsetAndMetadata(offset, "", -1) for p, offset in wanted.items()})
        finally:
            admin.close()
        for name in names:
            field.stack.start_part(name)
        return {"offsets_set": len(wanted)}
