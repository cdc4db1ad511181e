"""The jobs that there are: listed, looked at, deleted, and their files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

import msgspec
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from infra.service.storage import Storage
from ingest.videos import files
from ingest.videos.access import Caller, forbidden
from ingest.videos.answers import Video, json_response
from ingest.videos.jobs import Jobs, NotTaken
from ingest.videos.problems import RETRY_SECONDS, Problem, storage_problem
from ingest.videos.states import LISTED, Away, States
from schemas.packets import Role
from schemas.sites import MAX_SITE
from schemas.videos import Result, State, deleted_key, is_id, output_key, upload_key, url_key, webhook_key

PAGE, LONGEST_PAGE = 50, 500  # jobs
FRESH = {"Cache-Control": "no-store"}
D = TypeVar("D")


class Mark(msgspec.Struct, frozen=True):
    """Says that a job was deleted, and what must be known to say so again."""

    site: int
    queued_ms: int


class Library:
    """What the routes of jobs do. All that waits for storage, Kafka or ClickHouse is done in threads."""

    def __init__(self, jobs: Jobs, states: States, storage: Storage) -> None:
        self._jobs = jobs
        self._states = states
        self._storage = storage

    async def list(self, caller: Caller, request: Request) -> Response:
        """A page of the jobs that the token may see."""
        query = request.query_params
        if unknown := set(query) - {"site", "state", "cursor", "limit"}:
            raise Problem(422, "there is no such parameter", field=min(unknown)[:100])
        site = _number(query.get("site"), "site", MAX_SITE, None)
        limit = _number(query.get("limit"), "limit", LONGEST_PAGE, PAGE)
        state, cursor = query.get("state"), query.get("cursor")
        if state is not None and state not in LISTED:
            raise Problem(422, f"it must be one of {', '.join(LISTED)}", field="state")
        if cursor is not None and not is_id(cursor):
            raise Problem(422, "it must be what `next` of an earlier page says", field="cursor")
        sites = caller.readable(site)
        wanted = None if state is None else State(state)
        try:
            page = await to_thread.run_sync(self._states.page, sites, wanted, cursor, limit)
        except Away:
            raise _away() from None
        return json_response(page, 200, FRESH)

    async def get(self, caller: Caller, request: Request) -> Response:
        """A job."""
        return json_response(await to_thread.run_sync(self._video, caller, _id(request)), 200, FRESH)

    async def delete(self, caller: Caller, request: Request) -> Response:
        """Deletes a job; doing it again is no error."""
        await to_thread.run_sync(self._delete, caller, _id(request))
        return Response(None, 204)

    async def file(self, caller: Caller, request: Request) -> Response:
        """A file that a job's result lists."""
        file, head = request.path_params["file"], request.method == "HEAD"
        return await to_thread.run_sync(self._file, caller, _id(request), file, request.headers, head)

    def _video(self, caller: Caller, job: str) -> Video:
        """A job that the caller may see and that is not deleted; raises Problem."""
        try:
            found = self._states.of(job)
            gone = found is None or found.state is State.DELETED or self._mark(job) is not None
        except Away:
            raise _away() from None
        except OSError as error:
            raise storage_problem(error) from None
        if gone or found is None or not caller.may(found.site, Role.VIEW):
            raise _no_job()
        return found

    def _delete(self, caller: Caller, job: str) -> None:
        # The mark first: from here on, no worker leaves anything of the job. What is there is removed afterwards.
        try:
            mark = self._mark(job)
            if mark is None:
                video = self._video(caller, job)
                mark = Mark(video.site, _milliseconds(video.queued_at))
            if not caller.may(mark.site, Role.VIEW):
                raise _no_job()
            if not caller.may(mark.site, Role.WRITE):
                raise forbidden()
            self._storage.private.put(deleted_key(job), msgspec.json.encode(mark))
            self._storage.outputs.remove(output_key(job))
            for key in (upload_key, url_key, webhook_key):
                self._storage.private.remove(key(job))
            self._jobs.tell(Result(job, State.DELETED, int(time.time() * 1000), mark.queued_ms, site=mark.site))
        except NotTaken as error:
            raise Problem(503, f"{error}; it may be asked for again", retry_after=RETRY_SECONDS) from None
        except OSError as error:
            raise storage_problem(error) from None
        self._states.deleted(job)

    def _mark(self, job: str) -> Mark | None:
        content = self._storage.private.read(deleted_key(job))
        return None if content is None else msgspec.json.decode(content, type=Mark)

    def _file(self, caller: Caller, job: str, file: str, headers: Mapping[str, str], head: bool) -> Response:
        # By what lies beside the files, so that they can be had while ClickHouse is away.
        try:
            record = None if self._mark(job) else files.record_of(self._storage.outputs, job)
            if record is None or not caller.may(record.site, Role.VIEW):
                raise Problem(404, "there is no such job, or it has no files (yet)")
            if file not in {output.path.rpartition("/")[2] for output in record.outputs}:
                raise Problem(404, "there is no such file of this job")
            return files.answer(self._storage.outputs, job, file, headers, head=head)
        except OSError as error:
            raise storage_problem(error) from None


def _id(request: Request) -> str:
    job: str = request.path_params["id"]
    if not is_id(job):
        raise Problem(404, "there is no such job: this is no id of a job")
    return job


def _number(text: str | None, name: str, most: int, default: D) -> int | D:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 1 <= int(text) <= most):
        raise Problem(422, f"it must be a whole number from 1 to {most}", field=name)
    return int(text)


def _milliseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


def _no_job() -> Problem:
    return Problem(404, "there is no such job, or it was accepted so lately that its state is not stored yet")


def _away() -> Problem:
    return Problem(503, "the jobs' states cannot be read now", retry_after=RETRY_SECONDS)
