"""When the worker says that it is alive, and when that it is ready."""

from __future__ import annotations

import time
from uuid import UUID

import pytest

from infra.service.settings import Settings
from schemas.topics import EVENTS_RAW
from streams.feeder import STUCK, Feeder
from streams.topic_generations import Topic
from tests.streams.shell.conftest import MakePipeline


@pytest.fixture
def feeder(make_pipeline: MakePipeline, world: Settings) -> Feeder:
    """A feeder that owns partition 0, whose log holds five records that are not stored, since too long."""
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    made = Feeder(pipeline, Topic(world.kafka, world.topic(EVENTS_RAW)), UUID(int=1), print)
    made._assigned = {0}
    made._ends = {0: 5}
    made.progressed = time.monotonic() - STUCK - 1
    return made


def test_records_that_wait_for_nothing_are_a_reason_to_be_dead(feeder: Feeder) -> None:
    assert "no batch was finished" in feeder.alive()


def test_having_stored_all_is_being_alive(feeder: Feeder) -> None:
    feeder._ends = {0: 0}
    assert feeder.alive() == ""


def test_waiting_for_what_is_away_is_being_alive_but_not_ready(feeder: Feeder) -> None:
    assert feeder.ready() == ""
    feeder.pipeline.patience.waiting_for = "clickhouse"
    assert feeder.alive() == ""
    assert "clickhouse" in feeder.ready()


def test_a_stopped_partition_is_not_ready(feeder: Feeder) -> None:
    feeder.pipeline.stop(0, "an alarm")
    assert feeder.ready() == "partition 0 is stopped: an alarm"
    assert feeder.alive() == ""


def test_before_the_first_assignment_nothing_is_ready(feeder: Feeder) -> None:
    feeder._assigned = None
    assert "no partitions" in feeder.ready()
    assert "no batch was finished" in feeder.alive()
