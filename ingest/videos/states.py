"""The state of a job: from table `video_jobs`, and for a moment from what this process has accepted itself."""

from __future__ import annotations

import queue
from collections import OrderedDict
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from anyio import to_thread
from urllib3.exceptions import HTTPError

from infra.service.clickhouse import ClickHouseError, Client, connect
from infra.service.logs import describe, logger
from infra.service.settings import Settings
from schemas.videos import CURRENT_FIRST, Job, State

log = logger(__name__)

MOST_ACCEPTED = 10_000  # jobs that are remembered until the table knows them
IDLE_CLIENTS = 4
ANSWER_SECONDS = 10.0
ERRORS = (ClickHouseError, HTTPError, OSError)

COLUMNS = (
    *("state", "attempt", "queued_at", "at", "engine", "seconds", "reason", "detail"),
    *("source_width", "source_height", "source_duration", "source_rotation", "source_codec", "source_pixel_format"),
    *("output_kind", "output_path", "output_width", "output_height", "output_time"),
)
ROW = f"SELECT {', '.join(COLUMNS)} FROM video_jobs FINAL WHERE job = {{job:String}} ORDER BY {CURRENT_FIRST} LIMIT 1"


class Away(Exception):
    """ClickHouse does not answer, so nothing can be said about any job."""


class States:
    """Answers for several requests at once; each has a client to itself meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: queue.LifoQueue[Client] = queue.LifoQueue(IDLE_CLIENTS)
        self._accepted: OrderedDict[str, int] = OrderedDict()

    def accepted(self, job: Job) -> None:
        """Remembers a job that was taken just now."""
        self._accepted[job.id] = job.queued_ms
        while len(self._accepted) > MOST_ACCEPTED:
            self._accepted.popitem(last=False)

    async def of(self, job: str) -> dict[str, Any] | None:
        """What is known of a job, ready for JSON; None when it is not known. Raises Away."""
        row = await to_thread.run_sync(self._row, job)
        if row is not None:
            self._accepted.pop(job, None)
            return _described(job, row)
        if (queued_ms := self._accepted.get(job)) is not None:
            moment = _moment(datetime.fromtimestamp(queued_ms / 1000, UTC))
            return {"id": job, "state": State.QUEUED, "attempt": 0, "queued_at": moment, "at": moment, "outputs": []}
        return None

    def close(self) -> None:
        """Lets go of the clients."""
        with suppress(queue.Empty):
            while True:
                self._clients.get_nowait().close()

    def _row(self, job: str) -> dict[str, Any] | None:
        client: Client | None = None
        try:
            try:
                client = self._clients.get_nowait()
            except queue.Empty:
                client = connect(self._settings, timeout=ANSWER_SECONDS)
            rows = client.query(ROW, parameters={"job": job}).result_rows
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
        return dict(zip(COLUMNS, rows[0], strict=True)) if rows else None


def _described(job: str, row: dict[str, Any]) -> dict[str, Any]:
    outputs = zip(*(row[f"output_{name}"] for name in ("kind", "path", "width", "height", "time")), strict=True)
    found: dict[str, Any] = {
        "id": job,
        "state": row["state"],
        "attempt": row["attempt"],
        "queued_at": _moment(row["queued_at"]),
        "at": _moment(row["at"]),
        "outputs": [
            {"kind": kind, "path": path, "width": width, "height": height, "time": time}
            for kind, path, width, height, time in outputs
        ],
    }
    if row["state"] in (State.DONE, State.FAILED):
        found["seconds"] = row["seconds"]
    if row["reason"]:
        found |= {"reason": row["reason"], "detail": row["detail"]}
    if row["engine"]:
        found["engine"] = row["engine"]
        found["source"] = {
            name: row[f"source_{name}"] for name in ("width", "height", "duration", "rotation", "codec", "pixel_format")
        }
    return found


def _moment(when: datetime) -> str:
    return when.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
