"""TCP connections without an event loop's transports: a request costs a read and a write, and next to nothing beside.

One epoll set holds all connections of a process, and the loop watches the set as if it were one connection: at each
round whatever is ready is read and handled in a row. A `Link` does for its protocol what an `asyncio.Transport` does,
in the same order, but that `write` raises OSError at once where the client is gone.
"""

from __future__ import annotations

import asyncio
import errno
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from infra.service.logs import describe, logger

log = logger(__name__)

AT_ONCE = 512  # connections that are looked at in one round
READ = 64 * 1024  # bytes
FIRST = 4096  # bytes that are asked for first: for more a buffer is made that costs a microsecond
BACKLOG = 4096
ACCEPTED = 256  # connections that are accepted in one round
NO_FILES_SECONDS = 1.0  # how long nothing is accepted once files have run out
_SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BROKEN = select.EPOLLERR | select.EPOLLHUP


class Client(Protocol):
    """What a link tells its protocol, as `asyncio.Protocol` has it."""

    def connection_made(self, transport: Link) -> None:
        """The first call."""

    def data_received(self, data: bytes) -> None:
        """Some bytes, at least one."""

    def eof_received(self) -> bool:
        """The client sends no more. Whether it may still be written to."""

    def pause_writing(self) -> None:
        """More than the limit waits to be taken by the client."""

    def resume_writing(self) -> None:
        """The client has taken it."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The last call; never within a call to the link."""


