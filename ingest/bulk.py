"""The bulk request: JSON `{"requests": ["?idsite=1&...", {...}], "token_auth": "...", "send_image": 0}`. Pure.

A body is a bulk when it contains "requests" behind its first byte, whatever its content type says. Items are read one
by one, and a bad one hurts no other. Text that is not Unicode (the log importer sends undecodable bytes of a log as
lone surrogates) costs only itself: it goes on as the bytes it was.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote_from_bytes

import msgspec

from ingest import headers
from ingest.directory import Directory
from ingest.headers import Fields
from ingest.permissions import Refused
from ingest.requests import (
    FLESH,
    QUERY_LIMIT,
    Row,
    Standings,
    judge,
    partition_of,
    rare,
    repeat_of_body,
    repeat_of_key,
    standing,
)
from schemas import parameters
from schemas.reasons import Invalid

DEPTH_LIMIT = 8  # of objects within an item
ITEMS_LIMIT = 50_000  # of one bulk, unless a setting says otherwise


_form = re.compile(rb"requests(?:\[\]|%5[bB]%5[dD])?=(?:\?|%3[fF]|https?(?::|%3[aA]))").finditer
_site = re.compile(rb"(?:^|&)idsite=").search


class BadBulk(ValueError):
    """The body is not a bulk; the message says what is expected."""


class LongBulk(BadBulk):
    """It has too many items."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """A bulk that was read. `events`: (partition, row). `invalid`: (place in the list, reason)."""

    events: list[tuple[int, Row]]
    invalid: list[tuple[int, Invalid]]
    quiet: bool  # asked for no answer: 204
    superuser: bool  # may see which items were invalid
    common: bool = False  # all items are of the common form: none tells of a recording

    def answer(self) -> bytes:
        """The JSON that Matomo answers with."""
        body: dict[str, Any] = {
            "status": "success",
            "tracked": len(self.events),
            "invalid": len(self.invalid),
        }
        if self.invalid and self.superuser:
            body["invalid_indices"] = [index for index, _ in self.invalid]
        return msgspec.json.encode(body)


def failed(problem: BadBulk) -> bytes:
    """The JSON that answers a body of which nothing was stored."""
    return msgspec.json.encode({"status": "error", "tracked": 0, "invalid": 0, "message": str(problem)})


def is_bulk(body: bytes) -> bool:
    """Whether a POST's body is a bulk."""
    return body.find(b'"requests"') > 0 or body.find(b"'requests'") > 0 or is_form(body)


def is_form(body: bytes) -> bool:
    """Whether a body is a bulk as a form, `requests=...&requests=...`, which the Python SDK sends."""
    # A pattern that begins with letters is looked for fast; with an alternative before them it took 9 us an event.
    named = any(body[found.start() - 1 : found.start()] in (b"", b"&") for found in _form(body))
    return named and _site(body) is None


def form(body: bytes) -> dict[str, Any]:
    """The content of a bulk as a form."""
    content: dict[str, Any] = {"requests": []}
    for part in body.strip().decode("latin-1").split("&"):
        name, _, value = part.partition("=")
        if (name := parameters.decode(name).removesuffix("[]")) == "requests":
            content["requests"].append(parameters.decode(value))
        else:
            content[name] = parameters.decode(value)
    return content


def read(
    body: bytes,
    fields: Fields,
    address: bytes,
    received_ms: int,
    directory: Directory,
    query: bytes = b"",
    most: int = ITEMS_LIMIT,
) -> Bulk:
    """All events of a bulk of at most `most` items; raises BadBulk when the body as a whole cannot be read.

    `query`: that of the URL, of which a token counts where the body has none.
    """
    content = form(body) if body[:1] != b"{" and is_form(body) else parse(body)
    items = content.get("requests") if isinstance(content, dict) else None
    if isinstance(items, dict):  # a list with numbers for names, as PHP writes one with gaps
        items = list(items.values())
    if not isinstance(items, list):
        raise BadBulk('The body must be a JSON object whose "requests" is a list.')
    if len(items) > most:
        raise LongBulk(f"A bulk may hold {most} requests; nothing of this one was stored. Send it in parts.")
    token = content.get("token_auth") or parameters.parse(query.decode("latin-1")).get("token_auth")
    token = token if isinstance(token, str) else ""
    count = len(items)
    key = fields.get("idempotency-key") or None
    repeat = b"" if key is not None or count < 2 else repeat_of_body(body)
    signals, agent, language, hints = headers.said(fields)
    events: list[tuple[int, Row]] = []
    invalid: list[tuple[int, Invalid]] = []
    who = (received_ms, address, agent, language)
    known = _Known(directory, token, who).__getitem__ if token else directory.plain.get
    standings: Standings = {}
    repeats = lru_cache(16)(partial(repeat_of_key, key or b""))
    common = key is None and not hints and _common(items)
    for index, item in enumerate(items):
        if common and item[:1] == "?":
            start = item.rfind("&idsite=") + 8
            if start == 7:
                start = 8 if item.startswith("?idsite=") else len(item)
            end = item.find("&", start)
            found = known(item[start:] if end < 0 else item[start:end])
            if found is not None:
                partition, site, role, flags = found
                row = (
                    received_ms, site, address, role, flags | signals, agent, language, "", item[1:], repeat, count,
                    index,
                )  # fmt: skip
                events.append((partition, row))
                continue
        try:
            item_ = item_query(item)
        except (UnicodeError, RecursionError):
            invalid.append((index, Invalid.UNREADABLE))
            continue
        if item_ is None:
            continue
        judged = judge(item_, directory, token, None, received_ms, standings)
        if isinstance(judged, Refused):
            invalid.append((index, judged.reason))
            continue
        row = (
            received_ms,
            judged.place.site,
            address if judged.address is None else judged.address,
            judged.role,
            judged.flags | signals,
            agent,
            language,
            "" if b"uadata" in judged.special else hints,
            judged.query,
            repeat if key is None else repeats(judged.place.site, judged.token),
            count,
            index,
        )
        events.append((partition_of(judged.place, row), row))
    image = content.get("send_image")
    quiet = isinstance(image, str | int) and image in (0, "0", "False")
    return Bulk(events, invalid, quiet, directory.superuser(token) if token else False, common)


