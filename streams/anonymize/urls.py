"""URLs, titles and other texts: excluded parameters, credentials and what detectors find removed.

A URL is taken apart once (`split`); campaigns and site searches read its parameters, and only what `clean` puts
together again is stored: scheme, host, path, the parameters that are not excluded, and the fragment where the
site keeps it. Texts such as titles, event names and content targets hold URLs too (the log importer's titles of
404 pages do, percent-encoded), so `clean_text` removes the same things inside a text.

An excluded name also removes `name[]` and `name[key]`. Matrix parameters (`/page;jsessionid=x`) count as
parameters of the query (Matomo).
"""

from __future__ import annotations

import re

from schemas.parameters import decode
from schemas.privacy import Detector
from streams.anonymize import detect
from streams.anonymize.detect import names
from streams.anonymize.split import LIMIT, RAW_LIMIT, SCHEMES, Parameter, Parts, cut, parameters, split, tidy
from streams.anonymize.texts import free_text
from streams.rules import Rules

__all__ = ["LIMIT", "RAW_LIMIT", "Parameter", "Parts", "cut", "parameters", "split", "tidy"]

NAME_LIMIT = 200  # characters of a parameter's name that are held against a site's /regex/

_plain_query = re.compile(r"\?([^\s?#\"'<>]+)").sub
_plain_fragment = re.compile(r"(://[^\s#\"'<>]*)#([^\s\"'<>]*)").sub
_encoded_fragment = re.compile(r"(%3[aA]%2[fF]%2[fF](?:(?!%23)[^\s/?#&\"'<>])*)%23[^\s/?#&\"'<>]*").sub
_encoded_query = re.compile(r"%3[fF]([^\s/?#&\"'<>]+)").sub
_encoded_and = re.compile(r"%26", re.IGNORECASE)
_encoded_equals = re.compile(r"%3d", re.IGNORECASE)
_plain_matrix = re.compile(r";([^\s?#/;&=\"'<>]+)=[^\s?#/;&\"'<>]*").sub
_encoded_matrix = re.compile(r"%3[bB]((?:(?!%3[bBdDfF])[^\s/?#&;\"'<>])+)%3[dD](?:(?!%3[bBfF])[^\s/?#&;\"'<>])*").sub
_credentials = re.compile(r"(://|%3[aA]%2[fF]%2[fF])[^\s/?#@%]*(?:%3[aA][^\s/?#@%]*)?(?:@|%40)").sub
_joint = re.compile(r"[-_ ]").sub
_key = re.compile(r"\[.*", re.DOTALL).sub


def excluded(name: str, rules: Rules) -> bool:
    """Whether a parameter of this decoded, lower-case name is removed."""
    bare = _key("", name) if "[" in name else name
    if rules.allowed is not None and name not in rules.allowed and bare not in rules.allowed:
        return True
    if name in rules.excluded or bare in rules.excluded:
        return True
    if rules.personal and (bare in rules.personal or _joint("", bare) in rules.personal):
        return True
    return bool(rules.patterns) and any(
        pattern.search(text[:NAME_LIMIT]) for pattern in rules.patterns for text in {name, bare}
    )


def _kept(given: tuple[Parameter, ...], rules: Rules, dropped: frozenset[str]) -> tuple[list[str], int]:
    kept, removed = [], 0
    for parameter in given:
        if parameter.name in dropped:
            continue
        if excluded(parameter.name, rules):
            removed += 1
        else:
            kept.append(parameter.part)
    return kept, removed


def clean(
    parts: Parts,
    rules: Rules,
    dropped: frozenset[str] = frozenset(),
    path: tuple[str, int] | None = None,
    own: bool = False,
) -> tuple[str, int]:
    """The URL as it may be stored, and how many parameters the rules removed.

    `dropped`: names that go into columns of their own (campaigns) and are left out uncounted. `path`: what `clean_path`
    gave, where it is known. `own`: of a page of the site's, whose host names no visitor.
    """
    host = parts.host if own else clean_host(parts.host, rules)
    front = f"{parts.scheme}://{host}" if parts.scheme else f"//{host}"
    way, removed = path or clean_path(parts, rules)
    way = way if parts.path else ""
    if _longer(front + way, LIMIT):
        way = free_text(way, rules, max(0, LIMIT - _size(front)))
    rest = ""
    if parts.parameters:
        kept, more = _kept(parts.parameters, rules, dropped)
        removed += more
        rest = "?" + "&".join(kept) if kept else ""
    if parts.fragment and rules.privacy.keep_fragment:
        before, question, _ = parts.fragment.partition("?")
        if parts.fragment_parameters:
            inner, more = _kept(parts.fragment_parameters, rules, dropped)
            removed += more
            lead = before + question if question else ""
            fragment = lead + "&".join(inner) if inner else lead.rstrip("?")
        else:
            fragment = parts.fragment
        rest += "#" + fragment if fragment else ""
    if rest:
        rest, more = _masked(rest, rules, max(0, LIMIT - _size(front) - _size(way)))
        removed += more
    return cut(front + way + rest), removed


