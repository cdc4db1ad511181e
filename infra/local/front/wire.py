"""HTTP/1.1 on a blocking socket: heads, bodies and their bounds (RFC 9112).

Every wait has an end: an idle connection, a head that trickles, a body that stalls, a reader that does not read.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import unquote_plus

RECEIVE = 1 << 18
CHUNK_LINE = 1024  # bytes of a chunk's size line
HEADERS = 128

_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (\S{1,1048576}) HTTP/1\.([01])")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
#: Headers that must not come twice: two values would let two readers see two requests.
_SINGLE = frozenset(
    {"content-length", "transfer-encoding", "host", "authorization", "content-encoding", "content-type"}
)


class Malformed(Exception):
    """The bytes are no request of ours; the status to answer with before closing."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class BodyEndedEarly(Exception):
    """The client closed, or cut a chunk, before the end that it had announced."""


class TooSlow(Exception):
    """A time-out of the connection, named by what was waited for."""


class Gone(Exception):
    """The client closed the connection or was interrupted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and bytes; see FrontSettings."""

    head_bytes: int
    idle: float
    head: float
    stall: float
    body: float


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body. Header names are lower case; ``length`` is None for a chunked body."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    length: int | None
    keep_alive: bool
    chunked_answer: bool

    @property
    def expects_continue(self) -> bool:
        return self.headers.get("expect", "").lower() == "100-continue"

    @property
    def has_body(self) -> bool:
        return self.length != 0


def parameters(query: str) -> dict[str, str]:
    """The pairs of a query string, percent and plus decoded; the last of a name counts. Bad UTF-8 is Malformed."""
    found: dict[str, str] = {}
    try:
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            if name:
                found[unquote_plus(name, errors="strict")] = unquote_plus(value, errors="strict")
    except UnicodeDecodeError:
        raise Malformed(400, "the URL's parameters are not UTF-8") from None
    return found


class Connection:
    """One client. Not for several threads, except ``interrupt`` and ``close_if_idle``."""

    def __init__(self, client: socket.socket, limits: Limits) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = client
        self._limits = limits
        self._buffer = bytearray()
        self._idle = True
        self.interrupted = False

    def fileno(self) -> int:
        return self._client.fileno()

    def head(self) -> Head | None:
        """The next request's head; None when the client is done. Raises Malformed or TooSlow."""
        self._idle = not self._buffer
        if self.interrupted:
            return None
        deadline = time.monotonic() + self._limits.idle
        searched = 0
        while (end := self._buffer.find(b"\r\n\r\n", searched)) < 0:
            searched = max(0, len(self._buffer) - 3)
            self._check_head(len(self._buffer))
            waiting = not self._buffer
            if not self._receive(deadline):
                if waiting:
                    return None
                raise Malformed(400, "the request ended in its head")
            if waiting:
                self._idle = False
                deadline = time.monotonic() + self._limits.head
        self._check_head(end)
        self._idle = False
        text = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        return _head(text.lstrip(b"\r\n"))

    def _check_head(self, size: int) -> None:
        if size > self._limits.head_bytes:
            raise Malformed(431, f"the request's head is larger than {self._limits.head_bytes} bytes")

    def body(self, head: Head) -> Iterator[bytes]:
        """The body in pieces, transfer coding undone. Raises BodyEndedEarly, TooSlow or Malformed."""
        deadline = time.monotonic() + self._limits.body
        if head.length is None:
            yield from self._chunks(deadline)
            return
        left = head.length
        while left:
            if not self._buffer and not self._receive(self._stall(deadline)):
                raise BodyEndedEarly(f"{head.length - left} of {head.length} bytes came")
            piece = bytes(self._buffer[:left])
            del self._buffer[: len(piece)]
            left -= len(piece)
            yield piece

    def _chunks(self, deadline: float) -> Iterator[bytes]:
        while True:
            size_text = self._line(deadline).partition(b";")[0].strip()
            if re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size_text) is None:
                raise Malformed(400, "a chunk's size is not hexadecimal")
            left = int(size_text, 16)
            if left == 0:
                break
            while left:
                if not self._buffer and not self._receive(self._stall(deadline)):
                    raise BodyEndedEarly("the connection ended within a chunk")
                piece = bytes(self._buffer[:left])
                del self._buffer[: len(piece)]
                left -= len(piece)
                yield piece
            if self._line(deadline):
                raise Malformed(400, "a chunk is longer than its size")
        for _ in range(HEADERS):
            if not self._line(deadline):
                return
        raise Malformed(400, "too many trailers")

    def _line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > CHUNK_LINE:
                raise Malformed(400, "a chunk's size line is too long")
            if not self._receive(self._stall(deadline)):
                raise BodyEndedEarly("the connection ended before the last chunk")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        if len(line) > CHUNK_LINE:
            raise Malformed(400, "a chunk's size line is too long")
        return line

    def _stall(self, deadline: float) -> float:
        return min(deadline, time.monotonic() + self._limits.stall)

    def _receive(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TooSlow("the request did not come in time")
        self._client.settimeout(left)
        try:
            piece = self._client.recv(RECEIVE)
        except TimeoutError:
            raise TooSlow("the request did not come in time") from None
        except OSError:
            return False
        if self.interrupted:  # the kernel hands over what still arrives after the shutdown
            return False
        self._buffer += piece
        return bool(piece)

    def send(self, *pieces: bytes) -> None:
        """Raises Gone when the client does not read on within the stall time, or is no more."""
        data = b"".join(pieces)
        self._client.settimeout(self._limits.stall)
        try:
            for start in range(0, len(data), RECEIVE):
                self._client.sendall(data[start : start + RECEIVE])
        except OSError:
            raise Gone from None

    def interrupt(self) -> None:
        """Wakes the thread of this connection: what it receives from now on is the end. It can still answer."""
        self.interrupted = True
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_RD)

    def close_if_idle(self) -> None:
        """Ends a connection that waits for a request."""
        if self._idle:
            self.interrupt()

    def close(self, linger: float = 0.0) -> None:
        """With ``linger``, reads what the client still sends for so long, lest a reset take the answer from it."""
        try:
            if linger:
                self._client.shutdown(socket.SHUT_WR)
                until = time.monotonic() + linger
                while (left := until - time.monotonic()) > 0:
                    self._client.settimeout(left)
                    if not self._client.recv(RECEIVE):
                        break
        except OSError:
            pass
        self._client.close()


