"""`veilstream top` on rows that were worked out by hand."""

from __future__ import annotations

import io
import time
from dataclasses import replace

from rich.console import Console

from infra import migrate
from infra.cli.top import shown
from infra.load.lag import Behind, Lag
from infra.load.sql import Sql
from infra.service.settings import Settings
from infra.top import snapshot
from schemas.topics import EVENTS_RAW
from tests.streams.shell.stream import publish


def test_a_look(settings: Settings) -> None:
    now = time.time_ns() // 1_000_000
    rows = [
        (site, now - age * 1000, visit, kind, url, 0 if visit < 9 else 1)
        for site, age, visit, kind, url in [
            (1, 1, 1, 1, "https://a.example/"),
            (1, 2, 1, 1, "https://a.example/"),
            (1, 3, 2, 2, "https://a.example/b"),
            (1, 4, 9, 1, "https://a.example/b"),
            (2, 1, 3, 1, "https://b.example/[red]"),
            (2, 5_000, 4, 1, "https://b.example/old"),
        ]
    ]
    with migrate.open_database(settings) as client:
        migrate.apply(client)
        empty = snapshot(client, 60, {}, lambda: None)
        assert (empty.events, empty.age_seconds, empty.lag_packets, empty.sites) == (0, None, None, [])
        values = ", ".join(
            f"({site}, fromUnixTimestamp64Milli({at}), fromUnixTimestamp64Milli({at}), {visit}, {kind}, '{url}', {bot})"
            for site, at, visit, kind, url, bot in rows
        )
        client.command(
            f"INSERT INTO events (site_id, time, received_at, visit_id, action_type, url, bot) VALUES {values}"
        )
        client.command(
            "INSERT INTO packets (appended_at, received, stored, rejected, excluded, repeats_key) "
            f"VALUES (fromUnixTimestamp64Milli({now}), 9, 5, 1, 2, 1)"
        )
        found = snapshot(client, 60, {1: "Shop"}, lambda: Behind(7, 2.5))
    assert (found.events, found.rejected, found.excluded, found.repeated, found.lag_packets) == (5, 1, 2, 1, 7)
    assert found.lag_seconds == 2.5
    assert found.rate == 5 / 60
    assert found.age_seconds is not None
    assert 1 <= found.age_seconds < 120
    assert [(s.site_id, s.name, s.events, s.pageviews, s.visits, s.bots) for s in found.sites] == [
        (1, "Shop", 4, 3, 3, 1),
        (2, "", 1, 1, 1, 0),
    ]
    assert [(p.site_id, p.url, p.views, p.visits) for p in found.pages] == [
        (1, "https://a.example/", 2, 1),
        (1, "https://a.example/b", 1, 1),
        (2, "https://b.example/[red]", 1, 1),
    ]
    text = io.StringIO()
    Console(file=text, width=160).print(shown(replace(found, lag_packets=None)))
    later = io.StringIO()
    Console(file=later, width=160).print(shown(found))
    assert "lag 7 packets since 2.5 s" in later.getvalue()
    for word in ("lag unknown", "Shop", "https://b.example/[red]", "rejected 1"):
        assert word in text.getvalue()


def test_what_waits_in_the_log_is_counted_and_has_an_age(installation: Settings) -> None:
    password = installation.clickhouse_password.get_secret_value()
    sql = Sql(installation.clickhouse, installation.clickhouse_user, password, installation.clickhouse_database)
    lag = Lag(installation.kafka, installation.topic(EVENTS_RAW), sql)
    assert lag.behind() == Behind(0, 0.0)
    publish(installation, 1, [b"one", b"two"])
    publish(installation, 2, [b"three"])
    found = lag.behind()
    assert found is not None
    assert found.packets == lag() == 3
    assert found.seconds is not None
    later = lag.behind()
    assert later is not None
    assert later.seconds is not None
    assert later.seconds > found.seconds > 0
    sql.raw("INSERT INTO packets (partition, generation, offset) VALUES (1, 1, 0), (1, 1, 1), (2, 1, 0)")
    assert lag.behind() == Behind(0, 0.0)
    sql.close()
