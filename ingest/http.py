"""HTTP/1.1 as one protocol over httptools: no task and no future per request (RFC 9110, RFC 9112).

A request becomes an `Exchange` in the queue of its connection. The service answers it when it likes, in any order;
the connection writes answers in the order of the requests. Everything a client may do is bounded: the size of head
and body, the time for each, idle time, unanswered requests, unread answers, and the number of connections.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import httptools

from infra.service.logs import describe, logger
from ingest.answers import CLOSE, KEEP, KEEP_1_0
from ingest.exchange import Exchange, Refusal
from ingest.guard import Turned
from ingest.headers import KNOWN, LISTS, UNKNOWN, Fields, Head, field_of
from ingest.transport import Link
from schemas.packets import MAPPED_IPV4

if TYPE_CHECKING:
    from ingest.server import Server

log = logger(__name__)

SLICE = 4096  # bytes of a head that are looked at together; the limit of a head is kept to two of these
LINGER_SECONDS = 2.0  # how long a refused client may go on sending before it is cut off
WRITE_BUFFER = 64 * 1024  # bytes of answers a client may leave unread before nothing more is read from it
VERSIONS = ("1.1", "1.0")
LINE_END = b" HTTP/1.1\r\n"  # of a request line
PRINTABLE = bytes(range(0x21, 0x7F))
STARTS = (b"GET /", b"POST /")
NOT_REMEMBERED = frozenset(("upgrade", "expect"))  # a head with one of these is read by the parser every time
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_line_end = re.compile(rb"\r?\n")
_high = re.compile(rb"[\x80-\xff]").sub


class Connection:
    """One client, as a `transport.Client`. `url` is None between requests; `body`, while there is no body to read."""

    __slots__ = (
        "address",
        "between",
        "blocked",
        "body",
        "body_size",
        "ended",
        "fields",
        "head",
        "parser",
        "paused",
        "pending",
        "proxied",
        "server",
        "since",
        "spare",
        "transport",
        "url",
    )

    def __init__(self, server: Server) -> None:
        self.server = server
        self.parser: Any = httptools.HttpRequestParser(self)
        self.transport: Link | None = None
        self.address = b""  # of the peer
        self.proxied = False  # the peer is a trusted proxy
        self.pending: list[Exchange] = []  # mostly one or none, for which a deque takes ten times the memory
        self.spare: Exchange | None = None  # one that is over, for the next request
        self.between = True  # the parser has seen nothing of the next request
        self.url: bytes | None = None
        self.fields: dict[str, bytes] = {}
        self.head = 0  # bytes of a head that came in several pieces
        self.body: bytearray | None = None
        self.body_size = 0
        self.ended = False  # nothing more is taken from this client
        self.paused = False  # reading is paused
        self.blocked = False  # the client does not read its answers
        self.since = server.now  # begin of what it is doing now: idle, a request, lingering

    # Transport

    def connection_made(self, transport: Link) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(WRITE_BUFFER)
        self.address = packed_address(transport.peer)
        server = self.server
        self.proxied = server.proxies.trusts(self.address)
        self.since = server.now
        server.connections.add(self)
        if len(server.connections) > server.limits.connections:
            self.refuse(503, "Too many connections.", Turned.CONNECTIONS)
        elif server.limits.address_connections and not self.proxied and not server.count_in(self.address):
            self.refuse(429, "Too many connections of this address.", Turned.ADDRESS_CONNECTIONS)
        elif server.draining:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.ended = True
        self.parser = self.spare = None  # they refer to each other; so none needs the garbage collector
        self.server.connections.discard(self)
        if self.server.limits.address_connections and not self.proxied:
            self.server.count_out(self.address)
        self._forget_body()
        self.server.gone += len(self.pending)
        self.pending.clear()

    def eof_received(self) -> bool:
        # The client may have closed its half only and still read the answers to what it sent.
        self.ended = True
        return bool(self.pending)

    def pause_writing(self) -> None:
        self.blocked = True
        self.since = self.server.now
        self._pause()

    def resume_writing(self) -> None:
        self.blocked = False
        self._resume()

    def data_received(self, data: bytes) -> None:
        if self.ended:
            return
        if len(data) > SLICE and self.body is None:
            self._receive_in_slices(data)
            return
        if self.between:
            end = data.find(b" ", 5)  # of the target, behind "GET /" and "POST /" alike
            head = data[end:]
            if (known := self.server.heads.get(head)) is not None:
                if self._serve_known(data, end, known):
                    return
            elif head.find(b"\r\n\r\n") == len(head) - 4 and data.startswith(STARTS):
                self._receive_whole(data, head)
                return
        self._feed(data)

    def _receive_whole(self, data: bytes, head: bytes) -> None:
        """One request without a body and nothing beside it: if the parser finds it in order, its head is remembered."""
        fields = self.fields  # the parser fills these
        self._feed(data)
        if (
            self.between
            and not self.ended
            and head.startswith(LINE_END)
            and NOT_REMEMBERED.isdisjoint(fields)
            and fields.get("length", b"0") == b"0"
        ):
            self.server.heads.keep(head, fields)

    def _serve_known(self, data: bytes, end: int, fields: Head) -> bool:
        """Takes a request whose head, which begins at `end`, the parser has found in order before.

        What remains is its line; False where only the parser can tell what it is.
        """
        server, pending = self.server, self.pending
        if not pending:
            self.since = server.now
        exchange, self.spare = self.spare or Exchange(self, False), None
        pending.append(exchange)
        if len(pending) >= server.limits.pipelined:
            self._pause()
        service = server.service
        try:
            if service.serve_common(exchange, data, end, fields):
                return True
            method, target = (b"GET", data[4:end]) if data.startswith(b"G") else (b"POST", data[5:end])
            if not data.startswith(STARTS) or target.translate(None, PRINTABLE):
                pending.remove(exchange)
                return False
            if "length" in fields:
                service.admit(method, target)
            service.serve(exchange, method, target, fields, b"")
        except Refusal as refusal:
            pending.remove(exchange)
            self.refuse(refusal.status, refusal.text, refusal.reason)
        except Exception as error:
            log.error("request_failed", **describe(error))
            pending.remove(exchange)
            self.refuse(500, "The request could not be handled.")
        return True

    def _feed(self, data: bytes) -> None:
        if self.url is None and not data.isascii():
            data = _escape_request_line(data)
        inside, size = self.body, self.body_size
        upgraded = -1  # where the parser stopped at an offer to upgrade
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            upgraded = upgrade.args[0]
        except httptools.HttpParserCallbackError as error:
            self._callback_failed(error)
        except httptools.HttpParserError:
            if not self.ended:
                self.refuse(400, "This is not an HTTP/1.1 request that is understood here.", Turned.BAD_HTTP)
        if upgraded >= 0:  # not within `except`: there, what goes wrong next would have the offer as its cause
            self._after_upgrade(data, upgraded)
            return
        if self.ended or self.url is None:
            return
        if self.body is not None and (self.body is not inside or self.body_size > size):
            self.head = 0
        else:
            # A head that goes on in the next data (it began somewhere in its first slice), or the extension of a
            # chunk or a trailer, which the parser keeps.
            self.head += len(data)
            if self.head > self.server.limits.head_bytes + SLICE:
                text = f"The request line and headers are longer than {self.server.limits.head_bytes} bytes."
                self.refuse(431, text, Turned.LONG_HEAD)

    # Parser

    def on_message_begin(self) -> None:
        self.between = False

    def on_url(self, url: bytes) -> None:
        if self.url is None:
            self.url = url
            self.head = 0
            if not self.pending:  # otherwise the clock starts when the earlier requests are answered
                self.since = self.server.now
        else:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        field = KNOWN.get(name, UNKNOWN)
        if field is None:
            return
        if field is UNKNOWN:
            field = field_of(name)
        if field is not None and self.body is None:
            if field in LISTS and field in self.fields:
                value = self.fields[field] + LISTS[field] + value
            self.fields[field] = value

    def on_headers_complete(self) -> None:
        if "length" in self.fields:
            self._expect_body(self.fields["length"])

    def on_body(self, chunk: bytes) -> None:
        size = len(chunk)
        self.body_size += size
        self.server.receiving += size
        if self.body_size > self.server.limits.body_bytes:
            raise Refusal(413, f"The body is longer than {self.server.limits.body_bytes} bytes.", Turned.LONG_BODY)
        if self.body is not None:
            self.body += chunk

    def on_message_complete(self) -> None:
        fields = self.fields
        if self.body is None:
            body = b""
        elif "upgrade" in fields and self.parser.should_upgrade() and fields["length"].strip(b"0"):
            return  # the parser stops before the body; `_after_upgrade` goes on with it
        else:
            body = bytes(self.body)
            self._forget_body()
        url, self.url = self.url or b"", None
        self.between = True
        self.fields = {}
        parser = self.parser
        exchange = Exchange(self, not parser.should_keep_alive())
        if exchange.close:
            if parser.get_http_version() not in VERSIONS:
                raise Refusal(505, "Only HTTP/1.1 and HTTP/1.0 are understood here.", Turned.BAD_HTTP)
            self.ended = True
        pending = self.pending
        pending.append(exchange)
        if len(pending) >= self.server.limits.pipelined:
            self._pause()
        self.server.service.serve(exchange, parser.get_method(), url, fields, body)

    # Answers

    def write_answers(self) -> None:
        """Writes the answers that are ready and whose turn it is."""
        pending = self.pending
        transport = self.transport
        server = self.server
        answered = server.answered
        while pending and pending[0].done:
            exchange = pending.pop(0)
            answered[exchange.status] += 1
            if transport is None:
                server.gone += 1
                continue
            try:
                transport.write(exchange.answer)
                if not exchange.left:  # nobody else has it any more
                    exchange.done = False
                    self.spare = exchange
                if exchange.close or (server.draining and not pending and self.url is None):
                    self._end(transport, exchange.close or exchange.status >= 400)
                    return
            except OSError:  # the client went away, which is no concern of the others
                server.gone += 1
                transport.abort()
                return
        self.since = server.now
        if self.paused and not self.blocked and len(pending) <= server.limits.pipelined // 2:
            self._resume()
        if self.ended and not pending and transport is not None:
            transport.close()

    def refuse(self, status: int, text: str, reason: Turned | None = None) -> None:
        """Answers with an error after all earlier answers, and takes nothing more from this client."""
        self.ended = True
        if reason is not None:
            self.server.rates.turned[reason] += 1
        self._forget_body()
        exchange = Exchange(self, True)
        self.pending.append(exchange)
        exchange.reply(status, self.server.answers.make(status, text.encode() + b"\n", mode=CLOSE))

    def visitor(self, fields: Fields) -> bytes:
        """The visitor's address: the peer's, unless that is a trusted proxy that names another."""
        return self.server.proxies.visitor(self.address, fields) if self.proxied else self.address

    def mode(self, exchange: Exchange, fields: Fields) -> int:
        """What the answer must say about the connection."""
        if exchange.close:
            return CLOSE
        if "connection" in fields and self.parser.get_http_version() == "1.0":
            return KEEP_1_0
        if self.server.draining:
            return CLOSE
        return KEEP

    # Time

    def check_time(self, now: float) -> None:
        """Ends what takes too long."""
        limits = self.server.limits
        age = now - self.since
        if self.transport is None:
            return
        if self.ended:
            if not self.pending and age > LINGER_SECONDS:
                self.abort()
        elif self.blocked:
            if age > limits.body_seconds:
                self.server.rates.turned[Turned.UNREAD] += 1
                self.abort()
        elif self.body is not None:
            if age > limits.body_seconds and not self.pending:
                self.refuse(408, f"The body did not arrive within {limits.body_seconds:g} seconds.", Turned.SLOW)
        elif self.url is not None:
            if age > limits.head_seconds and not self.pending:
                self.refuse(408, f"The request did not arrive within {limits.head_seconds:g} seconds.", Turned.SLOW)
        elif not self.pending and age > limits.idle_seconds:
            self.transport.close()

    def close_if_idle(self) -> None:
        """Closes when nothing of a request is there."""
        if self.transport is not None and not self.pending and self.url is None:
            self.transport.close()

    def abort(self) -> None:
        """Closes at once; what was not written is lost."""
        if self.transport is not None:
            self.transport.abort()

    # Inside

    def _receive_in_slices(self, data: bytes) -> None:
        for start in range(0, len(data), SLICE):
            self.data_received(data[start : start + SLICE])
            if self.body is not None:
                self.data_received(data[start + SLICE :])
                return

    def _expect_body(self, length: bytes) -> None:
        limits = self.server.limits
        self.server.service.admit(self.parser.get_method(), self.url or b"")
        if length.isdigit() and int(length) > limits.body_bytes:
            raise Refusal(413, f"The body is longer than {limits.body_bytes} bytes.", Turned.LONG_BODY)
        self.body = bytearray()
        self.head = 0
        self.body_size = 0
        if (
            self.fields.get("expect", b"").lower() == b"100-continue"
            and not self.pending
            and self.transport is not None
            and self.parser.get_http_version() != "1.0"
        ):
            with suppress(OSError):  # the client went away
                self.transport.write(CONTINUE)

    def _forget_body(self) -> None:
        self.server.receiving -= self.body_size
        self.body = None
        self.body_size = 0

    def _after_upgrade(self, data: bytes, offset: int) -> None:
        """Goes on in HTTP/1.1 after an offer to upgrade (h2c), which is ignored (RFC 9110, 7.8)."""
        rest = data[offset:]
        if self.ended:
            return
        if self.body is None:
            self.parser = httptools.HttpRequestParser(self)
        else:
            method, length = self.parser.get_method(), self.fields["length"]
            framing = b"Content-Length" if length.isdigit() else b"Transfer-Encoding"
            self.parser = httptools.HttpRequestParser(_BodyOf(self))
            self.parser.feed_data(b"%s / HTTP/1.1\r\n%s: %s\r\n\r\n" % (method, framing, length))
        if rest:
            self.data_received(rest)

    def _callback_failed(self, error: BaseException) -> None:
        cause = error.__context__
        if isinstance(cause, Refusal):
            self.refuse(cause.status, cause.text, cause.reason)
            return
        if cause is not None:
            log.error("request_failed", **describe(cause))
        for exchange in self.pending:
            if not exchange.done and exchange.left == 0:  # the one that raised: nobody else will answer it
                self.pending.remove(exchange)
                break
        self.refuse(500, "The request could not be handled.")

    def _end(self, transport: Link, linger: bool) -> None:
        self.ended = True
        self.since = self.server.now
        self.pending.clear()
        if linger:
            # Closing now would reset the connection under a client that still sends, and destroy the answer.
            self._resume()
            transport.write_eof()
        else:
            transport.close()

    def _pause(self) -> None:
        if not self.paused and self.transport is not None:
            self.paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self.paused and self.transport is not None:
            self.paused = False
            self.transport.resume_reading()


class _BodyOf:
    """Leads a new parser into the body of a request whose head another parser has read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._inside = False  # the head that only leads in is over
        self._whole = False  # the request with the body is over
        self.on_body = connection.on_body

    def on_message_begin(self) -> None:
        if self._inside:
            self._connection.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._inside:
            self._connection.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._inside:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._inside:
            self._connection.on_headers_complete()
        self._inside = True

    def on_message_complete(self) -> None:
        if not self._whole:
            self._whole = True
            self._connection.fields.pop("upgrade", None)
        self._connection.on_message_complete()


def packed_address(peer: object) -> bytes:
    """The 16 bytes of a peer's address; zeros for a peer without one (a Unix socket)."""
    if isinstance(peer, tuple) and peer:
        try:
            address = ip_address(str(peer[0]).partition("%")[0])
        except ValueError:
            return bytes(16)
        return MAPPED_IPV4 + address.packed if address.version == 4 else address.packed
    return bytes(16)


def _escape_request_line(data: bytes) -> bytes:
    """Percent-encodes raw bytes from 0x80 on in the first line: the parser refuses them, old trackers send them."""
    end = _line_end.search(data)
    if end is None:
        return _high(_percent, data)
    return _high(_percent, data[: end.start()]) + data[end.start() :]


def _percent(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]
