"""The events of the benchmarks: visits as `infra.load` models them, the same for the same seed, in any quantity."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from infra.load.sites import ModelSite, model_site
from infra.load.visits import Visit, Visitor, new_visitor
from schemas.packets import MAPPED_IPV4

OPEN_VISITS = 2_000
CLICK_ID = 0.08  # share of page addresses that carry a unique click id, so that no cache of addresses is perfect


class Tracked(NamedTuple):
    """One event: its site, its visitor, the visitor's 16 byte address, and the query string as the browser sends it."""

    site: ModelSite
    visitor: Visitor
    address: bytes
    query: str


class Events:
    """Draws events for ever.

    population: so many visitors come again and again, each to a site of its own, as a visitor of two sites is two
    visitors; 0: new ones all the time.
    """

    def __init__(self, seed: int, sites: Sequence[ModelSite], *, population: int = 0, first_number: int = 0) -> None:
        self._random = Random(seed)
        self._sites = sites
        self._number = first_number
        self._population = [(*self._visitor(), self._site()) for _ in range(population)]
        self._visits = [self._arrival() for _ in range(OPEN_VISITS)]

    def __iter__(self) -> Iterator[Tracked]:
        return self

    def __next__(self) -> Tracked:
        random = self._random
        place = int(random.random() * OPEN_VISITS)
        visit, address = self._visits[place]
        if visit.left <= 0:
            visit, address = self._visits[place] = self._arrival()
        query, _ = visit.event(self._number)
        self._number += 1
        if random.random() < CLICK_ID and query.startswith("action_name="):
            query = query.replace("&urlref=", f"%3Fgclid%3DCj0KCQ{random.getrandbits(64):016x}&urlref=", 1)
        return Tracked(visit.site, visit.visitor, address, query)

    def _visitor(self) -> tuple[Visitor, bytes]:
        # A quarter of the networks, so that masked addresses repeat as they do on a real site.
        address = MAPPED_IPV4 + ipaddress.IPv4Address(0x5000_0000 + self._random.getrandbits(20) * 64).packed
        return new_visitor(self._random), address

    def _site(self) -> ModelSite:
        return self._sites[int(self._random.random() * self._random.random() * len(self._sites))]

    def _arrival(self) -> tuple[Visit, bytes]:
        random = self._random
        if self._population:
            visitor, address, site = random.choice(self._population)
        else:
            (visitor, address), site = self._visitor(), self._site()
        return Visit(random, site, visitor, returning=random.random() < 0.25), address


def model_sites(count: int) -> list[ModelSite]:
    """The sites 1 to `count`."""
    return [model_site(number) for number in range(1, count + 1)]
