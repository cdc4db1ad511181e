"""The backlog in seconds, from what lies on a real broker and what a real table has measured."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from infra.migrate import open_database
from infra.service.backlog import Lane, backlog, measured, seconds_before, show
from infra.service.clickhouse import insert_if
from infra.service.pace import ASSUMED, ENOUGH, Class, Pace, kinds_of
from infra.service.settings import Settings
from schemas.attempts import Attempts, carrying
from schemas.outputs import At, Frames, Poster, Preview, Wanted
from schemas.topics import VIDEO_GROUP, VIDEO_JOBS, VIDEO_JOBS_BATCH, VIDEO_RETRIES
from schemas.video_tables import VIDEO_JOBS_TABLE
from schemas.videos import (
    Engine,
    Job,
    Kind,
    Output,
    Priority,
    Result,
    Source,
    State,
    Uploaded,
    encode,
    new_id,
)
from streams.video_rows import job_row
from tests.video_services import put

MB = 1_000_000


def job(*outputs: Wanted, size: int = 0, priority: Priority = Priority.INTERACTIVE) -> Job:
    return Job(new_id(1), 1, Uploaded(), 1, outputs or (Poster(),), priority, size)


def done(kind: Kind, seconds: float, size: int) -> Result:
    now = int(time.time() * 1000)
    source = Source(640, 360, 60.0, 0, "h264", "yuv420p", size)
    outputs = (Output(kind, "a", 1, 1, 0.0), Output(Kind.WEBVTT, "b", 1, 1, 0.0))
    return Result(new_id(now), State.DONE, now, now, 1, "w", Engine.CPU, seconds, source=source, outputs=outputs)


@pytest.mark.parametrize(
    ("found", "size", "seconds"),
    [
        (Class(9, 5.0, 1.0, slope=2e-6, begin=1.0), 10 * MB, 21.0),
        (Class(9, 5.0, 1.5, slope=2e-6, begin=-9.0), MB, 1.5),  # no job took less
        (Class(9, 5.0, 1.0, slope=2e-6, begin=1.0), 0, 5.0),
        (Class(9, 5.0, 1.0, slope=-2e-6, begin=9.0), MB, 5.0),
        (Class(9, 5.0, 1.0, slope=float("nan"), begin=float("nan")), MB, 5.0),
    ],
)
def test_a_job_takes_what_its_class_took(found: Class, size: int, seconds: float) -> None:
    assert found.seconds(size) == pytest.approx(seconds)


def test_what_was_not_measured_enough_takes_what_any_job_took() -> None:
    fleet = Pace({("poster",): Class(ENOUGH - 1, 2.0, 1.0), ("preview",): Class(ENOUGH, 11.0, 1.0)})
    assert fleet.seconds(job(Poster())) == fleet.mean == pytest.approx((4 * 2 + 5 * 11) / 9)
    assert fleet.seconds(job(Preview())) == 11.0
    assert Pace().seconds(job()) == ASSUMED
    assert kinds_of((At(times=(1.0,)), Poster(), Frames())) == ("frame", "poster")


def test_seconds_of_what_waits(installation: Settings) -> None:
    assert set(backlog(installation, measured(installation)).values()) == {Lane()}
    rows = [done(Kind.POSTER, 1.0 + 2 * size, size * MB) for size in range(1, 7)]
    rows += [done(Kind.PREVIEW, 7.0, 0) for _ in range(ENOUGH)]
    with open_database(installation) as client:
        table = pa.Table.from_pylist([job_row(encode(row)) for row in rows], VIDEO_JOBS_TABLE)
        insert_if(client, "video_jobs", table, "1", query_id="rows")
    fleet = measured(installation)
    assert fleet.jobs == len(rows)

    urgent = [job(size=10 * MB), job(Preview()), job(size=MB)]
    for one in urgent:
        put(installation, encode(one), one.id.encode())
    put(installation, b"no job", None)
    patient = job(Preview(), size=MB, priority=Priority.BATCH)
    put(installation, encode(patient), patient.id.encode(), topic=VIDEO_JOBS_BATCH)
    again = carrying([], Attempts(1, 1, due_ms=1))
    put(installation, encode(patient), patient.id.encode(), headers=again, topic=VIDEO_RETRIES[1])
    found = backlog(installation, fleet)
    # What is no job counts as the mean of those that are.
    assert found[Priority.INTERACTIVE] == Lane(4, 0, pytest.approx((21 + 7 + 3) * 4 / 3, abs=0.1))  # type: ignore[arg-type]
    assert found[Priority.BATCH] == Lane(2, 1, 14.0)
    show(found)
    assert seconds_before.labels("batch")._value.get() == 14.0

    commit(installation, 1)
    found = backlog(installation, fleet)
    assert found[Priority.INTERACTIVE] == Lane(3, 0, pytest.approx((7 + 3) * 3 / 2, abs=0.1))  # type: ignore[arg-type]


def commit(settings: Settings, offset: int) -> None:
    """As a media worker does."""
    consumer: Any = KafkaConsumer(
        bootstrap_servers=settings.kafka.split(","), group_id=settings.topic(VIDEO_GROUP), enable_auto_commit=False
    )
    place = TopicPartition(settings.topic(VIDEO_JOBS), 0)
    consumer.assign([place])
    consumer.commit({place: OffsetAndMetadata(offset, "", -1)})
    consumer.close()
