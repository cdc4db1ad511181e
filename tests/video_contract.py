"""Holds answers of the video API against its own description."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from openapi_schema_validator import OAS31Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from ingest.videos import openapi

seen: set[tuple[str, str, int]] = set()  # (method, path, status) of all answers so far


@cache
def document() -> Any:
    """The description."""
    return openapi.document()


def check(method: str, path: str, status: int, headers: dict[str, str], content: bytes) -> None:
    """Fails unless this answer is one that the description has for the route; headers' names are in lower case."""
    route = next((route for route in document()["paths"] if _matches(route, path.partition("?")[0])), None)
    if route is None:
        assert status == 404, (method, path, status)
        return
    operation = document()["paths"][route].get(method.lower().replace("head", "get"))
    if operation is None:
        assert status == 405, (method, path, status)
        return
    seen.add((method, route, status))
    answer = operation["responses"].get(str(status))
    assert answer is not None, f"{method} {route} answers {status}, which is not described"
    for name in answer.get("headers", ()):
        assert name.lower() in headers, f"{method} {route} {status} has no {name}"
    kinds = answer.get("content")
    if kinds is None:
        assert not content
        return
    kind = headers["content-type"].partition(";")[0]
    assert kind in kinds, f"{method} {route} answers {status} as {kind}"
    if kind.endswith("json") and method != "HEAD":
        _valid(json.loads(content), kinds[kind]["schema"])


def _matches(route: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\{[a-z]+\}", "[^/]+", route), path) is not None


def _valid(value: Any, schema: dict[str, Any]) -> None:
    resource = Resource.from_contents(document(), default_specification=DRAFT202012)
    registry: Any = Registry().with_resource("urn:api", resource)
    found = dict(schema)
    if "$ref" in found:
        found["$ref"] = "urn:api" + found["$ref"]
    OAS31Validator(found, registry=registry, format_checker=OAS31Validator.FORMAT_CHECKER).validate(value)
