"""URLs, titles and other texts: excluded parameters and credentials removed.

A URL is taken apart once (`split`); campaigns and site searches read its parameters, and only what `clean` puts
together again is stored: scheme, host, path, the parameters that are not excluded, and the fragment where the
site keeps it. Texts such as titles, event names and content targets hold URLs too (the log importer's titles of
404 pages do, percent-encoded), so `clean_text` removes the same things inside a text.

An excluded name also removes `name[]` and `name[key]`. Matrix parameters (`/page;jsessionid=x`) count as
parameters of the query (Matomo).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from schemas.parameters import decode
from streams.rules import Rules

LIMIT = 1024  # bytes of a stored text, Matomo's page_maximum_length
RAW_LIMIT = 8192  # characters of a raw text that are looked at
SCHEMES = frozenset({"http", "https", "ftp", "ftps", "app", "android-app", "ios-app"})

_control = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]").sub
_plain_query = re.compile(r"\?([^\s?#\"'<>]+)").sub
_encoded_query = re.compile(r"%3[fF]([^\s/?#&\"'<>]+)").sub
_encoded_and = re.compile(r"%26", re.IGNORECASE)
_encoded_equals = re.compile(r"%3d", re.IGNORECASE)
_credentials = re.compile(r"(://|%3[aA]%2[fF]%2[fF])[^\s/?#@%]*(?:%3[aA][^\s/?#@%]*)?(?:@|%40)").sub
_key = re.compile(r"\[.*", re.DOTALL).sub


class Parameter(NamedTuple):
    """One part of a query string: its decoded name in lower case, its raw value, the part as it came."""

    name: str
    value: str
    part: str


class Parts(NamedTuple):
    """A URL taken apart. `host` is lower case, with the port where one is given; there are no credentials."""

    scheme: str
    host: str
    path: str
    parameters: tuple[Parameter, ...]
    fragment: str
    fragment_parameters: tuple[Parameter, ...]


def cut(text: str, limit: int = LIMIT) -> str:
    """The text in at most `limit` bytes of UTF-8, never ending within a character."""
    if len(text) <= limit and (text.isascii() or len(text) * 4 <= limit):
        return text
    data = text.encode("utf-8", "replace")
    return text if len(data) <= limit else data[:limit].decode("utf-8", "ignore")


def tidy(text: str) -> str:
    """The text without control characters, lone surrogates and outer blanks."""
    text = text[:RAW_LIMIT]
    return (text if text.isprintable() else _control("", text)).strip()


def parameters(query: str) -> tuple[Parameter, ...]:
    """The parts of a query string, in order; empty parts are left out."""
    out = []
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            name = decode(name) if "%" in name or "+" in name else name
            out.append(Parameter(name.lower(), value, part))
    return tuple(out)


def split(text: str) -> Parts | None:
    """A decoded URL taken apart; None where it has no known scheme or no host."""
    scheme, separator, rest = tidy(text).partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        return None
    rest, _, fragment = rest.partition("#")
    rest, _, query = rest.partition("?")
    host, slash, path = rest.partition("/")
    host = host.rpartition("@")[2].lower()
    if ";" in path:
        path, _, matrix = path.partition(";")
        query = matrix.replace(";", "&") + ("&" + query if query else "")
    if not host:
        return None
    inner = parameters(fragment.partition("?")[2] or fragment) if "=" in fragment else ()
    return Parts(scheme, cut(host, 255), slash + path, parameters(query) if query else (), fragment, inner)


def excluded(name: str, rules: Rules) -> bool:
    """Whether a parameter of this decoded, lower-case name is removed."""
    return name in rules.excluded or ("[" in name and _key("", name) in rules.excluded)


def _kept(given: tuple[Parameter, ...], rules: Rules, dropped: frozenset[str]) -> tuple[list[str], int]:
    kept, removed = [], 0
    for parameter in given:
        if excluded(parameter.name, rules):
            removed += 1
        elif parameter.name not in dropped:
            kept.append(parameter.part)
    return kept, removed


def clean(parts: Parts, rules: Rules, dropped: frozenset[str] = frozenset()) -> tuple[str, int]:
    """The URL as it may be stored, and how many parameters the rules removed.

    `dropped`: names that go into columns of their own (campaigns) and are left out uncounted.
    """
    url = f"{parts.scheme}://{parts.host}{parts.path}"
    kept, removed = _kept(parts.parameters, rules, dropped)
    if kept:
        url += "?" + "&".join(kept)
    if parts.fragment and rules.keep_fragment:
        before, question, _ = parts.fragment.partition("?")
        if parts.fragment_parameters:
            inner, more = _kept(parts.fragment_parameters, rules, dropped)
            removed += more
            lead = before + question if question else ""
            fragment = lead + "&".join(inner) if inner else lead.rstrip("?")
        else:
            fragment = parts.fragment
        url += "#" + fragment if fragment else ""
    if "%" in url:
        url, more = _inside(url, rules, encoded_only=True)
        removed += more
    return cut(url), removed


def clean_path(parts: Parts, rules: Rules) -> str:
    """The path as it may be stored, "/" where there is none."""
    path = parts.path or "/"
    return cut(_inside(path, rules, encoded_only=True)[0] if "%" in path else path)


def clean_text(text: str, rules: Rules, limit: int = LIMIT) -> tuple[str, int]:
    """A decoded text as it may be stored, and how many parameters were removed from URLs within it."""
    text = tidy(text)
    removed = 0
    if holds_urls(text):
        text, removed = _inside(text, rules)
        text = text.strip()
    return cut(text, limit), removed


def holds_urls(text: str) -> bool:
    """Whether a text may hold something that a site's rules remove; if not, `clean_text` is the same for all."""
    return "=" in text or "://" in text or "%" in text


def _inside(text: str, rules: Rules, encoded_only: bool = False) -> tuple[str, int]:
    removed = 0

    def without(query: str, sign: str, pairs: list[str], equals: re.Pattern[str] | None, joint: str) -> str:
        nonlocal removed
        kept = []
        for pair in pairs:
            name = (equals.split(pair, maxsplit=1) if equals else pair.split("=", 1))[0]
            if excluded(decode(decode(name)).lower(), rules):
                removed += 1
            else:
                kept.append(pair)
        if len(kept) == len(pairs):
            return sign + query
        return sign + joint.join(kept) if kept else ""

    def plain(match: re.Match[str]) -> str:
        return without(match[1], "?", match[1].split("&"), None, "&")

    def encoded(match: re.Match[str]) -> str:
        return without(match[1], match[0][:3], _encoded_and.split(match[1]), _encoded_equals, "%26")

    if not encoded_only:
        text = _plain_query(plain, text)
    if "%3" in text:
        text = _encoded_query(encoded, text)
    if "://" in text or "%2" in text:
        text = _credentials(lambda match: match[1], text)
    return text, removed
