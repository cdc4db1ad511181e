"""The request headers that the collector reads, and what they say. No other header leaves the collector."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ingest.proxies import ADDRESS_HEADERS
from schemas.packets import Flag

Fields = Mapping[str, bytes]

AGENT_LIMIT = 1024  # bytes kept of a User-Agent
LANGUAGE_LIMIT = 256  # bytes kept of an Accept-Language
HINT_LIMIT = 512  # bytes kept of each client hint

# Both framing headers fill one field: either says that a body follows.
_ALIASES = {"content-length": "length", "transfer-encoding": "length"}
_HINTS = (
    "sec-ch-ua",
    "sec-ch-ua-arch",
    "sec-ch-ua-bitness",
    "sec-ch-ua-form-factors",
    "sec-ch-ua-full-version",
    "sec-ch-ua-full-version-list",
    "sec-ch-ua-mobile",
    "sec-ch-ua-model",
    "sec-ch-ua-platform",
    "sec-ch-ua-platform-version",
)
_READ = frozenset(
    (
        "accept-language",
        "authorization",
        "connection",
        "cookie",
        "dnt",
        "expect",
        "idempotency-key",
        "if-none-match",
        "origin",
        "purpose",
        "referer",
        "sec-fetch-site",
        "sec-gpc",
        "sec-purpose",
        "upgrade",
        "user-agent",
        "via",
        "x-do-not-track",
        "x-moz",
        "x-purpose",
    )
).union(_HINTS, ADDRESS_HEADERS)
# Fields whose lines of the same name are one, and what stands between them (RFC 9110, 5.3; RFC 9113, 8.2.3).
LISTS: dict[str, bytes] = dict.fromkeys(ADDRESS_HEADERS, b",") | {"cookie": b"; "}
_ONCE = frozenset(("authorization", "idempotency-key"))  # a head with one is not remembered
_HINT_NAMES = frozenset(_HINTS)
_SIGNALS = frozenset(
    ("cookie", "dnt", "purpose", "sec-gpc", "sec-purpose", "via", "x-do-not-track", "x-moz", "x-purpose")
)

# Spellings of header names that were seen -> field, or None for a header that is not read. Bounded; the hot path
# looks here first and calls `field_of` for what is new.
KNOWN: dict[bytes, str | None] = {}
KNOWN_LIMIT = 4096
UNKNOWN = ""

_cookies = re.compile(
    rb"(?:^|;)[ \t]*(matomo_ignore|piwik_ignore|mtm_consent_removed|mtm_consent|mtm_cookie_consent)=[^;]"
).findall
_COOKIE_FLAGS: dict[bytes, int] = {
    b"matomo_ignore": Flag.OPT_OUT,
    b"piwik_ignore": Flag.OPT_OUT,
    b"mtm_consent_removed": Flag.OPT_OUT,
    b"mtm_consent": Flag.CONSENT,
    b"mtm_cookie_consent": Flag.COOKIE_CONSENT,
}


def field_of(name: bytes) -> str | None:
    """The field that a header fills, or None for a header that is not read. The spelling is remembered."""
    lower = name.lower().decode("latin-1")
    field = _ALIASES.get(lower) or (lower if lower in _READ else None)
    if len(KNOWN) < KNOWN_LIMIT and len(name) <= 64:
        KNOWN[name] = field
    return field


def flags(fields: Fields) -> int:
    """What DNT, GPC, prefetch headers and the opt-out and consent cookies say, as `Flag` bits."""
    if _SIGNALS.isdisjoint(fields):
        return 0
    out = 0
    if fields.get("dnt", b"")[:1] == b"1" or fields.get("x-do-not-track") == b"1":
        out |= Flag.DNT
    if fields.get("sec-gpc") == b"1":
        out |= Flag.GPC
    if b"Chrome-Compression-Proxy" in fields.get("via", b""):
        out |= Flag.DATA_SAVER
    if cookie := fields.get("cookie"):
        for name in _cookies(cookie):
            out |= _COOKIE_FLAGS[name]
    purposes = (
        fields.get("x-purpose", b"")
        + b";"
        + fields.get("purpose", b"")
        + b";"
        + fields.get("sec-purpose", b"")
        + b";"
        + fields.get("x-moz", b"")
    ).lower()
    if b"prefetch" in purposes or b"preview" in purposes or b"instant" in purposes:
        out |= Flag.PREFETCH
    return int(out)


def said(fields: Fields) -> tuple[int, str, str, str]:
    """What a head says of the visitor: flags, agent, language, hints."""
    return (
        flags(fields),
        text(fields.get("user-agent", b""), AGENT_LIMIT),
        text(fields.get("accept-language", b""), LANGUAGE_LIMIT),
        hints(fields),
    )


class Head(dict[str, bytes]):
    """The fields of a head that is met again and again, with what they say (`said`), so that both are read once.

    size: bytes of the texts in it. origin: the header. referer: whether there is one.
    """

    __slots__ = ("origin", "referer", "said", "size")

    def __init__(self, fields: Fields) -> None:
        super().__init__(fields)
        self.pop("connection", None)  # of an HTTP/1.1 request that keeps its connection: says nothing
        self.said = said(fields)
        self.size = sum(map(len, self.said[1:]))
        self.origin = fields.get("origin")
        self.referer = bool(fields.get("referer"))


class Heads:
    """Heads met lately, by their bytes after the request target. Bounded in entries, bytes and age; in memory only.

    A connection mostly sends the same head with every request, and the same browsers send the same to a site.
    """

    LIMIT = 16_384  # entries
    BYTES = 2048  # the longest head that is kept
    SECONDS = 60.0  # after which all are forgotten

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}
        self.get = self._known.get
        self._since = 0.0

    def keep(self, head: bytes, fields: Fields) -> None:
        """Remembers a head, unless it can hardly come again."""
        if len(self._known) < self.LIMIT and len(head) <= self.BYTES and _ONCE.isdisjoint(fields):
            self._known[head] = Head(fields)

    def tick(self, now: float) -> None:
        """Forgets what is old; seconds of a monotonic clock."""
        if now - self._since > self.SECONDS:
            self._since = now
            self.forget()

    def forget(self) -> None:
        """Forgets all."""
        self._known.clear()


def text(value: bytes, limit: int) -> str:
    """A header's value as text of at most `limit` bytes; bytes that are not UTF-8 become U+FFFD."""
    return value[:limit].decode("utf-8", "replace")


def hints(fields: Fields) -> str:
    """The Sec-CH-UA headers as a JSON object of header name (lower case) -> value, or ""."""
    if _HINT_NAMES.isdisjoint(fields):
        return ""
    found = {name: text(fields[name], HINT_LIMIT) for name in _HINTS if name in fields}
    return json.dumps(found, separators=(",", ":"))
