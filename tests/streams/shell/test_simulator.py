"""The worker's visits of a made-up day are those of a simulator that shares nothing with it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from infra.service.clickhouse import Client
from infra.service.settings import Settings
from schemas.packets import Event, encode
from schemas.routing import ROUTING_VERSION
from streams.batch import Record
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.day import POLICIES, Done, day
from tests.streams.shell.simulator import simulate
from tests.streams.shell.stream import publish_policies

PACKET = 40
BATCH = 2_000
WRITER = 11


def values(events: Sequence[Event]) -> list[bytes]:
    """The events as packets."""
    return [
        encode(WRITER, seq, ROUTING_VERSION, POLICIES.version, events[at : at + PACKET])
        for seq, at in enumerate(range(0, len(events), PACKET))
    ]


def disagreements(client: Client, done: Sequence[Done]) -> list[tuple[object, ...]]:
    """Events about whose visit, number of actions or gap the stream says something else: number, ours, simulated."""
    expected = simulate(client, done)
    rows = client.query(
        f"SELECT seq * {PACKET} + `index` + 1 AS n, visit_id, visit_position, gap_ms FROM events ORDER BY n"
    ).result_rows
    first: dict[int, int] = {}
    found = {int(n): (first.setdefault(visit, int(n)), int(position), int(gap)) for n, visit, position, gap in rows}
    return [(n, found.get(n), expected.get(n)) for n in sorted(found | expected) if found.get(n) != expected.get(n)]


def run(world: Settings, make_pipeline: MakePipeline, events: Sequence[Event], batch: int) -> None:
    """Through a pipeline, from assignment to rows, a few of its batches after a start of its own."""
    publish_policies(world, POLICIES)
    records = []
    for seq, value in enumerate(values(events)):
        latest = max(event.received_ms for event in events[seq * PACKET : (seq + 1) * PACKET])
        records.append(Record(0, seq, 1, latest + 5_000, value))
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    for number, at in enumerate(range(0, len(records), batch // PACKET)):
        if number % 7 == 3:
            pipeline = make_pipeline()
            pipeline.assign({0: 0})
        pipeline.run(records[at : at + batch // PACKET])


def check(
    world: Settings, client: Client, make_pipeline: MakePipeline, visitors: int, batch: int, **more: bool
) -> None:
    """A day of so many visitors, and what it must hold."""
    events, done = day(visitors, seed=5, **more)
    run(world, make_pipeline, events, batch)
    assert disagreements(client, done) == []
    visits, late, rows = client.query(
        "SELECT uniqExact(visit_id), countIf(time < received_at - INTERVAL 2 HOUR), count() FROM events"
    ).result_rows[0]
    assert visits > visitors
    assert late > rows / 50
    assert rows > len(events) * 0.9


def test_a_small_day(world: Settings, client: Client, make_pipeline: MakePipeline) -> None:
    check(world, client, make_pipeline, 1_500, BATCH)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_day_of_a_hundred_thousand_visitors(world: Settings, client: Client, make_pipeline: MakePipeline) -> None:
    check(world, client, make_pipeline, 100_000, 20_000, tireless=True)
