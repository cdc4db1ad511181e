"""The routes: `POST /v1/videos`, `GET /v1/videos/ID`, and what a process is asked about itself."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.service.health import Health
from infra.service.logs import describe, logger
from infra.service.metrics import counter
from ingest.videos.jobs import Jobs, NotTaken
from ingest.videos.problems import Problem
from ingest.videos.requests import LONGEST_BODY, new_job
from ingest.videos.states import Away, States
from schemas.videos import State, is_id

log = logger(__name__)

RETRY_SECONDS = 5
Handler = Callable[[Request], Awaitable[Response]]
answers = counter("video_api", "answers", "Answers of the video API", ["route", "status"])


def application(folder: Path, largest: int, jobs: Jobs, states: States, health: Health) -> Starlette:
    """The API. `folder`: videos are taken from it; `largest`: bytes of a video."""

    async def post(request: Request) -> Response:
        body = await _body(request)
        job = await to_thread.run_sync(new_job, body, folder, largest, int(time.time() * 1000))
        try:
            await jobs.put(job)
        except NotTaken as error:
            raise Problem(503, f"{error}; it may be asked for again", retry_after=RETRY_SECONDS) from None
        states.accepted(job)
        place = f"/v1/videos/{job.id}"
        return _json({"id": job.id, "state": State.QUEUED, "url": place}, 202, {"Location": place})

    async def get(request: Request) -> Response:
        job = request.path_params["id"]
        if not is_id(job):
            raise Problem(404, "there is no such job: this is no id of a job")
        try:
            found = await states.of(job)
        except Away:
            raise Problem(503, "the jobs' states cannot be read now", retry_after=RETRY_SECONDS) from None
        if found is None:
            raise Problem(404, "there is no such job, or it was accepted so lately that its state is not stored yet")
        return _json(found, 200, {"Cache-Control": "no-store"})

    async def about(request: Request) -> Response:
        status, kind, body = health.answer(request.url.path)
        return Response(body, status, media_type=kind)

    async def problem(request: Request, error: Exception) -> Response:
        if not isinstance(error, Problem):
            log.error("request_failed", **describe(error))
            error = Problem(500, "the request failed here; the log says where")
        return error.response()

    async def refused(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 500)
        answer = Problem(status, getattr(error, "detail", "")).response()
        answer.headers.update(getattr(error, "headers", None) or {})
        return answer

    return Starlette(
        routes=[
            Route("/v1/videos", _counted("post", post), methods=["POST"]),
            Route("/v1/videos/{id}", _counted("get", get), methods=["GET"]),
            *(Route(path, about, methods=["GET"]) for path in ("/livez", "/readyz", "/metrics")),
        ],
        exception_handlers={Problem: problem, 404: refused, 405: refused, Exception: problem},
    )


def _counted(route: str, handle: Handler) -> Handler:
    async def counted(request: Request) -> Response:
        try:
            answer = await handle(request)
        except Problem as error:
            answer = error.response()
        answers.labels(route, str(answer.status_code)).inc()
        return answer

    return counted


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_BODY:
            raise Problem(413, f"the body is longer than {LONGEST_BODY} bytes")
    return body


def _json(content: object, status: int, headers: dict[str, str]) -> Response:
    return Response(msgspec.json.encode(content) + b"\n", status, headers, media_type="application/json")
