"""Which requests are repeats, by the table in `streams.repeats`, and that it does not matter where a worker stood."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas import packets
from schemas.packets import MAPPED_IPV4, Event, Repeat
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import PacketKind
from streams import batch, reference, visits
from streams.anonymize import urls
from streams.batch import Record
from streams.lookups import Shelf
from streams.repeats import AHEAD_MS, BEHIND_MS
from streams.surroundings import Asked, RepeatsMissing
from streams.window import Run
from tests.streams.core.compare import Rows, differences, rebuilt, rows, run
from tests.streams.core.traffic import BASE, START_MS, World, one, policy_set, simple, world

POLICIES = policy_set()
VERSION = POLICIES.version
WINDOW = 900_000
RANDOM = BASE + "&r=123456&h=8&m=26&s=40"
MIDNIGHT = int(datetime(2026, 11, 19, tzinfo=UTC).timestamp() * 1000)


def told(event: Event, kind: bytes, *, hash_: int = 7, items: int = 1, index: int = 0) -> Event:
    return msgspec.structs.replace(event, repeat=kind + bytes([hash_]) * 16, items=items, index=index)


def results(*events: Event, policies: PolicySet = POLICIES) -> Rows:
    """The rows of events that come one after the other: the same in one packet, in packets of their own, in any batch,
    after a restart before each of them, and by the reference."""
    version = policies.version
    records = [one([event], version, n, appended_ms=event.received_ms) for n, event in enumerate(events)]
    whole = run([records], world(policies))
    assert differences(whole, run([[record] for record in records], world(policies))) == []
    assert differences(whole, run([records], world(policies), reference.process)) == []
    assert differences(whole, run([[record] for record in records], world(policies), reference.process)) == []
    found: Rows = {"events": [], "rejects": [], "packets": []}
    looked_up = world(policies)
    for record in records:
        state = rebuilt(found, 0, (1, record.offset))
        outcome = batch.process([record], {0: state}, looked_up)
        looked_up.store(outcome.events)
        for table, added in rows(outcome).items():
            found[table] += added
    assert differences(whole, found) == []
    together = run([[one(list(events), version, appended_ms=max(e.received_ms for e in events))]], world(policies))
    assert len(together["events"]) == len(whole["events"])
    return whole


def kept(*events: Event, policies: PolicySet = POLICIES) -> list[int]:
    """The numbers of the events that are stored."""
    return [row["offset"] for row in results(*events, policies=policies)["events"]]


def after(event: Event, ms: int, **more: object) -> Event:
    return msgspec.structs.replace(event, received_ms=event.received_ms + ms, **more)


FIRST = simple(RANDOM)


@pytest.mark.parametrize(
    "query",
    [
        RANDOM,
        RANDOM.replace("&r=", "&rand="),
        BASE + "&r=123456",  # with pv_id
        BASE.replace("&pv_id=abc123", "") + "&r=123456&h=0&m=0&s=0",
        BASE + "&r=1&r=123456",
        BASE + "&%72=123456",
    ],
)
def test_what_has_a_random_number_and_a_time_or_a_page_view_is_dropped_when_it_comes_again(query: str) -> None:
    found = results(simple(query), after(simple(query), 300), after(simple(query), WINDOW))
    assert [row["offset"] for row in found["events"]] == [0]
    assert [row["repeats_random"] for row in found["packets"]] == [0, 1, 1]
    assert [row["stored"] for row in found["packets"]] == [1, 0, 0]
    assert found["packets"][1]["repeats_site"] == [1]
    assert found["packets"][1]["repeats_reason"] == ["random"]
    assert found["packets"][1]["repeats_count"] == [1]
    assert any(found["events"][0]["repeat_id"])


@pytest.mark.parametrize(
    "query",
    [
        BASE,  # an SDK's call: a page view, no random number
        BASE + "&r=&h=1&m=2&s=3",
        BASE + "&r&h=1&m=2&s=3",
        BASE.replace("&pv_id=abc123", "") + "&r=123456",
        BASE.replace("&pv_id=abc123", "&pv_id=") + "&r=123456&h=1&m=2",
        BASE.replace("&pv_id=abc123", "") + "&r=123456&h=1&m=2&s=",
        BASE.replace("&pv_id=abc123", "") + "&h=1&m=2&s=3",
    ],
)
def test_what_has_nothing_to_tell_a_repeat_by_is_a_second_event(query: str) -> None:
    found = results(simple(query), after(simple(query), 1), after(simple(query), 1))
    assert [row["offset"] for row in found["events"]] == [0, 1, 2]
    assert {row["repeat_id"] for row in found["events"]} == {bytes(16)}


@pytest.mark.parametrize(
    "other",
    [
        simple(RANDOM + "1"),
        simple(RANDOM.replace("r=123456", "r=123457")),
        simple(RANDOM + "&e_c=a"),
        simple(RANDOM, address=MAPPED_IPV4 + bytes([81, 2, 69, 161])),
        simple(RANDOM, agent="curl/8"),
        simple(RANDOM, site=2),
    ],
)
def test_another_parameter_address_agent_or_site_is_another_event(other: Event) -> None:
    assert kept(FIRST, after(other, 5)) == [0, 1]


def test_what_is_no_part_of_the_identity_does_not_make_another_event() -> None:
    assert kept(FIRST, after(FIRST, 5, language="fr", hints="{}", role=2, flags=1)) == [0]


def test_a_failed_post_that_comes_again_as_a_url_is_the_same_although_a_browser_encodes_more_there() -> None:
    title = "&action_name=it's%20a%20%22test%22"
    form, url = RANDOM + title, RANDOM + title.replace("'", "%27")
    assert kept(simple(form), after(simple(url), 5)) == [0]
    assert kept(simple(url), after(simple(form), 5)) == [0]
    assert kept(simple(RANDOM + "&a=<\"'>"), after(simple(RANDOM + "&a=%3C%22%27%3E"), 5)) == [0]


def test_an_idempotency_key_counts_whatever_the_parameters_are() -> None:
    first = told(simple(BASE), Repeat.KEY)
    again = told(simple(RANDOM + "&e_c=other"), Repeat.KEY)
    found = results(first, after(again, 10), after(told(simple(BASE), Repeat.KEY, hash_=8), 20))
    assert [row["offset"] for row in found["events"]] == [0, 2]
    assert [row["repeats_key"] for row in found["packets"]] == [0, 1, 0]
    assert kept(first, told(simple(BASE), Repeat.KEY, index=1, items=2)) == [0, 1]
    assert kept(first, told(simple(BASE, site=2), Repeat.KEY)) == [0, 1]


def test_the_items_of_a_bulk_are_told_by_their_place_and_its_bytes() -> None:
    line = "idsite=1&rec=1&url=https%3A%2F%2Fwww.site1.example%2Fa&cdt=2026-11-18+08%3A00%3A00"
    bulk = [told(simple(line), Repeat.BODY, items=3, index=n) for n in range(3)]
    found = results(*bulk, *(after(event, 10_000) for event in bulk))
    assert [row["offset"] for row in found["events"]] == [0, 1, 2]  # identical lines are different hits
    assert sum(row["repeats_body"] for row in found["packets"]) == 3
    other = [after(told(simple(line), Repeat.BODY, hash_=9, items=3, index=n), 10_000) for n in range(3)]
    assert kept(*bulk, *other) == list(range(6))


def test_a_bulk_of_one_is_a_second_event() -> None:
    single = told(simple("idsite=1&rec=1"), Repeat.BODY, items=1)
    assert kept(single, after(single, 10), after(single, 20)) == [0, 1, 2]


def test_an_item_with_a_random_number_is_told_by_it_wherever_it_stands() -> None:
    first = told(FIRST, Repeat.BODY, items=2, index=0)
    assert kept(first, after(told(FIRST, Repeat.BODY, hash_=8, items=5, index=3), 10), after(FIRST, 20)) == [0]


@pytest.mark.parametrize(
    ("ms", "numbers"), [(WINDOW, [0]), (WINDOW + 1, [0, 1]), (-WINDOW, [0]), (-WINDOW - 1, [0, 1])]
)
def test_the_window_reaches_either_way(ms: int, numbers: list[int]) -> None:
    assert kept(FIRST, after(FIRST, ms)) == numbers


def test_the_window_begins_with_what_is_stored() -> None:
    times = [0, 600_000, 1_000_000, 1_200_000, 1_900_001]
    assert kept(*(after(FIRST, ms) for ms in times)) == [0, 2, 4]


@pytest.mark.parametrize(("first", "again"), [(-10_000, 10_000), (-1, 0), (10_000, -10_000), (-450_000, 450_000)])
def test_a_repeat_beyond_midnight_is_one(first: int, again: int) -> None:
    assert kept(simple(RANDOM, at_ms=MIDNIGHT + first), simple(RANDOM, at_ms=MIDNIGHT + again)) == [0]


def test_beyond_midnight_and_beyond_the_window_is_another_event() -> None:
    assert kept(simple(RANDOM, at_ms=MIDNIGHT - 1), simple(RANDOM, at_ms=MIDNIGHT + WINDOW)) == [0, 1]


def test_identities_of_two_days_or_sites_cannot_be_joined() -> None:
    day = 86_400_000
    events = [FIRST, after(FIRST, day), simple(RANDOM, site=2), after(simple(RANDOM, site=2), day)]
    ids = {row["repeat_id"] for row in results(*events)["events"]}
    assert len(ids) == 4
    halves = {half for one_id in ids for half in (one_id[:8], one_id[8:])}
    assert len(halves) == 8


def test_the_window_is_the_sites_and_zero_switches_it_off() -> None:
    sites = PolicySet(
        {1: SitePolicy(repeat_seconds=0), 2: SitePolicy(repeat_seconds=5), 3: SitePolicy(repeat_seconds=3_600)}
    )
    for site, ms, numbers in [(1, 1, [0, 1]), (2, 5_000, [0]), (2, 5_001, [0, 1]), (3, 3_600_000, [0])]:
        event = simple(RANDOM, site=site)
        assert kept(event, after(event, ms), policies=sites) == numbers


def test_a_repeat_touches_no_visit() -> None:
    second = simple(BASE.replace("pv_id=abc123", "pv_id=abc124"))
    first, last = results(FIRST, after(FIRST, 500_000), after(second, 1_000_000))["events"]
    assert (last["visit_position"], last["gap_ms"]) == (2, 1_000_000)
    assert results(FIRST, after(FIRST, 800_000), after(second, 1_799_999))["events"][1]["visit_id"] == first["visit_id"]
    assert results(FIRST, after(FIRST, 800_000), after(second, 1_800_000))["events"][1]["visit_position"] == 1


def test_a_heartbeat_that_is_repeated_prolongs_no_visit_again() -> None:
    ping = simple(RANDOM + "&ping=1", at_ms=START_MS + 60_000)
    found = results(FIRST, ping, after(ping, 60_000))
    assert [row["visit_last"] - START_MS for row in found["events"]] == [0, 60_000]


def test_first_is_what_is_stored_first() -> None:
    """A heartbeat without a visit has no row, so the same one that comes when there is a visit is no repeat of it."""
    ping = simple(RANDOM + "&ping=1")
    found = results(ping, after(ping, 1_000), after(simple(BASE), 2_000), after(ping, 3_000), after(ping, 4_000))
    assert [row["offset"] for row in found["events"]] == [2, 3]
    assert [row["excluded"] for row in found["packets"]] == [1, 1, 0, 0, 0]
    assert found["packets"][4]["repeats_random"] == 1


def test_excluded_and_rejected_events_are_counted_as_such_when_they_come_again() -> None:
    unwanted = [simple(RANDOM.replace("rec=1", "rec=0")), simple(RANDOM + "&cid=x"), simple(RANDOM, flags=4)]
    found = results(*unwanted, *(after(event, 10) for event in unwanted))
    assert [row["excluded"] for row in found["packets"]] == [1, 0, 1, 1, 0, 1]
    assert [row["rejected"] for row in found["packets"]] == [0, 1, 0, 0, 1, 0]


def test_a_second_copy_of_a_packet_is_no_repeat() -> None:
    record = one([FIRST], VERSION, appended_ms=START_MS)
    copy = Record(0, 1, 1, START_MS, record.value)
    later = one([after(FIRST, 100)], VERSION, seq=2, appended_ms=START_MS)
    found = run([[record, copy], [later]], world(POLICIES))
    assert [row["kind"] for row in found["packets"]] == [PacketKind.FIRST, PacketKind.COPY, PacketKind.FIRST]
    assert [row["repeats_random"] for row in found["packets"]] == [0, 0, 1]


def test_a_repeat_on_another_partition_is_another_event_whatever_lies_in_a_batch() -> None:
    value = [packets.encode(n, 0, 1, VERSION, [FIRST]) for n in range(2)]
    both = [Record(n, 0, 1, START_MS, value[n]) for n in range(2)]
    assert len(run([both], world(POLICIES))["events"]) == len(run([[r] for r in both], world(POLICIES))["events"]) == 2


HOURS = 7_200_000


def late(*events: Event) -> list[Record]:
    """Records of these, an event two hours later before the last one."""
    now = max(event.received_ms for event in events) + HOURS
    between = simple(BASE, at_ms=now)
    values = [*events[:-1], between, events[-1]]
    return [
        one([event], VERSION, n, appended_ms=max(event.received_ms, now * (n >= len(events) - 1)))
        for n, event in enumerate(values)
    ]


@pytest.mark.parametrize(("ms", "stored"), [(300, 2), (-300, 2), (WINDOW, 2), (WINDOW + 1, 3)])
def test_what_comes_hours_late_is_held_against_what_was_stored_then(ms: int, stored: int) -> None:
    records = late(FIRST, after(FIRST, ms))
    looked_up = world(POLICIES)
    found = run([[record] for record in records], looked_up)
    assert len(found["events"]) == stored
    assert len(looked_up.lookups) == 1
    assert differences(found, run([records], world(POLICIES))) == []
    assert differences(found, run([records], world(POLICIES), reference.process)) == []


def test_late_repeats_within_one_batch() -> None:
    """The rows before the batch are looked up, and the events before it in the batch lie over them."""
    records = late(FIRST, after(FIRST, WINDOW + 60_000))
    again = [
        one([after(FIRST, ms)], VERSION, 10 + n, appended_ms=records[-1].appended_ms)
        for n, ms in enumerate([WINDOW + 70_000, 5, 2 * WINDOW + 60_000, 2 * WINDOW + 60_001])
    ]
    again = [Record(0, len(records) + n, 1, r.appended_ms, r.value) for n, r in enumerate(again)]
    looked_up = world(POLICIES)
    found = run([records[:2], [*records[2:], *again]], looked_up)
    assert len(looked_up.lookups) == 1
    assert [row["offset"] for row in found["events"]] == [0, 1, 2, 6]
    singles = run([[record] for record in [*records, *again]], world(POLICIES))
    assert differences(found, singles) == []
    assert differences(found, run([[*records, *again]], world(POLICIES), reference.process)) == []


def test_rows_at_later_places_do_not_count() -> None:
    """A batch that runs a second time, its rows already stored, comes out the same."""
    records = late(FIRST, after(FIRST, WINDOW + 1))
    looked_up = world(POLICIES)
    whole = run([[record] for record in records], looked_up)
    assert len(whole["events"]) == 3
    again = run([records[:2], records[2:]], looked_up)
    assert differences(whole, again) == []


class Fetching(World):
    """Look-ups as the shell has them: what is not held is raised, fetched, and asked again."""

    def __init__(self) -> None:
        super().__init__({VERSION: POLICIES})
        self.shelf = Shelf(None, None, "events.raw")  # type: ignore[arg-type]
        self.fetched: list[tuple[Asked, ...]] = []

    def identities(self, asked: Any) -> list[Run]:
        return self.shelf.identities(asked)

    def process(self, records: list[Record], states: Any, _lookups: Any) -> Any:
        while True:
            try:
                return batch.process(records, states, self)
            except RepeatsMissing as missing:
                self.fetched.append(missing.asked)
                self.shelf.hold(missing.asked, super().identities(missing.asked))


def test_a_batch_asks_once() -> None:
    records = late(FIRST, after(FIRST, 300))
    fetching = Fetching()
    found = run([records[:2], records[2:]], fetching, fetching.process)
    assert len(found["events"]) == 2
    assert len(fetching.fetched) == 1
    assert fetching.fetched[0][0][:3] == (0, 1, 2)


def test_an_event_that_fails_beside_late_ones_asks_for_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def split(text: str) -> Any:
        if "poison" in text:
            raise RuntimeError("a rule that fails")
        return real(text)

    real = urls.split
    monkeypatch.setattr(urls, "split", split)
    records = late(FIRST, after(FIRST, 300))
    many = [simple(RANDOM.replace("123456", f"{n:06}"), at_ms=START_MS) for n in range(40)]
    many[17] = simple(BASE + "&url=https%3A%2F%2Fpoison.example", at_ms=START_MS)
    value = packets.encode(1, 77, 1, VERSION, many)
    records.append(Record(0, 3, 1, records[-1].appended_ms, value))
    fetching = Fetching()
    found = run([records[:2], records[2:]], fetching, fetching.process)
    assert [row["index"] for row in found["rejects"]] == [17]
    assert len(fetching.fetched) == 1
    assert len(found["events"]) == 2 + 39


def test_an_event_of_a_clock_far_ahead_or_of_a_week_ago_has_no_identity() -> None:
    for early, has in [(AHEAD_MS, True), (AHEAD_MS + 1, False), (-BEHIND_MS, True), (-BEHIND_MS - 1, False)]:
        record = one([after(FIRST, early)], VERSION, appended_ms=START_MS)
        for process in (batch.process, reference.process):
            (row,) = run([[record]], world(POLICIES), process)["events"]
            assert any(row["repeat_id"]) == has


def test_a_flood_of_one_request_is_dropped_in_no_time_that_grows_with_its_square() -> None:
    events = [after(FIRST, n // 20) for n in range(20_000)]
    found = run([[one(events, VERSION, appended_ms=events[-1].received_ms)]], world(POLICIES))
    assert len(found["events"]) == 1
    assert found["packets"][0]["repeats_random"] == len(events) - 1
    assert found["packets"][0]["repeats_count"] == [len(events) - 1]


def test_a_visit_rule_that_fails_leaves_the_judgement_of_repeats_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The visits of the batch are followed once more without the event that fails."""

    class Broken(int):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("a rule that fails")

        __hash__ = int.__hash__

    real = visits._piece

    def piece(gathered: Any, described: Any, *rest: Any) -> Any:
        described.action[2] = Broken(described.action[2])
        return real(gathered, described, *rest)

    monkeypatch.setattr(visits, "_piece", piece)
    found = run(
        [[one([FIRST, after(FIRST, 1), after(simple(BASE), 2)], VERSION, appended_ms=START_MS)]], world(POLICIES)
    )
    (packet,) = found["packets"]
    assert (packet["stored"], packet["repeats_random"], packet["rejected"]) == (1, 1, 1)


