"""HTTP/1.1 as the load needs it: a fixed number of kept-alive connections, one request in flight on each.

Nothing is ever sent again: a request whose answer does not come has failed with CUT or TIMED_OUT, and what became
of it is unknown. Answers must have a Content-Length (or none: 204, 304); anything else cuts the connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Protocol, cast

from infra.load.journal import CUT, TIMED_OUT

BACKOFF_FIRST, BACKOFF_MOST = 0.02, 0.5  # seconds between tries to connect
_ANSWER_LIMIT = 1 << 20


class Sendable(Protocol):
    """What a connection needs of a request: its bytes, and whether it says `Connection: close`."""

    @property
    def payload(self) -> bytes: ...
    @property
    def close(self) -> bool: ...


Finished = Callable[[Sendable, int, bytes, float], None]
"""Called once per request: it, the HTTP status (or CUT, TIMED_OUT), the body, when it was sent (`perf_counter`)."""


class Pool:
    """The connections to one address. `idle` holds those that can take a request; `on_idle` is called when one can."""

    def __init__(
        self, host: str, port: int, *, connections: int, timeout: float, finished: Finished, on_idle: Callable[[], None]
    ) -> None:
        self.host, self.port, self.timeout = host, port, timeout
        self.finished, self.on_idle = finished, on_idle
        self.idle: list[Connection] = []
        self.busy: set[Connection] = set()
        self.connects = 0
        self.closing = False
        self._loop = asyncio.get_running_loop()
        self._tasks = {self._loop.create_task(self._connect()) for _ in range(connections)}
        self._sweeper = self._loop.create_task(self._sweep())

    def send(self, request: Sendable) -> None:
        """Write a request on an idle connection; there must be one."""
        self.idle.pop().send(request)

    def lost(self) -> None:
        """A connection is gone: open another."""
        if not self.closing:
            task = self._loop.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all connections; requests still in flight finish with CUT."""
        self.closing = True
        for task in (*self._tasks, self._sweeper):
            task.cancel()
        for connection in (*self.idle, *self.busy):
            connection.end(CUT)
        await asyncio.sleep(0)

    async def _connect(self) -> None:
        pause = BACKOFF_FIRST
        while not self.closing:
            try:
                await self._loop.create_connection(lambda: Connection(self), self.host, self.port)
                self.connects += 1
                return
            except OSError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, BACKOFF_MOST)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(0.25, self.timeout / 4))
            oldest = perf_counter() - self.timeout
            for connection in [c for c in self.busy if c.sent_at < oldest]:
                connection.end(TIMED_OUT)


class Connection(asyncio.Protocol):
    """One connection; sent_at: `perf_counter` when the request in flight was written."""

    __slots__ = ("_buffer", "_pool", "_request", "_transport", "sent_at")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._request: Sendable | None = None
        self._buffer = b""
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._pool.closing:
            self._transport.abort()
            return
        self._pool.idle.append(self)
        self._pool.on_idle()

    def send(self, request: Sendable) -> None:
        self._request = request
        self.sent_at = perf_counter()
        self._pool.busy.add(self)
        self._transport.write(request.payload)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if self._request is None:  # an answer to nothing
            self._transport.abort()
            return
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = data
            if len(data) > _ANSWER_LIMIT:
                self.end(CUT)
            return
        try:
            status, length, close = _answer(data[:end])
        except ValueError:
            self.end(CUT)
            return
        if len(data) < end + 4 + length:
            self._buffer = data
            return
        self._buffer = b""
        close = close or self._request.close or len(data) > end + 4 + length
        self._finish(status, data[end + 4 : end + 4 + length])
        if close:
            self._transport.abort()
        elif not self._pool.closing:
            self._pool.idle.append(self)
            self._pool.on_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._pool.idle:
            self._pool.idle.remove(self)
        self._finish(CUT, b"")
        self._pool.lost()

    def end(self, status: int) -> None:
        """Finish what is in flight with this status and close."""
        self._finish(status, b"")
        self._transport.abort()

    def _finish(self, status: int, body: bytes) -> None:
        request, self._request = self._request, None
        if request is not None:
            self._pool.busy.discard(self)
            self._pool.finished(request, status, body, self.sent_at)


_heads: dict[bytes, tuple[int, int, bool]] = {}


def _answer(head: bytes) -> tuple[int, int, bool]:
    """Status, length of the body, whether the connection ends; ValueError where it is not to be understood."""
    known = _heads.get(head)
    if known is not None:
        return known
    first, *lines = head.split(b"\r\n")
    if not first.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ")):
        raise ValueError("not an HTTP/1 answer")
    status = int(first[9:12])
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if status < 200 or b"transfer-encoding" in fields:
        raise ValueError("an answer of a kind that is not expected")
    if status in (204, 304):
        length = 0
    elif b"content-length" in fields:
        length = int(fields[b"content-length"])
    else:
        raise ValueError("an answer without a length")
    close = fields.get(b"connection", b"").lower() == b"close" or first.startswith(b"HTTP/1.0")
    if not 0 <= length <= _ANSWER_LIMIT:
        raise ValueError("an answer that is too long")
    if len(_heads) > 1_000:
        _heads.clear()
    _heads[head] = status, length, close
    return status, length, close
