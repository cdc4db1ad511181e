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
from streams.anonymize import addresses, urls, visitor_ids
from streams.anonymize.urls import clean_text
from streams.distinct import Cache
from streams.enrich import bots, campaigns, device, languages, referrers, searches
from streams.enrich.campaigns import Campaign
from streams.enrich.device import Device
from streams.enrich.referrers import Referrer
from streams.enrich.searches import Search
from streams.rules import Rules

SEPARATOR = " "
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


class Link(NamedTuple):
    """An outlink or download. `given`: it is not empty, even where nothing of it may be stored."""

    url: str
    removed: int
    given: bool


NO_PAGE = Page()


def page(text: str, rules: Rules) -> Page:
    """The page of a decoded `url`."""
    parts = urls.split(text)
    if parts is None:
        return NO_PAGE
    path = urls.clean_path(parts, rules)
    url, removed = urls.clean(parts, rules, rules.campaign_parameters, path)
    given = parts.parameters + parts.fragment_parameters
    found = searches.of_parameters(given, rules)
    return Page(
        url,
        urls.clean(parts, rules, rules.column_parameters, path)[0] if found.keyword else url,
        parts.host.partition(":")[0],
        path[0],
        found,
        campaigns.of_parameters(given, rules),
        removed,
        parts.host,
    )


def link(text: str, rules: Rules) -> Link:
    """The target of a decoded `link` or `download`."""
    parts = urls.split(text)
    if parts is None:
        return Link("", 0, bool(urls.tidy(text)))
    return Link(*urls.clean(parts, rules), True)


class Caches:
    """All caches of one process."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[bytes, int, bool], int] = {}
        self._rules: dict[str, Rules] = {}
        self._made: dict[tuple[bytes, int], Rules] = {}
        self._next = 0
        self.addresses: Cache[bytes, str] = Cache(addresses.text)
        self.devices: Cache[str, tuple[Device, int]] = Cache(self._device)
        self.languages: Cache[str, Tongue] = Cache(self._language)
        self.hints: Cache[str, int] = Cache(lambda text: int(bots.of_hints(decode(text))))
        self.pages: Cache[str, Page] = Cache(lambda key: page(*self._scoped(key)))
        self.links: Cache[str, Link] = Cache(lambda key: link(*self._scoped(key)))
        self.referrers: Cache[str, Referrer] = Cache(lambda key: referrers.classify(*self._scoped(key)))
        self.crawlers: Cache[str, bool] = Cache(exclusions.crawler)
        self.spam: Cache[str, bool] = Cache(lambda raw: exclusions.spam(decode(raw)))
        self.texts: Cache[str, str | None] = Cache(self._text)
        self.scoped_texts: Cache[str, tuple[str, int]] = Cache(lambda key: clean_text(*self._scoped(key)))

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

    def _scoped(self, key: str) -> tuple[str, Rules]:
        number, _, raw = key.partition(SEPARATOR)
        return decode(raw), self._rules[number]

    @staticmethod
    def _text(raw: str) -> str | None:
        """A text that is the same under all rules, None where the site's are needed."""
        return urls.plain_text(decode(raw))

    @staticmethod
    def _device(agent: str) -> tuple[Device, int]:
        found = device.describe(agent)
        return found, visitor_ids.fingerprint_word(found.fingerprint)

    @staticmethod
    def _language(text: str) -> Tongue:
        tags = languages.accepted(text)
        found = languages.best(tags)
        countries = {rule: languages.country(tags, rule) for rule in CountryByLanguage}
        return Tongue(found, visitor_ids.fingerprint_word(found), countries)


@cache
def caches() -> Caches:
    """The caches of this process; `caches.cache_clear()` forgets them all."""
    return Caches()
