"""What the API answers when all is well; `openapi` describes it from these."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

from schemas.outputs import About, Kind, Output, Score
from schemas.videos import Engine, Priority, Reason, Result, Source, State

Moment = Annotated[str, msgspec.Meta(description="UTC, RFC 3339", extra_json_schema={"format": "date-time"})]
Id = Annotated[str, msgspec.Meta(description="a UUID of version 7", extra_json_schema={"format": "uuid"})]


class Accepted(msgspec.Struct, frozen=True):
    """A job that was taken; its state is found under `url`."""

    id: Id
    site: int
    url: str
    state: Literal["queued"] = "queued"


class File(msgspec.Struct, frozen=True):
    """An output. `width` and `height`: pixels, of one tile for what tells tiles; `time`: seconds, of the (first) frame
    shown. Of a single picture also its most common `colour` (#rrggbb) and a `placeholder` (BlurHash), of a poster the
    `score` of its frame."""

    kind: Kind
    path: str
    url: str
    width: int
    height: int
    time: float
    score: Score | UnsetType = UNSET
    placeholder: str | UnsetType = UNSET
    colour: str | UnsetType = UNSET


class Video(msgspec.Struct, frozen=True):
    """A job. `attempt` counts from 1, 0 while queued; `at` is when `state` began; `seconds` is the work's time.
    `progress` is the share of the video that has been decoded, 0 to 1, `making` the kind of output that is worked on.
    A job that is `waiting` has failed in a way that may pass, for `reason`, and is tried again at `retry_at`."""

    id: Id
    site: int
    state: State
    attempt: int
    queued_at: Moment
    at: Moment
    outputs: list[File] = []
    seconds: float | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    engine: Engine | UnsetType = UNSET
    source: Source | UnsetType = UNSET
    priority: Priority = Priority.INTERACTIVE
    retry_at: Moment | UnsetType = UNSET
    progress: Annotated[float, msgspec.Meta(ge=0, le=1)] | UnsetType = UNSET
    making: str | UnsetType = UNSET


class Event(msgspec.Struct, frozen=True):
    """What a webhook tells; `timestamp` is when it happened."""

    type: Annotated[str, msgspec.Meta(description="video.done or video.failed")]
    timestamp: Moment
    data: Video


class VideoList(msgspec.Struct, frozen=True):
    """Jobs, the latest first. `next`: the cursor of the following page, null on the last."""

    videos: list[Video]
    next: str | None


def place_of(job: str, file: str = "") -> str:
    """Where a job, or a file of it, is found."""
    return f"/v1/videos/{job}" + (f"/{file}" if file else "")


def file_of(job: str, output: Output, about: About) -> File:
    """An output of a job."""
    return File(
        output.kind,
        output.path,
        place_of(job, output.path.rpartition("/")[2]),
        output.width,
        output.height,
        output.time,
        score=about.score or UNSET,
        placeholder=about.placeholder or UNSET,
        colour=about.colour or UNSET,
    )


def video_of(result: Result) -> Video:
    """A job that has ended, as it was told."""
    failed = result.reason is not None
    return Video(
        result.job,
        result.site,
        result.state,
        result.attempt,
        moment(datetime.fromtimestamp(result.queued_ms / 1000, UTC)),
        moment(datetime.fromtimestamp(result.at_ms / 1000, UTC)),
        [file_of(result.job, output, output.about) for output in result.outputs],
        seconds=result.seconds,
        reason=result.reason if result.reason is not None else UNSET,
        detail=result.detail if failed else UNSET,
        engine=result.engine if result.engine is not None else UNSET,
        source=result.source if result.source is not None else UNSET,
        priority=result.priority or Priority.INTERACTIVE,
        progress=UNSET if failed else 1.0,
    )


def json_response(content: object, status: int, headers: Mapping[str, str]) -> Response:
    """An answer that is one of these."""
    return Response(msgspec.json.encode(content) + b"\n", status, headers, media_type="application/json")


def moment(when: datetime) -> str:
    """A time as the API writes it."""
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