def clean_host(host: str, rules: Rules) -> str:
    """A host that is not the site's own as it may be stored; an address names a server here."""
    return detect.mask(host, rules.detectors - {Detector.IP}, LIMIT)


def clean_path(parts: Parts, rules: Rules, clear: bool = False) -> tuple[str, int]:
    """The path as it may be stored, "/" where there is none, and how many parameters were removed from URLs in it.

    clear: no detector finds anything in the path (`detect.clear`).
    """
    path = masked_path(parts.path, rules) or "/"
    front = "" if parts.scheme in SCHEMES else parts.host  # app://user/jane: a host is a part of the way there
    clear = clear and path == parts.path and not front
    way, removed = _masked(path, rules, LIMIT, clear)
    if not clear and Detector.NAME in rules.detectors:
        way = cut(names.in_path(way, front))
    return way, removed


def _masked(text: str, rules: Rules, limit: int, clear: bool = False) -> tuple[str, int]:
    before, removed = text, 0
    if "%3" in text or "%2" in text or ("%" in text and "://" in text):
        text, removed = _without(text, rules, encoded_only=True)
    return cut(text, limit) if clear and text == before else free_text(text, rules, limit), removed


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def _longer(text: str, limit: int) -> bool:
    return len(text) * 4 > limit and _size(text) > limit


def masked_path(path: str, rules: Rules) -> str:
    """The path without what stands for a star in one of the site's patterns, which match from its beginning."""
    if not rules.masked_paths:
        return path
    parts = path.split("/")
    for pattern in rules.masked_paths:
        if len(parts) > len(pattern) and all(
            star == "*" or star == decode(part) for star, part in zip(pattern, parts[1:], strict=False)
        ):
            for at, star in enumerate(pattern, 1):
                if star == "*" and parts[at]:
                    parts[at] = "*"
    return "/".join(parts)


def clean_text(text: str, rules: Rules, limit: int = LIMIT, clear: bool = False) -> tuple[str, int]:
    """A decoded text as it may be stored, and how many parameters were removed from URLs within it.

    clear: no detector finds anything in the text, tidied (`detect.clear`).
    """
    before = text = tidy(text)
    removed = 0
    if holds_urls(text):
        text, removed = _without(text, rules)
        text = text.strip()
    return cut(text, limit) if clear and text == before else free_text(text, rules, limit), removed


def holds_urls(text: str) -> bool:
    """Whether a text may hold parameters or credentials, which a site's rules remove."""
    return "=" in text or "://" in text or "%" in text


def _without(text: str, rules: Rules, encoded_only: bool = False) -> tuple[str, int]:
    """The text without the parameters that are removed, and how many they were.

    A value with blanks goes on where its parameter ends, so values are masked while they are whole.
    """
    found, removed = _inside(text, rules, encoded_only)
    if found == text:
        return text, removed
    return _inside(free_text(_anonymous(text), rules, 4 * RAW_LIMIT), rules, encoded_only)


def _anonymous(text: str) -> str:
    """The text without the credentials of URLs in it."""
    return _credentials(lambda match: match[1], text) if "://" in text or "%2" in text else text


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

    def fragment(match: re.Match[str]) -> str:
        if not rules.privacy.keep_fragment:
            return match[1]
        if "=" not in match[2]:
            return match[0]
        return match[1] + without(match[2], "#", match[2].split("&"), None, "&")

    def matrix(match: re.Match[str]) -> str:
        nonlocal removed
        if not excluded(decode(decode(match[1])).lower(), rules):
            return match[0]
        removed += 1
        return ""

    if not encoded_only:
        if "://" in text and "#" in text:
            text = _plain_fragment(fragment, text)
        if ";" in text:
            text = _plain_matrix(matrix, text)
        text = _plain_query(plain, text)
    if "%3" in text:
        if "%23" in text and not rules.privacy.keep_fragment:
            text = _encoded_fragment(r"\1", text)
        if "%3b" in text or "%3B" in text:
            text = _encoded_matrix(matrix, text)
        text = _encoded_query(encoded, text)
    return _anonymous(text), removed
