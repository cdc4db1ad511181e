"""HTTP requests on behalf of others, to where `destinations` lets them go.

A host is resolved once, and the connection goes to one of the addresses that were checked, so a name that changes in
between changes nothing. Every redirect is checked like a first URL. Nothing of ours is sent along: no cookie, no
credentials, no proxy of the environment. Everything has an end: names, connections, answers that trickle.

OutboundError
├── NotAllowed   the URL, or where it leads, may not be asked
├── BadAnswer    the server answers, but not with what is wanted; asking again will not change that
├── NoAnswer     the server cannot be reached, fails, or breaks off; asking again may help
├── TooLarge     more bytes than wanted
├── TooSlow      more time than there is
└── Cancelled    the caller has given up
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any, BinaryIO

import h11

from infra.service.destinations import Address, Destination, Refused, destination, public
from infra.service.settings import Settings
from infra.service.storage import write_all

CONNECT_SECONDS = 5.0  # for a name, and for each try of an address
LOOK = 0.25  # seconds between looks at whether the caller has given up
PIECE = 256 << 10  # bytes
LONGEST_HEAD = 64 << 10  # bytes
REDIRECTS = frozenset({301, 302, 303, 307, 308})
AGENT = "veilstream"

Resolve = Callable[[str, int], Sequence[str]]


class OutboundError(Exception):
    """The root; messages do not quote URLs."""


class NotAllowed(OutboundError):
    """The URL, or where it leads, may not be asked."""


class BadAnswer(OutboundError):
    """The server answers, but not with what is wanted."""


class NoAnswer(OutboundError):
    """The server cannot be reached, fails, or breaks off."""


class TooLarge(OutboundError):
    """More bytes than wanted."""


class TooSlow(OutboundError):
    """More time than there is."""


class Cancelled(OutboundError):
    """The caller has given up."""


def never() -> bool:
    """Of a caller who does not give up."""
    return False


class _Clock:
    """How long an exchange may still take; `idle` bounds each wait for something to come."""

    def __init__(self, seconds: float, idle: float, cancelled: Callable[[], bool]) -> None:
        self._end = time.monotonic() + seconds
        self._idle = idle
        self.cancelled = cancelled

    @property
    def left(self) -> float:
        """Seconds, more than 0; raises TooSlow, or Cancelled."""
        if self.cancelled():
            raise Cancelled("given up")
        left = self._end - time.monotonic()
        if left <= 0:
            raise TooSlow("it takes longer than it may")
        return left

    def wait(self, ready: Callable[[float], bool]) -> None:
        """Returns once `ready`, which waits for so many seconds, says so."""
        silent = time.monotonic() + self._idle
        while not ready(min(LOOK, self.left)):
            if time.monotonic() > silent:
                raise TooSlow(f"nothing came for {self._idle:g} seconds")


class Outbound:
    """Makes requests. May be used by several threads.

    `may` and `resolve` are for tests, which have no public servers: which addresses may be connected to, and the
    addresses of a name.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        may: Callable[[Address], bool] = public,
        resolve: Resolve | None = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._schemes = frozenset(name.strip() for name in settings.outbound_schemes.split(","))
        self._ports = frozenset(int(port) for port in settings.outbound_ports.split(","))
        self._redirects = settings.outbound_redirects
        self._may = may
        self._resolve = resolve or addresses
        self._trust = trust or ssl.create_default_context()

    def check(self, url: str) -> None:
        """Raises NotAllowed where the text of a URL alone tells that it may not be asked; asks nobody for names."""
        host = self._place(url).host
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except OSError:
            return  # a name
        if not all(self._may(ip_address(sockaddr[0])) for *_, sockaddr in found):
            raise NotAllowed("the URL leads to an address that is not of the public internet")

    def download(
        self,
        url: str,
        into: BinaryIO,
        *,
        largest: int,
        seconds: float,
        idle: float,
        cancelled: Callable[[], bool] = never,
    ) -> None:
        """Writes what a URL leads to, following redirects; raises OutboundError, or OSError of `into`.

        `largest`: bytes; `seconds`: for all of it; `idle`: for each wait in between.
        """
        clock = _Clock(seconds, idle, cancelled)
        place = self._place(url)
        for _ in range(self._redirects + 1):
            with self._exchange(place, "GET", {"Accept": "*/*", "Accept-Encoding": "identity"}, b"", clock) as answer:
                if answer.status in REDIRECTS and answer.location:
                    place = self._redirected(place, answer.location)
                    continue
                answer.must_be_a_file()
                if answer.length is not None and answer.length > largest:
                    raise TooLarge(f"it has {answer.length} bytes, at most {largest} are taken")
                taken = 0
                for piece in answer.pieces():
                    taken += len(piece)
                    if taken > largest:
                        raise TooLarge(f"it has more than {largest} bytes")
                    write_all(into, piece)
                return
        raise BadAnswer(f"more than {self._redirects} redirects")

    def post(self, url: str, headers: Mapping[str, str], body: bytes, *, seconds: float) -> int:
        """Sends a body and returns the status of the answer, whose own body is left alone; a redirect is not followed.
        Raises OutboundError."""
        clock = _Clock(seconds, seconds, never)
        with self._exchange(self._place(url), "POST", headers, body, clock) as answer:
            return answer.status

    def _place(self, url: str) -> Destination:
        try:
            return destination(url, self._schemes, self._ports)
        except Refused as error:
            raise NotAllowed(str(error)) from None

    def _redirected(self, place: Destination, location: str) -> Destination:
        try:
            found = self._place(place.joined(location))
        except ValueError:
            raise NotAllowed("it leads to a URL that cannot be taken apart") from None
        if place.scheme == "https" and found.scheme != "https":
            raise NotAllowed("it leads from https to http")
        return found

    @contextmanager
    def _exchange(
        self, place: Destination, method: str, headers: Mapping[str, str], body: bytes, clock: _Clock
    ) -> Iterator[_Answer]:
        """The answer to a request, on a connection of its own."""
        sent = {"Host": place.authority, "User-Agent": AGENT, "Connection": "close", **headers}
        if body:
            sent["Content-Length"] = str(len(body))
        with self._connected(place, clock) as plain, self._secured(plain, place, clock) as connection:
            protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
            request = h11.Request(method=method, target=place.target, headers=list(sent.items()))
            events = [request, *([h11.Data(body)] if body else []), h11.EndOfMessage()]
            connection.settimeout(clock.left)
            with _network():
                connection.sendall(b"".join(protocol.send(event) or b"" for event in events))
            yield _Answer(connection, protocol, clock)

    @contextmanager
    def _connected(self, place: Destination, clock: _Clock) -> Iterator[socket.socket]:
        """A connection to an address that may be connected to."""
        found = [ip_address(text.partition("%")[0]) for text in self._addresses(place, clock)]
        allowed = [address for address in found if self._may(address)]
        if not allowed:
            raise NotAllowed("the host has no address of the public internet")
        failed = "it has no address"
        for address in allowed:
            try:
                # By the address in digits, so nothing is looked up again.
                connection = socket.create_connection((str(address), place.port), min(CONNECT_SECONDS, clock.left))
            except OSError as error:
                failed = error.strerror or type(error).__name__
                continue
            with connection:
                if not self._may(ip_address(connection.getpeername()[0].partition("%")[0])):
                    raise NotAllowed("the connection has gone to another address")
                yield connection
                return
        raise NoAnswer(f"the server cannot be reached: {failed}")

    def _addresses(self, place: Destination, clock: _Clock) -> Sequence[str]:
        """The addresses of the host. The system's resolver knows no time limit, so it is left behind when it hangs."""
        found: queue.SimpleQueue[Sequence[str] | OSError] = queue.SimpleQueue()

        def resolve() -> None:
            try:
                found.put(self._resolve(place.host, place.port))
            except OSError as error:
                found.put(error)
            except UnicodeError:
                found.put(socket.gaierror(socket.EAI_NONAME, "no name of a host"))

        threading.Thread(target=resolve, name="resolve", daemon=True).start()
        try:
            answer = found.get(timeout=min(CONNECT_SECONDS, clock.left))
        except queue.Empty:
            raise NoAnswer("the host's name is not resolved in time") from None
        if isinstance(answer, OSError):
            raise NoAnswer("the host's name is not known")
        return answer

    def _secured(self, plain: socket.socket, place: Destination, clock: _Clock) -> socket.socket:
        if place.scheme != "https":
            return plain
        plain.settimeout(min(CONNECT_SECONDS, clock.left))
        with _network():
            return self._trust.wrap_socket(plain, server_hostname=place.host)


