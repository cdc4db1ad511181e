"""What the API tells of jobs while the table is being filled under its hands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from infra.service.clickhouse import connect
from infra.service.settings import Settings
from ingest.videos.states import States
from schemas.video_tables import VIDEO_JOBS_TABLE
from schemas.videos import InFolder, Job, Result, State, encode, new_id
from streams.video_rows import job_row


class Overtaken(States):
    """Each question to the table is followed by a job that gets into it."""

    def __init__(self, settings: Settings, coming: list[Job]) -> None:
        super().__init__(settings)
        self.settings, self.coming = settings, coming

    def _rows(self, statement: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        rows = super()._rows(statement, **parameters)
        if self.coming:
            store(self.settings, self.coming.pop())
        return rows


def store(settings: Settings, job: Job) -> None:
    """What the worker makes of the job's first result."""
    row = job_row(encode(Result(job.id, State.QUEUED, job.queued_ms, job.queued_ms, site=job.site)))
    client = connect(settings)
    try:
        client.insert_arrow("video_jobs", pa.Table.from_pylist([row], VIDEO_JOBS_TABLE))
    finally:
        client.close()


def test_a_job_that_is_stored_meanwhile_is_listed(installation: Settings) -> None:
    jobs = [Job(new_id(1_700_000_000_000 + n), 1, InFolder("a.mp4"), 1_700_000_000_000) for n in range(4)]
    states = Overtaken(installation, list(jobs))
    try:
        for job in jobs:
            states.accepted(job)
        for _ in range(3):
            assert [video.id for video in states.page([1], None, None, 10).videos] == [job.id for job in reversed(jobs)]
    finally:
        states.close()
