"""The bytes of every answer. Those of the hot path are made once a second (for `Date`) and kept."""

from __future__ import annotations

import re
from base64 import b64decode
from email.utils import formatdate
from http import HTTPStatus

GIF = b64decode("R0lGODlhAQABAIAAAAAAAAAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==")  # 43 bytes, 1 x 1, transparent
ABOUT = b"This is a collector of web analytics events. It speaks Matomo's tracking API.\n"
ALLOWED_HEADERS = b"Content-Type, Idempotency-Key"
RETRY_AFTER = 5  # seconds, in every 503
CACHE_LIMIT = 4096  # answers kept; there are about as many origins as sites

# How the connection goes on after the answer, and what must be said about it.
KEEP, CLOSE, KEEP_1_0 = 0, 1, 2
_CONNECTION = {KEEP: b"", CLOSE: b"Connection: close\r\n", KEEP_1_0: b"Connection: keep-alive\r\n"}

_origin = re.compile(rb"[\x21-\x7e]{1,512}").fullmatch


class Answers:
    """Makes answers. `tick` must be called about once a second."""

    __slots__ = ("_cache", "_date")

    def __init__(self) -> None:
        self._cache: dict[tuple[int, bytes | None, int, bool], bytes] = {}
        self.tick()

    def tick(self) -> None:
        """Moves the Date on."""
        self._cache.clear()
        self._date = formatdate(usegmt=True).encode("ascii")

    def tracked(self, quiet: bool, origin: bytes | None, mode: int, head: bool = False) -> bytes:
        """An event was stored: 204 when `quiet`, else the 43-byte GIF."""
        key = (quiet, origin, mode, head)
        try:
            return self._cache[key]
        except KeyError:
            pass
        answer = (
            self.make(204, origin=origin, mode=mode)
            if quiet
            else self.make(200, GIF, b"image/gif", origin=origin, mode=mode, head=head)
        )
        if len(self._cache) < CACHE_LIMIT:
            self._cache[key] = answer
        return answer

    def make(
        self,
        status: int,
        body: bytes = b"",
        kind: bytes = b"text/plain; charset=utf-8",
        *,
        origin: bytes | None = None,
        mode: int = KEEP,
        head: bool = False,
        extra: bytes = b"",
        caching: bytes = b"no-store",
        retry: int = RETRY_AFTER,
    ) -> bytes:
        """Any answer. `extra`: further header lines, each with its CRLF. `head`: leave the body out.

        `retry`: seconds until a request that is answered 429 would be taken.
        """
        parts = [b"HTTP/1.1 %d %s\r\nDate: %s\r\n" % (status, HTTPStatus(status).phrase.encode(), self._date)]
        if status != 204:
            parts.append(b"Content-Type: %s\r\nContent-Length: %d\r\n" % (kind, len(body)))
        parts.append(b"Cache-Control: %s\r\n" % caching)
        if status in (429, 503):
            parts.append(b"Retry-After: %d\r\n" % (RETRY_AFTER if status == 503 else max(retry, 1)))
            if origin is not None:
                parts.append(b"Access-Control-Expose-Headers: Retry-After\r\n")
        if origin is not None and _origin(origin):
            # matomo.js sends credentials, so the answer must name the origin; a `*` counts as nothing.
            parts.append(
                b"Access-Control-Allow-Origin: %s\r\nAccess-Control-Allow-Credentials: true\r\nVary: Origin\r\n"
                % origin
            )
        parts += (extra, _CONNECTION[mode], b"\r\n")
        if not head:
            parts.append(body)
        return b"".join(parts)

    def preflight(self, origin: bytes | None, mode: int) -> bytes:
        """The answer to OPTIONS."""
        extra = (
            b"Allow: GET, POST, HEAD, OPTIONS\r\n"
            b"Access-Control-Allow-Methods: GET, POST, HEAD\r\n"
            b"Access-Control-Allow-Headers: %s\r\n"
            b"Access-Control-Max-Age: 86400\r\n" % ALLOWED_HEADERS
        )
        if origin is None or not _origin(origin):
            extra += b"Access-Control-Allow-Origin: *\r\n"
        return self.make(204, origin=origin, mode=mode, extra=extra)
