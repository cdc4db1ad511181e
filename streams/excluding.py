"""The exclusions over columns: the first reason of each row, as `exclusions.verdict` finds it.

Agents and referrers are judged once per distinct value through the caches; what only some sites ask for is looked at
for the rows of these sites alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import parameters
from schemas.packets import Flag
from streams.caches import caches
from streams.columns import Query
from streams.distinct import Texts, encode
from streams.exclusions import Exclusions, Ranges, networks
from streams.gather import Rows
from streams.verdicts import (
    BOT,
    BOT_ADDRESS,
    EXCLUDED_ADDRESS,
    EXCLUDED_AGENT,
    EXCLUDED_REQUEST,
    NOT_RECORDED,
    NUMBER,
    OPTED_OUT,
    PREFETCH,
    REFERRER_SPAM,
    UNKNOWN_URL,
)

Flags = npt.NDArray[np.bool_]
NAMES_LIMIT = 254  # that a `Query` can number


def names_of(scopes: Sequence[Exclusions | None], names: Mapping[str, int]) -> Mapping[str, int]:
    """The names of parameters with those that the sites' expressions read."""
    more = {one.name for site in scopes if site for one in site.requests} - names.keys()
    if not more:
        return names
    room = NAMES_LIMIT - len(names)
    return dict(names) | {name: number for number, name in enumerate(sorted(more)[:room], len(names) + 1)}


def verdicts(
    rows: Rows, query: Query, agent: Texts, scopes: Sequence[Exclusions | None]
) -> tuple[npt.NDArray[np.uint8], Flags]:
    """A number of `verdicts.VERDICTS` for each row, 0 where it is kept; and where an address is a crawler's.

    `agent`: by header or `ua`.
    """
    found = _Excluding(rows, query, agent, scopes)
    bots, addresses = found.judged_bots(), found.bot_addresses()
    conditions = [
        bots & found.crawlers(),
        bots & addresses,
        ~query.is_one("rec"),
        found.requests(),
        (rows.flags & Flag.OPT_OUT) != 0,
        found.addresses(),
        found.agents(),
        found.spam(),
        found.elsewhere(),
        (rows.flags & Flag.PREFETCH) != 0,
    ]
    reasons = [BOT, BOT_ADDRESS, NOT_RECORDED, EXCLUDED_REQUEST, OPTED_OUT, EXCLUDED_ADDRESS, EXCLUDED_AGENT]
    reasons += [REFERRER_SPAM, UNKNOWN_URL, PREFETCH]
    return np.select(conditions, [NUMBER[reason] for reason in reasons], 0).astype(np.uint8), addresses


class _Excluding:
    def __init__(self, rows: Rows, query: Query, agent: Texts, scopes: Sequence[Exclusions | None]) -> None:
        self.rows, self.query, self.scopes = rows, query, scopes
        self.n = len(rows)
        self.distinct_agents, self.agent_at = agent

    def each_site(self, asks: Callable[[Exclusions], bool], judge: Callable[[Exclusions, Flags], Flags]) -> Flags:
        """Of the rows of each site that asks, whether it judges them so."""
        out = np.zeros(self.n, np.bool_)
        for scope, site in enumerate(self.scopes):
            if site is not None and asks(site) and (here := self.rows.scope == scope).any():
                out[here] = judge(site, here)
        return out

    def judged_bots(self) -> Flags:
        keep = np.array([site is not None and site.keep_bots for site in self.scopes], np.bool_)
        judged = ~keep[self.rows.scope]
        return judged & ~self.query.is_one("bots") if self.query.given("bots") else judged

    def crawlers(self) -> Flags:
        return np.array(caches().crawlers.of(self.distinct_agents, self.n), np.bool_)[self.agent_at]

    def bot_addresses(self) -> Flags:
        words = np.ascontiguousarray(self.rows.address).view(">u4")
        four = (words[:, 0] == 0) & (words[:, 1] == 0) & (words[:, 2] == 0xFFFF)
        number = words[:, 3].astype(np.int64)
        google = _holds(networks(True), number) & ((self.rows.flags & Flag.DATA_SAVER) == 0)
        found: Flags = four & (_holds(networks(False), number) | google)
        return found

    def requests(self) -> Flags:
        known: dict[object, Flags] = {}

        def judge(site: Exclusions, here: Flags) -> Flags:
            out = np.zeros(int(here.sum()), np.bool_)
            for one in site.requests:
                if one not in known:
                    try:
                        known[one] = self.query.each(one.name, one.holds, one.holds(""), np.bool_)
                    except KeyError:  # more names than can be numbered
                        assert self.rows.query is not None
                        texts = self.rows.query.to_pylist()
                        values = (parameters.parse(text).get(one.name, "") for text in texts)
                        known[one] = np.array([one.holds(value) for value in values], np.bool_)
                out |= known[one][here]
            return out

        return self.each_site(lambda site: bool(site.requests), judge)

    def addresses(self) -> Flags:
        def judge(site: Exclusions, here: Flags) -> Flags:
            return np.array([address.tobytes() in site.addresses for address in self.rows.address[here]], np.bool_)

        return self.each_site(lambda site: bool(site.addresses), judge)

    def agents(self) -> Flags:
        def judge(site: Exclusions, here: Flags) -> Flags:
            distinct, at = np.unique(self.agent_at[here], return_inverse=True)
            judged = [site.excludes_agent(self.distinct_agents[code]) for code in distinct.tolist()]
            return np.array(judged, np.bool_)[at]

        return self.each_site(lambda site: bool(site.agents), judge)

    def spam(self) -> Flags:
        out = np.zeros(self.n, np.bool_)
        values, rows = self.query.values("urlref")
        if len(rows):
            distinct, at = encode(values)
            out[rows] = np.array(caches().spam.of(distinct, len(rows)), np.bool_)[at]
        return out

    def elsewhere(self) -> Flags:
        def judge(site: Exclusions, here: Flags) -> Flags:
            distinct, at = encode(pages().filter(pa.array(here)))
            return np.array([not site.knows(parameters.decode(text)) for text in distinct], np.bool_)[at]

        given: list[pa.StringArray] = []

        def pages() -> pa.StringArray:
            if not given:
                given.append(self.query.full("url"))
            return given[0]

        return self.each_site(lambda site: site.pages is not None, judge)


def _holds(ranges: Ranges, number: npt.NDArray[np.int64]) -> Flags:
    """Whether ranges of IPv4 hold an IPv4 address, given as its 32 bits."""
    bounds = np.array([bound & 0xFFFFFFFFFF for bound in ranges.bounds], np.int64) - (0xFF << 32)
    found: Flags = np.searchsorted(bounds, number, side="right") % 2 == 1
    return found
