"""The routes. `/v1/videos` makes and lists jobs; `/v1/videos/ID` is a job, to be looked at or deleted, and
`/v1/videos/ID/FILE` a file of it. The rest says what the API is, and how the process is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from infra.service.health import Health
from infra.service.logs import describe, logger
from infra.service.metrics import counter
from infra.service.settings import Settings
from ingest.videos import openapi
from ingest.videos.access import Access, Caller
from ingest.videos.intake import Intake
from ingest.videos.library import Library
from ingest.videos.problems import Problem

log = logger(__name__)

DRAIN_BYTES, DRAIN_SECONDS = 8 << 20, 2.0
Handler = Callable[[Request], Awaitable[Response]]
Guarded = Callable[[Caller, Request], Awaitable[Response]]
answers = counter("video_api", "answers", "Answers of the video API", ["route", "status"])


def application(settings: Settings, access: Access, intake: Intake, library: Library, health: Health) -> Starlette:
    """The API as an ASGI application."""
    free = {name.strip() for name in settings.video_open.split(",")}
    document = openapi.encoded()

    def guarded(handle: Guarded) -> Handler:
        async def checked(request: Request) -> Response:
            return await handle(access.caller(request.headers.get("authorization")), request)

        return checked

    def openable(part: str, handle: Handler) -> Handler:
        """Without a token only where the settings say so."""
        return handle if part in free else guarded(lambda _, request: handle(request))

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

    app = Starlette(
        routes=[
            _route("/v1/videos", "jobs", GET=guarded(library.list), POST=guarded(intake.post)),
            _route("/v1/videos/{id}", "job", GET=guarded(library.get), DELETE=guarded(library.delete)),
            _route("/v1/videos/{id}/{file}", "file", GET=guarded(library.file)),
            _route("/openapi.json", "openapi", GET=openable("openapi", described)),
            _route("/livez", "health", GET=openable("health", about)),
            _route("/readyz", "health", GET=openable("health", about)),
            _route("/metrics", "metrics", GET=openable("metrics", about)),
        ],
        exception_handlers={Problem: problem, 404: refused, 405: refused, Exception: problem},
    )
    app.router.redirect_slashes = False
    return app


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
