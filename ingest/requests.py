"""From a tracking request to its event: what is read, what is refused, what leaves. Pure.

The rules are those of Matomo's tracking API. A query is judged by the few parameters that decide about it here
(`idsite`, `rec`, `token_auth`, `send_image`, `url`, `urlref`, `uadata`, and those that `ingest.permissions` looks at);
all others pass as they are, made printable.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b, sha256
from urllib.parse import quote_from_bytes

from ingest import charsets, headers, permissions
from ingest.directory import Directory, Place
from ingest.headers import Fields
from ingest.permissions import GUARDED, Refused
from schemas import parameters
from schemas.packets import Flag, Repeat, Role
from schemas.reasons import Invalid

QUERY_LIMIT = 128 * 1024  # bytes of one event's query; a packet must hold it beside others
REFERER_LIMIT = 4096  # bytes of a Referer that may stand in for `url`

# The fields of `schemas.packets.Event`, in its order.
Row = tuple[int, int, bytes, int, int, str, str, str, str, bytes, int, int]
Standings = dict[tuple[int, str], tuple[int, int]]  # by site and token what `standing` tells

_special = re.compile(
    rb"&(idsite|token_auth|send_image|urlref|url|uadata|%s)=([^&]*)" % b"|".join(sorted(GUARDED, reverse=True))
).findall
_stripped = re.compile(rb"&(?:token_auth|send_image|cip)(?:=[^&]*)?(?![^&])").sub
# The beginning of a parameter that is not for the quick way (cdt, cip, country, token_auth) or tells of a recording.
rare = re.compile(rb"&(?:c(?:[dis]|ou)|l(?:at|o)|reg|hsr_|pf_...=-|token_auth|send_image)").search
# A name in which a letter or underscore is written as an escape, so that the pattern above would not see it.
_escaped_name = re.compile(rb"&[^=&%]*%[^=&]*").search
_SPECIAL = frozenset(("idsite", "token_auth", "send_image", "urlref", "url", "uadata")).union(
    name.decode() for name in GUARDED
)
_PRINTABLE = bytes(range(0x21, 0x7F))
FLESH = bytes(set(_PRINTABLE) - set(b"&=%#"))  # what is left of a query without these shows its structure
# As plain numbers: or-ing an IntFlag costs a microsecond.
_BAD_TOKEN = int(Flag.BAD_TOKEN)
_URL_FROM_REFERER = int(Flag.URL_FROM_REFERER)


MISSING_SITE = Refused(Invalid.MISSING_SITE, "The parameter idsite is missing or is not a positive number.")
UNKNOWN_SITE = Refused(Invalid.UNKNOWN_SITE, "The parameter idsite names no site that is known here.")
TOO_LARGE = Refused(Invalid.TOO_LARGE, f"The parameters are longer than {QUERY_LIMIT} bytes.")


@dataclass(slots=True)
class Judged:
    """A query that is taken: `query` is printable ASCII without token, send_image and cip, which is `address`."""

    place: Place
    query: str
    role: int
    flags: int
    token: str
    special: Mapping[bytes, bytes]
    address: bytes | None = None


def judge(
    query: bytes,
    directory: Directory,
    token: str = "",
    referer: bytes | None = None,
    now_ms: int = 0,
    standings: Standings | None = None,
) -> Judged | Refused:
    """Reads one raw query string.

    `token` is the request's own and gives way to one in the query. `referer` stands in for `url` where both `url`
    and `urlref` are missing or empty. `now_ms`: when the request came, which `cdt` is compared with. `standings`: what
    is known of tokens from other items of the same request.
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
    if b"token_auth" in special:
        token = _text(special[b"token_auth"])
    if standings is None:
        role, flags = standing(directory, place, token)
    elif (known := standings.get((place.site, token))) is None:
        role, flags = standings[place.site, token] = standing(directory, place, token)
    else:
        role, flags = known
    address = None
    if not GUARDED.isdisjoint(special):
        values = {name: _text(value) for name, value in special.items() if name in GUARDED}
        writes = role >= Role.WRITE
        if (refused := permissions.refusal(values, writes, place.goals, now_ms)) is not None:
            return refused
        if writes and b"cip" in values:
            address = permissions.address(values[b"cip"])
        if b"cs" in values:
            query = charsets.as_utf8(query, values[b"cs"])
    if b"send_image" in special or b"token_auth" in special or b"cip" in special:
        query = _stripped(b"", query)
    if referer and not special.get(b"url") and not special.get(b"urlref"):
        query += b"&url=" + quote_from_bytes(referer[:REFERER_LIMIT], safe="").encode()
        flags |= _URL_FROM_REFERER
    if query.translate(None, _PRINTABLE):
        printable = parameters.safe(query[1:])
        if len(printable) > QUERY_LIMIT:
            return TOO_LARGE
    else:
        printable = query[1:].decode("ascii")
    return Judged(place, printable, role, flags, token, special, address)


