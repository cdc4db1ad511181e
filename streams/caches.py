"""The caches of the columnar worker: what rules made of raw values, kept in this process's memory alone.

Rules are the site's, so a key is the number of a scope (policy version and site), a separator, and the raw
encoded value; decoding then happens on misses only.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from schemas.parameters import decode
from schemas.privacy import CountryByLanguage
from schemas.sites import PolicySet
from streams import exclusions
from streams.anonymize import addresses, detect, urls, visitor_ids
from streams.anonymize.urls import Parameter, Parts, clean_text
from streams.decoding import decode_all
from streams.distinct import Cache, each
from streams.domains import portless
from streams.enrich import bots, campaigns, device, languages, referrers, searches
from streams.enrich.campaigns import Campaign
from streams.enrich.device import Device
from streams.enrich.referrers import Referrer
from streams.enrich.searches import Search
from streams.rules import Rules

SEPARATOR = " "
BETWEEN = "\n"  # an agent and client hints; no header holds it
SCOPES = 100_000  # pairs of policy version and site remembered before all is forgotten


class Page(NamedTuple):
    """A page's URL. `searched`: the same without what a site search has columns for.

    own: its host as a referrer's host is compared with it, never empty.
    """

    url: str = ""
    searched: str = ""
    host: str = ""
    path: str = ""
    search: Search = searches.NONE
    campaign: Campaign = campaigns.NONE
    removed: int = 0
    own: str = "\0"


class Tongue(NamedTuple):
    """A visitor's languages: the one that is stored, what enters the config id of it, and countries by rule."""

    language: str
    word: int
    countries: dict[CountryByLanguage, str]


class Text(NamedTuple):
    """A text as it may be stored: `everywhere` under all rules, `masked` where all detectors are on.

    None where a site's own rules are needed.
    """

    everywhere: str | None = None
    masked: str | None = None


class Link(NamedTuple):
    """An outlink or download. `given`: it is not empty, even where nothing of it may be stored."""

    url: str = ""
    removed: int = 0
    given: bool = True


NO_PAGE = Page()
OF_SITES = Text()


Known = dict[tuple[int, tuple[Parameter, ...]], Campaign]  # by site's rules and parameters


def page(parts: Parts | None, rules: Rules, clear: bool, known: Known) -> Page:
    """The page of a `url`, taken apart. clear: no detector finds anything in its path. known: campaigns met before."""
    if parts is None:
        return NO_PAGE
    path = urls.clean_path(parts, rules, clear)
    url, removed = urls.clean(parts, rules, rules.campaign_parameters, path, own=True)
    given = parts.parameters + parts.fragment_parameters
    if not given:
        return Page(url, url, portless(parts.host), path[0], removed=removed, own=parts.host)
    found = searches.of_parameters(given, rules)
    named = campaigns.named(given, rules)
    campaign = known.get((id(rules), named)) if named else campaigns.NONE
    if campaign is None:
        campaign = known[id(rules), named] = campaigns.of_parameters(named, rules)
    return Page(
        url,
        urls.clean(parts, rules, rules.column_parameters, path, own=True)[0] if found.keyword else url,
        portless(parts.host),
        path[0],
        found,
        campaign,
        removed,
        parts.host,
    )


def link(parts: Parts, rules: Rules, clear: bool = False) -> Link:
    """The target of a `link` or `download`, taken apart; `clear`: no detector finds anything in its path."""
    return Link(*urls.clean(parts, rules, path=urls.clean_path(parts, rules, clear)))


def text(tidied: str, clear: bool = False) -> Text:
    """A text without control characters; `clear`: no detector finds anything in it."""
    if urls.holds_urls(tidied):
        return OF_SITES
    short = urls.cut(tidied)
    masked = short if clear else detect.mask(tidied, detect.ALL, urls.LIMIT)
    return Text(short if masked == short else None, masked)


