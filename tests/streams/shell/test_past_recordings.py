"""Stored recordings and heatmaps, brought under the rules that their site has today."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from infra.past import recordings as past
from infra.past.run import Past, Report
from infra.service.clickhouse import Client, insert_if
from infra.service.settings import Settings
from schemas.packets import Event, encode
from schemas.recordings import Recordings
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import HEATMAP, RECORDINGS
from streams.recording_rows import Recorder
from tests.streams.anonymize.recordings.documents import change, element, snapshot, text
from tests.streams.core.test_recording_rows import AGENT
from tests.streams.core.traffic import world as lookups
from tests.streams.shell.stream import count, publish_policies

YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date()
NOON = round(datetime(YESTERDAY.year, YESTERDAY.month, YESTERDAY.day, 12, tzinfo=UTC).timestamp() * 1000)
SHOWN = Recordings(enabled=True, unmask=("[data-matomo-unmask]", ".article"))
OPEN = PolicySet({site: SitePolicy(domains=("shop.example",), recordings=SHOWN) for site in (1, 2)})
FILE = 'domains = ["shop.example"]\n[recordings]\nenabled = true\n'
PAGE = [
    {"type": 4, "timestamp": 1, "data": {"href": "https://shop.example/p?q=shoe", "width": 1280, "height": 800}},
    snapshot(element(2, "p", {"class": "article"}, [text(3, "shoes of the spring")]), at=2),
    snapshot(element(2, "p", {"data-matomo-unmask": ""}, [text(3, "shirts of the summer")]), at=3),
    change(2, type=2, id=2, x=640, y=400),
]


@pytest.fixture
def stored(client: Client, world: Settings) -> Settings:
    """Two chunks of yesterday and one of the day before at each of two sites, with a click each."""
    publish_policies(world, OPEN)
    day = 86_400_000
    for site in (1, 2):
        (world.sites / f"{site}.toml").write_text(FILE + "unmask = ['[data-matomo-unmask]', '.article']\n")
        made = [event(site, NOON), event(site, NOON + 5), event(site, NOON - day)]
        put(client, rows(made, site))
    return world


def event(site: int, at: int, told: Any = PAGE) -> Event:
    query = f"idsite={site}&session=a {json.dumps(told)}"
    return Event(at, site, bytes(10) + b"\xff\xff\xc6\x33\x64\x07", 0, 0, AGENT, "de", "", query)


def rows(events: list[Event], writer: int) -> dict[str, pa.Table]:
    made = Recorder(lookups(OPEN)).rows(encode(writer, 0, 1, OPEN.version, events), 0)
    assert not made.dropped
    schemas = {"recordings": RECORDINGS, "heatmap": HEATMAP}
    return {name: pa.Table.from_pylist(getattr(made, name), schema) for name, schema in schemas.items()}


def put(client: Client, tables: dict[str, pa.Table]) -> None:
    for number, (name, table) in enumerate(tables.items()):
        insert_if(client, name, table, "1", query_id=f"rows-{id(table)}-{number}")


def anonymise(client: Client, settings: Settings, *, dry_run: bool = False) -> Report:
    return Past(client, settings, 1, YESTERDAY, YESTERDAY).run(dry_run=dry_run)


def showing(client: Client, words: str, where: str = "1") -> int:
    """Rows, those that wait to be merged too, whose events show these words."""
    return count(client, f"SELECT count() FROM recordings WHERE position(data, '{words}') > 0 AND {where}")


def test_texts_that_are_masked_today_are_masked_in_what_is_stored(client: Client, stored: Settings) -> None:
    assert showing(client, "shoes of") == showing(client, "shirts of") == 6
    (stored.sites / "1.toml").write_text(FILE)
    would = anonymise(client, stored, dry_run=True)
    assert (would.recordings.rows, would.recordings.changed, showing(client, "shoes of")) == (2, 2, 6)
    report = anonymise(client, stored)
    assert report.right
    assert (report.recordings.rows, report.recordings.changed, report.recordings.removed) == (2, 2, 0)
    assert showing(client, "shoes of", f"site_id = 1 AND received_at >= toDate('{YESTERDAY}')") == 0
    assert showing(client, "shoes of") == 4
    assert showing(client, "shirts of") == 6  # its mark is one that the rules of today know
    assert count(client, "SELECT count() FROM recordings") == 6
    assert count(client, "SELECT count() FROM heatmap") == 6
    record = client.query("SELECT what, data, rows, changed FROM past_changes ORDER BY at").result_rows
    assert record == [("anonymising", "recordings", 2, 2), ("anonymised", "recordings", 2, 2)]
    assert anonymise(client, stored).recordings.rows == 0

    # A chunk that is stored once more as it was then, as a worker does that was killed, is found by the next run.
    put(client, rows([event(1, NOON), event(1, NOON + 5)], 1))
    again = anonymise(client, stored)
    assert (again.right, again.recordings.rows, showing(client, "shoes of")) == (True, 2, 4)


def test_addresses_lose_what_the_rules_do_not_keep_today(client: Client, stored: Settings) -> None:
    client.command(
        "ALTER TABLE heatmap UPDATE url_path = '/u/jo@shop.example', selector = 'a#c12345678' WHERE 1",
        settings={"mutations_sync": 1},
    )
    would = anonymise(client, stored, dry_run=True)
    report = anonymise(client, stored)
    assert would.heatmap.changed == report.heatmap.changed == 2
    assert (report.right, report.heatmap.left) == (True, 0)
    found = client.query(
        "SELECT site_id, url_path, selector, count() FROM heatmap GROUP BY ALL ORDER BY ALL"
    ).result_rows
    old = ("/u/jo@shop.example", "a#c12345678")
    assert found[1:] == [(1, *old, 1), (2, *old, 3)]
    site, path, selector, amount = found[0]
    assert (site, amount) == (1, 2)
    assert "jo@" not in path
    assert "12345678" not in selector
    assert anonymise(client, stored).heatmap.rows == 0
    record = client.query("SELECT what, data, rows, changed FROM past_changes WHERE data != 'recordings'").result_rows
    assert record == [("anonymising", "heatmap", 0, 0), ("anonymised", "heatmap", 2, 2)]


def test_recordings_that_did_not_ask_for_consent_are_removed_once_the_rules_ask(
    client: Client, stored: Settings
) -> None:
    (stored.sites / "1.toml").write_text(FILE + '[privacy]\nconsent = "required"\n')
    assert anonymise(client, stored, dry_run=True).recordings.removed == 2
    report = anonymise(client, stored)
    assert (report.right, report.recordings.removed, report.recordings.rows) == (True, 2, 0)
    assert count(client, "SELECT count() FROM recordings WHERE site_id = 1") == 1
    assert count(client, "SELECT count() FROM recordings WHERE site_id = 2") == 3
    assert count(client, "SELECT count() FROM heatmap WHERE site_id = 1") == 3  # which name nobody
    record = client.query("SELECT what, data, rows FROM past_changes ORDER BY at").result_rows
    assert record == [("removing", "recordings", 2), ("removed", "recordings", 2)]


def test_a_month_that_was_not_merged_is_merged_by_the_next_run(
    client: Client, stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (stored.sites / "1.toml").write_text(FILE)

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(past.Recordings, "_merge", cut_off)
        with pytest.raises(KeyboardInterrupt):
            anonymise(client, stored)
    assert showing(client, "shoes of") == 6  # also beside the new ones
    report = anonymise(client, stored)
    assert (report.right, report.recordings.rows, showing(client, "shoes of")) == (True, 0, 4)
    record = client.query("SELECT what, rows FROM past_changes ORDER BY at").result_rows
    assert record == [("anonymising", 2), ("anonymising", 0), ("anonymised", 0)]


def test_many_recordings_are_changed_some_at_a_time(
    client: Client, stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(client, rows([event(1, NOON + n) for n in range(40)], 9))
    (stored.sites / "1.toml").write_text(FILE)
    monkeypatch.setattr(past, "CHUNKS", 7)
    report = anonymise(client, stored)
    assert (report.right, report.recordings.rows, report.recordings.changed) == (True, 42, 42)
    assert showing(client, "shoes of", "site_id = 1") == 1
    assert count(client, "SELECT count() FROM recordings WHERE site_id = 1") == 43


def test_what_decides_nothing_about_recordings_changes_none(client: Client, stored: Settings) -> None:
    (stored.sites / "1.toml").write_text(FILE)
    assert anonymise(client, stored).recordings.rows == 2
    (stored.sites / "1.toml").write_text("shards = 2\n" + FILE.replace("enabled = true", "share = 0.5"))
    assert anonymise(client, stored).recordings.rows == 0


def test_an_hour_that_begins_before_the_period_is_looked_at_too(client: Client, world: Settings) -> None:
    publish_policies(world, OPEN)
    (world.sites / "1.toml").write_text('timezone = "Asia/Kolkata"\n' + FILE)
    day = YESTERDAY - timedelta(days=2)
    midnight = round(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo("Asia/Kolkata")).timestamp() * 1000)
    put(client, rows([event(1, midnight + 600_000)], 1))
    client.command("ALTER TABLE heatmap UPDATE url_path = '/u/jo@shop.example' WHERE 1", settings={"mutations_sync": 1})
    report = Past(client, world, 1, day, day).run()
    assert (report.right, report.heatmap.changed) == (True, 1)
    assert count(client, "SELECT count() FROM heatmap WHERE position(url_path, '@') > 0") == 0
