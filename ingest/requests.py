"""From a tracking request to its event: what is read, what is refused, what leaves. Pure.

The rules are those of Matomo's tracking API. A query is judged by the few parameters that decide about it here
(`idsite`, `rec`, `token_auth`, `send_image`, `url`, `urlref`, `uadata`); all others pass as they are, made printable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from urllib.parse import quote_from_bytes

from ingest import headers
from ingest.directory import Directory, Place
from ingest.headers import Fields
from schemas import parameters
from schemas.packets import Flag, Repeat, Role
from schemas.reasons import Invalid
from schemas.sites import token_hash

QUERY_LIMIT = 128 * 1024  # bytes of one event's query; a packet must hold it beside others
REFERER_LIMIT = 4096  # bytes of a Referer that may stand in for `url`

# The fields of `schemas.packets.Event`, in its order.
Row = tuple[int, int, bytes, int, int, str, str, str, str, bytes, int, int]
NO_PARAMETERS: Mapping[bytes, bytes] = {}

_special = re.compile(rb"&(idsite|rec|token_auth|send_image|urlref|url|uadata)=([^&]*)").findall
_stripped = re.compile(rb"&(?:token_auth|send_image)(?:=[^&]*)?(?![^&])").sub
# A name in which a letter or underscore is written as an escape, so that the pattern above would not see it.
_escaped_name = re.compile(rb"&[^=&%]*%[^=&]*").search
_SPECIAL = frozenset(("idsite", "rec", "token_auth", "send_image", "urlref", "url", "uadata"))
_PRINTABLE = bytes(range(0x21, 0x7F))
# As plain numbers: or-ing an IntFlag costs a microsecond.
_BAD_TOKEN = int(Flag.BAD_TOKEN)
_URL_FROM_REFERER = int(Flag.URL_FROM_REFERER)


@dataclass(frozen=True, slots=True)
class Refused:
    """A request or item that is not taken. `text` names the parameter, never its value."""

    reason: Invalid
    text: str


MISSING_SITE = Refused(Invalid.MISSING_SITE, "The parameter idsite is missing or is not a positive number.")
UNKNOWN_SITE = Refused(Invalid.UNKNOWN_SITE, "The parameter idsite names no site that is known here.")
MISSING_REC = Refused(Invalid.BAD_PARAMETER, "The parameter rec is missing; rec=1 is needed to record.")
TOO_LARGE = Refused(Invalid.TOO_LARGE, f"The parameters are longer than {QUERY_LIMIT} bytes.")


@dataclass(slots=True)
class Judged:
    """A query that is taken: `query` is printable ASCII without token and send_image."""

    place: Place
    query: str
    role: int
    flags: int
    token: str
    special: Mapping[bytes, bytes]


def judge(query: bytes, directory: Directory, token: str = "", referer: bytes | None = None) -> Judged | Refused:
    """Reads one raw query string.

    `token` is the request's own and gives way to one in the query. `referer` stands in for `url` where both `url`
    and `urlref` are missing.
    """
    if len(query) > QUERY_LIMIT:
        return TOO_LARGE
    query = b"&" + query
    if _escaped_name(query):
        query = _plain_names(query)
    special: dict[bytes, bytes] = dict(_special(query))
    place = directory.places.get(special.get(b"idsite", b""))
    if place is None:
        number = parameters.integer(_text(special.get(b"idsite")), low=-1, high=2**32)
        if number <= 0:
            return MISSING_SITE
        place = directory.find(number)
        if place is None:
            return UNKNOWN_SITE
    if b"rec" not in special:
        return MISSING_REC
    role = flags = 0
    if b"token_auth" in special:
        token = _text(special[b"token_auth"])
    if token and token != "anonymous":
        role = place.tokens.get(token_hash(token), Role.NONE)
        if role == Role.NONE:
            flags = _BAD_TOKEN
    if b"send_image" in special or b"token_auth" in special:
        query = _stripped(b"", query)
    if referer and b"url" not in special and b"urlref" not in special:
        query += b"&url=" + quote_from_bytes(referer[:REFERER_LIMIT], safe="").encode()
        flags |= _URL_FROM_REFERER
    if query.translate(None, _PRINTABLE):
        printable = parameters.safe(query[1:])
        if len(printable) > QUERY_LIMIT:
            return TOO_LARGE
    else:
        printable = query[1:].decode("ascii")
    return Judged(place, printable, int(role), flags, token, special)


def single(
    query: bytes, fields: Fields, address: bytes, received_ms: int, directory: Directory
) -> tuple[int, Row, bool] | Refused:
    """The event of a request that is no bulk: its partition, its row, and whether it asked for no image.

    `address`: 16 bytes. `query`: for a POST, form and query merged by `merged`. A plain query, which nearly all are,
    is judged here by searching it, in 2 microseconds less than `judge` takes of the 10 that a request costs; any
    other goes to `judge`. A test holds the two equal.
    """
    text = b"&" + query
    place = None
    start = text.rfind(b"&idsite=") + 8
    if start > 7:
        end = text.find(b"&", start)
        place = directory.places.get(text[start:] if end < 0 else text[start:end])
    if (
        place is None
        or text.find(b"&rec=") < 0  # find: `in` raises and drops a TypeError first, in 0.2 microseconds
        or text.find(b"token_auth") >= 0
        or len(text) > QUERY_LIMIT
        or text.translate(None, _PRINTABLE)
        or _escaped_name(text)
        or ("referer" in fields and text.find(b"&url=") < 0 and text.find(b"&urlref=") < 0)
    ):
        return _thorough(query, fields, address, received_ms, directory)
    quiet = False
    start = text.rfind(b"&send_image=")
    if start >= 0:
        end = text.find(b"&", start + 1)
        quiet = (text[start + 12 :] if end < 0 else text[start + 12 : end]) == b"0"
        text = text[:start] if end < 0 else text[:start] + text[end:]
        if text.find(b"&send_image=") >= 0:
            return _thorough(query, fields, address, received_ms, directory)
    flags, agent, language, hints = fields.said if type(fields) is headers.Head else headers.said(fields)
    row = (
        received_ms,
        place.site,
        address,
        0,
        flags,
        agent,
        language,
        hints if not hints or text.find(b"&uadata=") < 0 else "",
        text[1:].decode("ascii"),
        repeat_of_key(fields["idempotency-key"], place.site, "") if "idempotency-key" in fields else b"",
        1,
        0,
    )
    return place.partition, row, quiet


def _thorough(
    query: bytes, fields: Fields, address: bytes, received_ms: int, directory: Directory
) -> tuple[int, Row, bool] | Refused:
    judged = judge(query, directory, "", fields.get("referer"))
    if isinstance(judged, Refused):
        return judged
    site = judged.place.site
    row = (
        received_ms,
        site,
        address,
        judged.role,
        judged.flags | headers.flags(fields),
        headers.text(fields.get("user-agent", b""), headers.AGENT_LIMIT),
        headers.text(fields.get("accept-language", b""), headers.LANGUAGE_LIMIT),
        "" if b"uadata" in judged.special else headers.hints(fields),
        judged.query,
        repeat_of_key(fields["idempotency-key"], site, judged.token) if "idempotency-key" in fields else b"",
        1,
        0,
    )
    return judged.place.partition, row, judged.special.get(b"send_image") == b"0"


def merged(query: bytes, form: bytes) -> bytes:
    """The parameters of a POST as one query string; on conflict the URL's query wins, as the last one does."""
    form = form.strip(b"\r\n \t&")
    return form + b"&" + query if form and query else form or query


def repeat_of_key(key: bytes, site: int, token: str) -> bytes:
    """What tells a repeat of a request with an Idempotency-Key: hash of key, site and token."""
    text = b"%d\0%s\0%s" % (site, token.encode("utf-8", "surrogatepass"), key)
    return Repeat.KEY + blake2b(text, digest_size=16).digest()


def repeat_of_body(body: bytes) -> bytes:
    """What tells a repeat of a bulk: hash of its body, as it came."""
    return Repeat.BODY + blake2b(body, digest_size=16).digest()


def _text(value: bytes | None) -> str:
    return parameters.decode(value.decode("latin-1")) if value else ""


def _plain_names(query: bytes) -> bytes:
    parts = []
    for part in query.split(b"&"):
        name, equals, value = part.partition(b"=")
        if b"%" in name and (plain := _text(name)) in _SPECIAL:
            name = plain.encode("ascii")
        parts.append(name + equals + value)
    return b"&".join(parts)
