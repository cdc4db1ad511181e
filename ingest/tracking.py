"""The tracking API as a service of the HTTP server: routes, reads, packs, and says what is answered when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from math import ceil
from time import monotonic, time_ns
from typing import cast

from ingest import bulk, recordings, requests
from ingest.answers import ABOUT, KEEP
from ingest.directory import Directory
from ingest.exchange import Exchange, Refusal
from ingest.guard import Late, Rates, Turned
from ingest.headers import Fields, Head
from ingest.optout import page as opt_out
from ingest.packing import Packing
from ingest.permissions import Refused
from ingest.requests import Row, size_of
from ingest.server import Server
from schemas.packets import Role
from schemas.reasons import Invalid

TRACKING = frozenset((b"/matomo.php", b"/piwik.php", b"/js/tracker.php", b"/js/"))
COMMON = frozenset((b"GET /matomo.php", b"GET /piwik.php", b"POST /matomo.php", b"POST /piwik.php"))
ANSWERED = TRACKING | {recordings.PATH, b"*"}  # to OPTIONS
API = frozenset((b"/", b"/index.php"))
SCRIPTS = frozenset((b"/matomo.js", b"/piwik.js"))
METHODS = frozenset((b"GET", b"POST", b"HEAD", b"OPTIONS"))
FULL = "Too many events wait to be stored. Nothing of this request was stored."
JSON = b"application/json"
EXEMPT = int(Role.WRITE)  # from here on a role is under no rate limit
SENT_TOO_MUCH = {
    Turned.ADDRESS_RATE: b"Too many events of this address. Nothing of this request was stored.\n",
    Turned.SITE_RATE: b"Too many events of this site. Nothing of this request was stored.\n",
}


class Tracking:
    """Implements `http.Service`. `directory`: the sites in force."""

    def __init__(
        self, directory: Directory, packing: Packing, rates: Rates | None = None, bulk_items: int = bulk.ITEMS_LIMIT
    ) -> None:
        self.rates = Rates() if rates is None else rates
        self.limited = False  # whether the rates are to be asked
        self._bulk_items = bulk_items
        self.directory = directory
        self.server: Server  # set by whoever puts the two together
        self.accepted = 0  # events
        self.bulks = 0
        self.invalid: Counter[Invalid] = Counter()
        self._packing = packing
        self.recordings: Packing | None = None  # set likewise, where they have a topic
        self.recorded = 0  # chunks
        self.api: Callable[[Exchange, Fields, bytes, bytes], bool]  # the reporting API; set likewise
        self.script: Callable[[Exchange, Fields, bool], None]  # matomo.js; set likewise

    def admit(self, method: bytes, url: bytes) -> None:
        """See `http.Service`: refuses before a body is read."""
        if method not in METHODS:
            raise Refusal(405, "Only GET, POST, HEAD and OPTIONS are understood here.")
        path, _, query = url.partition(b"?")
        if path not in TRACKING and _path(path) not in TRACKING and not self._is_other(_path(path), query):
            raise Refusal(404, "There is nothing here; the tracking API is at /matomo.php.")
        if self._packing.full(self.server.receiving):
            raise Refusal(503, FULL, Turned.MEMORY)

    def serve(self, exchange: Exchange, method: bytes, url: bytes, fields: Fields, body: bytes) -> None:
        """See `http.Service`."""
        path, _, query = url.partition(b"?")
        if path not in TRACKING:
            path = _path(path)
        if path not in TRACKING or method not in METHODS or method == b"OPTIONS":
            self._other(exchange, method, path, query, fields, body)
            return
        if self._packing.full(self.server.receiving):
            exchange.unavailable(FULL, fields.get("origin"))
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
        packing = self._packing
        if self.recordings is not None and recordings.tells(row, self.directory):
            packing = self.recordings
        self._take(exchange, fields, partition, row, quiet, packing, head=method == b"HEAD")

    def _take(
        self, exchange: Exchange, fields: Fields, partition: int, row: Row, quiet: bool, packing: Packing, head: bool
    ) -> None:
        """Packs an event, or a chunk of a recording; the answer is given once it is stored."""
        recorded = packing is self.recordings
        if recorded and packing.full(self.server.receiving):
            exchange.unavailable(FULL, fields.get("origin"))
            return
        if self.limited and row[3] < EXEMPT and (late := self.rates.take(row[2], (row[1],))) is not None:
            self._late(exchange, fields, late, head=head)
            return
        exchange.status = 204 if quiet else 200
        mode = exchange.connection.mode(exchange, fields)
        exchange.answer = self.server.answers.tracked(quiet, fields.get("origin"), mode, head)
        packing.add(partition, row, size_of(row), exchange)
        if recorded:
            self.recorded += 1
        else:
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
        partition = requests.partition_of(place, row) if place.shards else place.partition
        packing.add(partition, row, len(query) + head.size, exchange)
        self.accepted += 1
        return True

    def _bulk(self, exchange: Exchange, fields: Fields, body: bytes, query: bytes) -> None:
        connection, origin = exchange.connection, fields.get("origin")
        address = connection.visitor(fields)
        if self.limited and body.find(b"token_auth") < 0 and (late := self.rates.spent(address)) is not None:
            self._late(exchange, fields, late)
            return
        try:
            now_ms = time_ns() // 1_000_000
            read = bulk.read(body, fields, address, now_ms, self.directory, query, self._bulk_items)
        except bulk.LongBulk as error:
            self.rates.turned[Turned.LONG_BULK] += 1
            self._text(exchange, 413, bulk.failed(error), fields, JSON)
            return
        except bulk.BadBulk as error:
            self.invalid[Invalid.UNREADABLE] += 1
            self._text(exchange, 400, bulk.failed(error), fields, JSON)
            return
        if self.limited:
            sites = [row[1] for _, row in read.events if row[3] < EXEMPT]
            if sites and (late := self.rates.take(address, sites)) is not None:
                self._late(exchange, fields, late)
                return
        recorded = set[int]() if read.common else self._recorded(body, read.events)
        if recorded and self.recordings is not None and self.recordings.full(self.server.receiving):
            exchange.unavailable(FULL, origin)
            return
        self.bulks += 1
        for _, reason in read.invalid:
            self.invalid[reason] += 1
        make, mode = self.server.answers.make, connection.mode(exchange, fields)
        if read.quiet:
            exchange.status, exchange.answer = 204, make(204, origin=origin, mode=mode)
        else:
            exchange.status, exchange.answer = 200, make(200, read.answer(), JSON, origin=origin, mode=mode)
        if not read.events:
            exchange.settle()
            return
        if recorded and self.recordings is not None:
            self.recordings.add_all([event for at, event in enumerate(read.events) if at in recorded], exchange)
            self._packing.add_all([event for at, event in enumerate(read.events) if at not in recorded], exchange)
        else:
            self._packing.add_all(read.events, exchange)
        self.accepted += len(read.events) - len(recorded)
        self.recorded += len(recorded)

    def _recorded(self, body: bytes, events: Sequence[tuple[int, Row]]) -> set[int]:
        """Which events of a bulk are heatmaps'."""
        if self.recordings is None or recordings.PREFIX.encode() not in body:
            return set()
        return {at for at, (_, row) in enumerate(events) if recordings.tells(row, self.directory)}

    def _record(self, exchange: Exchange, fields: Fields, body: bytes, query: bytes, packing: Packing) -> None:
        now_ms, address = time_ns() // 1_000_000, exchange.connection.visitor(fields)
        outcome = recordings.chunk(query, body, fields, address, now_ms, self.directory)
        if isinstance(outcome, Refused):
            self._refuse(exchange, fields, outcome, status=recordings.status(outcome))
        else:
            self._take(exchange, fields, *outcome, True, packing, head=False)

    @staticmethod
    def _is_other(path: bytes, query: bytes) -> bool:
        return path in API or path in SCRIPTS or path == recordings.PATH or opt_out.path_of(path, query) is not None

    def _other(self, exchange: Exchange, method: bytes, path: bytes, query: bytes, fields: Fields, body: bytes) -> None:
        head = method == b"HEAD"
        opting_out = opt_out.path_of(path, query)
        if method not in METHODS:
            exchange.close = True
            self._text(exchange, 405, b"Only GET, POST, HEAD and OPTIONS are understood here.\n", fields)
        elif method == b"OPTIONS" and (path in ANSWERED or path in API):
            answer = self.server.answers.preflight(fields.get("origin"), exchange.connection.mode(exchange, fields))
            exchange.reply(204, answer)
        elif opting_out is not None and method != b"OPTIONS":
            said = opt_out.reply(opting_out, method, query, fields, body, self.directory.policies)
            self._text(exchange, said.status, said.body, fields, said.kind, head=head, extra=said.extra)
        elif path == recordings.PATH and method == b"POST" and self.recordings is not None:
            self._record(exchange, fields, body, query.partition(b"#")[0], self.recordings)
        elif path in API and method in (b"GET", b"POST") and self.api(exchange, fields, query, body):
            pass
        elif path in SCRIPTS and method in (b"GET", b"HEAD"):
            self.script(exchange, fields, head)
        elif path == b"/":
            self._text(exchange, 200, ABOUT, fields, head=head)
        else:
            text = b"There is nothing here; the tracking API is at /matomo.php.\n"
            self._text(exchange, 404, text, fields, head=head)

    def _late(self, exchange: Exchange, fields: Fields, late: Late, *, head: bool = False) -> None:
        mode = exchange.connection.mode(exchange, fields)
        origin, retry = fields.get("origin"), ceil(late.seconds)
        answer = self.server.answers.make(
            429, SENT_TOO_MUCH[late.reason], origin=origin, mode=mode, head=head, retry=retry
        )
        exchange.reply(429, answer)

    def _refuse(
        self, exchange: Exchange, fields: Fields, refused: Refused, head: bool = False, status: int = 0
    ) -> None:
        self.invalid[refused.reason] += 1
        status = status or (413 if refused.reason is Invalid.TOO_LARGE else 400)
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
        extra: bytes = b"",
    ) -> None:
        if status == 405:
            extra = b"Allow: GET, POST, HEAD, OPTIONS\r\n"
        mode = exchange.connection.mode(exchange, fields)
        answer = self.server.answers.make(
            status, text, kind, origin=fields.get("origin"), mode=mode, head=head, extra=extra
        )
        exchange.reply(status, answer)


class Limited:
    """The same service where rates are limited. It stands before `Tracking`, which so asks for no rate where none is.

    `adopt` of a Tracking's directory says which of the two the server calls.
    """

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking
        self.serve = tracking.serve
        self.admit = tracking.admit

    def serve_common(self, exchange: Exchange, data: bytes, end: int, head: Head) -> bool:
        """See `http.Service`: only addresses can be judged here; where sites have limits too, `serve` judges both."""
        rates = self._tracking.rates
        if rates.addresses is None or rates.sites:
            return False
        connection, now = exchange.connection, monotonic()
        address = connection.visitor(head) if connection.proxied else connection.address
        if rates.addresses.wait(address, 1, now) > 0:
            return False
        if not self._tracking.serve_common(exchange, data, end, head):
            return False
        rates.addresses.take(address, 1, now)
        return True


def adopt(tracking: Tracking, directory: Directory) -> None:
    """Puts a directory in force, with the limits of its sites."""
    tracking.directory = directory
    tracking.rates.adopt(directory.limits)
    tracking.limited = bool(tracking.rates)
    tracking.server.service = Limited(tracking) if tracking.limited else tracking


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
