"""Which worker gets which partitions: those of the two lanes that have the same number go together.

Otherwise a worker could end up with partitions of one lane alone, and leave urgent jobs to another that is busy. The
first lane's are spread as kafka-python's cooperative assignor does it (KIP-429), under its name, so that workers of the
version before can be members of the same group.
"""

from __future__ import annotations

from typing import Any

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment
from kafka.structs import TopicPartition

from schemas.topics import BATCH


class LaneAssignor(CooperativeStickyAssignor):  # type: ignore[misc]
    """Assigns the topics without BATCH at the end of their names; each that has it follows the one that it is named
    after."""

    @classmethod
    def parse_member_metadata(cls, metadata: Any) -> Any:
        """What the assignor before knows of a member: nothing of the second lane."""
        found = super().parse_member_metadata(metadata)
        return found._replace(
            partitions=[place for place in found.partitions if not place.topic.endswith(BATCH)],
            subscription=[topic for topic in found.subscription if not topic.endswith(BATCH)],
        )

    def assign(self, cluster: Any, members: Any) -> dict[str, ConsumerProtocolAssignment]:
        """As the class before, and the second lane beside it; a partition that another member has yet comes with the
        next round."""
        members = list(members)
        owners = {place: member.member_id for member in members for place in _owned(member.metadata)}
        found = {}
        for identity, assignment in super().assign(cluster, members).items():
            metadata = next(member.metadata for member in members if member.member_id == identity)
            following = {}
            for topic, leading in assignment.assigned_partitions:
                if topic + BATCH in metadata.topics:
                    lanes = len(cluster.partitions_for_topic(topic) or ()) or 1
                    numbers = sorted(cluster.partitions_for_topic(topic + BATCH) or ())
                    following[topic + BATCH] = [
                        number
                        for number in numbers
                        if number % lanes in leading
                        and owners.get(TopicPartition(topic + BATCH, number), identity) == identity
                    ]
            found[identity] = ConsumerProtocolAssignment(
                self.version, [*assignment.assigned_partitions, *following.items()], b""
            )
        return found


def _owned(metadata: Any) -> list[TopicPartition]:
    return [
        TopicPartition(place.topic, number)
        for place in getattr(metadata, "owned_partitions", None) or ()
        for number in place.partitions
    ]
