"""The routes. `POST /v1/videos` makes a job of a file in the folder of videos, a URL or an upload; `GET` lists jobs;
`/v1/videos/ID` is a job, to be looked at or deleted, and `/v1/videos/ID/FILE` a file of it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from infra.service import webhook_secrets
from infra.service.health import Health
from infra.service.logs import describe, logger
from infra.service.metrics import counter
from infra.service.outbound import Outbound, OutboundError
from infra.service.settings import Settings
from infra.service.storage import Storage
from ingest.videos import files, openapi
from ingest.videos.access import Access, Caller, forbidden
from ingest.videos.answers import Accepted, Video, place_of
from ingest.videos.jobs import Jobs, NotTaken
from ingest.videos.problems import RETRY_SECONDS, Problem, storage_problem
from ingest.videos.requests import LONGEST_BODY, UploadRequest, VideoRequest, allowed, read
from ingest.videos.states import Away, States
from ingest.videos.tickets import Ticket, Tickets
from ingest.videos.uploads import Uploads
from ingest.videos.webhooks import Hook
from schemas.packets import Role
from schemas.sites import MAX_SITE
from schemas.videos import (
    Fetched,
    InFolder,
    Job,
    Origin,
    Result,
    State,
    Uploaded,
    deleted_key,
    is_id,
    output_key,
    upload_key,
    url_key,
    webhook_key,
)

log = logger(__name__)

PAGE, LONGEST_PAGE = 50, 500  # jobs
DRAIN_BYTES, DRAIN_SECONDS = 8 << 20, 2.0
D = TypeVar("D")
Handler = Callable[[Request], Awaitable[Response]]
answers = counter("video_api", "answers", "Answers of the video API", ["route", "status"])


class Mark(msgspec.Struct, frozen=True):
    """Says that a job was deleted, and what must be known to say so again."""

    site: int
    queued_ms: int


class Api:
    """What the routes do. All that waits for files, Kafka or ClickHouse is done in threads."""

    def __init__(
        self,
        settings: Settings,
        access: Access,
        jobs: Jobs,
        states: States,
        tickets: Tickets,
        storage: Storage,
        outbound: Outbound,
    ) -> None:
        self._folder = settings.videos.absolute()
        self._largest = settings.video_max_bytes
        self._access = access
        self._jobs = jobs
        self._states = states
        self._tickets = tickets
        self._storage = storage
        self._uploads = Uploads(settings)
        self._outbound = outbound
        self._secrets = settings.webhook_secrets

    async def post(self, request: Request) -> Response:
        """Makes a job."""
        caller = self._caller(request)
        caller.must(Role.WRITE)
        match request.headers.get("content-type", "").partition(";")[0].strip().lower():
            case "application/json":
                asked = read(await _body(request), VideoRequest)
                site = caller.site(asked.site)
                if isinstance(asked.url, str):
                    self._may_ask(asked.url, "url")
                    return await self._make(request, site, asked, Fetched(), url=asked.url)
                assert isinstance(asked.path, str)
                path = await to_thread.run_sync(allowed, asked.path, self._folder, self._largest)
                return await self._make(request, site, asked, InFolder(str(path)))
            case "multipart/form-data":
                async with self._uploads.receive(request) as received:
                    wanted = read(received.request, UploadRequest, "request")
                    site = caller.site(wanted.site)
                    return await self._make(request, site, wanted, Uploaded(), received.path, received.digest)
        raise Problem(
            415,
            "a body is application/json or multipart/form-data, as its content type must say",
            headers={"Accept": "application/json, multipart/form-data"},
        )

    async def _make(
        self,
        request: Request,
        site: int,
        asked: UploadRequest,
        origin: Origin,
        upload: Path | None = None,
        digest: bytes = b"",
        *,
        url: str = "",
    ) -> Response:
        if isinstance(asked.webhook, str):
            self._may_tell(asked.webhook, site, "request.webhook" if upload else "webhook")
        key = request.headers.get("idempotency-key")
        what = msgspec.json.encode(msgspec.structs.replace(asked, site=site)) + digest
        job = await to_thread.run_sync(self._put, site, key, what, asked, origin, upload, url)
        accepted = Accepted(job, site, place_of(job))
        return _json(accepted, 202, {"Location": accepted.url})

    def _put(
        self,
        site: int,
        key: str | None,
        what: bytes,
        asked: UploadRequest,
        origin: Origin,
        upload: Path | None,
        url: str,
    ) -> str:
        """The id of the job, which is durable; raises Problem."""
        try:
            ticket: Ticket = self._tickets.claim(site, key, what, int(time.time() * 1000))
            if ticket.taken:
                return ticket.job
            job = Job(ticket.job, site, origin, ticket.queued_ms, asked.outputs)
            if upload is not None:
                self._storage.private.take(upload_key(job.id), upload)
            if url:
                self._storage.private.put(url_key(job.id), url.encode())
            if isinstance(asked.webhook, str):
                # Not in place of one: the job may have been taken before, and have ended.
                self._storage.private.create(webhook_key(job.id), msgspec.json.encode(Hook(asked.webhook, site)))
            try:
                self._jobs.put(job)
            except NotTaken as error:
                if not error.sent:
                    self._tickets.given_up(ticket)
                raise Problem(503, f"{error}; it may be asked for again", retry_after=RETRY_SECONDS) from None
            self._states.accepted(job)
            self._tickets.taken(ticket)
        except OSError as error:
            raise storage_problem(error) from None
        return job.id

    async def list(self, request: Request) -> Response:
        """A page of the jobs that the token may see."""
        caller = self._caller(request)
        query = request.query_params
        if unknown := set(query) - {"site", "state", "cursor", "limit"}:
            raise Problem(422, "there is no such parameter", field=min(unknown)[:100])
        site = _number(query.get("site"), "site", MAX_SITE, None)
        limit = _number(query.get("limit"), "limit", LONGEST_PAGE, PAGE)
        state, cursor = query.get("state"), query.get("cursor")
        if state is not None and state not in (State.QUEUED, State.RUNNING, State.FAILED, State.DONE):
            raise Problem(422, "it must be queued, running, failed or done", field="state")
        if cursor is not None and not is_id(cursor):
            raise Problem(422, "it must be what `next` of an earlier page says", field="cursor")
        sites = caller.readable(site)
        wanted = None if state is None else State(state)
        try:
            page = await to_thread.run_sync(self._states.page, sites, wanted, cursor, limit)
        except Away:
            raise _away() from None
        return _json(page, 200, {"Cache-Control": "no-store"})

    async def get(self, request: Request) -> Response:
        """A job."""
        video = await to_thread.run_sync(self._video, self._caller(request), _id(request))
        return _json(video, 200, {"Cache-Control": "no-store"})

    async def delete(self, request: Request) -> Response:
        """Deletes a job; doing it again is no error."""
        await to_thread.run_sync(self._delete, self._caller(request), _id(request))
        return Response(None, 204)

    async def file(self, request: Request) -> Response:
        """A file that a job's result lists."""
        caller, job = self._caller(request), _id(request)
        return await to_thread.run_sync(
            self._file, caller, job, request.path_params["file"], request.headers, request.method == "HEAD"
        )

    def _may_ask(self, url: str, field: str) -> None:
        try:
            self._outbound.check(url)
        except OutboundError as error:
            raise Problem(422, str(error), field=field) from None

    def _may_tell(self, url: str, site: int, field: str) -> None:
        self._may_ask(url, field)
        try:
            keys = webhook_secrets.read(self._secrets, site)
        except (webhook_secrets.SecretError, OSError) as error:
            log.error("bad_secrets", **describe(error))
            keys = []
        if not keys:
            raise Problem(
                422, f"site {site} has no secret to sign with; `veilstream sites webhook {site}` makes one", field=field
            )

    def _caller(self, request: Request) -> Caller:
        return self._access.caller(request.headers.get("authorization"))

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
            self._storage.private.remove(upload_key(job))
            self._storage.private.remove(url_key(job))
            self._storage.private.remove(webhook_key(job))
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