def test_answers_of_one_place_add_up_and_those_of_an_earlier_one_are_let_go() -> None:
    shelf = Shelf(None, None, "events.raw")  # type: ignore[arg-type]
    empty = Run._make(np.zeros(0, kind) for kind in (np.uint64, np.uint64, np.int64))
    first = Asked(0, 1, 5, frozenset([1]), frozenset([10]), 0, 50)
    second = Asked(0, 1, 5, frozenset([2]), frozenset([20]), 30, 90)
    other = Asked(1, 1, 5, frozenset([2]), frozenset([20]), 30, 90)
    with pytest.raises(RepeatsMissing) as missing:
        shelf.identities([first])
    assert missing.value.asked == (first,)
    shelf.hold([first], [empty])
    with pytest.raises(RepeatsMissing) as missing:
        shelf.identities([second, other])
    both = Asked(0, 1, 5, frozenset([1, 2]), frozenset([10, 20]), 0, 90)
    assert missing.value.asked == (both, other)
    shelf.hold([both, other], [empty, empty])
    assert [len(shelf.identities(asked)) for asked in ([first, other], [second])] == [2, 1]
    later = first._replace(offset=6)
    with pytest.raises(RepeatsMissing) as missing:
        shelf.identities([later])
    assert missing.value.asked == (later,)
