"""Where a visit comes from: the referrer's type, name and keyword.

A campaign goes before the referrer (see `campaigns`). Then, by the referrer's host: the site's own, the page's own and
those that the site excludes are direct, but a folder that is another site is a website; an AI assistant, a search
engine or a social network has its name; anything else is a website. The lists are public (data/SOURCES.md). A search
engine counts where its keyword is found, where the list says that it hides the keyword, and at its home page; otherwise
it is a website like any other.
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
from streams.anonymize.urls import Parameter, Parts, clean, clean_host, clean_text, cut, parameters
from streams.domains import bare, portless
from streams.enrich.countries import CODES, TOP_LEVEL
from streams.rules import Rules

LIMIT = 255  # bytes of name and keyword

# What these hosts write into addresses for themselves, and tells of nobody's visit (Matomo's list).
_NOISE: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = tuple(
    (re.compile(rf"(?:^|\.)(?:{hosts})"), frozenset(names.split()))
    for hosts, names in {
        r"instagram\.com$": "e s",
        r"facebook\.com$": "h p",
        r"google\.|googleusercontent\.": "ust usg usd sa sntz ei bvm ved client channel",
        r"main\.exoclick\.com$": "data wpn",
        r"youtube\.com$": "redir_token html_redirect continuation feature",
        r"bing\.com$": "cvid refig elv plvar setlang qs cc mkt pc form src",
    }.items()
)
_SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "go", "gov", "it", "ne", "net", "or", "org"})
_front = re.compile(r"^(?:w+[0-9]*|search)\.").sub
_mobile = re.compile(r"(?:^|(?<=\.))m\.").sub

# Google's kinds of search, which it tells by a parameter.
_GOOGLE_TABS = {"isch": "Google Images", "vid": "Google Video", "shop": "Google Shopping", "nws": "Google News"}
_YAHOO = {".images.search.yahoo.com": "images.search.yahoo.com", ".search.yahoo.com": "search.yahoo.com"}
_CUSTOM_SEARCH = "cx=partner-pub-"  # on any host: Google searches there, for the host's owner


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


def classify(parts: Parts | None, rules: Rules) -> Referrer:
    """The referrer of a `urlref`, taken apart, at the level of the site's rules."""
    if parts is None:
        return DIRECT
    found = _classified(parts, rules)
    if found is DIRECT:
        return found
    level = rules.privacy.referrer
    return found._replace(
        name=levels.name(found.name, found.type, level),
        keyword=levels.keyword(found.keyword, found.type, level),
        url=levels.url(found.url, level),
    )


def _classified(parts: Parts, rules: Rules) -> Referrer:
    depth = rules.domains.depth(parts.host, parts.path)
    folder = rules.neighbour(parts.host, parts.path, depth)
    if (not folder and depth > 0) or rules.excluded_referrers.depth(parts.host, parts.path) > 0:
        return DIRECT
    url, removed = clean(parts, rules, noise(parts.host))
    if folder:
        return Referrer(ReferrerType.WEBSITE, cut(folder, LIMIT), "", url, "", removed)
    host = bare(portless(parts.host))
    path = parts.path.rstrip("/")
    if name := _network("ai_assistants.json", host, path):
        return Referrer(ReferrerType.AI_ASSISTANT, name, "", url, parts.host, removed)
    if (found := search(parts)) is not None:
        name, keyword = found
        keyword, _ = clean_text(keyword, rules, LIMIT)  # as it was typed, as some detectors look at the case
        return Referrer(ReferrerType.SEARCH_ENGINE, name, cut(keyword.lower(), LIMIT), url, parts.host, removed)
    if name := _network("socials.json", host, path):
        return Referrer(ReferrerType.SOCIAL, name, "", url, parts.host, removed)
    return Referrer(ReferrerType.WEBSITE, cut(clean_host(host, rules), LIMIT), "", url, parts.host, removed)