def application(settings: Settings, api: Api, access: Access, health: Health) -> Starlette:
    """The API as an ASGI application."""
    free = {name.strip() for name in settings.video_open.split(",")}
    document = openapi.encoded()

    def guarded(part: str, handle: Handler) -> Handler:
        """Without a token only where the settings say so; else any that is valid."""

        async def checked(request: Request) -> Response:
            if part not in free:
                access.caller(request.headers.get("authorization"))
            return await handle(request)

        return checked

    async def about(request: Request) -> Response:
        status, kind, body = health.answer(request.url.path)
        return Response(body, status, media_type=kind)

    async def described(_request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def problem(_request: Request, error: Exception) -> Response:
        if not isinstance(error, Problem):
            log.error("request_failed", **describe(error))
            error = Problem(500, "the request failed here; the log says where")
        return error.response()

    async def refused(_request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 500)
        headers = getattr(error, "headers", None)
        return Problem(status, getattr(error, "detail", ""), headers=headers).response()

    return Starlette(
        routes=[
            _route("/v1/videos", "jobs", GET=api.list, POST=api.post),
            _route("/v1/videos/{id}", "job", GET=api.get, DELETE=api.delete),
            _route("/v1/videos/{id}/{file}", "file", GET=api.file),
            _route("/openapi.json", "openapi", GET=guarded("openapi", described)),
            _route("/livez", "health", GET=guarded("health", about)),
            _route("/readyz", "health", GET=guarded("health", about)),
            _route("/metrics", "metrics", GET=guarded("metrics", about)),
        ],
        exception_handlers={Problem: problem, 404: refused, 405: refused, Exception: problem},
    )


def _route(path: str, name: str, **handlers: Handler) -> Route:
    async def handle(request: Request) -> Response:
        try:
            answer = await handlers["GET" if request.method == "HEAD" else request.method](request)
        except Problem as error:
            answer = error.response()
            await _drain(request)
        except ClientDisconnect:
            answer = Problem(400, "the request was cut off").response()
        answers.labels(name, str(answer.status_code)).inc()
        return answer

    return Route(path, handle, methods=list(handlers))


async def _drain(request: Request) -> None:
    """Takes a little of a body that was refused: many clients read the answer only when they have sent all."""
    if request.method != "POST" or "expect" in request.headers:
        return
    taken = 0
    with anyio.move_on_after(DRAIN_SECONDS), suppress(ClientDisconnect, RuntimeError):
        async for piece in request.stream():
            taken += len(piece)
            if taken > DRAIN_BYTES:
                return


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_BODY:
            raise Problem(413, f"the body is longer than {LONGEST_BODY} bytes")
    return body


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


def _json(content: object, status: int, headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(content) + b"\n", status, headers, media_type="application/json")
