"""Where a visit comes from: the referrer's type, name and keyword.

A campaign goes before the referrer (see `campaigns`). Then, by the referrer's host: the site's own or the page's
own is direct; an AI assistant, a search engine or a social network has its name; anything else is a website.
The lists are public (data/SOURCES.md). A search engine counts where its keyword is found, where the list says that
it hides the keyword, and at its home page; otherwise it is a website like any other.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from schemas.parameters import decode
from schemas.tables import ReferrerType
from streams.anonymize import referrers as levels
from streams.anonymize.urls import Parts, clean, clean_text, cut, split
from streams.rules import Rules

LIMIT = 255  # bytes of name and keyword
_top_level = re.compile(r"(?:\.(?:com|co|org|net|edu|gov|ac|ne|or|go))?\.[a-z]{2,}$")
_country = re.compile(r"^[a-z]{2}\.")


class Referrer(NamedTuple):
    """`host` tells whether it is the page's own; `url` is clean; `removed` counts parameters the rules removed."""

    type: int
    name: str = ""
    keyword: str = ""
    url: str = ""
    host: str = ""
    removed: int = 0


class Engine(NamedTuple):
    """One entry of the list: where its keyword is, and what URLs have none."""

    name: str
    parameters: tuple[str, ...]
    patterns: tuple[re.Pattern[str], ...]
    hidden: tuple[re.Pattern[str], ...]
    hidden_exact: frozenset[str]
    charsets: tuple[str, ...]


DIRECT = Referrer(ReferrerType.DIRECT)


def _load(name: str) -> list[dict[str, Any]]:
    text = files("streams.enrich").joinpath("data").joinpath(name).read_text("utf-8")
    entries: list[dict[str, Any]] = json.loads(text)
    return entries


def _is_pattern(text: str) -> bool:
    return len(text) > 2 and text[0] == text[-1] == "/"


def _compiled(texts: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(text[1:-1]) for text in texts if _is_pattern(text))


def _known_charset(name: str) -> bool:
    try:
        codecs.lookup(name)
    except LookupError:
        return False
    return True


@cache
def engines() -> dict[str, Engine]:
    """Search engines by host, or by host and path; `{}` stands for a top-level domain or a country code."""
    out = {}
    for entry in _load("search_engines.json"):
        engine = Engine(
            entry["name"],
            tuple(text for text in entry["params"] if not _is_pattern(text)),
            _compiled(entry["params"]),
            _compiled(entry["hidden"]),
            frozenset(text for text in entry["hidden"] if not _is_pattern(text)),
            tuple(name for name in entry["charsets"] if name.lower() != "utf-8" and _known_charset(name)),
        )
        for url in entry["urls"]:
            out[url.removeprefix("www.")] = engine
    return out


@cache
def networks(name: str) -> dict[str, str]:
    """Names by host, or by host and path, of the list in this file."""
    return {url: entry["name"] for entry in _load(name) for url in entry["urls"]}


def classify(text: str, rules: Rules) -> Referrer:
    """The referrer of a decoded `urlref`, at the level of the site's rules."""
    found = _classified(text, rules)
    level = rules.privacy.referrer
    return found._replace(
        name=levels.name(found.name, found.type, level),
        keyword=levels.keyword(found.keyword, found.type, level),
        url=levels.url(found.url, level),
    )


def _classified(text: str, rules: Rules) -> Referrer:
    parts = split(text)
    if parts is None:
        return DIRECT
    host = parts.host.partition(":")[0].removeprefix("www.")
    if rules.internal(parts.host):
        return DIRECT
    url, removed = clean(parts, rules)
    path = parts.path.rstrip("/")
    if name := _network("ai_assistants.json", host, path):
        return Referrer(ReferrerType.AI_ASSISTANT, name, "", url, parts.host, removed)
    if (found := search(parts)) is not None:
        name, keyword = found
        keyword, _ = clean_text(keyword, rules, LIMIT)
        return Referrer(ReferrerType.SEARCH_ENGINE, name, keyword, url, parts.host, removed)
    if name := _network("socials.json", host, path):
        return Referrer(ReferrerType.SOCIAL, name, "", url, parts.host, removed)
    return Referrer(ReferrerType.WEBSITE, cut(host, LIMIT), "", url, parts.host, removed)


def _network(file: str, host: str, path: str) -> str:
    names = networks(file)
    while host:
        if path and (name := names.get(host + path)):
            return name
        if name := names.get(host):
            return name
        host = host.partition(".")[2]
    return ""


def _engine(host: str, path: str) -> Engine | None:
    known = engines()
    lossy_top = _top_level.sub(".{}", host)
    lossy_country = _country.sub("{}.", host)
    for name in (host, lossy_top, lossy_country):
        if path and (engine := known.get(name + path)):
            return engine
    for name in (host, lossy_top, lossy_country):
        if engine := known.get(name):
            return engine
    return None


def search(parts: Parts) -> tuple[str, str] | None:
    """Name and keyword (lower case, "" where hidden) of a search engine; None where it is none."""
    host = parts.host.partition(":")[0].removeprefix("www.")
    engine = _engine(host, parts.path)
    if engine is None:
        return None
    given = parts.parameters + parts.fragment_parameters
    for name in engine.parameters:
        for parameter in given:
            if parameter.name == name.lower() and parameter.value:
                keyword = _decode(parameter.value, engine.charsets).strip()
                if keyword:
                    return engine.name, keyword.lower()
    query = "&".join(parameter.part for parameter in parts.parameters)
    target = parts.path + ("?" + query if query else "")
    for pattern in engine.patterns:
        if found := pattern.search(target):
            return engine.name, decode(found[1] if pattern.groups else found[0]).strip().lower()
    if target in engine.hidden_exact or any(pattern.search(target) for pattern in engine.hidden):
        return engine.name, ""
    home = target in ("", "/") and not _network("socials.json", host, "")
    return (engine.name, "") if home else None


def _decode(value: str, charsets: tuple[str, ...]) -> str:
    if charsets and "%" in value:
        data = unquote_to_bytes(value.replace("+", " "))
        for charset in ("utf-8", *charsets):
            try:
                return data.decode(charset)
            except UnicodeDecodeError:
                continue
    return decode(value)
