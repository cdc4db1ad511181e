"""The sequence of requests: many visits at once, sent the ways that clients send; the same for the same seed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import NamedTuple
from urllib.parse import quote, unquote

from infra.load.faulty import UNKNOWN_SITE, faulty
from infra.load.journal import Fate
from infra.load.numbers import page_view_id
from infra.load.sites import model_site
from infra.load.visits import Visit, Visitor, new_visitor

OPEN_VISITS = 400
BULK_ITEMS = (2, 100)  # of an importer; the mean is what `bulk` is reckoned by
_BULK_MEAN = 32.0
_FORM = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n"
_STORED, _REFUSED, _REPEATED = int(Fate.STORED), int(Fate.REFUSED), int(Fate.REPEATED)
_random_number = partial(re.compile(r"&r=\d{6}(?!\d)").sub, "")


class Request(NamedTuple):
    """One HTTP request, ready to be written.

    first: number of its first event. expected: the fates (`Fate`) of its events, one byte each. bulk: whether the
    answer may name how many were tracked. close: the connection ends with the answer. again: what is sent once more
    when all events were acknowledged (`Traffic.again`), or nothing.
    """

    payload: bytes
    first: int
    expected: bytes
    bulk: bool
    close: bool = False
    again: bytes = b""


class Traffic:
    """Makes requests one after the other.

    bulk, bad: shares of the events sent in bulks, and of faulty requests. repeat: share of the requests that are sent
    again, as clients do: a POST of matomo.js as GET, the importer's bulk as it was, a call with an Idempotency-Key.
    """

    def __init__(
        self,
        *,
        seed: int,
        sites: Sequence[int],
        host: str,
        start: int = 0,
        bulk: float = 0.3,
        bad: float = 0.01,
        repeat: float = 0.0,
    ) -> None:
        self.next_number = start
        self._random = Random(seed)
        self._sites = [model_site(number) for number in sites]
        self._host = f"Host: {host}\r\n"
        self._bulk = bulk / (bulk + _BULK_MEAN * (1 - bulk)) if bulk else 0.0
        self._bad = bad
        self._repeat = repeat
        self._repeats = Random(f"repeats {seed}")  # of its own, so that the share changes nothing else
        self._known: list[Visitor] = []
        self._visits = [self._arrival() for _ in range(OPEN_VISITS)]

    def request(self, most: int = BULK_ITEMS[1]) -> Request:
        """The next request, of at most this many events."""
        draw = self._random.random()
        if draw < self._bulk and most >= BULK_ITEMS[0]:
            return self._in_bulk(most)
        if draw > 1 - self._bad:
            return self._faulty()
        return self._single()

    def again(self, request: Request) -> Request:
        """The request once more: its events have numbers of their own in the journal, and none in the tables."""
        count = len(request.expected)
        fates = bytes((_REPEATED,)) * count
        return Request(request.again, self._take(count), fates, request.bulk, request.close)

    def _is_repeated(self, fates: Sequence[int], likelier: float = 1.0) -> bool:
        """Whether to send this again; only where it is sure that all of it will be stored."""
        return self._repeats.random() < self._repeat * likelier and all(fate == _STORED for fate in fates)

    def _arrival(self) -> Visit:
        """A new visit; one in four is by a visitor who has been there before."""
        random = self._random
        returning = len(self._known) > 100 and random.random() < 0.25
        visitor = random.choice(self._known) if returning else new_visitor(random)
        if visitor.id and not returning:
            if len(self._known) < 2_000:
                self._known.append(visitor)
            else:
                self._known[int(random.random() * 2_000)] = visitor
        site = self._sites[int(random.random() * random.random() * len(self._sites))]
        return Visit(random, site, visitor, returning=returning)

    def _visit(self) -> Visit:
        place = int(self._random.random() * OPEN_VISITS)
        visit = self._visits[place]
        if visit.left <= 0:
            visit = self._visits[place] = self._arrival()
        return visit

    def _take(self, count: int) -> int:
        first = self.next_number
        self.next_number += count
        return first

    def _single(self) -> Request:
        visit, number = self._visit(), self._take(1)
        query, fates = visit.event(number)
        draw = self._random.random()
        visitor = visit.visitor
        origin = f"https://{visit.site.domain}"
        path = "/piwik.php" if draw > 0.85 else "/matomo.php"
        head = (
            f"{self._host}User-Agent: {visitor.agent.header}\r\nAccept: */*\r\nAccept-Language: {visitor.language}\r\n"
            "Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n"
        )
        again = ""
        if draw < 0.70 and self._is_repeated((fates,)):
            image = query.replace("&send_image=0", "&send_image=1", 1)
            if self._repeats.random() < 0.5:  # matomo.js takes its POST for failed
                again = f"GET {path}?{image} HTTP/1.1\r\n{head}Referer: {origin}/\r\n\r\n"
            else:  # a server that retries what it has no answer to
                head += f"Idempotency-Key: {page_view_id(number)}\r\n"
                again = f"GET {path}?{query}&retry=1 HTTP/1.1\r\n{head}\r\n"
        if draw < 0.55:  # the beacon of matomo.js: POST without a body
            text = (
                f"POST {path}?{query} HTTP/1.1\r\n{head}{_FORM}Origin: {origin}\r\nReferer: {origin}/\r\n"
                "Content-Length: 0\r\n\r\n"
            )
        elif draw < 0.70:
            text = (
                f"POST {path} HTTP/1.1\r\n{head}{_FORM}Origin: {origin}\r\nReferer: {origin}/\r\n"
                f"Content-Length: {len(query)}\r\n\r\n{query}"
            )
        else:
            image = ""
            if draw > 0.75:  # the picture of a page without scripts: answered with a GIF
                query, image = query.replace("&send_image=0", "", 1), "Sec-Fetch-Dest: image\r\n"
            text = f"GET {path}?{query} HTTP/1.1\r\n{head}{image}Referer: {origin}/\r\n\r\n"
        return Request(text.encode("ascii"), number, bytes((fates,)), False, again=again.encode("ascii"))

    def _faulty(self) -> Request:
        site = self._sites[int(self._random.random() * len(self._sites))].id
        number = self._take(1)
        wrong = faulty(self._random, site, number)
        method = "GET" if wrong.body is None else "POST"
        target = "/matomo.php" + (f"?{wrong.query}" if wrong.query else "")
        head = f"{method} {target} HTTP/1.1\r\n{self._host}User-Agent: curl/8.5.0\r\n{wrong.headers}"
        if wrong.body is None:
            payload = f"{head}\r\n".encode("ascii")
        else:
            payload = f"{head}{_FORM}Content-Length: {len(wrong.body)}\r\n\r\n".encode("ascii") + wrong.body
        return Request(payload, number, bytes((int(wrong.fates),)), False)

    def _in_bulk(self, most: int) -> Request:
        """As the queue of matomo.js (one visitor), the PHP client or the log importer (many visitors)."""
        random = self._random
        low, high = BULK_ITEMS
        count = min(most, low + int(random.random() ** 2 * (high - low)))
        first = self._take(count)
        draw = random.random()
        if draw < 0.25:
            return self._browser_queue(first, count)
        spoiled = first + int(random.random() * count) if random.random() < 0.1 else -1
        items, expected, close = [], bytearray(), False
        for number in range(first, first + count):
            visit = self._visit()
            if number == spoiled:
                items.append(f"idsite={UNKNOWN_SITE}&rec=1&pv_id={page_view_id(number)}")
                expected.append(_REFUSED)
                continue
            query, fates = visit.event(number)
            visitor = visit.visitor
            query = query.replace("&send_image=0", "", 1)
            items.append(f"{query}&ua={quote(visitor.agent.header)}&lang={quote(visitor.language)}")
            expected.append(fates)
        if draw < 0.65:
            address = "http:\\/\\/" + self._host[6:-2] + "\\/matomo.php?"  # as PHP writes it
            body = '{"requests":["' + address + ('","' + address).join(items) + '"]}'
            head = "POST /matomo.php HTTP/1.1\r\n" + self._host + "Accept-Language: \r\n"
        else:
            items = [_random_number(item) for item in items]  # the importer sends none
            if draw < 0.75:
                body = json.dumps({"requests": [_as_object(item) for item in items]})
            else:
                body = '{"requests":["?' + '","?'.join(items) + '"]}'
            close = random.random() < 0.2  # the importer's way: a connection per bulk
            ending = "close" if close else "keep-alive"
            head = (
                f"POST /piwik.php?queuedtracking=0 HTTP/1.1\r\n{self._host}User-Agent: Matomo/LogImport\r\n"
                f"Content-type: application/json\r\nConnection: {ending}\r\n"
            )
        payload = _post(head, body)
        again = payload if draw >= 0.65 and self._is_repeated(expected, 10) else b""  # such bulks are few
        return Request(payload, first, bytes(expected), True, close, again)

    def _browser_queue(self, first: int, count: int) -> Request:
        visit = self._visit()
        events = [visit.event(number) for number in range(first, first + count)]
        items = '","?'.join(query for query, _ in events)
        head = (
            f"POST /matomo.php HTTP/1.1\r\n{self._host}User-Agent: {visit.visitor.agent.header}\r\n"
            f"Accept-Language: {visit.visitor.language}\r\n{_FORM}Origin: https://{visit.site.domain}\r\n"
        )
        body = '{"requests":["?' + items + '"],"send_image":0}'
        return Request(_post(head, body), first, bytes(fates for _, fates in events), True)


def _post(head: str, body: str) -> bytes:
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode("ascii")


def _as_object(query: str) -> dict[str, str | int]:
    """The item as the log importer sends it: an object whose values are texts and numbers mixed."""
    pairs = (part.partition("=") for part in query.split("&"))
    return {
        name: int(value) if name.startswith("pf_") else unquote(value) for name, _, value in pairs if name != "apiv"
    }
