"""The HTTP server of one process: its connections, their limits, and the service that answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from ingest.answers import Answers
from ingest.exchange import Exchange
from ingest.guard import Rates
from ingest.headers import Head, Heads
from ingest.http import Connection
from ingest.proxies import Proxies
from ingest.transport import Links

SWEEP_SECONDS = 0.5  # how often time limits are looked at


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may use. Times are seconds, sizes bytes."""

    head_bytes: int = 16 * 1024
    body_bytes: int = 8 << 20
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    idle_seconds: float = 75.0
    connections: int = 20_000
    address_connections: int = 0  # of one address; 0 for no limit
    pipelined: int = 64  # unanswered requests of one connection


class Service(Protocol):
    """What the server calls. It must answer every exchange in the end, and must not raise for what a client sent."""

    def serve(self, exchange: Exchange, method: bytes, url: bytes, fields: dict[str, bytes], body: bytes) -> None:
        """Takes a whole request."""

    def serve_common(self, exchange: Exchange, data: bytes, end: int, head: Head) -> bool:
        """Takes a request without a body whose line has the common form; False when it is for `serve`.

        data: the whole request. end: where its target ends.
        """

    def admit(self, method: bytes, url: bytes) -> None:
        """Called before a body is read; raises Refusal."""


class Server:
    """The connections of one process and what they share."""

    def __init__(self, service: Service, limits: Limits, answers: Answers, proxies: Proxies | None = None) -> None:
        self.service = service
        self.limits = limits
        self.answers = answers
        self.proxies = proxies or Proxies()
        self.rates = Rates()
        self.heads = Heads()
        self.connections: set[Connection] = set()
        self.now = monotonic()  # of the last sweep: good enough for time limits
        self.receiving = 0  # bytes of bodies that are not whole yet
        self.answered: Counter[int] = Counter()  # by status
        self.gone = 0  # answers whose client had left
        self.draining = False
        self._addresses: Counter[bytes] = Counter()  # open connections of each; forgotten with the last one
        self._links: Links | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens, sharing the port with other processes (SO_REUSEPORT). Returns the port; raises OSError."""
        links = Links(lambda: Connection(self))
        found = await links.listen(host, port)
        self._links = links
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self.sweep)
        return found

    def count_in(self, address: bytes) -> bool:
        """Counts a new connection of an address; False where it has too many."""
        self._addresses[address] += 1
        return self._addresses[address] <= self.limits.address_connections

    def count_out(self, address: bytes) -> None:
        """Counts a connection of an address that is over."""
        self._addresses[address] -= 1
        if self._addresses[address] <= 0:
            del self._addresses[address]

    def drain(self) -> None:
        """Accepts no connection any more and closes idle ones; requests in hand are answered, then closed."""
        self.draining = True
        if self._links is not None:
            self._links.stop_listening()
        for connection in list(self.connections):
            connection.close_if_idle()

    def idle(self) -> bool:
        """Whether no connection waits for anything."""
        return not self.connections

    def stop(self) -> None:
        """Closes what is left."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self.connections):
            connection.abort()
        if self._links is not None:
            self._links.close()

    def sweep(self) -> None:
        """Looks at the time limits of all connections."""
        self.now = monotonic()
        self.answers.tick()
        self.heads.tick(self.now)
        for connection in list(self.connections):
            connection.check_time(self.now)
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self.sweep)