def standing(directory: Directory, place: Place, token: str) -> tuple[int, int]:
    """The role that a token gives at a site, and the flag of one that gives none."""
    if not token or token == "anonymous":
        return 0, 0
    role = int(directory.role(place, token))
    return role, 0 if role else _BAD_TOKEN


def single(
    query: bytes, fields: Fields, address: bytes, received_ms: int, directory: Directory
) -> tuple[int, Row, bool] | Refused:
    """The event of a request that is no bulk: its partition, its row, and whether it asked for no image.

    `address`: 16 bytes. `query`: for a POST, form and query merged by `merged`.
    """
    judged = judge(query, directory, "", fields.get("referer"), received_ms)
    if isinstance(judged, Refused):
        return judged
    site = judged.place.site
    flags, agent, language, hints = headers.said(fields)
    row = (
        received_ms,
        site,
        address if judged.address is None else judged.address,
        judged.role,
        judged.flags | flags,
        agent,
        language,
        "" if b"uadata" in judged.special else hints,
        judged.query,
        repeat_of_key(key, site, judged.token) if (key := fields.get("idempotency-key")) else b"",
        1,
        0,
    )
    return partition_of(judged.place, row), row, judged.special.get(b"send_image") == b"0"


def partition_of(place: Place, row: Row) -> int:
    """The partition of an event of a site."""
    return place.partition_of(row[0], row[2], row[5], row[6]) if place.shards else place.partition


def plain(query: bytes, directory: Directory, url: bool) -> tuple[Place, str, bool] | None:
    """What `judge` makes of a query of the common form, in a tenth of its time; None for any other.

    `query` begins with "&". `url`: it must have a `url`, as there is a Referer. Returns the site, the query that
    leaves, and whether no image is asked for. Common is a query without a token and anything that is only for its
    bearers, without anything to be made printable, and whose names hold no escape, so that parameters are found by
    searching for them.
    """
    start = query.rfind(b"&idsite=") + 8
    end = query.find(b"&", start)
    place = directory.places.get(query[start:end])
    if place is None or start == 7 or end < 0:
        return None
    bones = query.translate(None, FLESH)
    if bones.find(b"&%") >= 0 or bones.translate(None, b"&=%"):
        return None
    before, quiet, after = query.partition(b"&send_image=0&")
    left = before + b"&" + after if quiet else query.removesuffix(b"&send_image=0")
    if (
        rare(left) is not None
        or (url and not _has_url(query))
        or (place.goals and query.find(b"&idgoal=") >= 0)
        or len(query) > QUERY_LIMIT
    ):
        return None
    return place, left[1:].decode("ascii"), len(left) < len(query)


def _has_url(query: bytes) -> bool:
    start = query.rfind(b"&url=") + 5
    return start > 4 and query[start : start + 1] not in (b"", b"&")


def merged(query: bytes, form: bytes) -> bytes:
    """The parameters of a POST as one query string; on conflict the URL's query wins, as the last one does."""
    form = form.strip(b"\r\n \t&")
    return form + b"&" + query if form and query else form or query


def size_of(row: Row) -> int:
    """Bytes of the texts of an event."""
    return len(row[5]) + len(row[6]) + len(row[7]) + len(row[8])


def repeat_of_key(key: bytes, site: int, token: str) -> bytes:
    """What tells a repeat of a request with an Idempotency-Key: hash of key, site and token."""
    text = b"%d\0%s\0%s" % (site, token.encode("utf-8", "surrogatepass"), key)
    return Repeat.KEY + blake2b(text, digest_size=16).digest()


def repeat_of_body(body: bytes) -> bytes:
    """What tells a repeat of a bulk: hash of its body, as it came."""
    return Repeat.BODY + sha256(body).digest()[:16]  # half the time of blake2b where the processor knows it


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
