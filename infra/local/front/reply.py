"""The answer to a query: headers as ClickHouse sends them, whole or streamed, and how a stream breaks off."""

from __future__ import annotations

import json
import secrets
import string
import time

from infra.local.front.encodings import Encoder
from infra.local.front.engine import Facts, Result
from infra.local.front.errors import FrontError
from infra.local.front.wire import Connection, Head, answer_head

DISPLAY_NAME = "veilstream"
TAG_LENGTH = 16

_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "XML": "application/xml; charset=UTF-8",
    "Parquet": "application/octet-stream",
    "Prometheus": "text/plain; version=0.0.4; charset=UTF-8",
}
_CONTENT_TYPE_PREFIXES = (
    ("JSONEachRow", "application/x-ndjson; charset=UTF-8"),
    ("JSON", "application/json; charset=UTF-8"),
    ("TabSeparated", "text/tab-separated-values; charset=UTF-8"),
    ("TSV", "text/tab-separated-values; charset=UTF-8"),
    ("CSV", "text/csv; charset=UTF-8; header=present"),
    ("Pretty", "text/plain; charset=UTF-8"),
)


def content_type(format: str) -> str:
    if format in _CONTENT_TYPES:
        return _CONTENT_TYPES[format]
    for prefix, found in _CONTENT_TYPE_PREFIXES:
        if format.startswith(prefix):
            return found
    return "application/octet-stream"


class Reply:
    """One answer. Either ``whole`` or ``error``, or ``begin``, ``piece`` …, then ``end`` or ``break_off``."""

    def __init__(self, connection: Connection, head: Head, facts: Facts) -> None:
        self._connection = connection
        self._head = head
        self._facts = facts
        self._began = time.monotonic_ns()
        self._tag = "".join(secrets.choice(string.ascii_lowercase) for _ in range(TAG_LENGTH))
        self._encoder: Encoder | None = None
        self._chunked = False
        self.query_id = ""
        self.timezone = facts.timezone
        self.keep_alive = head.keep_alive
        self.streaming = False
        self.sent = 0

    def whole(self, data: bytes, format: str | None, result: Result, encoder: Encoder | None = None) -> None:
        """A complete answer with all its counts."""
        headers = self._headers(200, format, result)
        if encoder is not None and data:
            data = encoder.feed(data) + encoder.finish()
            headers["Content-Encoding"] = encoder.name
        self._send_whole(200, headers, data)

    def error(self, problem: FrontError) -> None:
        """Before anything else was sent."""
        self.keep_alive = self.keep_alive and not problem.close
        headers = self._headers(problem.status, None, Result())
        headers["Content-Type"] = "text/plain; charset=UTF-8"
        headers["X-ClickHouse-Exception-Code"] = str(problem.code)
        if problem.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="ClickHouse server HTTP API"'
        self._send_whole(problem.status, headers, problem.text(self._facts.version).encode() + b"\n")

    def begin(self, format: str, result: Result, encoder: Encoder | None) -> None:
        """The head of a streamed answer; counts are those known so far."""
        self.streaming = True
        self._encoder = encoder
        self._chunked = self._head.chunked_answer
        self.keep_alive = self.keep_alive and self._chunked
        headers = self._headers(200, format, result)
        if encoder is not None:
            headers["Content-Encoding"] = encoder.name
        if self._chunked:
            headers["Transfer-Encoding"] = "chunked"
        self._finish_headers(headers)
        self._connection.send(answer_head(200, headers))

    def piece(self, data: bytes) -> None:
        self._chunk(self._encoder.feed(data) if self._encoder is not None else data)

    def end(self) -> None:
        if self._encoder is not None:
            self._chunk(self._encoder.finish())
        if self._chunked:
            self._connection.send(b"0\r\n\r\n")

    def break_off(self, problem: FrontError) -> None:
        """The query failed after a part of its output was sent: the error in the body, and no end of the body."""
        self.keep_alive = False
        message = problem.text(self._facts.version)
        length = len(message.encode())
        self.piece(
            f"\r\n__exception__\r\n{self._tag}\r\n{message}\n{length + 1} {self._tag}\r\n__exception__\r\n".encode()
        )
        if self._encoder is not None:
            self._chunk(self._encoder.finish())

    def _chunk(self, data: bytes) -> None:
        if not data or self._head.method == "HEAD":
            return
        self.sent += len(data)
        if self._chunked:
            self._connection.send(b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._connection.send(data)

    def _send_whole(self, status: int, headers: dict[str, str], data: bytes) -> None:
        headers["Content-Length"] = str(len(data))
        self._finish_headers(headers)
        self.sent += len(data)
        self._connection.send(answer_head(status, headers), b"" if self._head.method == "HEAD" else data)

    def _headers(self, status: int, format: str | None, result: Result) -> dict[str, str]:
        headers = {"X-ClickHouse-Server-Display-Name": DISPLAY_NAME, "X-ClickHouse-Timezone": self.timezone}
        if self.query_id:
            headers["X-ClickHouse-Query-Id"] = self.query_id
        if status == 200:
            headers["X-ClickHouse-Summary"] = self._summary(result)
            headers["X-ClickHouse-Exception-Tag"] = self._tag
        if format is not None:
            headers["X-ClickHouse-Format"] = format
            headers["Content-Type"] = content_type(format)
        return headers

    def _finish_headers(self, headers: dict[str, str]) -> None:
        headers["Connection"] = "Keep-Alive" if self.keep_alive else "Close"
        if self.keep_alive:
            headers["Keep-Alive"] = "timeout=60"

    def _summary(self, result: Result) -> str:
        """All values are strings, as in ClickHouse, since 64 bits do not fit a JSON number."""
        values = {
            "read_rows": result.read_rows,
            "read_bytes": result.read_bytes,
            "written_rows": result.written_rows,
            "written_bytes": result.written_bytes,
            "total_rows_to_read": result.read_rows,
            "result_rows": result.result_rows or result.written_rows,
            "result_bytes": len(result.data) or result.written_bytes,
            "elapsed_ns": time.monotonic_ns() - self._began,
        }
        return json.dumps({name: str(value) for name, value in values.items()}, separators=(",", ":"))