def of_visit(actions: Iterable[Referrer]) -> Referrer:
    """The referrer of a visit: the first of its actions' that is not direct; view `visit_referrers` tells the same."""
    return next((found for found in actions if found.type != ReferrerType.DIRECT), DIRECT)


def noise(host: str) -> frozenset[str]:
    """The parameters of a host's addresses that it writes for itself."""
    return next((names for pattern, names in _NOISE if pattern.search(host)), frozenset())


def _network(file: str, host: str, path: str) -> str:
    names = networks(file)
    while host:
        if path and (name := names.get(host + path)):
            return name
        if name := names.get(host):
            return name
        host = host.partition(".")[2]
    return ""


def lossy(host: str) -> str:
    """A host as the list of engines has it: `{}` for countries, nothing for `www.`, `search.` and `m.`."""
    labels = _mobile("", _front("", host)).split(".")
    last = len(labels) - 1
    if last and labels[-1] in TOP_LEVEL:
        second = last > 1 and labels[-2] in _SECOND_LEVEL
        labels = [*labels[: -2 if second else -1], "{}"]
    return ".".join("{}" if label in CODES and at < len(labels) - 1 else label for at, label in enumerate(labels))


def _engine(host: str, parts: Parts) -> Engine | None:
    known = engines()
    path = parts.path
    for name in (host, lossy(host)):
        if engine := (path and known.get(name + path)) or known.get(name):
            return engine
    if any(parameter.part.startswith(_CUSTOM_SEARCH) for parameter in parts.parameters[:1]):
        return known["google.com/cse"]
    return next((known[name] for end, name in _YAHOO.items() if host.endswith(end)), None)


def search(parts: Parts) -> tuple[str, str] | None:
    """Name and keyword ("" where hidden) of a search engine; None where it is none."""
    host = bare(portless(parts.host))
    engine = _engine(host, parts)
    if engine is None:
        return None
    given = parts.parameters + parts.fragment_parameters
    name = engine.name
    if name == "Google":
        name = _GOOGLE_TABS.get(_value(given, "tbm"), name)
    if keyword := _keyword(engine, parts, given):
        return name, keyword
    target = _target(parts)
    if target in engine.hidden_exact or any(pattern.search(target) for pattern in engine.hidden):
        return name, ""
    home = target in ("", "/") and not _network("socials.json", host, "")
    return (name, "") if home else None


def _keyword(engine: Engine, parts: Parts, given: tuple[Parameter, ...]) -> str:
    if previous := _value(given, "prev") if engine.name == "Google Images" else "":
        given = parameters(previous.partition("?")[2]) + given  # the search whose picture was chosen
    for name in engine.parameters:
        for parameter in given:
            if parameter.name == name.lower() and (found := _decode(parameter.value, engine.charsets).strip()):
                return found
    if engine.name == "Google" and (advanced := _advanced(given)):
        return advanced
    target = _target(parts)
    for pattern in engine.patterns:
        if found_ := pattern.search(target):
            return decode(found_[1] if pattern.groups else found_[0]).strip()
    return ""


def _advanced(given: tuple[Parameter, ...]) -> str:
    """The keyword that Google's advanced search makes of its fields: all, any, the exact and no words."""
    words, any_, exact, without = (_value(given, name) for name in ("as_q", "as_oq", "as_epq", "as_eq"))
    parts = (words, " OR ".join(any_.split()), f'"{exact}"' if exact else "", f"-{without}" if without else "")
    return " ".join(filter(None, parts))


def _value(given: tuple[Parameter, ...], name: str) -> str:
    return next((decode(parameter.value).strip() for parameter in given if parameter.name == name), "")


def _target(parts: Parts) -> str:
    query = "&".join(parameter.part for parameter in parts.parameters)
    return parts.path + ("?" + query if query else "")


def _decode(value: str, charsets: tuple[str, ...]) -> str:
    if charsets and "%" in value:
        data = unquote_to_bytes(value.replace("+", " "))
        for charset in ("utf-8", *charsets):
            try:
                return data.decode(charset)
            except UnicodeDecodeError:
                continue
    return decode(value)
