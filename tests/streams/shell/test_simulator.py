"""The worker's visits of a made-up day are those of a simulator that shares nothing with it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence

import pytest

from infra.service.clickhouse import Client
from infra.service.settings import Settings
from schemas.packets import Event, encode
from schemas.routing import ROUTING_VERSION
from streams.batch import Record
from tests.conftest import SettingsMaker, Starter
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.day import POLICIES, Done, day
from tests.streams.shell.simulator import simulate
from tests.streams.shell.stream import books, eventually, publish, publish_policies

PACKET = 40
WRITER = 11
PARTITIONS = len(POLICIES.sites)  # one of each site
KILLS = 20

Name = tuple[int, int, int]  # partition, seq, index


def packed(events: Sequence[Event]) -> tuple[dict[int, list[bytes]], dict[Name, int]]:
    """The events as packets by partition, and by the name of each event its number from 1 in the given order."""
    apart: dict[int, list[tuple[int, Event]]] = {number: [] for number in range(PARTITIONS)}
    for number, event in enumerate(events, 1):
        apart[event.site - 1].append((number, event))
    values: dict[int, list[bytes]] = {}
    numbers: dict[Name, int] = {}
    for partition, mine in apart.items():
        made = values.setdefault(partition, [])
        for seq, at in enumerate(range(0, len(mine), PACKET)):
            part = mine[at : at + PACKET]
            numbers |= {(partition, seq, index): number for index, (number, _) in enumerate(part)}
            made.append(
                encode(WRITER + partition, seq, ROUTING_VERSION, POLICIES.version, [event for _, event in part])
            )
    return values, numbers


def disagreements(client: Client, done: Sequence[Done], numbers: dict[Name, int]) -> list[tuple[object, ...]]:
    """Events about whose visit, number of actions or gap the stream says something else: number, ours, simulated."""
    expected = simulate(client, done)
    rows = client.query("SELECT `partition`, seq, `index`, visit_id, visit_position, gap_ms FROM events").result_rows
    ours = sorted((numbers[row[:3]], *row[3:]) for row in map(tuple, rows))
    first: dict[int, int] = {}
    found = {n: (first.setdefault(visit, n), int(position), int(gap)) for n, visit, position, gap in ours}
    return [(n, found.get(n), expected.get(n)) for n in sorted(found | expected) if found.get(n) != expected.get(n)]


def check(client: Client, events: Sequence[Event], done: Sequence[Done], numbers: dict[Name, int]) -> None:
    """The stream agrees, and the day was one on which it might not have."""
    assert disagreements(client, done, numbers) == []
    visits, late, rows = client.query(
        "SELECT uniqExact(visit_id), countIf(time < received_at - INTERVAL 2 HOUR), count() FROM events"
    ).result_rows[0]
    assert late > rows / 50
    assert visits < rows * 0.9
    assert rows > len(events) * 0.9


def follow(world: Settings, client: Client, make_pipeline: MakePipeline, visitors: int, batch: int) -> None:
    """A day of so many visitors in batches of so many events, now and then in a worker that has just started."""
    events, done = day(visitors, seed=5, tireless=visitors > 10_000)
    publish_policies(world, POLICIES)
    values, numbers = packed(events)
    latest = max(event.received_ms for event in events)
    pipeline = make_pipeline()
    offsets = dict.fromkeys(values, 0)
    for number, at in enumerate(range(0, max(map(len, values.values())), batch // PACKET)):
        if number % 7 in (0, 3):
            pipeline = make_pipeline()
            pipeline.assign(offsets)
        records = [
            Record(partition, at + n, 1, latest, value)
            for partition, made in values.items()
            for n, value in enumerate(made[at : at + batch // PACKET])
        ]
        pipeline.run(records)
    check(client, events, done, numbers)


def test_a_small_day(world: Settings, client: Client, make_pipeline: MakePipeline) -> None:
    follow(world, client, make_pipeline, 1_200, 800)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_day_of_a_hundred_thousand_visitors(world: Settings, client: Client, make_pipeline: MakePipeline) -> None:
    follow(world, client, make_pipeline, 100_000, 20_000)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("visitors", [20_000])
def test_a_day_under_kills_and_rebalances(
    world: Settings, client: Client, make_settings: SettingsMaker, start_worker: Starter, visitors: int
) -> None:
    now = time.time_ns() // 1_000_000
    made = [(event, one) for event, one in zip(*day(visitors, seed=6), strict=True) if event.received_ms < now]
    events, done = [event for event, _ in made], [one for _, one in made]
    publish_policies(world, POLICIES)
    values, numbers = packed(events)
    other = world.model_copy(update={"worker_admin_port": make_settings().worker_admin_port})
    workers = [start_worker(world), start_worker(other)]
    struck = threading.Event()

    def send() -> None:
        steps = KILLS * 4
        for step in range(steps):
            for partition, mine in values.items():
                publish(world, partition, mine[len(mine) * step // steps : len(mine) * (step + 1) // steps])
            struck.wait(0.7)

    thread = threading.Thread(target=send)
    thread.start()
    draw = random.Random(7)
    for _ in range(KILLS):
        worker = draw.choice(workers)
        if draw.random() < 0.6:
            worker.kill()
        else:
            worker.stop()
        time.sleep(draw.uniform(0, 1.5))
        worker.start(wait=False)
        time.sleep(draw.uniform(0.5, 4))
    struck.set()
    thread.join()
    eventually(lambda: books(client)["received"], lambda received: received >= len(events), 900)
    assert books(client)["received"] == len(events)
    check(client, events, done, numbers)
