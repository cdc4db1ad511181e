"""The tracking API as a service of the HTTP server: routes, reads, packs, and says what is answered when."""

from __future__ import annotations

from collections import Counter
from time import time_ns
from typing import cast

from ingest import bulk, requests
from ingest.answers import ABOUT, KEEP
from ingest.directory import Directory
from ingest.exchange import Exchange, Refusal
from ingest.headers import Fields, Head
from ingest.packing import Packing
from ingest.permissions import Refused
from ingest.requests import size_of
from ingest.server import Server
from schemas.reasons import Invalid

TRACKING = frozenset((b"/matomo.php", b"/piwik.php", b"/js/tracker.php", b"/js/"))
COMMON = frozenset((b"GET /matomo.php", b"GET /piwik.php", b"POST /matomo.php", b"POST /piwik.php"))
METHODS = frozenset((b"GET", b"POST", b"HEAD", b"OPTIONS"))
FULL = "Too many events wait to be stored. Nothing of this request was stored."
JSON = b"application/json"


class Tracking:
    """Implements `http.Service`. `directory`: the sites in force."""

    def __init__(self, directory: Directory, packing: Packing) -> None:
        self.directory = directory
        self.server: Server  # set by whoever puts the two together
        self.accepted = 0  # events
        self.bulks = 0
        self.invalid: Counter[Invalid] = Counter()
        self._packing = packing

    def admit(self, method: bytes, url: bytes) -> None:
        """See `http.Service`: refuses before a body is read."""
        if method not in METHODS:
            raise Refusal(405, "Only GET, POST, HEAD and OPTIONS are understood here.")
        path = url.partition(b"?")[0]
        if path not in TRACKING and _path(path) not in TRACKING and _path(path) != b"/":
            raise Refusal(404, "There is nothing here; the tracking API is at /matomo.php.")
        if self._packing.full(self.server.receiving):
            raise Refusal(503, FULL)

    def serve(self, exchange: Exchange, method: bytes, url: bytes, fields: Fields, body: bytes) -> None:
        """See `http.Service`."""
        path, _, query = url.partition(b"?")
        if path not in TRACKING:
            path = _path(path)
        if path not in TRACKING or method not in METHODS or method == b"OPTIONS":
            self._other(exchange, method, path, fields)
            return
        if self._packing.full(self.server.receiving):
            exchange.unavailable(FULL)
            return
        if query.find(b"#") >= 0:
            query = query.partition(b"#")[0]
        if body and method == b"POST":
            if bulk.is_bulk(body):
                self._bulk(exchange, fields, body, query)
                return
            query = requests.merged(query, body)
        if not query:
            if method == b"POST":
                self._refuse(exchange, fields, requests.MISSING_SITE)
            else:
                self._text(exchange, 200, ABOUT, fields, head=method == b"HEAD")
            return
        connection = exchange.connection
        outcome = requests.single(query, fields, connection.visitor(fields), time_ns() // 1_000_000, self.directory)
        if type(outcome) is not tuple:
            self._refuse(exchange, fields, cast(Refused, outcome), head=method == b"HEAD")
            return
        partition, row, quiet = outcome
        exchange.status = 204 if quiet else 200
        mode = connection.mode(exchange, fields)
        exchange.answer = self.server.answers.tracked(quiet, fields.get("origin"), mode, method == b"HEAD")
        self._packing.add(partition, row, size_of(row), exchange)
        self.accepted += 1

    def serve_common(self, exchange: Exchange, data: bytes, end: int, head: Head) -> bool:
        """See `http.Service`."""
        packing, server = self._packing, self.server
        start = data.find(b"?", 14, 18)
        if data[:start] not in COMMON or packing.full(server.receiving) or server.draining:
            return False
        found = requests.plain(b"&" + data[start + 1 : end], self.directory, head.referer)
        if found is None:
            return False
        place, query, quiet = found
        flags, agent, language, hints = head.said
        if hints and query.find("&uadata=") >= 0:
            hints = ""
        connection = exchange.connection
        address = connection.visitor(head) if connection.proxied else connection.address
        row = (time_ns() // 1_000_000, place.site, address, 0, flags, agent, language, hints, query, b"", 1, 0)
        exchange.status = 204 if quiet else 200
        exchange.answer = server.answers.tracked(quiet, head.origin, KEEP)
        packing.add(place.partition, row, len(query) + head.size, exchange)
        self.accepted += 1
        return True

    def _bulk(self, exchange: Exchange, fields: Fields, body: bytes, query: bytes) -> None:
        connection = exchange.connection
        try:
            now_ms = time_ns() // 1_000_000
            read = bulk.read(body, fields, connection.visitor(fields), now_ms, self.directory, query)
        except bulk.BadBulk as error:
            self.invalid[Invalid.UNREADABLE] += 1
            self._text(exchange, 400, bulk.failed(error), fields, JSON)
            return
        self.bulks += 1
        for _, reason in read.invalid:
            self.invalid[reason] += 1
        make = self.server.answers.make
        origin, mode = fields.get("origin"), connection.mode(exchange, fields)
        if read.quiet:
            exchange.status, exchange.answer = 204, make(204, origin=origin, mode=mode)
        else:
            exchange.status, exchange.answer = 200, make(200, read.answer(), JSON, origin=origin, mode=mode)
        if not read.events:
            exchange.settle()
            return
        for partition, row in read.events:
            self._packing.add(partition, row, size_of(row), exchange)
        self.accepted += len(read.events)

    def _other(self, exchange: Exchange, method: bytes, path: bytes, fields: Fields) -> None:
        head = method == b"HEAD"
        if method not in METHODS:
            exchange.close = True
            self._text(exchange, 405, b"Only GET, POST, HEAD and OPTIONS are understood here.\n", fields)
        elif method == b"OPTIONS" and (path in TRACKING or path in (b"/", b"*")):
            answer = self.server.answers.preflight(fields.get("origin"), exchange.connection.mode(exchange, fields))
            exchange.reply(204, answer)
        elif path == b"/":
            self._text(exchange, 200, ABOUT, fields, head=head)
        else:
            text = b"There is nothing here; the tracking API is at /matomo.php.\n"
            self._text(exchange, 404, text, fields, head=head)

    def _refuse(self, exchange: Exchange, fields: Fields, refused: Refused, head: bool = False) -> None:
        self.invalid[refused.reason] += 1
        status = 413 if refused.reason is Invalid.TOO_LARGE else 400
        self._text(exchange, status, refused.text.encode() + b"\n", fields, head=head)

    def _text(
        self,
        exchange: Exchange,
        status: int,
        text: bytes,
        fields: Fields,
        kind: bytes = b"text/plain; charset=utf-8",
        *,
        head: bool = False,
    ) -> None:
        extra = b"Allow: GET, POST, HEAD, OPTIONS\r\n" if status == 405 else b""
        mode = exchange.connection.mode(exchange, fields)
        answer = self.server.answers.make(
            status, text, kind, origin=fields.get("origin"), mode=mode, head=head, extra=extra
        )
        exchange.reply(status, answer)


def _path(target: bytes) -> bytes:
    """The path of a request target in any form: absolute (`http://host/matomo.php`), or with doubled slashes."""
    if not target.startswith(b"/"):
        scheme, found, rest = target.partition(b"://")
        if not found or scheme.lower() not in (b"http", b"https"):
            return target
        target = b"/" + rest.partition(b"/")[2]
    while target.startswith(b"//"):
        target = target[1:]
    return target