class Caches:
    """All caches of one process."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[bytes, int, bool], int] = {}
        self._rules: dict[str, Rules] = {}
        self._made: dict[tuple[bytes, int], Rules] = {}
        self._next = 0
        self.addresses: Cache[bytes, str] = Cache(each(addresses.text))
        self.devices: Cache[str, tuple[Device, int]] = Cache(each(_device))
        self.languages: Cache[str, Tongue] = Cache(each(_tongue))
        self.hints: Cache[str, int] = Cache(each(_hints))
        self.pages: Cache[str, Page] = Cache(self._pages)
        self.links: Cache[str, Link] = Cache(self._links)
        self.referrers: Cache[str, Referrer] = Cache(self._referrers)
        self.crawlers: Cache[str, bool] = Cache(each(exclusions.crawler))
        self.spam: Cache[str, bool] = Cache(lambda raw: list(map(exclusions.spam, decode_all(raw))))
        self.texts: Cache[str, Text] = Cache(_texts)
        self.scoped_texts: Cache[str, tuple[str, int]] = Cache(self._scoped_texts)

    def rules_of(self, version: bytes, site: int, policies: PolicySet) -> Rules | None:
        """A site's rules under the policy set of this version, None where it has no such site.

        Made once; raises PolicyUnusable.
        """
        made = self._made.get((version, site))
        if made is None and (policy := policies.of(site)) is not None:
            if len(self._made) >= SCOPES:
                self._made.clear()
            made = self._made[version, site] = Rules.of(site, policy, policies.folders)
        return made

    def scopes(self, scopes: Sequence[tuple[bytes, Rules | None]]) -> list[int]:
        """The number of each scope; a number is never used for another."""
        if len(self._numbers) > SCOPES:
            self._numbers.clear()
            self._rules.clear()
        out = []
        for version, rules in scopes:
            if rules is None:
                out.append(-1)
                continue
            name = (version, rules.site, rules.granted)
            number = self._numbers.get(name)
            if number is None:
                number = self._numbers[name] = self._next
                self._rules[str(number)] = rules
                self._next += 1
            out.append(number)
        return out

    def _scoped(self, keys: Sequence[str]) -> tuple[list[str], list[Rules]]:
        """The decoded values of keys, and the rules of their scopes."""
        split = [key.partition(SEPARATOR) for key in keys]
        return decode_all([raw for _, _, raw in split]), [self._rules[number] for number, _, _ in split]

    def _pages(self, keys: Sequence[str]) -> list[Page]:
        texts, rules = self._scoped(keys)
        known: Known = {}
        return [page(parts, own, clear, known) for (parts, clear), own in zip(_apart(texts), rules, strict=True)]

    def _links(self, keys: Sequence[str]) -> list[Link]:
        texts, rules = self._scoped(keys)
        return [
            link(parts, own, clear) if parts is not None else Link(given=bool(urls.tidy(text)))
            for text, (parts, clear), own in zip(texts, _apart(texts), rules, strict=True)
        ]

    def _scoped_texts(self, keys: Sequence[str]) -> list[tuple[str, int]]:
        texts, rules = self._scoped(keys)
        tidied = list(map(urls.tidy, texts))
        cleaned = zip(tidied, rules, detect.clear(tidied), strict=True)
        return [clean_text(text, own, clear=clear) for text, own, clear in cleaned]

    def _referrers(self, keys: Sequence[str]) -> list[Referrer]:
        return [referrers.classify(urls.split(text), rules) for text, rules in zip(*self._scoped(keys), strict=True)]


def _apart(texts: Sequence[str]) -> list[tuple[Parts | None, bool]]:
    """URLs taken apart, and whether no detector finds anything in their paths."""
    found = list(map(urls.split, texts))
    return list(zip(found, detect.clear([parts.path if parts else "" for parts in found]), strict=True))


def _texts(raw: Sequence[str]) -> list[Text]:
    tidied = list(map(urls.tidy, decode_all(raw)))
    free = [each for each in tidied if not urls.holds_urls(each)]
    clear = dict(zip(free, detect.clear(free), strict=True))
    return [text(each, clear.get(each, False)) for each in tidied]


def _device(agent: str) -> tuple[Device, int]:
    found = device.describe(agent)
    return found, visitor_ids.fingerprint_word(found.fingerprint)


def _hints(both: str) -> int:
    agent, _, hints = both.partition(BETWEEN)
    return int(bots.of_hints(decode(hints), agent)) if hints else 0


def _tongue(text: str) -> Tongue:
    tags = languages.accepted(text)
    found = languages.best(tags)
    countries = {rule: languages.country(tags, rule) for rule in CountryByLanguage}
    return Tongue(found, visitor_ids.fingerprint_word(found), countries)


@cache
def caches() -> Caches:
    """The caches of this process; `caches.cache_clear()` forgets them all."""
    return Caches()