class Link:
    """One connection."""

    __slots__ = (
        "_closing",
        "_ended",
        "_events",
        "_fd",
        "_limit",
        "_links",
        "_paused",
        "_send",
        "_shut",
        "_socket",
        "_waiting",
        "peer",
        "protocol",
        "receive",
    )

    def __init__(self, links: Links, connected: socket.socket, peer: object, protocol: Client) -> None:
        self._links = links
        self._socket = connected
        self._fd = connected.fileno()
        self._send = connected.send
        self._events = select.EPOLLIN
        self._waiting = bytearray()  # bytes that the client has not taken yet
        self._limit = READ
        self._closing = False  # nothing more is read or written, but for what waits
        self._ended = False  # closed
        self._paused = False  # the protocol was told to pause
        self._shut = False  # to be half closed once nothing waits
        self.receive = connected.recv
        self.peer = peer
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int) -> None:
        """With more than so many bytes waiting, the protocol is told to pause."""
        self._limit = high

    def write(self, data: bytes) -> None:
        """Sends now, or as soon as the client takes it; raises OSError where it is gone."""
        if self._closing:
            return
        if not self._waiting:
            try:
                sent = self._send(data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            self._watch(self._events | select.EPOLLOUT)
        self._waiting += data
        if len(self._waiting) > self._limit and not self._paused:
            self._paused = True
            self.protocol.pause_writing()

    def pause_reading(self) -> None:
        """Reads nothing until `resume_reading`."""
        self._watch(self._events & ~select.EPOLLIN)

    def resume_reading(self) -> None:
        """Reads on."""
        if not self._closing:
            self._watch(self._events | select.EPOLLIN)

    def write_eof(self) -> None:
        """Tells the client, after what waits, that nothing more comes; reading goes on."""
        self._shut = True
        if not self._waiting and not self._ended:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Closes after what waits was taken."""
        if self._closing:
            return
        self._closing = True
        if self._waiting:
            self._watch(self._events & ~select.EPOLLIN)
        else:
            self._end(None)

    def abort(self) -> None:
        """Closes at once."""
        self._end(None)

    # Called by `Links`

    def ready(self, events: int) -> None:
        """Something happened that is not just data of a client that takes its answers."""
        if events & select.EPOLLOUT and self._waiting:
            self._flush()
        if self._ended:
            return
        if events & select.EPOLLIN and self._events & select.EPOLLIN:
            self.read()
        elif events & _BROKEN:
            code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._end(OSError(code, errno.errorcode.get(code, "")) if code else None)

    def read(self) -> None:
        """Reads what there is."""
        try:
            data = self.receive(FIRST)
            if len(data) == FIRST:
                with suppress(OSError):  # it comes again with the next read
                    data += self.receive(READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            self.protocol.data_received(data)
            return
        self.pause_reading()
        if not self.protocol.eof_received():
            self.close()

    # Inside

    def _flush(self) -> None:
        try:
            sent = self._send(self._waiting)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        del self._waiting[:sent]
        if self._waiting:
            return
        self._watch(self._events & ~select.EPOLLOUT)
        if self._closing:
            self._end(None)
            return
        if self._shut:
            self.write_eof()
        if self._paused:
            self._paused = False
            self.protocol.resume_writing()

    def _watch(self, events: int) -> None:
        if events != self._events and not self._ended:
            self._events = events
            self._links.poll.modify(self._fd, events)

    def _end(self, error: OSError | None) -> None:
        if self._ended:
            return
        self._ended = self._closing = True
        self._waiting.clear()
        self._links.forget(self._fd)
        self._socket.close()
        self._links.loop.call_soon(self.protocol.connection_lost, error)


class Links:
    """The listening sockets and connections of a process. `make()` gives each new connection its protocol."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self.loop = asyncio.get_running_loop()
        self.poll = select.epoll()
        self._make = make
        self._listeners: dict[int, socket.socket] = {}
        self._links: dict[int, Link] = {}
        self._again: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> int:
        """Listens, sharing the port with other processes (SO_REUSEPORT). Returns the port; raises OSError."""
        found = await self.loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                listener = socket.socket(family, kind, protocol)
                self._listeners[listener.fileno()] = listener
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listener.setblocking(False)
                listener.bind(address)
                listener.listen(BACKLOG)
        except OSError:
            for listener in self._listeners.values():
                listener.close()
            self._listeners.clear()
            raise
        for number in self._listeners:
            self.poll.register(number, select.EPOLLIN)
        self.loop.add_reader(self.poll.fileno(), self._round)
        return int(next(iter(self._listeners.values())).getsockname()[1])

    def stop_listening(self) -> None:
        """Accepts no connection any more."""
        if self._again is not None:
            self._again.cancel()
        for number, listener in self._listeners.items():
            with suppress(FileNotFoundError):
                self.poll.unregister(number)
            listener.close()
        self._listeners.clear()

    def close(self) -> None:
        """Listens and looks at connections no more; those that are open must have been closed."""
        self.stop_listening()
        if not self.poll.closed:
            self.loop.remove_reader(self.poll.fileno())
            self.poll.close()

    def forget(self, number: int) -> None:
        """A connection is about to be closed."""
        del self._links[number]
        if not self.poll.closed:
            self.poll.unregister(number)

    def _round(self) -> None:
        links, data = self._links, select.EPOLLIN
        for number, events in self.poll.poll(0, AT_ONCE):
            link = links.get(number)
            if link is None:
                if (listener := self._listeners.get(number)) is not None:
                    self._accept(listener)
                continue
            try:
                if events == data:
                    link.read()
                else:
                    link.ready(events)
            except Exception as error:
                self._failed(link, error)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTED):
            try:
                connected, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SCARCE:
                    raise
                log.error("nothing_accepted", problem=error.strerror)
                self._rest()
                return
            connected.setblocking(False)
            if connected.family != socket.AF_UNIX:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            protocol = self._make()
            link = self._links[connected.fileno()] = Link(self, connected, peer, protocol)
            self.poll.register(connected.fileno(), select.EPOLLIN)
            try:
                protocol.connection_made(link)
            except Exception as error:
                self._failed(link, error)

    @staticmethod
    def _failed(link: Link, error: Exception) -> None:
        """A protocol did; the others go on."""
        log.error("connection_failed", **describe(error))
        link.abort()

    def _rest(self) -> None:
        """Accepts nothing for a while: what waits would else be tried at every round."""
        for number in self._listeners:
            self.poll.modify(number, 0)

        def go_on() -> None:
            for number in self._listeners:
                self.poll.modify(number, select.EPOLLIN)

        self._again = self.loop.call_later(NO_FILES_SECONDS, go_on)
