"""What is not kept, of one value each: crawlers, addresses, agents, requests, senders of spam, pages of other sites.

The order is Matomo's: crawler, address of a crawler, `rec`, the site's requests, the opt-out cookie, addresses and
agents, referrer spam, pages elsewhere, prefetched pages. The whole address is seen here and nowhere after; nothing of
it is kept.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from schemas.addresses import Range, parse_range
from schemas.exclusions import Comparison, agent_matches, comparisons
from schemas.packets import Event, Flag
from schemas.sites import SitePolicy
from streams import verdicts
from streams.anonymize.split import split
from streams.domains import Domains
from streams.enrich import bots

# Networks of search engines' crawlers, of Matomo 5.2: Microsoft and Yahoo; those of Google are also a proxy's.
BOT_NETWORKS = """
64.4.0.0/18 65.52.0.0/14 157.54.0.0/15 157.56.0.0/14 157.60.0.0/16 207.46.0.0/16 207.68.128.0/18 207.68.192.0/20
131.253.26.0/20 131.253.24.0/20 72.30.198.0/20 72.30.196.0/20 98.137.207.0/20 1.202.218.8
"""
GOOGLE_NETWORKS = """
216.239.32.0/19 64.233.160.0/19 66.249.80.0/20 72.14.192.0/18 209.85.128.0/17 66.102.0.0/20 74.125.0.0/16
64.18.0.0/20 207.126.144.0/20 173.194.0.0/16
"""

_host = re.compile(r"\s*(?:[a-zA-Z][a-zA-Z0-9+.-]*:)?//([^/?#\s]{1,255})").match


class Ranges:
    """Ranges of addresses, merged: one search tells whether one of them holds an address."""

    __slots__ = ("bounds",)

    def __init__(self, texts: Iterable[str]) -> None:
        found: list[Range] = [one for text in texts if (one := parse_range(text)) is not None]
        merged: list[int] = []  # low, high + 1, low, high + 1, ...
        for one in sorted(found, key=lambda one: one.low):
            if merged and one.low <= merged[-1]:
                merged[-1] = max(merged[-1], one.high + 1)
            else:
                merged += [one.low, one.high + 1]
        self.bounds = tuple(merged)

    def __bool__(self) -> bool:
        return bool(self.bounds)

    def __contains__(self, address: bytes) -> bool:
        return bool(bisect_right(self.bounds, int.from_bytes(address, "big")) % 2)


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What one site does not keep. `pages`: where its pages may be, None for anywhere."""

    keep_bots: bool
    addresses: Ranges
    agents: tuple[str, ...]
    requests: tuple[Comparison, ...]
    pages: Domains | None

    @classmethod
    def of(cls, policy: SitePolicy) -> Exclusions:
        """The exclusions of a policy."""
        pages = Domains(policy.domains if policy.exclude_unknown_urls else ())
        return cls(
            policy.keep_bots,
            Ranges(policy.excluded_addresses),
            policy.excluded_agents,
            tuple(one for text in policy.excluded_requests for one in comparisons(text) or ()),
            pages or None,
        )

    def excludes_agent(self, agent: str) -> bool:
        """Whether the site keeps nothing of this agent."""
        return bool(self.agents) and agent_matches(agent, self.agents)

    def knows(self, url: str) -> bool:
        """Whether a decoded URL is one of the site's; True where it may be anything."""
        if self.pages is None:
            return True
        parts = split(url)
        return parts is not None and self.pages.depth(parts.host, parts.path) > 0


@cache
def networks(google: bool) -> Ranges:
    """The networks of crawlers; of Google's or of the others."""
    return Ranges((GOOGLE_NETWORKS if google else BOT_NETWORKS).split())


def crawler(agent: str) -> bool:
    """Whether a User-Agent names a crawler, a monitor or an assistant. Libraries are none: people use them."""
    return bool(bots.of_agent(agent).reasons & bots.EXCLUDED)


def bot_address(address: bytes, flags: int) -> bool:
    """Whether an address is a crawler's; those of Google are not where its data saver asks for a person."""
    return address in networks(False) or (not flags & Flag.DATA_SAVER and address in networks(True))


@cache
def _spammers() -> frozenset[str]:
    text = files("streams.enrich").joinpath("data").joinpath("spammers.txt").read_text("utf-8")
    return frozenset(line.strip().lower() for line in text.split("\n") if line.strip())


def spam(referrer: str) -> bool:
    """Whether a decoded `urlref` is on a host of the list of spammers, or below one."""
    found = _host(referrer)
    host = found[1].rpartition("@")[2].partition(":")[0].lower() if found else ""
    known = _spammers()
    while host:
        if host in known:
            return True
        host = host.partition(".")[2]
    return False


def verdict(event: Event, given: Mapping[str, str], rec: bool, bots: bool, site: Exclusions) -> verdicts.Verdict | None:
    """The first reason that holds, None where the event is kept. `rec`, `bots`: these parameters are 1."""
    agent = given.get("ua", "")
    agent = agent if agent.strip() else event.agent
    kept = bots or site.keep_bots
    reasons: Sequence[tuple[bool, verdicts.Verdict]] = (
        (not kept and crawler(agent), verdicts.BOT),
        (not kept and bot_address(event.address, event.flags), verdicts.BOT_ADDRESS),
        (not rec, verdicts.NOT_RECORDED),
        (any(one.holds(given.get(one.name, "")) for one in site.requests), verdicts.EXCLUDED_REQUEST),
        (bool(event.flags & Flag.OPT_OUT), verdicts.OPTED_OUT),
        (event.address in site.addresses, verdicts.EXCLUDED_ADDRESS),
        (site.excludes_agent(agent), verdicts.EXCLUDED_AGENT),
        (spam(given.get("urlref", "")), verdicts.REFERRER_SPAM),
        (not site.knows(given.get("url", "")), verdicts.UNKNOWN_URL),
        (bool(event.flags & Flag.PREFETCH), verdicts.PREFETCH),
    )
    return next((reason for holds, reason in reasons if holds), None)
