"""Batches: cut anywhere, started again anywhere, with a bad event or a bad packet among good ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from schemas import packets
from schemas.privacy import Privacy
from schemas.reasons import Rejected, Repeated
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import EVENTS, PACKETS, REJECTS, PacketKind
from streams import batch, reference, visits
from streams.anonymize import urls
from streams.batch import PartitionState, PolicyMissing, PolicyUnusable, Record, SecretMissing, StaleOutcome
from streams.caches import caches
from streams.enrich import device
from tests.streams.core.compare import Rows, differences, plain, rebuilt, rows, run
from tests.streams.core.traffic import BASE, START_MS, Traffic, fresh, one, policy_set, simple, world

POLICIES = policy_set()
VERSION = POLICIES.version


def hard(seed: int, count: int = 40, partitions: int = 2) -> list[Record]:
    """Few visitors with long pauses, late and odd events, copies and noise."""
    traffic = Traffic(seed, visitors=5, step_ms=90_000)
    return traffic.records(VERSION, count, partitions=partitions, size=8, odd=0.15, trouble=0.15, again=0.2)


@pytest.mark.parametrize("seed", range(6))
def test_any_cut_gives_the_same_rows(seed: int) -> None:
    records = hard(seed)
    whole = run([records], world(POLICIES))
    r = random.Random(seed)
    singles = [[record] for record in records]
    cuts = sorted(r.sample(range(1, len(records)), 6))
    pieces = [records[a:b] for a, b in zip([0, *cuts], [*cuts, len(records)], strict=True)]
    by_partition = [[record for record in records if record.partition == p] for p in (0, 1)]
    assert differences(whole, run(singles, world(POLICIES))) == []
    assert differences(whole, run(pieces, world(POLICIES))) == []
    apart = run(by_partition, world(POLICIES))
    for table, found in whole.items():
        keys: Callable[[dict[str, Any]], Any] = lambda row: (row["partition"], row["offset"], row.get("index", 0))  # noqa: E731
        assert sorted(found, key=keys) == sorted(apart[table], key=keys)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("process", [batch.process, reference.process], ids=["columns", "reference"])
def test_state_from_rows_equals_the_live_state_at_every_packet(seed: int, process: Any) -> None:
    records = hard(seed, count=60)
    states = fresh(records)
    stored: Rows = {"events": [], "rejects": [], "packets": []}
    found = 0
    looked_up = world(POLICIES)
    for record in records:
        outcome = process([record], states, looked_up)
        outcome.apply()
        looked_up.store(outcome.events)
        for table, added in rows(outcome).items():
            stored[table] += added
        state = rebuilt(stored, record.partition, (record.generation, record.offset + 1))
        assert state == states[record.partition]
        found += len(state.open())
    assert found > 100


@pytest.mark.parametrize("seed", range(3))
def test_processing_goes_on_from_a_rebuilt_state_as_if_nothing_had_happened(seed: int) -> None:
    records = hard(seed, count=50)
    whole = run([records], world(POLICIES))
    middle = 25
    looked_up = world(POLICIES)
    before = run([records[:middle]], looked_up)
    border = {p: 1 + max(r.offset for r in records[:middle] if r.partition == p) for p in (0, 1)}
    states = {p: rebuilt(before, p, (1, offset)) for p, offset in border.items()}
    rest = batch.process(records[middle:], states, looked_up)
    after = rows(rest)
    joined = {table: before[table] + after[table] for table in before}
    assert differences(whole, joined) == []


def test_a_later_topic_id_goes_on_with_the_state() -> None:
    query = BASE + "&ping=0"
    first = one([simple(query)], VERSION, seq=5)
    second = Record(
        0, 0, 2, first.appended_ms, packets.encode(1, 6, 1, VERSION, [simple(query, at_ms=START_MS + 1000)])
    )
    found = run([[first], [second]], world(POLICIES))["events"]
    assert [row["visit_position"] for row in found] == [1, 2]
    assert [(row["generation"], row["offset"]) for row in found] == [(1, 5), (2, 0)]


def test_states_are_untouched_until_apply_and_an_outcome_is_applied_once() -> None:
    records = hard(1)
    states, untouched = fresh(records), fresh(records)
    first = batch.process(records, states, world(POLICIES))
    again = batch.process(records, states, world(POLICIES))
    assert states == untouched
    assert differences(rows(first), rows(again)) == []
    first.apply()
    assert states != untouched
    for outcome in (first, again):
        with pytest.raises(StaleOutcome):
            outcome.apply()


def test_schemas_are_those_of_the_tables() -> None:
    for records in ([], [one([simple(BASE)], VERSION)], [Record(0, 0, 1, START_MS, b"noise")], hard(2)):
        outcome = batch.process(records, fresh(records), world(POLICIES))
        assert outcome.events.schema == EVENTS
        assert outcome.rejects.schema == REJECTS
        assert outcome.packets.schema == PACKETS
        for table in (outcome.events, outcome.rejects, outcome.packets):
            table.validate(full=True)
            assert all(column.null_count == 0 for column in table.columns)


@pytest.mark.parametrize("seed", range(3))
def test_the_ledger_adds_up(seed: int) -> None:
    found = run([hard(seed)], world(POLICIES))
    for row in found["packets"]:
        place = row["partition"], row["offset"]
        stored = [r for r in found["events"] if (r["partition"], r["offset"]) == place]
        rejected = [r for r in found["rejects"] if (r["partition"], r["offset"]) == place]
        repeats = [row[f"repeats_{reason}"] for reason in Repeated]
        assert row["received"] == row["stored"] + row["excluded"] + row["rejected"] + sum(repeats)
        of_reason = zip(row["repeats_reason"], row["repeats_count"], strict=True)
        sums = dict.fromkeys(Repeated, 0)
        for reason, number in of_reason:
            sums[Repeated(reason)] += number
        assert [*sums.values()] == repeats
        assert row["stored"] == len(stored)
        if row["kind"] == PacketKind.FIRST:
            assert row["received"] > 0
            assert row["rejected"] == len(rejected)
        else:
            assert row["received"] == 0
            assert len(rejected) == (row["kind"] == PacketKind.BAD)


def test_a_copy_counts_nothing_and_touches_nothing() -> None:
    record = one([simple(BASE)], VERSION, seq=3)
    late = Record(0, 9, 1, record.appended_ms + 10**7, record.value)
    states = fresh([record])
    batch.process([record], states, world(POLICIES)).apply()
    before = states[0].open(), states[0].watermark_ms
    outcome = batch.process([late, late], states, world(POLICIES))
    outcome.apply()
    assert outcome.events.num_rows == outcome.rejects.num_rows == 0
    ledger = plain(outcome.packets)
    assert [row["kind"] for row in ledger] == [PacketKind.COPY] * 2
    assert {row["received"] + row["stored"] for row in ledger} == {0}
    assert (states[0].open(), states[0].watermark_ms) == before


def test_a_spool_that_drains_after_two_hours_doubles_nothing_and_its_events_follow_in_order() -> None:
    """The log had the first packet, its answer was lost; meanwhile another collector wrote for two hours."""
    minute = 60_000

    def sent(writer: int, seq: int, offset: int, at_ms: int, appended_ms: int) -> Record:
        event = simple(f"{BASE}&r={writer}-{seq}&h=1&m=2&s=3", at_ms=at_ms)
        return Record(0, offset, 1, appended_ms, packets.encode(writer, seq, 1, VERSION, [event]))

    first = sent(7, 0, 0, START_MS, START_MS)
    between = [sent(8, n, 1 + n, at := START_MS + n * minute, at) for n in range(120)]
    now = START_MS + 120 * minute
    again = Record(0, 121, 1, now, first.value)
    spooled = [sent(7, 1 + n, 122 + n, START_MS + n * minute + 1, now) for n in range(3)]
    fresh_ones = [sent(9, 0, 125, now, now)]
    before, drained = [first, *between], [again, *spooled, *fresh_ones]
    whole = run([before, drained], world(POLICIES))
    assert [row["kind"] for row in whole["packets"][121:]] == [PacketKind.COPY, *[PacketKind.FIRST] * 4]
    names = [(row["writer"], row["seq"]) for row in whole["events"]]
    assert names == [(7, 0), *((8, n) for n in range(120)), (7, 1), (7, 2), (7, 3), (9, 0)]
    # The same from a worker that starts in between, with what the tables tell.
    looked_up = world(POLICIES)
    stored = run([before], looked_up)
    after = rows(batch.process(drained, {0: rebuilt(stored, 0, (1, 121))}, looked_up))
    assert differences(whole, {table: stored[table] + found for table, found in after.items()}) == []


def test_a_copy_within_one_batch() -> None:
    value = packets.encode(1, 0, 1, VERSION, [simple(BASE)])
    found = run([[Record(0, 0, 1, START_MS, value), Record(0, 1, 1, START_MS, value)]], world(POLICIES))
    assert [row["kind"] for row in found["packets"]] == [PacketKind.FIRST, PacketKind.COPY]
    assert len(found["events"]) == 1


def test_a_record_that_is_no_packet() -> None:
    good = one([simple(BASE)], VERSION, seq=0)
    broken = Record(0, 1, 1, START_MS, packets.encode(1, 1, 1, VERSION, [simple(BASE)])[:-3])
    after = one([simple(BASE)], VERSION, seq=2)
    found = run([[good, broken, Record(0, 3, 1, START_MS, b""), after]], world(POLICIES))
    assert len(found["events"]) == 2
    expected = {"writer": 0, "partition": 0, "index": 0, "site_id": 0, "reason": Rejected.BAD_PACKET, "field": ""}
    assert [{name: row[name] for name in expected} for row in found["rejects"]] == [expected] * 2
    assert [(row["seq"], row["offset"]) for row in found["rejects"]] == [(1, 1), (3, 3)]
    kinds = [PacketKind.FIRST, PacketKind.BAD, PacketKind.BAD, PacketKind.FIRST]
    assert [row["kind"] for row in found["packets"]] == kinds
    assert found["packets"][1]["watermark"] == found["packets"][0]["watermark"]


def test_the_watermark_is_clamped_to_the_brokers_time_and_never_falls() -> None:
    times = [START_MS, START_MS + 99_000, START_MS + 3_000, 2**62, -(2**62)]
    records = [one([simple(BASE, at_ms=at)], VERSION, n, appended_ms=START_MS + 5_000) for n, at in enumerate(times)]
    found = run([records], world(POLICIES))
    assert [row["watermark"] - START_MS for row in found["packets"]] == [0, 5_000, 5_000, 5_000, 5_000]
    assert [row["time"] - START_MS for row in found["events"]] == [0, 5_000, 3_000]
    assert [row["field"] for row in found["rejects"]] == ["received_at"] * 2


POISON = "poison"


def poisoned(rule: Callable[..., Any]) -> Callable[..., Any]:
    def run_rule(text: str, *args: Any) -> Any:
        if POISON in text:
            raise RuntimeError("a rule that fails")
        return rule(text, *args)

    return run_rule


@pytest.mark.parametrize("at", [[0], [7], [49], [3, 4, 31]])
@pytest.mark.parametrize("target", ["url", "agent", "text"])
def test_an_event_that_breaks_a_rule_is_rejected_alone(
    monkeypatch: pytest.MonkeyPatch, at: list[int], target: str
) -> None:
    monkeypatch.setattr(urls, "split", poisoned(urls.split))
    monkeypatch.setattr(urls, "tidy", poisoned(urls.tidy))
    monkeypatch.setattr(device, "describe", poisoned(device.describe))
    caches.cache_clear()
    events = [simple(BASE + f"&e_c=a&e_a=b{n}", at_ms=START_MS + n) for n in range(50)]
    good = run([[one([e for n, e in enumerate(events) if n not in at], VERSION)]], world(POLICIES))
    for n in at:
        more = f"&url=https%3A%2F%2Fx.example%2F{POISON}" if target == "url" else f"&e_a={POISON}{n}"
        events[n].query += more if target != "agent" else ""
        events[n].agent += POISON if target == "agent" else ""
    record = one(events, VERSION)
    bad = run([[record]], world(POLICIES))
    assert [(row["index"], row["reason"]) for row in bad["rejects"]] == [(n, Rejected.INTERNAL_ERROR) for n in at]
    assert [row["index"] for row in bad["events"]] == [n for n in range(50) if n not in at]
    assert bad["packets"][0]["rejected"] == len(at)
    assert POISON not in str(bad)
    ignored = {"index", "visit_id"}  # the visit is named by its first event
    for a, b in zip(bad["events"], good["events"], strict=True):
        assert {k: v for k, v in a.items() if k not in ignored} == {k: v for k, v in b.items() if k not in ignored}
    assert differences(bad, run([[record]], world(POLICIES), reference.process)) == []
    caches.cache_clear()


def test_a_visit_rule_that_fails_rejects_that_event_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(int):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("a rule that fails")

        __hash__ = int.__hash__

    events = [simple(BASE, at_ms=START_MS + n) for n in range(20)]
    follow = visits._piece

    def piece(gathered: Any, one: Any, *rest: Any) -> Any:
        one.action[5] = Broken(one.action[5])
        return follow(gathered, one, *rest)

    monkeypatch.setattr(visits, "_piece", piece)
    found = run([[one(events, VERSION)]], world(POLICIES))
    assert [(row["index"], row["reason"]) for row in found["rejects"]] == [(5, Rejected.INTERNAL_ERROR)]
    assert [row["visit_position"] for row in found["events"]] == list(range(1, 20))
    assert found["packets"][0]["stored"] == 19


@pytest.mark.parametrize("process", [batch.process, reference.process], ids=["columns", "reference"])
def test_what_is_missing_around_the_core_is_raised_and_rejects_nothing(process: Any) -> None:
    record = one([simple(BASE), simple(BASE + "&rec=0")], VERSION)
    unknown = one([simple(BASE)], b"?" * 16, seq=1)
    states = fresh([record])
    with pytest.raises(PolicyMissing) as policy:
        process([record, unknown], states, world(POLICIES))
    assert policy.value.version == b"?" * 16
    looked_up = world(POLICIES)
    looked_up.dead = {date(2026, 11, 18)}
    with pytest.raises(SecretMissing) as secret:
        process([record], states, looked_up)
    assert secret.value.date == date(2026, 11, 18)
    assert states == {0: PartitionState()}
    looked_up.dead = set()
    assert process([record], states, looked_up).events.num_rows == 1


@pytest.mark.parametrize("process", [batch.process, reference.process], ids=["columns", "reference"])
def test_an_event_that_is_not_kept_asks_for_no_secret(process: Any) -> None:
    looked_up = world(POLICIES)
    events = [simple("rec=0"), simple(BASE, site=99), simple(BASE, flags=4), simple(BASE, at_ms=0)]
    outcome = process([one(events, VERSION)], {0: PartitionState()}, looked_up)
    assert looked_up.asked == 0
    assert outcome.events.num_rows == 0


def test_a_time_zone_this_machine_does_not_know() -> None:
    strange = PolicySet({1: SitePolicy(timezone="Mars/Olympus")})
    with pytest.raises(PolicyUnusable, match="Mars/Olympus"):
        batch.process([one([simple(BASE)], strange.version)], {0: PartitionState()}, world(strange))


def test_each_packet_is_treated_by_the_policy_that_it_names() -> None:
    old, new = (
        PolicySet({1: SitePolicy(privacy=Privacy(mask_bytes=1))}),
        PolicySet({1: SitePolicy(privacy=Privacy(mask_bytes=3))}),
    )
    records = [one([simple(BASE)], old.version, 0), one([simple(BASE)], new.version, 1)]
    found = run([records], world(old, new))["events"]
    assert [row["address"] for row in found] == ["81.2.69.0", "81.0.0.0"]
    assert [row["policy_version"] for row in found] == [old.version, new.version]


def test_no_raw_personal_data_reaches_a_row() -> None:
    canary = "CaNaRy"
    query = (
        f"idsite=1&rec=1&uid={canary}&_id=0123456789abcdef&ec_id={canary}&idgoal=0"
        f"&url=https%3A%2F%2F{canary}%3A{canary}%40www.site1.example%2F%3Fgclid%3D{canary}%26customer%3D{canary}"
        f"&urlref=https%3A%2F%2F{canary}%40other.example%2F%3Ffbclid%3D{canary}&hsr_text={canary}&fa_x={canary}"
        f"&action_name=at+https%3A%2F%2F{canary}%40x.example%2F%3Fsid%3D{canary}&cvar={canary}&dimension1={canary}"
        f"&country=de&city={canary}&lat=1&data={canary}&token_auth={canary}&uadata={canary}&res={canary}&_ref={canary}"
    )
    event = simple(query, address=bytes.fromhex("2a01") + b"\xca" * 14, agent=f"Mozilla/5.0 {canary}", hints=canary)
    policies = PolicySet({1: SitePolicy(privacy=Privacy(mask_bytes=1))})
    found = run([[one([event], policies.version)]], world(policies))
    row = found["events"][0]
    assert canary.lower() not in str(found).lower()
    assert row["address"] == "2a01:caca:caca:caca::"
    assert str(0x0123456789ABCDEF) not in str(row)
    assert row["parameters_removed"] == 6
    assert row["user_id"] == 0
    assert row["visit_user_id"] == 0
    assert row["visit_visitor_id"] != 0
    assert row["order_id"] != 0
