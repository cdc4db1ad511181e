"""The states of jobs: from table `video_jobs`, and for a moment from what this process has done itself."""

from __future__ import annotations

import queue
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET
from urllib3.exceptions import HTTPError

from infra.service.clickhouse import ClickHouseError, Client, connect
from infra.service.logs import describe, logger
from infra.service.settings import Settings
from ingest.videos.answers import Video, VideoList, file_of, moment
from schemas.outputs import About, Kind, Output
from schemas.videos import CURRENT_FIRST, Engine, Job, Priority, Reason, Source, State

log = logger(__name__)

MOST_ACCEPTED = 10_000  # jobs that are remembered until the table knows them
MOST_DELETED = 10_000
IDLE_CLIENTS = 4
ANSWER_SECONDS = 10.0
ERRORS = (ClickHouseError, HTTPError, OSError)

COLUMNS = (
    *("job", "site_id", "state", "attempt", "queued_at", "at", "engine", "seconds", "reason", "detail"),
    *("source_width", "source_height", "source_duration", "source_rotation", "source_codec", "source_pixel_format"),
    *("output_kind", "output_path", "output_width", "output_height", "output_time"),
    *("output_about", "priority", "due_at", "source_bytes", "progress", "making"),
)
CURRENT = (
    f"SELECT {', '.join(COLUMNS)} FROM video_jobs FINAL WHERE %s ORDER BY job DESC, {CURRENT_FIRST} LIMIT 1 BY job"
)
ROW = CURRENT % "job = {job:String}"
PAGE = (
    f"SELECT * FROM ({CURRENT}) WHERE state IN {{states:Array(String)}} ORDER BY job DESC LIMIT {{limit:UInt32}}"
    % "(length({sites:Array(UInt32)}) = 0 OR site_id IN {sites:Array(UInt32)}) AND job < {before:String}"
)
STORED = "SELECT DISTINCT job FROM video_jobs WHERE job IN {jobs:Array(String)}"
SOURCE = ("width", "height", "duration", "rotation", "codec", "pixel_format", "bytes")
AFTER_ALL = "~"  # sorts after every id
decode_about = msgspec.json.Decoder(About).decode
LISTED = (State.QUEUED, State.RUNNING, State.WAITING, State.FAILED, State.DONE)


class Away(Exception):
    """ClickHouse does not answer, so nothing can be said about any job."""


class States:
    """Answers for several requests at once, in their threads; each has a client to itself meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: queue.LifoQueue[Client] = queue.LifoQueue(IDLE_CLIENTS)
        self._accepted: OrderedDict[str, Video] = OrderedDict()
        self._deleted: OrderedDict[str, None] = OrderedDict()

    def accepted(self, job: Job) -> None:
        """Remembers a job that was taken just now."""
        queued = moment(datetime.fromtimestamp(job.queued_ms / 1000, UTC))
        self._accepted[job.id] = Video(job.id, job.site, State.QUEUED, 0, queued, queued, priority=job.priority)
        while len(self._accepted) > MOST_ACCEPTED:
            self._accepted.popitem(last=False)

    def deleted(self, job: str) -> None:
        """Remembers a job that was deleted just now."""
        self._accepted.pop(job, None)
        self._deleted[job] = None
        while len(self._deleted) > MOST_DELETED:
            self._deleted.popitem(last=False)

    def of(self, job: str) -> Video | None:
        """What is known of a job, also of a deleted one; None when nothing is. Raises Away."""
        rows = self._rows(ROW, job=job)
        if rows:
            self._accepted.pop(job, None)
            return _described(dict(zip(COLUMNS, rows[0], strict=True)))
        return self._accepted.get(job)

    def page(self, sites: Sequence[int] | None, state: State | None, cursor: str | None, limit: int) -> VideoList:
        """Jobs of these sites (None: of all) before a cursor, which is a job's id. Raises Away."""
        states = LISTED if state is None else (state,)
        before = cursor or AFTER_ALL
        fresh = [
            video
            for job, video in reversed(list(self._accepted.items()))
            if job < before and (sites is None or video.site in sites)
        ][: limit + 1]
        if fresh:  # asked before the page, or a job that is stored between the two would be in neither
            for (job,) in self._rows(STORED, jobs=[video.id for video in fresh]):
                self._accepted.pop(job, None)
        queued = {video.id: video for video in fresh if video.id in self._accepted and State.QUEUED in states}
        rows = self._rows(PAGE, sites=list(sites or ()), before=before, states=list(states), limit=limit + 1)
        found = queued | {row[0]: _described(dict(zip(COLUMNS, row, strict=True))) for row in rows}
        ids = sorted(found, reverse=True)
        videos = [found[job] for job in ids[:limit] if job not in self._deleted]
        return VideoList(videos, ids[limit - 1] if len(ids) > limit else None)

    def known(self, job: str) -> bool:
        """Whether the table has this job. Raises Away."""
        return bool(self._rows(STORED, jobs=[job]))

    def close(self) -> None:
        """Lets go of the clients."""
        with suppress(queue.Empty):
            while True:
                self._clients.get_nowait().close()

    def _rows(self, statement: str, **parameters: Any) -> Sequence[Sequence[Any]]:
        client: Client | None = None
        try:
            try:
                client = self._clients.get_nowait()
            except queue.Empty:
                client = connect(self._settings, timeout=ANSWER_SECONDS)
            rows: Sequence[Sequence[Any]] = client.query(statement, parameters=parameters).result_rows
        except ERRORS as error:
            log.warning("clickhouse_away", **describe(error))
            if client is not None:
                with suppress(*ERRORS):
                    client.close()
            raise Away from None
        try:
            self._clients.put_nowait(client)
        except queue.Full:
            client.close()
        return rows


def _described(row: Mapping[str, Any]) -> Video:
    job, state = row["job"], State(row["state"])
    outputs = zip(*(row[f"output_{name}"] for name in ("kind", "path", "width", "height", "time")), strict=True)
    about = list(row["output_about"])  # none in rows of the time before
    return Video(
        job,
        row["site_id"],
        state,
        row["attempt"],
        moment(row["queued_at"]),
        moment(row["at"]),
        [
            file_of(job, Output(Kind(kind), path, width, height, time), decode_about(about[place] if about else "{}"))
            for place, (kind, path, width, height, time) in enumerate(outputs)
        ],
        seconds=row["seconds"] if state in (State.DONE, State.FAILED) else UNSET,
        reason=Reason(row["reason"]) if row["reason"] else UNSET,
        detail=row["detail"] if row["reason"] else UNSET,
        engine=Engine(row["engine"]) if row["engine"] else UNSET,
        source=Source(*(row[f"source_{name}"] for name in SOURCE)) if row["engine"] else UNSET,
        priority=Priority(row["priority"] or Priority.INTERACTIVE),  # rows of the time before have none
        retry_at=moment(row["due_at"]) if state is State.WAITING else UNSET,
        progress=row["progress"] if state is State.RUNNING else 1.0 if state is State.DONE else UNSET,
        making=row["making"] if state is State.RUNNING and row["making"] else UNSET,
    )
