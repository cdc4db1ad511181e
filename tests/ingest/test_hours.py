"""The hours' keys as collectors see them: fetched ahead, good without ClickHouse, and let go of in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from infra import migrate
from infra.service.clickhouse import Client, connect
from infra.service.plain_sql import PlainSql
from infra.service.settings import Settings
from infra.service.vault import Vault
from ingest.hours import FOLDER, STALE_HOURS, Hours, NoKey
from schemas.sealing import HOUR_MS

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
NOW_MS = int(NOW.timestamp()) * 1000
THIS = NOW_MS // HOUR_MS


@pytest.fixture
def away(settings: Settings) -> Settings:
    """Settings by which nothing answers."""
    return settings.model_copy(update={"clickhouse_url": "http://127.0.0.1:9"})


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with migrate.open_database(settings) as client:
        migrate.apply(client)
    with connect(settings) as opened:
        Vault(opened, [bytes(32)]).make(now=NOW, hours=3)
        yield opened


class World:
    """Hours of processes of one spool, and their clock."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.now_ms = NOW_MS

    def process(self, writer: int, settings: Settings | None = None) -> Hours:
        sql = PlainSql(settings or self.settings)
        return Hours(self.settings.spool, writer, "events.raw", sql, now_ms=lambda: self.now_ms)


@pytest.fixture
def world(settings: Settings, client: Client) -> World:
    return World(settings)


def registered(client: Client) -> dict[int, int]:
    """Hours that a spool fetched, and whether it reported them."""
    rows = client.query("SELECT hour, max(done) FROM vault_spools GROUP BY hour ORDER BY hour").result_rows
    return {int(hour) - THIS: int(done) for hour, done in rows}


def marks(settings: Settings) -> set[str]:
    return {path.name for path in (settings.spool / FOLDER).iterdir() if path.suffix[1:].isdigit()}


def seal(hours: Hours) -> int:
    sealer = hours.sealer()
    hours.packed(sealer.hour)
    return sealer.hour - THIS


def test_a_key_is_used_after_the_spool_is_registered(world: World, client: Client) -> None:
    hours = world.process(1)
    with pytest.raises(NoKey):
        hours.sealer()
    assert "no key" in hours.refusal()
    hours.look()
    assert hours.refusal() == ""
    assert registered(client) == {0: 0, 1: 0, 2: 0, 3: 0}
    assert (seal(hours), seal(hours)) == (0, 0)
    assert hours.sealer() is hours.sealer()
    assert marks(world.settings) == {f"{1:016x}.{THIS}"}


def test_a_collector_begins_and_goes_on_while_clickhouse_is_away(world: World, away: Settings, client: Client) -> None:
    first = world.process(1)
    first.look()
    first.close()
    second = world.process(2, away)
    second.look()
    assert "does not answer" in second.problem
    assert second.refusal() == ""
    for hour in (0, 1, 3, 5, 72):  # the newest key is that of hour 3
        world.now_ms = NOW_MS + hour * HOUR_MS
        assert seal(second) == min(hour, 3)
        second.acknowledged(THIS + min(hour, 3))
    world.now_ms -= 72 * HOUR_MS  # the clock was wrong, and is set back: the key of then is taken again
    assert second.refusal() == ""
    assert seal(second) == 0
    world.now_ms += (STALE_HOURS + 5) * HOUR_MS
    assert "hours old" in second.refusal()


def test_an_hour_is_reported_when_its_packets_are_acknowledged(world: World, client: Client) -> None:
    hours = world.process(1)
    hours.look()
    seal(hours), seal(hours)
    world.now_ms += HOUR_MS
    assert seal(hours) == 1
    hours.acknowledged(THIS)
    hours.look()
    assert registered(client) == {0: 0, 1: 0, 2: 0, 3: 0}
    hours.acknowledged(THIS)
    hours.look()
    assert registered(client) == {0: 1, 1: 0, 2: 0, 3: 0}
    world.now_ms += HOUR_MS
    hours.look()
    assert registered(client)[1] == 0  # no packet came since, but one of hour 1 is on its way
    hours.acknowledged(THIS + 1)
    assert seal(hours) == 2
    hours.look()
    assert registered(client) == {0: 1, 1: 1, 2: 0, 3: 0}


def test_what_a_killed_process_left_keeps_the_hour(world: World, client: Client) -> None:
    killed = world.process(1)
    killed.look()
    seal(killed)
    left = world.settings.spool / f"{NOW_MS:013d}-{1:016x}"
    left.mkdir()
    for file in (killed._lock, killed._keeper):
        assert file is not None
        os.close(file)
    other = world.process(2)
    world.now_ms += HOUR_MS
    other.look()
    assert registered(client)[0] == 0
    left.rmdir()  # drained
    other.look()
    assert registered(client)[0] == 1


def test_one_process_of_a_spool_asks_and_all_have_a_say(world: World, client: Client) -> None:
    one, other = world.process(1), world.process(2)
    one.look()
    other.look()
    assert len(client.query("SELECT * FROM vault_spools").result_rows) == 4
    assert (seal(one), seal(other)) == (0, 0)
    one.acknowledged(THIS)
    world.now_ms += HOUR_MS
    seal(one)
    one.look()
    assert registered(client)[0] == 0
    other.acknowledged(THIS)
    seal(other)
    one.look()
    assert registered(client)[0] == 1


def test_a_key_that_is_taken_away_meanwhile_is_not_used(world: World, client: Client) -> None:
    keeper, late = world.process(1), world.process(2)
    keeper.look()
    assert seal(late) == 0
    late.acknowledged(THIS)
    world.now_ms += 2 * HOUR_MS
    keeper.look()
    assert registered(client) == {0: 0, 1: 1, 2: 0, 3: 0}
    world.now_ms -= HOUR_MS  # its clock is behind
    assert seal(late) == 2


def test_a_stop_leaves_marks_of_what_is_not_acknowledged(world: World, client: Client) -> None:
    hours = world.process(1)
    hours.look()
    seal(hours)
    left = world.settings.spool / f"{NOW_MS:013d}-{1:016x}"
    left.mkdir()
    hours.close()
    assert marks(world.settings) == {f"{1:016x}.{THIS}"}
    again = world.process(2)
    again.look()
    assert seal(again) == 0
    again.acknowledged(THIS)
    again.close()
    assert marks(world.settings) == {f"{1:016x}.{THIS}"}
