"""The API's description: OpenAPI 3.1, its schemas made of the structs that the API reads and writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ingest.videos.answers import Accepted, Event, Video, VideoList
from ingest.videos.problems import ProblemDetails
from ingest.videos.requests import UploadRequest, VideoRequest
from ingest.videos.states import LISTED
from ingest.videos.tickets import LONGEST_KEY
from schemas.sites import MAX_SITE
from schemas.videos import CONTENT_TYPES

WRONG: Mapping[int, str] = {
    400: "The request cannot be read.",
    401: "There is no token, or one that is unknown or has expired.",
    403: "The token may not do this.",
    404: "There is no such job or file, or it belongs to a site that is not the token's.",
    408: "Nothing came for too long in the middle of an upload.",
    413: "It is too large.",
    415: "The body has another content type than those that are taken.",
    416: "The file is shorter than the range that is wanted.",
    422: "The request can be read, but asks for what there is not; `errors` names the field.",
    503: "What is needed does not answer now; the request may be sent again.",
    507: "There is no space left for the upload.",
}
ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}, "description": "The job's id."}


def document() -> Any:
    """The description, as plain values."""
    return msgspec.json.decode(encoded())


def encoded() -> bytes:
    """The description as JSON."""
    _, components = msgspec.json.schema_components(
        [Accepted, Event, ProblemDetails, UploadRequest, Video, VideoList, VideoRequest],
        ref_template="#/components/schemas/{name}",
    )
    components["VideoRequest"]["oneOf"] = [{"required": ["path"]}, {"required": ["url"]}]
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "veilstream video API",
            "version": "1",
            "description": "Videos in; posters, storyboards and their WebVTT out. Errors are problem+json (RFC 9457).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": [{"name": "videos"}, {"name": "process"}],
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of a site, made by `veilstream sites token`: view reads, write also makes "
                    "and deletes jobs. A superuser's is valid for all sites.",
                }
            },
        },
        "paths": {
            "/v1/videos": {"get": _list(), "post": _post()},
            "/v1/videos/{id}": {"parameters": [ID], "get": _get(), "delete": _delete()},
            "/v1/videos/{id}/{file}": {"parameters": [ID, _file_name()], "get": _file()},
            "/openapi.json": {"get": _about("description", "This description.", "application/json", {401})},
            "/livez": {"get": _about("alive", "Whether the process makes progress.", "application/json", {401, 503})},
            "/readyz": {"get": _about("ready", "Whether jobs are taken now.", "application/json", {401, 503})},
            "/metrics": {"get": _about("metrics", "Metrics as Prometheus reads them.", "text/plain", {401})},
        },
        "webhooks": {"videoEnded": {"post": _webhook()}},
    }
    return msgspec.json.encode(found) + b"\n"


def _list() -> dict[str, Any]:
    def parameter(name: str, text: str, schema: Mapping[str, object]) -> dict[str, Any]:
        return {"name": name, "in": "query", "description": text, "schema": schema}

    return {
        "operationId": "listVideos",
        "tags": ["videos"],
        "summary": "The jobs that the token may see, the latest first.",
        "parameters": [
            parameter("site", "Jobs of this site only.", {"type": "integer", "minimum": 1, "maximum": MAX_SITE}),
            parameter("state", "Jobs in this state only.", {"type": "string", "enum": [*LISTED]}),
            parameter("cursor", "`next` of the page before.", {"type": "string"}),
            parameter("limit", "Jobs of a page.", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}),
        ],
        "responses": {"200": _json("A page.", "VideoList", "Cache-Control"), **_problems(401, 403, 422, 503)},
    }


def _post() -> dict[str, Any]:
    return {
        "operationId": "makeVideo",
        "tags": ["videos"],
        "summary": "Makes a job of a file in the folder of videos, of what a URL leads to, or of an upload.",
        "description": "The answer is given once the job, and the upload, are durable. What a URL leads to is fetched "
        "afterwards; where that fails, the job fails, and `reason` says why.",
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "A request that is sent again with the same key makes no second job.",
                "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref("VideoRequest"), "example": {"path": "holiday.mp4"}},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["file"],
                        "additionalProperties": False,
                        "properties": {
                            "request": _ref("UploadRequest"),
                            "file": {"type": "string", "contentMediaType": "application/octet-stream"},
                        },
                    },
                    "encoding": {"request": {"contentType": "application/json"}},
                },
            },
        },
        "responses": {
            "202": _json("The job is taken.", "Accepted", "Location"),
            **_problems(400, 401, 403, 408, 413, 415, 422, 503, 507),
        },
    }


def _get() -> dict[str, Any]:
    return {
        "operationId": "getVideo",
        "tags": ["videos"],
        "summary": "A job: its state and, once it is done, its files.",
        "responses": {"200": _json("The job.", "Video", "Cache-Control"), **_problems(401, 404, 503)},
    }


def _delete() -> dict[str, Any]:
    return {
        "operationId": "deleteVideo",
        "tags": ["videos"],
        "summary": "Cancels a job, or removes its files and what was uploaded for it. Doing it again is no error.",
        "responses": {"204": {"description": "Nothing is left of it."}, **_problems(401, 403, 404, 503)},
    }


def _file_name() -> dict[str, Any]:
    return {
        "name": "file",
        "in": "path",
        "required": True,
        "description": "The last part of an output's `url`.",
        "schema": {"type": "string"},
    }


def _file() -> dict[str, Any]:
    validators = ("ETag", "Last-Modified", "Accept-Ranges", "X-Content-Type-Options")
    content: dict[str, Any] = {kind.partition(";")[0]: {"schema": {}} for kind in CONTENT_TYPES.values()}

    def whole(text: str, *names: str) -> dict[str, Any]:
        return {"description": text, "headers": _headers(*validators, *names), "content": content}

    def header(name: str) -> dict[str, Any]:
        return {"name": name, "in": "header", "schema": {"type": "string"}}

    return {
        "operationId": "getFile",
        "tags": ["videos"],
        "summary": "A file that the job's answer lists.",
        "parameters": [header("Range"), header("If-Range"), header("If-None-Match")],
        "responses": {
            "200": whole("The file."),
            "206": whole("A part of the file.", "Content-Range"),
            "304": {"description": "The file is what the client has.", "headers": _headers("ETag")},
            **_problems(401, 404, 416, 503),
        },
    }


def _webhook() -> dict[str, Any]:
    def header(name: str, text: str) -> dict[str, Any]:
        return {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}

    return {
        "operationId": "videoEnded",
        "tags": ["videos"],
        "summary": "A job that was asked for with `webhook` is done or has failed.",
        "description": "Signed as Standard Webhooks says; sent again, for hours, until it is answered 2xx.",
        "security": [],
        "parameters": [
            header("webhook-id", "The same each time that this is sent."),
            header("webhook-timestamp", "When it was sent, seconds since 1970."),
            header("webhook-signature", "`v1,` and the base64 of the HMAC-SHA256 of id.timestamp.body; one per key."),
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("Event")}}},
        "responses": {"2XX": {"description": "It is taken."}, "410": {"description": "It is not to be sent again."}},
    }


def _about(name: str, text: str, kind: str, wrong: set[int]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "200": {"description": text, "content": {kind: {"schema": {}}}},
        **_problems(*(status for status in wrong if status != 503)),
    }
    if 503 in wrong:
        found["503"] = {"description": "It is not so; `reason` says why.", "content": {kind: {"schema": {}}}}
    return {
        "operationId": name,
        "tags": ["process"],
        "summary": text,
        "description": "Whether a token is needed is for the installation to say.",
        "security": [{}, {"token": []}],
        "responses": found,
    }


def _json(text: str, schema: str, *headers: str) -> dict[str, Any]:
    return {
        "description": text,
        "headers": _headers(*headers),
        "content": {"application/json": {"schema": _ref(schema)}},
    }


def _problems(*statuses: int) -> dict[str, Any]:
    extra = {401: ["WWW-Authenticate"], 403: ["WWW-Authenticate"], 416: ["Content-Range"], 503: ["Retry-After"]}
    return {
        str(status): {
            "description": WRONG[status],
            "headers": _headers(*extra.get(status, ())),
            "content": {"application/problem+json": {"schema": _ref("ProblemDetails")}},
        }
        for status in statuses
    }


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"required": True, "schema": {"type": "string"}} for name in names}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
