"""Rows are removed when their time is over, month by month, and workers go on where they were."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from infra import retention
from infra.service.clickhouse import Client
from infra.service.settings import Settings
from schemas.sites import Sites, load_sites
from streams.swaps import SwapBusy, Swaps
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import count, publish_policies
from tests.streams.shell.test_past import MONTH, NOON, OPEN, names, records

NOW = datetime.fromtimestamp(NOON / 1000, UTC)


def sites(settings: Settings, **days: int) -> Sites:
    """Sites 1 to 3, with rows of events kept for so many days: `one=30`."""
    for site, name in enumerate(("one", "two", "three"), 1):
        text = f"[retention]\nevents = {days[name]}\nrejects = {days[name]}\n" if name in days else ""
        (settings.sites / f"{site}.toml").write_text(text)
    return load_sites(settings.sites)


def of_sites(client: Client) -> list[int]:
    rows = client.query("SELECT DISTINCT site_id FROM events WHERE site_id < 4 ORDER BY site_id").result_rows
    return [int(site) for (site,) in rows]


def test_rows_are_removed_when_their_time_is_over(
    client: Client, world: Settings, make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_policies(world, OPEN)
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    pipeline.run(records(0))
    before, own = names(client), count(client, "SELECT count() FROM events WHERE site_id = 2")
    some = sites(world, one=60, two=20)
    later = NOW + timedelta(days=25)

    assert retention.run(client, some, now=NOW) == []
    would = retention.run(client, some, dry_run=True, now=later)
    assert names(client) == before
    rows = [one for one in would if one.data == "events"]
    assert [(one.site, one.month, one.rows, one.how) for one in rows] == [(2, MONTH, own, "rows")]
    with monkeypatch.context() as patch:
        patch.setattr(retention, "removing", cut_off)
        with pytest.raises(KeyboardInterrupt):
            retention.run(client, some, now=later)
    assert Swaps(client).under_way() == []
    assert retention.run(client, some, now=later) == would
    assert of_sites(client) == [1, 3]
    assert len(names(client)) == len(before) - own
    assert retention.run(client, some, now=later) == []

    Swaps(client).begin(MONTH)
    with monkeypatch.context() as patch:
        patch.setattr("streams.swaps.TERM", 0)  # for two of which another change is waited
        with pytest.raises(SwapBusy):
            retention.run(client, some, now=later + timedelta(days=60))
    client.command(
        "ALTER TABLE swaps UPDATE until = now64() + INTERVAL 2 SECOND WHERE 1", settings={"mutations_sync": 1}
    )

    everything = sites(world, one=20, two=20, three=20)
    removed = retention.run(client, everything, now=later + timedelta(days=60))
    assert {one.how for one in removed if one.data == "events"} == {"partition"}
    assert names(client) == []
    assert count(client, "SELECT count() FROM packets") == 12
    kept = [(row["what"], row["site_id"], row["rows"]) for row in retention.record(client) if row["data"] == "events"]
    assert kept.count(("removed", 2, own)) == 1
    assert kept.count(("removing", 2, own)) == 2
    assert make_pipeline().assign({0: 0}) == {0: 12}


def test_rows_of_a_site_whose_file_is_gone_are_kept_as_the_default_says(
    client: Client, world: Settings, make_pipeline: MakePipeline
) -> None:
    publish_policies(world, OPEN)
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    pipeline.run(records(0))
    sites(world, one=20, two=20)
    (world.sites / "3.toml").unlink()
    later = NOW + timedelta(days=85)
    retention.run(client, load_sites(world.sites), now=later)
    assert of_sites(client) == [3]
    (world.sites / "default.toml").write_text("[retention]\nevents = 90\n")
    assert retention.run(client, load_sites(world.sites), now=later) == []
    (world.sites / "default.toml").write_text("[retention]\nevents = 30\n")
    removed = retention.run(client, load_sites(world.sites), now=later)
    assert {(one.site, one.data, one.days, one.how) for one in removed} == {(3, "events", 30, "partition")}
    assert names(client) == []


def test_thousands_of_sites_are_no_matter(client: Client, world: Settings) -> None:
    (world.sites / "default.toml").write_text("[retention]\nrejects = 30\n")
    many = 6_000
    client.command(
        "INSERT INTO rejects (site_id, received_at, writer, `partition`, seq, `index`) "
        f"SELECT number + 10, now64(3) - INTERVAL 90 DAY, 1, 0, number, 0 FROM numbers({many})",
        settings={"async_insert": 0},
    )
    removed = retention.run(client, load_sites(world.sites))
    assert sum(one.rows for one in removed) == len(removed) == many
    assert count(client, "SELECT count() FROM rejects") == 0


def cut_off(*_: object) -> Iterator[int]:
    yield 1
    raise KeyboardInterrupt


def test_a_month_that_another_site_may_still_use_is_not_dropped() -> None:
    month = 202601
    first = datetime(2026, 3, 1, tzinfo=UTC)
    terms = {1: retention.Term(1, 20, first.date(), 0), 2: retention.Term(2, 20, first.date(), 0)}
    assert not retention.ends_before(month, {1: terms[1]}, {1, 2})
    assert not retention.ends_before(month, terms, {1, 2})
    over = {site: retention.Term(site, 20, first.date(), round(first.timestamp() * 1000)) for site in (1, 2)}
    assert retention.ends_before(month, over, {1, 2})
    assert retention.ends_before(202602, over, {1, 2})
    assert not retention.ends_before(202603, over, {1, 2})
