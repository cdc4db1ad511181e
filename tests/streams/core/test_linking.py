"""Whether visits of one visitor on two days, or at two sites, can be linked from the rows that the worker makes."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import pytest

from infra import privacy
from schemas.packets import Event
from schemas.privacy import PRESETS, Privacy, of_preset
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import EVENTS
from streams import batch
from streams.batch import Record
from tests.streams.core.traffic import AGENTS, START_MS, fresh, q, world

VISITORS, VIEWS = 10_000, 2
LONG = pytest.mark.long
FEWER = 2_500  # enough to see any difference that a rule makes
DAY_MS = 86_400_000
PLACE = {"writer", "seq", "offset"}
KEYS = [field.name for field in EVENTS if str(field.type) in ("uint64", "fixed_size_binary[16]")]
KEYS = [name for name in KEYS if name not in PLACE | {"policy_version", "repeat_id"}] + [
    "page_view_id",
    "media_id",
]  # no repeats are sent here
COARSE = ("address", "country", "device_type", "os", "browser", "language", "hour")
MOMENTS = {field.name for field in EVENTS if str(field.type).startswith("timestamp")}
POINT = 0.01  # a percentage point


@dataclass(frozen=True, slots=True)
class Person:
    """What a visitor brings along on every day."""

    number: int
    id: str
    user: str
    address: bytes
    agent: str
    language: str
    resolution: str
    plugins: str
    clock: int
    hour: int
    page: str  # is open over midnight, and plays a film


def _person(r: random.Random, number: int) -> Person:
    network = bytes([81, r.randrange(12), r.randrange(256), r.randrange(256)])
    agent = r.choice(AGENTS[:4]).format(v=r.randint(90, 140), d=r.randint(0, 9))
    return Person(
        number,
        f"{r.getrandbits(64):016x}",
        f"user{number}@corp.example" if r.random() < 0.3 else "",
        b"\0" * 10 + b"\xff\xff" + network,
        agent,
        r.choice(["de", "en", "fr"]),
        f"{r.choice([1280, 1366, 1920, 2560])}x{r.choice([720, 900, 1080, 1440])}",
        "&".join(f"{name}={r.randint(0, 1)}" for name in ("pdf", "java", "cookie")),
        r.randint(-90, 90),
        r.randint(8, 19),
        f"{r.getrandbits(24):06x}",
    )


def _request(r: random.Random, person: Person, at_ms: int, consent: str, view: int) -> str:
    seconds = (at_ms // 1000 + person.clock) % 86_400
    url = f"https://www.shop.example/p{r.randint(1, 200)}?color={r.randint(1, 9)}&gclid={r.getrandbits(60):x}"
    out = f"rec=1&url={q(url)}&_id={person.id}&uid={q(person.user)}&res={person.resolution}&{person.plugins}"
    out += f"&h={seconds // 3600}&m={seconds // 60 % 60}&s={seconds % 60}"
    out += f"&pv_id={person.page if view == 0 else f'{r.getrandbits(24):06x}'}"
    if r.random() < 0.2:
        out += f"&idgoal=0&ec_id=ORDER{person.number}&revenue={r.randint(1, 90)}"
    if view == 0 and r.random() < 0.1:
        out += f"&ma_id={person.page}&ma_re={q('https://www.shop.example/film.mp4')}&ma_mt=video"
    return out + f"&dimension1={q(person.user)}&consent={consent}"


@cache
def made(
    rules_name: str, changed: tuple[tuple[str, Any], ...] = (), visitors: int = VISITORS
) -> tuple[list[dict[str, Any]], list[Person]]:
    """The rows of all persons at sites 1 and 2 on two days, and whose each is."""
    from streams.caches import caches

    caches.cache_clear()
    r = random.Random(11)
    policy = SitePolicy(privacy=msgspec.structs.replace(of_preset(rules_name), **dict(changed)))
    policies = PolicySet({1: policy, 2: policy})
    consent = "1" if rules_name == "consent-required" else ""
    people = [_person(r, number) for number in range(visitors)]
    events: list[tuple[Event, Person]] = []
    midnight = START_MS // DAY_MS * DAY_MS
    for day in range(2):
        for person in people:
            for site in (1, 2) if person.number % 4 == 0 else (1,):
                start = midnight + day * DAY_MS + person.hour * 3_600_000 + r.randrange(3_000_000)
                for view in range(VIEWS):
                    at = start + view * r.randrange(1000, 200_000)
                    query = _request(r, person, at, consent, view)
                    values = (at, site, person.address, 0, 0, person.agent, person.language, "", query)
                    events.append((Event(*values), person))
    events.sort(key=lambda pair: pair[0].received_ms)
    records = []
    for seq, start in enumerate(range(0, len(events), 2_000)):
        from schemas import packets

        part = [event for event, _ in events[start : start + 2_000]]
        value = packets.encode(7, seq, 1, policies.version, part)
        records.append(Record(0, seq, 1, part[-1].received_ms, value))
    states, known = fresh(records), world(policies)
    rows: list[dict[str, Any]] = []
    for record in records:
        outcome = batch.process([record], states, known)
        outcome.apply()
        rows += outcome.events.to_pylist()
    assert len(rows) == len(events)
    return rows, [person for _, person in events]


def test_no_key_or_hash_is_met_on_two_days_or_at_two_sites_under_the_default() -> None:
    rows, _ = made("no-personal-data", (), FEWER)
    assert {"visitor_id", "config_id", "visit_id", "order_id", "visit_user_id", "user_id"} <= set(KEYS)
    met: dict[int | bytes | str, tuple[int, int]] = {}
    for row in rows:
        group = row["site_id"], row["time"].toordinal()
        for name in KEYS:
            if row[name]:
                assert met.setdefault(row[name], group) == group, name
    assert len(set(met.values())) == 4
    assert {name for name in KEYS if any(row[name] for row in rows)} == set(KEYS) - {"user_id", "visit_user_id"}


def linked(rules_name: str, visitors: int = VISITORS, **changed: Any) -> tuple[float, float]:
    """How many visitors of site 1 are found again on the second day: from all columns, and from the coarse ones alone.

    Of the visitors of the first day who share the coarse columns, the one is guessed who shares the most of the other
    values, each by how rare it is; of equals any.
    """
    rows, people = made(rules_name, tuple(sorted(changed.items())), visitors)
    days: tuple[dict[int, dict[str, set[Any]]], ...] = ({}, {})
    first = min(row["time"].toordinal() for row in rows)
    left_out = {"writer", "partition", "seq", "index", "generation", "offset", "policy_version", "gap_ms"} | MOMENTS
    for row, person in zip(rows, people, strict=True):
        if row["site_id"] == 1:
            of_person = days[row["time"].toordinal() - first].setdefault(person.number, defaultdict(set))
            for name, value in row.items():
                if name not in left_out:
                    of_person[name].add(tuple(value) if isinstance(value, list) else value)
            of_person["hour"].add(person.hour)
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    counts: Counter[tuple[str, Any]] = Counter()

    def coarse(values: dict[str, set[Any]]) -> tuple[Any, ...]:
        return tuple(frozenset(values[name]) for name in COARSE)

    for number, values in days[0].items():
        groups[coarse(values)].append(number)
        counts.update((name, value) for name, found in values.items() for value in found)
    by_all = by_coarse = 0.0
    for number, values in days[1].items():
        group = groups[coarse(values)]
        if number not in group:
            continue
        by_coarse += 1 / len(group)
        scores = {
            other: sum(1 / counts[name, value] for name in values for value in values[name] & days[0][other][name])
            for other in group
        }
        best = max(scores.values())
        at_best = [other for other, score in scores.items() if score >= best - 1e-12]
        by_all += (number in at_best) / len(at_best)
    return by_all / len(days[1]), by_coarse / len(days[1])


@pytest.mark.long
def test_the_default_links_no_better_than_the_coarse_columns() -> None:
    by_all, by_coarse = linked("no-personal-data")
    assert 0.05 < by_coarse < 0.9
    assert by_all <= by_coarse + POINT


@pytest.mark.long
@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_explained_is_what_can_be_linked(preset: str) -> None:
    by_all, by_coarse = linked(preset, FEWER)
    said = privacy.explain(SitePolicy(privacy=of_preset(preset)))
    assert any("can be linked by" in text for text in said if not text.startswith("With consent")) == (
        by_all > by_coarse + POINT
    )


@pytest.mark.parametrize(
    "rule", ["resolution", pytest.param("device_versions", marks=LONG), pytest.param("plugins", marks=LONG)]
)
def test_a_fine_column_is_noticed_by_the_linker_and_named(rule: str) -> None:
    by_all, by_coarse = linked("no-personal-data", FEWER, **{rule: True})
    assert by_all > by_coarse + POINT
    assert privacy.linkable(msgspec.structs.replace(Privacy(), **{rule: True}))
