"""Repeats across processes, on the real engine: a new worker, another owner, hours later, and the counts per site."""

from __future__ import annotations

import random

import msgspec
import numpy as np
import pytest

from infra.service.clickhouse import Client
from schemas.packets import Event, Repeat, encode
from schemas.routing import ROUTING_VERSION
from streams import metrics
from streams.batch import Record
from streams.pipeline import Pipeline
from streams.restart import stored_repeats
from streams.surroundings import Asked
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import POLICIES, count, events, total

MIDNIGHT_MS = 24 * 3_600_000
MINUTE = 60_000


def told(amount: int, *, start_ms: int | None = None) -> list[Event]:
    """Page views, each with a key of its own."""
    found = [event for event in events(4 * amount, start_ms=start_ms) if event.site != 9 and "rec=1" in event.query]
    found = [event for event in found if "ping" not in event.query][:amount]
    for number, event in enumerate(found):
        event.repeat = Repeat.KEY + number.to_bytes(16, "little")
    return found


def moved(found: list[Event], ms: int) -> list[Event]:
    return [msgspec.structs.replace(event, received_ms=event.received_ms + ms) for event in found]


def record(offset: int, found: list[Event], *, partition: int = 0, appended_ms: int | None = None) -> Record:
    appended = appended_ms if appended_ms is not None else max(event.received_ms for event in found)
    return Record(partition, offset, 1, appended, encode(5, offset, ROUTING_VERSION, POLICIES.version, found))


def repeated(client: Client) -> int:
    return count(client, "SELECT sum(repeats_key) FROM packets")


def owner(make_pipeline: MakePipeline) -> Pipeline:
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    return pipeline


def test_a_new_worker_knows_what_the_one_before_it_stored(client: Client, make_pipeline: MakePipeline) -> None:
    found = told(40)
    owner(make_pipeline).run([record(0, found)])
    second = owner(make_pipeline)
    assert len(second.partitions[0].state.repeats) == 40  # type: ignore[union-attr]
    assert second.run([record(1, moved(found, 5_000))]).done == {0: 2}
    assert repeated(client) == 40
    total(client, 80)


def test_a_partition_that_goes_and_comes_back_knows_what_was_stored_meanwhile(
    client: Client, make_pipeline: MakePipeline
) -> None:
    found = told(40)
    first = owner(make_pipeline)
    first.run([record(0, found[:20])])
    owner(make_pipeline).run([record(1, found[20:])])
    assert first.assign({0: 0}) == {0: 2}
    assert first.run([record(2, moved(found, 5_000))]).done == {0: 3}
    assert repeated(client) == 40
    total(client, 80)


def test_midnight_between_the_first_and_the_repeat_and_two_workers(client: Client, make_pipeline: MakePipeline) -> None:
    found = told(8)
    midnight = found[0].received_ms // MIDNIGHT_MS * MIDNIGHT_MS  # of today, so that there are keys of both days
    before = [msgspec.structs.replace(event, received_ms=midnight - 10_000) for event in found]
    owner(make_pipeline).run([record(0, before)])
    owner(make_pipeline).run([record(1, moved(before, 20_000))])
    assert repeated(client) == len(found)
    ids = count(client, "SELECT uniqExact(repeat_id) FROM events")
    assert (count(client, "SELECT count() FROM events"), ids) == (8, 8)


def test_what_comes_two_hours_late_is_looked_up_once_per_batch(client: Client, make_pipeline: MakePipeline) -> None:
    found = told(40)
    now = moved(told(60)[40:], 120 * MINUTE)
    pipeline = owner(make_pipeline)
    pipeline.run([record(0, found)])
    pipeline.run([record(1, now)])
    before = metrics.repeat_lookups._value.get()
    appended = now[-1].received_ms
    near, far = moved(found, 14 * MINUTE), moved(found[:5], 40 * MINUTE)
    pipeline.run([record(2, near[:30], appended_ms=appended), record(3, near[20:] + far + far, appended_ms=appended)])
    assert metrics.repeat_lookups._value.get() == before + 1
    assert repeated(client) == 50 + 5
    total(client, 40 + 20 + 30 + 30)


def test_a_late_batch_that_runs_again_from_a_restart_gives_the_same_rows(
    client: Client, make_pipeline: MakePipeline
) -> None:
    found, rest = told(40), moved(told(60)[40:], 120 * MINUTE)
    appended = rest[-1].received_ms
    log = [record(0, found), record(1, rest), *(
        record(2 + n, moved(found[n : n + 20], n * MINUTE), appended_ms=appended) for n in range(8)
    )]  # fmt: skip
    owner(make_pipeline).run(log)
    query = "SELECT * FROM {} ORDER BY `offset`, {}"
    whole = [client.query_arrow(query.format(*names)) for names in (("events", "`index`"), ("packets", "seq"))]
    draw = random.Random(3)
    for cut in draw.sample(range(1, len(log)), 4):
        for table in ("events", "packets", "rejects"):
            client.command(f"CREATE OR REPLACE TABLE kept AS {table}")
            client.command(f"INSERT INTO kept SELECT * FROM {table} WHERE `offset` < {cut}")
            client.command(f"TRUNCATE TABLE {table}")
            client.command(f"INSERT INTO {table} SELECT * FROM kept")
        again = owner(make_pipeline)
        middle = draw.randrange(cut, len(log))
        again.run(log[cut:middle])
        again.run(log[middle:])
        found_now = [client.query_arrow(query.format(*names)) for names in (("events", "`index`"), ("packets", "seq"))]
        assert all(ours.equals(theirs) for ours, theirs in zip(found_now, whole, strict=True)), f"cut at {cut}"


def test_dropped_repeats_are_counted_per_site_and_reason(client: Client, make_pipeline: MakePipeline) -> None:
    found = told(30)
    for event in found[20:]:
        event.repeat, event.query = b"", event.query + "&r=1&h=1&m=1&s=1"
    pipeline = owner(make_pipeline)
    pipeline.run([record(0, found), record(1, moved(found, 1_000)), record(2, moved(found[:3], 2_000))])
    expected: dict[tuple[int, str], int] = {}
    for n, event in enumerate([*found, *found[:3]]):
        name = (event.site, "key" if n < 20 or n >= 30 else "random")
        expected[name] = expected.get(name, 0) + 1
    rows = client.query("SELECT site_id, reason, sum(events) FROM repeats GROUP BY site_id, reason").result_rows
    assert {(site, reason): int(events) for site, reason, events in rows} == expected
    total(client, 63)


@pytest.mark.long
def test_a_look_up_of_a_whole_batch(client: Client, make_pipeline: MakePipeline) -> None:
    """As many identities as a batch of late events may have."""
    found = told(40)
    owner(make_pipeline).run([record(0, found)])
    stored = client.query("SELECT DISTINCT reinterpretAsUInt64(substring(repeat_id, 1, 8)) FROM events").result_rows
    others = np.random.default_rng(1).integers(1, 2**63, 60_000).tolist()
    high = frozenset([*others, *(int(row[0]) for row in stored)])
    first, last = found[0].received_ms, found[-1].received_ms
    asked = Asked(0, 1, 1, frozenset(range(1, 400)), high, first, last)
    runs = stored_repeats(client, [asked, asked._replace(partition=3)])
    assert [len(run.at) for run in runs] == [40, 0]
    assert [len(run.at) for run in stored_repeats(client, [asked._replace(offset=0)])] == [0]
    assert [len(run.at) for run in stored_repeats(client, [asked._replace(sites=frozenset([77]))])] == [0]
    assert [len(run.at) for run in stored_repeats(client, [asked._replace(last_ms=first)])] == [1]
