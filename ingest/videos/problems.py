"""Errors as `application/problem+json` (RFC 9457): what was wrong, in which field, what to do."""

from __future__ import annotations

import json
from http import HTTPStatus

from starlette.responses import Response


class Problem(Exception):
    """An answer that is an error. `field` names what of the request was wrong, as `outputs[1].width`."""

    def __init__(self, status: int, detail: str, *, field: str = "", retry_after: int = 0) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.retry_after = retry_after

    def response(self) -> Response:
        """The answer."""
        body: dict[str, object] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.field:
            body["errors"] = [{"field": self.field, "detail": self.detail}]
        headers = {"Retry-After": str(self.retry_after)} if self.retry_after else {}
        return Response(json.dumps(body) + "\n", self.status, headers, media_type="application/problem+json")