class _Answer:
    """The head of an answer, and its body as it comes."""

    def __init__(self, connection: socket.socket, protocol: h11.Connection, clock: _Clock) -> None:
        self._connection = connection
        self._protocol = protocol
        self._clock = clock
        head = self._next()
        while isinstance(head, h11.InformationalResponse):
            head = self._next()
        assert isinstance(head, h11.Response)
        self.status = head.status_code
        self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}

    @property
    def location(self) -> str:
        """Where a redirect leads; UTF-8 is taken too, as browsers do."""
        text = self._headers.get("location", "")
        try:
            return text.encode("latin-1").decode()
        except UnicodeError:
            return text

    @property
    def length(self) -> int | None:
        """How many bytes the server says there will be."""
        text = self._headers.get("content-length", "")
        return int(text) if text.isdigit() else None

    def must_be_a_file(self) -> None:
        """Raises BadAnswer, or NoAnswer where a later answer may be better."""
        if self.status >= 500 or self.status in (408, 425, 429):
            raise NoAnswer(f"the server answers {self.status}")
        if self.status != 200:
            raise BadAnswer(f"the server answers {self.status}")
        if self._headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise BadAnswer("the server sends it compressed, which was not asked for")

    def pieces(self) -> Iterator[bytes]:
        """The body."""
        while not isinstance(event := self._next(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    def _next(self) -> Any:
        try:
            while (event := self._protocol.next_event()) is h11.NEED_DATA:
                self._protocol.receive_data(self._received())
        except h11.RemoteProtocolError:
            raise NoAnswer("the answer breaks off, or is not HTTP") from None
        if isinstance(event, h11.ConnectionClosed):
            raise NoAnswer("the server closes the connection without an answer")
        return event

    def _received(self) -> bytes:
        found: list[bytes] = []

        def ready(seconds: float) -> bool:
            self._connection.settimeout(seconds)
            try:
                found.append(self._connection.recv(PIECE))
            except TimeoutError:
                return False
            except ssl.SSLEOFError:
                found.append(b"")  # cut off; whether that is too early is for HTTP to say
            return True

        with _network():
            self._clock.wait(ready)
        return found[0]


@contextmanager
def _network() -> Iterator[None]:
    """Errors of a connection as ours."""
    try:
        yield
    except ssl.SSLCertVerificationError:
        raise NoAnswer("the server's certificate is not trusted, or not for its name") from None
    except TimeoutError:
        raise TooSlow("it takes longer than it may") from None
    except OSError as error:
        raise NoAnswer(f"the connection fails: {error.strerror or type(error).__name__}") from None


def addresses(host: str, port: int) -> list[str]:
    """The addresses of a host as the system resolves it; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
