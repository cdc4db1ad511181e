"""`POST /v1/videos`: a request becomes a job, which is answered once the job and all that it needs are durable."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import msgspec
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from infra.service import webhook_secrets
from infra.service.logs import describe, logger
from infra.service.outbound import Outbound, OutboundError
from infra.service.settings import Settings
from infra.service.storage import Storage
from ingest.videos.access import Caller
from ingest.videos.answers import Accepted, json_response, place_of
from ingest.videos.jobs import Jobs, NotTaken
from ingest.videos.problems import RETRY_SECONDS, Problem, storage_problem
from ingest.videos.requests import LONGEST_BODY, UploadRequest, VideoRequest, allowed, read
from ingest.videos.states import States
from ingest.videos.tickets import Tickets
from ingest.videos.uploads import Uploads
from ingest.videos.webhooks import Hook
from schemas.packets import Role
from schemas.videos import Fetched, InFolder, Job, Origin, Uploaded, upload_key, url_key, webhook_key

log = logger(__name__)


class Intake:
    """Makes jobs. All that waits for files, storage or Kafka is done in threads."""

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        states: States,
        tickets: Tickets,
        storage: Storage,
        outbound: Outbound,
    ) -> None:
        self._folder = settings.videos.absolute()
        self._largest = settings.video_max_bytes
        self._secrets = settings.webhook_secrets
        self._uploads = Uploads(settings)
        self._jobs = jobs
        self._states = states
        self._tickets = tickets
        self._private = storage.private
        self._outbound = outbound

    async def post(self, caller: Caller, request: Request) -> Response:
        """The answer to a request; raises Problem."""
        caller.must(Role.WRITE)
        match request.headers.get("content-type", "").partition(";")[0].strip().lower():
            case "application/json":
                asked = read(await _body(request), VideoRequest)
                if isinstance(asked.url, str):
                    self._may_ask(asked.url, "url")
                return await self._make(caller, request, asked)
            case "multipart/form-data":
                async with self._uploads.receive(request) as received:
                    wanted = read(received.request, UploadRequest, "request")
                    return await self._make(caller, request, wanted, received.path, received.digest)
        raise Problem(
            415,
            "a body is application/json or multipart/form-data, as its content type must say",
            headers={"Accept": "application/json, multipart/form-data"},
        )

    async def _make(
        self, caller: Caller, request: Request, asked: UploadRequest, upload: Path | None = None, digest: bytes = b""
    ) -> Response:
        site = caller.site(asked.site)
        if isinstance(asked.webhook, str):
            self._may_tell(asked.webhook, site, "request.webhook" if upload else "webhook")
        key = request.headers.get("idempotency-key")
        said = msgspec.json.encode(msgspec.structs.replace(asked, site=site)) + digest
        job = await to_thread.run_sync(self._put, site, key, said, asked, upload)
        accepted = Accepted(job, site, place_of(job))
        return json_response(accepted, 202, {"Location": accepted.url})

    def _put(self, site: int, key: str | None, said: bytes, asked: UploadRequest, upload: Path | None) -> str:
        """The id of the job, which is durable; raises Problem. `said`: what tells the same request from another."""
        try:
            ticket = self._tickets.claim(site, key, said, int(time.time() * 1000))
            if ticket.taken:
                return ticket.job
            try:
                origin = self._origin(asked)
            except Problem:
                self._tickets.forget(ticket)
                raise
            job = Job(ticket.job, site, origin, ticket.queued_ms, asked.outputs, asked.lane, _bytes(origin, upload))
            self._keep(job, asked, upload)
            self._jobs.put(job)
        except NotTaken as error:
            # With a key the same may have been asked before, and be on the log: what it needs stays, for a while.
            if not error.sent and key is None:
                with suppress(OSError):
                    self._tickets.discard(ticket)
                    self._tickets.forget(ticket)
            raise Problem(503, f"{error}; it may be asked for again", retry_after=RETRY_SECONDS) from None
        except OSError as error:
            raise storage_problem(error) from None
        self._states.accepted(job)
        try:
            self._tickets.taken(ticket)
        except OSError as error:
            log.warning("ticket_not_kept", job=job.id, **describe(error))  # asked again, it is put again: the same job
        return job.id

    def _origin(self, asked: UploadRequest) -> Origin:
        if not isinstance(asked, VideoRequest):
            return Uploaded()
        return (
            InFolder(str(allowed(asked.path, self._folder, self._largest)))
            if isinstance(asked.path, str)
            else Fetched()
        )

    def _keep(self, job: Job, asked: UploadRequest, upload: Path | None) -> None:
        """Puts what the job needs into the storage."""
        if upload is not None:
            self._private.take(upload_key(job.id), upload)
        if isinstance(asked, VideoRequest) and isinstance(asked.url, str):
            self._private.put(url_key(job.id), asked.url.encode())
        if isinstance(asked.webhook, str):
            # Not in place of one: the job may have been taken before, and have ended.
            self._private.create(webhook_key(job.id), msgspec.json.encode(Hook(asked.webhook, job.site)))

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


def _bytes(origin: Origin, upload: Path | None) -> int:
    """Of the source; 0 where they are not known."""
    file = Path(origin.path) if isinstance(origin, InFolder) else upload
    try:
        return 0 if file is None else file.stat().st_size
    except OSError:
        return 0


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_BODY:
            raise Problem(413, f"the body is longer than {LONGEST_BODY} bytes")
    return body
