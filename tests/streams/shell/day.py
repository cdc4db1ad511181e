"""A day of made-up visitors: what their trackers send, in the order of the log, and what they did.

Households share nothing with one another. Within one there are devices with one address each (two may look the same),
people with ids that come late or never, users who log in, and late events of all ages up to 20 hours.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.packets import MAPPED_IPV4, Event
from schemas.privacy import Privacy, Values
from schemas.sites import PolicySet, SitePolicy

DAY_MS = 86_400_000
START_MS = (time.time_ns() // 1_000_000 // DAY_MS - 1) * DAY_MS  # yesterday, whose secrets a new vault has
ZONES = {1: "UTC", 2: "Europe/Berlin", 3: "Asia/Kathmandu"}
_rules = Privacy(user_ids=Values.DAY, mask_bytes=0)
POLICIES = PolicySet({site: SitePolicy(timezone=zone, privacy=_rules) for site, zone in ZONES.items()})
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
)
MINUTE = 60_000


@dataclass(frozen=True, slots=True)
class Done:
    """What a simulator of visits is told of an event: nothing of how the stream sees it. Times are milliseconds."""

    site: int
    household: int
    time: int
    device: str
    visitor: str
    user: str
    campaign: str
    ping: bool
    forced: bool


@dataclass(frozen=True, slots=True)
class _Person:
    visitor: str  # the id once it is known, "" for those who never have one
    user: str
    device: tuple[int, int]  # the number of the address, that of the agent


def day(visitors: int, seed: int, tireless: bool = False) -> tuple[list[Event], list[Done]]:
    """The events of about so many people in the order of the log, and what they are of; site 1 has the first half.

    `tireless`: one of them does more than a visit may hold.
    """
    draw = random.Random(seed)
    made: list[tuple[int, int, Event, Done]] = []
    people = household = 0
    while people < visitors:
        household += 1
        site = draw.choices((1, 2, 3), (4, 3, 1))[0]
        size = draw.choices((1, 2, 4), (70, 20, 10))[0]
        agent = draw.randrange(3)
        devices = [(household * 4 + n // 2, agent if n % 2 else draw.randrange(3)) for n in range(size)]
        for number in range(size):
            named, known = draw.random() < 0.7, draw.random() < 0.25
            person = _Person(
                f"{draw.getrandbits(64):016x}" if named else "",
                f"user{household}.{draw.randrange(size)}" if known else "",
                devices[number],
            )
            other = devices[draw.randrange(size)]
            for event, done, arrived in _sessions(draw, site, household, person, other):
                made.append((arrived, len(made), event, done))
        people += size
    if tireless:
        person = _Person("00000000000000aa", "", (0, 0))
        for step in range(10_050):
            at = START_MS + 3_600_000 + step * 5_000
            event, done = _event(1, 0, person, (0, 0), at, at, visitor=person.visitor)
            made.append((at, len(made), event, done))
    made.sort(key=lambda one: one[:2])
    return [event for _, _, event, _ in made], [done for *_, done in made]


def _sessions(
    draw: random.Random, site: int, household: int, person: _Person, other: tuple[int, int]
) -> Iterator[tuple[Event, Done, int]]:
    for _ in range(draw.choice((1, 1, 2, 3))):
        now = START_MS + draw.randrange(DAY_MS)
        device = other if draw.random() < 0.1 else person.device
        anonymous = draw.random() < 0.3  # until it consents
        for step in range(draw.choice((1, 2, 3, 5, 8))):
            now += draw.choice((0, 400, 9_000, 70_000, 400_000, draw.choice((29, 30, 31)) * MINUTE))
            device = other if draw.random() < 0.02 else device
            anonymous &= draw.random() < 0.6
            late = draw.random() < 0.12
            delay = draw.choice((5_000, 119_000, 121_000, 25 * MINUTE, 3 * 3_600_000, 20 * 3_600_000)) if late else 0
            logged = bool(person.user) and step > 1
            event, done = _event(
                site,
                household,
                person,
                device,
                now,
                now + delay,
                visitor="" if anonymous else person.visitor,
                user=person.user if logged else "",
                campaign=draw.choice(("spring", "autumn")) if draw.random() < 0.06 else "",
                ping=draw.random() < 0.1,
                forced=draw.random() < 0.01,
            )
            yield event, done, now + delay + draw.choice((0, 0, 300, 2_000))


def _event(
    site: int,
    household: int,
    person: _Person,
    device: tuple[int, int],
    at: int,
    received: int,
    *,
    visitor: str = "",
    user: str = "",
    campaign: str = "",
    ping: bool = False,
    forced: bool = False,
) -> tuple[Event, Done]:
    query = f"idsite={site}&rec=1&url=https%3A%2F%2Fshop.example%2F&_id={visitor}"
    query += f"&uid={user}" if user else ""
    query += f"&mtm_campaign={campaign}" if campaign else ""
    query += "&ping=1" if ping else ""
    query += "&new_visit=1" if forced else ""
    if received > at:
        query += f"&cdt={datetime.fromtimestamp(at // 1000, UTC):%Y-%m-%dT%H%%3A%M%%3A%S}.{at % 1000:03}Z"
    address, agent = device
    event = Event(
        received, site, MAPPED_IPV4 + (0x0B000000 + address).to_bytes(4), 0, 0, AGENTS[agent], "de", "", query
    )
    return event, Done(site, household, at, f"{address} {agent}", visitor, user, campaign, ping, forced)
