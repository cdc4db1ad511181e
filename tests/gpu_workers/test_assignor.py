"""Who gets which partitions, by the assignor alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription

from gpu_workers.assignor import LaneAssignor
from schemas.topics import VIDEO_JOBS, VIDEO_JOBS_BATCH

BOTH = (VIDEO_JOBS, VIDEO_JOBS_BATCH)
Owned = Mapping[str, Sequence[int]]


@dataclass
class Member:
    member_id: str
    metadata: Any


class Cluster:
    """Four partitions of every topic."""

    def topics(self) -> set[str]:
        return {*BOTH}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(4))


def member(name: str, owned: Owned, topics: Sequence[str] = BOTH) -> Member:
    place = ConsumerProtocolSubscription.TopicPartition
    places = [place(topic=topic, partitions=[*numbers]) for topic, numbers in owned.items()]
    return Member(
        name, ConsumerProtocolSubscription(version=1, topics=[*topics], user_data=b"", owned_partitions=places)
    )


def assigned(*members: Member) -> dict[str, dict[str, list[int]]]:
    found = LaneAssignor().assign(Cluster(), members)
    return {name: {topic: [*numbers] for topic, numbers in one.assigned_partitions} for name, one in found.items()}


def test_both_lanes_of_a_number_go_together_and_move_in_two_rounds() -> None:
    alone = assigned(member("a", {}))
    assert alone == {"a": {topic: [0, 1, 2, 3] for topic in BOTH}}
    first = assigned(member("a", alone["a"]), member("b", {}))
    assert len(first["a"][VIDEO_JOBS]) == 2
    assert first["a"][VIDEO_JOBS] == first["a"][VIDEO_JOBS_BATCH]
    assert not any(first["b"].values())  # what moves is given up first
    second = assigned(member("a", first["a"]), member("b", first["b"]))
    assert second["a"] == first["a"]
    assert second["b"][VIDEO_JOBS] == second["b"][VIDEO_JOBS_BATCH]
    assert sorted(second["a"][VIDEO_JOBS] + second["b"][VIDEO_JOBS]) == [0, 1, 2, 3]


def test_what_another_still_has_is_not_given_away() -> None:
    """As after workers of a version that spread the lanes apart."""
    owned = {"a": {VIDEO_JOBS: [0, 1], VIDEO_JOBS_BATCH: [2, 3]}, "b": {VIDEO_JOBS: [2, 3], VIDEO_JOBS_BATCH: [0, 1]}}
    first = assigned(*(member(name, places) for name, places in owned.items()))
    assert [found[VIDEO_JOBS_BATCH] for found in first.values()] == [[], []]
    second = assigned(*(member(name, places) for name, places in first.items()))
    assert all(found[VIDEO_JOBS] == found[VIDEO_JOBS_BATCH] for found in second.values())


def test_a_member_that_knows_one_lane_gets_one() -> None:
    found = assigned(member("old", {}, topics=[VIDEO_JOBS]), member("new", {}))
    assert VIDEO_JOBS_BATCH not in found["old"]
    assert found["new"][VIDEO_JOBS] == found["new"][VIDEO_JOBS_BATCH]
