"""Errors as `application/problem+json` (RFC 9457): what was wrong, in which field, what to do."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from msgspec import UNSET, UnsetType
from starlette.responses import Response

RETRY_SECONDS = 5


class FieldError(msgspec.Struct, frozen=True):
    """What of the request was wrong, as `outputs[1].width`."""

    field: str
    detail: str


class ProblemDetails(msgspec.Struct, frozen=True):
    """The body of an answer that is an error."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | UnsetType = UNSET


class Problem(Exception):
    """An answer that is an error. `field` names what of the request was wrong."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str = "",
        retry_after: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = dict(headers or {})
        if retry_after:
            self.headers["Retry-After"] = str(retry_after)

    def response(self) -> Response:
        """The answer."""
        errors = [FieldError(self.field, self.detail)] if self.field else UNSET
        title = HTTPStatus(self.status).phrase
        body = msgspec.json.encode(ProblemDetails("about:blank", title, self.status, self.detail, errors))
        return Response(body + b"\n", self.status, self.headers, media_type="application/problem+json")


def storage_problem(error: OSError) -> Problem:
    """The storage has failed: it is full, or away."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(507, "there is no space left for it", retry_after=RETRY_SECONDS)
    return Problem(503, "the storage does not answer as it must", retry_after=RETRY_SECONDS)