class _Known(dict[str, tuple[int, int, int, int] | None]):
    """By what the items of a common bulk give as idsite: partition and site, role and flags that its token has there.

    None for what only `judge` can tell.
    """

    def __init__(self, directory: Directory, token: str, who: tuple[int, bytes, str, str]) -> None:
        """`who`: when the bulk was received, and from which address, agent and language."""
        super().__init__()
        self._who = who
        self._directory = directory
        self._token = token

    def __missing__(self, number: str) -> tuple[int, int, int, int] | None:
        place = self._directory.places.get(number.encode("ascii"))
        found = None
        if place is not None and not place.goals:
            found = (place.partition_of(*self._who), place.site, *standing(self._directory, place, self._token))
        self[number] = found
        return found


def _common(items: list[Any]) -> bool:
    """Whether all items are query strings of the common form, so that parameters are found by searching for them.

    That is: nothing in them must be made printable, no name holds an escape, none has a token or says send_image.
    Looking at all of them together takes a third of the time that `requests.plain` takes for each.
    """
    try:
        text = "".join(items)
    except TypeError:
        return False
    if not text.isascii() or (len(text) > QUERY_LIMIT and max(map(len, items)) > QUERY_LIMIT):
        return False
    # A parameter begins behind the "?" of its item; behind any other it is looked at too, which does no harm.
    query = text.encode("ascii").replace(b"?", b"&")
    if rare(query) is not None:
        return False
    bones = query.translate(None, FLESH)
    return bones.find(b"&%") < 0 and not bones.translate(None, b"&=%")


def item_query(item: Any) -> bytes | None:
    """The raw query string of an item; None for one that is empty and is skipped without a count."""
    if isinstance(item, str):
        query = item.partition("?")[2].partition("#")[0]
        return _bytes(query) if query else None
    if isinstance(item, dict) and item:
        pairs: list[bytes] = []
        for name, value in item.items():
            _pairs(_quoted(name), value, pairs, DEPTH_LIMIT)
        return b"&".join(pairs)
    return None


def parse(body: bytes) -> Any:
    """The JSON of a body; raises BadBulk."""
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise BadBulk("The body is nested too deep.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        # Accepts lone surrogates, both written as escapes and as what surrogateescape makes of stray bytes.
        # PHP takes it in quotes, as shells of Windows pass it; a byte order mark is no part of it.
        text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff").strip().strip("'")
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadBulk("The body is not JSON.") from None


def _bytes(text: str) -> bytes:
    if text.isascii():
        return text.encode("ascii")
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _quoted(text: str) -> bytes:
    return quote_from_bytes(_bytes(text), safe="[]").encode("ascii")


def _pairs(name: bytes, value: Any, pairs: list[bytes], depth: int) -> None:
    """Appends name=value as PHP's http_build_query writes it: a[b][0]=c for what is nested."""
    if isinstance(value, str):
        pairs.append(name + b"=" + _quoted(value))
    elif isinstance(value, bool):
        pairs.append(name + (b"=1" if value else b"=0"))
    elif isinstance(value, int | float):
        pairs.append(name + b"=" + repr(value).encode("ascii"))
    elif depth and isinstance(value, dict):
        for key, inner in value.items():
            _pairs(name + b"[" + _quoted(key) + b"]", inner, pairs, depth - 1)
    elif depth and isinstance(value, list):
        for key, inner in enumerate(value):
            _pairs(name + b"[%d]" % key, inner, pairs, depth - 1)
