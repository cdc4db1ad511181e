"""From a recorder's request to rows, over the real broker and engine: sealed on the way, masked at the end, once."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra import retention
from infra.local.stack import install
from infra.service.clickhouse import Client, connect
from infra.service.settings import Settings
from schemas import packets
from schemas.sites import load_sites
from schemas.topics import RECORDINGS_RAW
from streams.topic_generations import Topic
from streams.upkeep import Follower, Upkeep
from streams.video_results import group
from tests.conftest import SettingsMaker, Starter
from tests.ingest.process import ask, records
from tests.streams.anonymize.recordings.documents import change, element, snapshot, text
from tests.streams.shell.stream import count, eventually

AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
SECRET = "Wilhelmina Featherstone"
PAGE = [
    {"type": 4, "timestamp": 1, "data": {"href": "https://shop.example/p?sid=x", "width": 1280, "height": 800}},
    snapshot(element(2, "p", {"title": SECRET}, [text(3, SECRET), element(4, "input", {"value": SECRET})]), at=2),
    change(5, id=4, text=SECRET, isChecked=False),
    change(2, type=2, id=4, x=640, y=400),
]


@pytest.fixture
def world(make_settings: SettingsMaker) -> Settings:
    """Sites 1, which takes recordings, and 2, which does not."""
    made = make_settings(events_partitions=2, upkeep_seconds=3600.0)
    install(made)
    (made.sites / "1.toml").write_text('domains = ["shop.example"]\n[recordings]\nenabled = true\n')
    (made.sites / "2.toml").write_text("")
    return made


def send(settings: Settings, query: str, told: Sequence[Any] = PAGE, **headers: str) -> int:
    return ask(settings, "POST", f"/recordings?{query}", json.dumps(told).encode(), user_agent=AGENT, **headers)[0]


def rows(client: Client, table: str = "recordings") -> int:
    return count(client, f"SELECT count() FROM {table} FINAL")


def test_a_recording_becomes_masked_rows_once(world: Settings, start_collector: Starter, start_worker: Starter) -> None:
    collector, worker = start_collector(world), start_worker(world)
    assert send(world, "idsite=2&session=a") == 404
    assert send(world, "idsite=1&session=a", dnt="1") == 204
    for sequence in range(3):
        assert send(world, f"idsite=1&session=a&sequence={sequence}") == 204
    assert ask(world, "GET", "/matomo.php?idsite=1&rec=1&send_image=0&hsr_sr=500", user_agent=AGENT)[0] == 204
    raw = records(world, RECORDINGS_RAW)
    assert raw
    assert all(packets.header(value).seal for _, _, value in raw)
    with connect(world) as client:
        eventually(lambda: (rows(client), rows(client, "heatmap")), lambda found: found == (3, 4))
        stored = client.query("SELECT session, sequence, url, viewport, data FROM recordings FINAL ORDER BY sequence")
        found = stored.result_rows
        assert len({row[0] for row in found}) == 1
        assert [row[1:4] for row in found] == [(n, "https://shop.example/p", "desktop") for n in range(3)]
        data = json.loads(found[0][4])
        assert [event["type"] for event in data] == [4, 2, 3, 3]
        assert SECRET.split()[0] not in found[0][4]
        where = "SELECT action, selector, x, y, relative_to FROM heatmap FINAL ORDER BY action, selector DESC LIMIT 1"
        assert client.query(where).result_rows == [(1, "p > input", 0.5, 0.5, "viewport")]
        assert count(client, "SELECT count() FROM events") == 0

        # Killed before it could commit or not: the same rows.
        worker.kill(signal.SIGKILL)
        for sequence in range(3, 6):
            assert send(world, f"idsite=1&session=a&sequence={sequence}") == 204
        worker.start()
        eventually(lambda: rows(client), lambda found: found == 6)
        assert rows(client, "heatmap") == 7
        numbers = client.query("SELECT DISTINCT sequence FROM recordings ORDER BY sequence").result_rows
        assert [number for (number,) in numbers] == list(range(6))
        assert worker.stop() == 0

        # What is stored is let go of, and keys wait for that.
        topic = Topic(world.kafka, world.topic(RECORDINGS_RAW))
        ends = topic.ends(range(2))
        assert sum(ends.values()) > 0
        now = datetime.now(UTC) + timedelta(hours=7)
        follower = Follower(topic, group(world))
        upkeep = Upkeep(
            client,
            Topic(world.kafka, world.topic("events.raw")),
            1,
            partitions=2,
            margin=timedelta(hours=6),
            followers=[follower],
            now=lambda: now,
        )
        upkeep.destroy("1")
        assert topic.starts(range(2)) == ends

        # Rows are removed when their time is over.
        with (world.sites / "1.toml").open("a") as file:
            file.write("[retention]\nrecordings = 30\nheatmap = 90\n")
        held = count(
            client, "SELECT count() FROM recordings"
        )  # perhaps some twice: a row each where it is asked with FINAL
        removed = retention.run(client, load_sites(world.sites), now=now + timedelta(days=60))
        assert [(one.data, one.rows) for one in removed] == [("recordings", held)]
        assert rows(client) == 0
    for service in (collector, worker):
        assert SECRET.split()[0] not in service.log.read_text()


def test_keys_wait_for_recordings_that_are_not_stored(world: Settings, start_collector: Starter) -> None:
    start_collector(world)
    assert send(world, "idsite=1&session=a") == 204
    with connect(world) as client:
        topic = Topic(world.kafka, world.topic(RECORDINGS_RAW))
        later = datetime.now(UTC) + timedelta(hours=50)
        client.command("INSERT INTO vault_spools (spool, hour, done) SELECT DISTINCT spool, hour, 1 FROM vault_spools")
        events = Topic(world.kafka, world.topic("events.raw"))

        def destroyed(*followers: Follower) -> int:
            upkeep = Upkeep(
                client, events, 1, partitions=2, margin=timedelta(0), followers=followers, now=lambda: later
            )
            upkeep.destroy("1")
            return count(client, "SELECT count() FROM vault_destroyed WHERE kind = 'hour'")

        assert destroyed(Follower(topic, group(world))) == 0
        assert sum(topic.starts(range(2)).values()) == 0
        assert destroyed() > 0