def _head(text: bytes) -> Head:
    line, *lines = text.split(b"\r\n")
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        raise Malformed(400, "the first line is no HTTP/1 request")
    if len(lines) > HEADERS:
        raise Malformed(431, f"more than {HEADERS} headers")
    headers: dict[str, str] = {}
    for item in lines:
        header = _HEADER.fullmatch(item)
        if header is None or b"\0" in item or b"\n" in item:
            raise Malformed(400, "a header is malformed")
        name = header[1].decode().lower()
        value = header[2].decode("latin-1")
        if name in headers and name in _SINGLE:
            raise Malformed(400, f"two {name} headers")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    method, target, minor = found[1].decode(), found[2].decode("latin-1"), found[3]
    if not target.startswith("/"):
        # The absolute form, as sent to a proxy.
        target = re.sub(r"^https?://[^/?]*", "", target) or "/"
    path, _, query = target.partition("?")
    connection = headers.get("connection", "").lower()
    keep_alive = "close" not in connection if minor == b"1" else "keep-alive" in connection
    return Head(method, path or "/", query, headers, _length(method, headers), keep_alive, minor == b"1")


def _length(method: str, headers: Mapping[str, str]) -> int | None:
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if length is not None:
            raise Malformed(400, "both Transfer-Encoding and Content-Length")
        if coding.strip().lower() != "chunked":
            raise Malformed(501, "the only transfer coding known here is chunked")
        return None
    if length is None:
        if method in ("POST", "PUT"):
            raise Malformed(411, "the body's length is missing: neither Content-Length nor chunks")
        return 0
    if re.fullmatch(r"[0-9]{1,15}", length) is None:
        raise Malformed(400, "Content-Length is not a number")
    return int(length)


def answer_head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and headers; values lose line breaks, so that nothing can be smuggled into the answer."""
    phrase = HTTPStatus(status).phrase
    lines = [f"HTTP/1.1 {status} {phrase}"]
    lines += [f"{name}: {_one_line(value)}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "replace")


def _one_line(value: str) -> str:
    return value if value.isprintable() else "".join(letter if letter.isprintable() else " " for letter in value)
