"""Stored rows made anonymous while workers go on: rows stay exact, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from infra.local.kafka import TOP
from infra.local.stack import Stack
from infra.past.run import Past, Report
from infra.past.scope import PastError
from infra.service.clickhouse import Client, insert_if
from infra.service.settings import Settings
from infra.unsettled import take_back
from schemas.packets import MAPPED_IPV4, Event, encode
from schemas.privacy import PRESETS, Privacy
from schemas.routing import ROUTING_VERSION
from schemas.sites import REVISION, PolicySet, SitePolicy, load_sites
from schemas.topics import EVENTS_RAW
from streams import sink
from streams.anonymize.emptied import UNSET, column
from streams.batch import Record
from streams.ownership import Ownership
from streams.partitions import Life
from streams.patience import Stopping
from streams.swaps import State, SwapBusy, SwapLost, Swaps, swapping
from streams.topic_generations import Topic, generation_of
from streams.upkeep import Upkeep
from tests.conftest import Starter
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import (
    books,
    count,
    events,
    eventually,
    publish,
    publish_policies,
    total,
    written_since,
)

OPEN = PolicySet(
    {
        site: SitePolicy(privacy=Privacy(preset="matomo-default", **PRESETS["matomo-default"]), keep_bots=True)
        for site in (1, 2, 3)
    }
)
FILE = '[exclusions]\nkeep_bots = true\n[privacy]\npreset = "{preset}"\n'
YESTERDAY = (datetime.now(UTC) - timedelta(days=1)).date()
MONTH = int(YESTERDAY.strftime("%Y%m"))
NOON = round(datetime(YESTERDAY.year, YESTERDAY.month, YESTERDAY.day, 12, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture
def stored(client: Client, world: Settings, make_pipeline: MakePipeline) -> Settings:
    """Rows of yesterday under rules that keep all; today the rules of site 1 keep nothing, those of 2 and 3 are as
    they were."""
    publish_policies(world, OPEN)
    write_sites(world, "no-personal-data")
    pipeline = make_pipeline()
    pipeline.assign({0: 0, 1: 0})
    pipeline.run([*records(0), *records(1)])
    return world


def write_sites(settings: Settings, first: str) -> None:
    for site in (1, 2, 3):
        text = FILE.format(preset=first if site == 1 else "matomo-default")
        (settings.sites / f"{site}.toml").write_text(text)


def yesterdays(amount: int, seed: int, first: int = 0) -> list[Event]:
    found = events(amount, seed=seed, start_ms=NOON + first * 100, first=first)
    for number, event in enumerate(found):
        event.query += f"&uid=jo{number % 7}&dimension1=gold"
    return found


def values(found: list[Event], writer: int, first: int = 0) -> list[bytes]:
    return [
        encode(writer, first + n, ROUTING_VERSION, OPEN.version, found[at : at + 10])
        for n, at in enumerate(range(0, len(found), 10))
    ]


def records(partition: int, amount: int = 120) -> list[Record]:
    made = values(yesterdays(amount, partition), 10 + partition)
    now = time.time_ns() // 1_000_000
    return [Record(partition, n, 1, now, value) for n, value in enumerate(made)]


def rows(client: Client, where: str = "1") -> pa.Table:
    return client.query_arrow(f"SELECT * FROM events WHERE {where} ORDER BY writer, `partition`, seq, `index`")


def names(client: Client) -> list[tuple[Any, ...]]:
    found = client.query("SELECT writer, `partition`, seq, `index` FROM events ORDER BY ALL").result_rows
    return [tuple(name) for name in found]


def anonymise(client: Client, settings: Settings, **options: Any) -> Report:
    return Past(client, settings, 1, YESTERDAY, YESTERDAY, **options).run()


def tables(client: Client) -> list[str]:
    return [name for (name,) in client.query("SHOW TABLES").result_rows if name.startswith("swap_")]


def overdue(client: Client) -> None:
    """As if the terms of all swaps were over."""
    client.command(
        "ALTER TABLE swaps UPDATE until = until - INTERVAL 10 MINUTE WHERE 1", settings={"mutations_sync": 1}
    )


def personal(client: Client) -> int:
    """Rows of site 1 that hold what its rules of today forbid."""
    return count(
        client,
        "SELECT count() FROM events WHERE site_id = 1 AND (user_id != 0 OR user_name != '' OR notEmpty(dimension_slot) "
        "OR address NOT LIKE '%.0.0' OR browser_version != '')",
    )


def test_one_site_is_changed_and_every_other_row_stays(client: Client, stored: Settings, stack: Stack) -> None:
    began = time.time()
    before, others, own = names(client), rows(client, "site_id != 1"), rows(client, "site_id = 1")
    assert personal(client) > 0
    would = Past(client, stored, 1, YESTERDAY, YESTERDAY).run(dry_run=True)
    assert rows(client, "site_id = 1").equals(own)
    run = Past(client, stored, 1, YESTERDAY, YESTERDAY)
    report = run.run()
    assert report.right
    assert report.rows == report.changed == own.num_rows == would.rows == report.checked
    assert would.columns == report.columns
    assert report.columns["visitor_id"] == report.columns["user_name"] == own.num_rows
    assert names(client) == before
    assert rows(client, "site_id != 1").equals(others)
    assert personal(client) == 0
    new = rows(client, "site_id = 1")
    for name in ("visit_id", "time", "received_at", "repeat_id"):
        assert new[name].equals(own[name])
    assert not set(new["visitor_id"].to_pylist()) & set(own["visitor_id"].to_pylist())
    assert tables(client) == []
    record = client.query("SELECT what, site_id, data, rows, changed, rule FROM past_changes ORDER BY at").result_rows
    done = (1, "events", report.rows, report.changed, f"policy {report.policy_version}")
    assert record == [("anonymising", *done), ("anonymised", *done)]
    written = list(written_since(stack.settings.state, began))
    assert any(bytes.fromhex(report.policy_version) in content for content in written)
    for form in (run.events.keys.secret, run.events.keys.secret.hex().encode()):
        assert not any(form in content for content in written)
    again = anonymise(client, stored)
    assert (again.months, again.rows, again.checked) == ([], 0, own.num_rows)
    assert rows(client, "site_id = 1").equals(new)


def test_what_older_code_made_under_the_same_rules_is_done_again(
    client: Client, stored: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an update whose detectors find what those before did not."""
    report = anonymise(client, stored)
    client.command(
        "ALTER TABLE events UPDATE title = 'to jo@example.com' WHERE site_id = 1", settings={"mutations_sync": 1}
    )
    assert anonymise(client, stored).differing == {"title": report.rows}
    sites = load_sites(stored.sites)
    sites.policies = PolicySet(sites.policies.sites, REVISION + 1)
    monkeypatch.setattr("infra.past.scope.load_sites", lambda _folder: sites)
    again = anonymise(client, stored)
    assert (again.right, again.rows) == (True, report.rows)
    assert client.query("SELECT DISTINCT title FROM events WHERE site_id = 1").result_rows == [("to [email]",)]


def test_rows_without_the_consent_that_is_asked_for_now_are_removed(
    client: Client, stored: Settings, make_pipeline: MakePipeline
) -> None:
    given = [event for event in yesterdays(40, 5) if event.site == 1]
    for event in given:
        event.query += "&consent=1"
    pipeline = make_pipeline()
    pipeline.assign({2: 0})
    now = time.time_ns() // 1_000_000
    pipeline.run([Record(2, n, 1, now, value) for n, value in enumerate(values(given, 12))])
    granted = count(client, "SELECT count() FROM events WHERE site_id = 1 AND consent = 1")
    without = count(client, "SELECT count() FROM events WHERE site_id = 1 AND consent != 1")
    others = rows(client, "site_id != 1")
    assert min(granted, without) > 0
    (stored.sites / "1.toml").write_text(FILE.format(preset="matomo-default") + 'consent = "required"\n')
    would = Past(client, stored, 1, YESTERDAY, YESTERDAY).run(dry_run=True)
    assert (would.removed, would.rows) == (without, granted)
    report = anonymise(client, stored)
    assert (report.right, report.removed, report.rows, report.unwanted) == (True, without, granted, 0)
    assert count(client, "SELECT count() FROM events WHERE site_id = 1") == granted
    assert rows(client, "site_id != 1").equals(others)
    record = client.query("SELECT what, data, rows FROM past_changes ORDER BY at").result_rows
    done = (("removing", without), ("removed", without), ("anonymising", granted), ("anonymised", granted))
    assert record == [(what, "events", amount) for what, amount in done]
    assert anonymise(client, stored).removed == 0
    assert make_pipeline().assign({0: 0, 1: 0, 2: 0}) == {0: 12, 1: 12, 2: (len(given) + 9) // 10}


def test_what_is_removed_is_told_before(client: Client, stored: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    (stored.sites / "1.toml").write_text(FILE.format(preset="matomo-default") + 'consent = "required"\n')
    own, ended = count(client, "SELECT count() FROM events WHERE site_id = 1"), Swaps.end

    def cut_off(swaps: Swaps, swap: Any) -> None:
        ended(swaps, swap)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Swaps, "end", cut_off)
        with pytest.raises(KeyboardInterrupt):
            anonymise(client, stored)
    assert anonymise(client, stored).right
    assert count(client, "SELECT count() FROM events WHERE site_id = 1") == 0
    found = client.query("SELECT what, rows FROM past_changes ORDER BY at").result_rows
    assert found == [("removing", own), ("removed", own)]


def test_a_period_may_begin_long_ago(client: Client, stored: Settings) -> None:
    report = Past(client, stored, 1, date(1, 1, 1), YESTERDAY).run()
    assert (report.right, report.first) == (True, "1970-01-01")
    assert report.rows > 0
    assert count(client, "SELECT count() FROM past_changes WHERE what = 'anonymised'") == 1


def test_what_decides_nothing_about_rows_changes_none(client: Client, stored: Settings) -> None:
    assert anonymise(client, stored).rows > 0
    more = "shards = 2\nrepeat_seconds = 60\n{}[recordings]\nenabled = true\n"
    (stored.sites / "1.toml").write_text(more.format(FILE.format(preset="no-personal-data")))
    assert anonymise(client, stored).rows == 0
    (stored.sites / "1.toml").write_text(
        more.format("timezone = 'Asia/Tokyo'\n" + FILE.format(preset="no-personal-data"))
    )
    assert anonymise(client, stored).rows > 0


@pytest.mark.parametrize("name", ["consent", "day", "address", "visitor_id"])
def test_what_decides_is_not_emptied(name: str) -> None:
    with pytest.raises(KeyError):
        column(name)


def test_columns_that_are_emptied_besides(client: Client, stored: Settings) -> None:
    report = anonymise(client, stored, unset=["title", "item_sku"])
    assert report.right
    assert report.rows > 0
    assert count(client, "SELECT count() FROM events WHERE site_id = 1 AND title != ''") == 0
    assert count(client, "SELECT count() FROM events WHERE site_id = 2 AND title != ''") > 0
    assert anonymise(client, stored, unset=["title", "item_sku"]).rows == 0


def test_every_column_that_may_be_emptied_is_looked_at(client: Client, stored: Settings) -> None:
    report = Past(client, stored, 1, YESTERDAY, YESTERDAY, unset=list(UNSET)).run(dry_run=True)
    assert report.rows == count(client, "SELECT count() FROM events WHERE site_id = 1")


def test_while_inserts_are_held_nobody_owns_a_partition(
    client: Client, stored: Settings, make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, swaps = make_pipeline(), Swaps(client)
    assert owner.assign({0: 0}) == {0: 12}
    before = names(client)
    more = [Record(0, 12 + n, 1, NOON, value) for n, value in enumerate(values(yesterdays(20, 0, 120), 10, 12))]
    with swapping(swaps, MONTH) as swap:
        with pytest.raises(SwapBusy):
            swaps.begin(MONTH)
        swaps.renew(swap, State.HELD)
        owner.ownership.hold()
        assert owner.run(more).done == {}
        assert owner.partitions[0].life is Life.LOST
        assert make_pipeline().assign({0: 0}) == {}
        assert names(client) == before
    assert owner.assign({0: 0}) == {0: 12}
    assert owner.run(more).done == {0: 14}
    total(client, 260)
    assert anonymise(client, stored).right
    assert personal(client) == 0
    add = Ownership.add

    def held_half_way(self: Ownership, claims: Any) -> None:
        swaps.renew(swaps.begin(MONTH), State.HELD)
        add(self, claims)

    monkeypatch.setattr(Ownership, "add", held_half_way)
    assert make_pipeline().assign({0: 0}) == {}


def test_an_owner_that_has_no_events_hears_of_its_loss(
    client: Client, stored: Settings, make_pipeline: MakePipeline
) -> None:
    """Else the owner of partition 0 would believe that it makes keys and destroys them, and nobody would."""
    owner = make_pipeline()
    assert owner.assign({0: 0}) == {0: 12}
    with closing(Topic(stored.kafka, stored.topic(EVENTS_RAW))) as topic:
        owner.upkeep = Upkeep(client, topic, 1, partitions=4, margin=timedelta(hours=6))
        owner.tidy()
        assert owner.running() == {0: 12}
        owner.ownership.hold()
        owner.tidy()
        assert owner.running() == {}
        assert owner.assign({0: 0}) == {0: 12}
        owner.tidy()
        assert owner.running() == {0: 12}


def test_what_was_stored_by_half_is_taken_back_and_stored_anew(
    client: Client, stored: Settings, make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ping counts with its visit, which is not found any more once the ids of the visit have changed."""
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    query = "idsite=1&rec=1&url=https%3A%2F%2Fsite.example%2F&uid=jo1&dimension1=gold"
    first = Event(NOON, 1, MAPPED_IPV4 + bytes((198, 51, 100, 7)), 0, 0, agent, "en", "", query)
    ping = msgspec.structs.replace(first, received_ms=first.received_ms + 10_000, query=f"{first.query}&ping=1")
    now = time.time_ns() // 1_000_000
    begin, end = (Record(2, n, 1, now, values([one], 30, n)[0]) for n, one in enumerate((first, ping)))
    with closing(Topic(stored.kafka, stored.topic(EVENTS_RAW))) as topic:
        topic_id = topic.id()
    assert topic_id is not None
    assert generation_of(client, topic_id) == 1
    pipeline = make_pipeline()
    pipeline.assign({2: 0})
    pipeline.run([begin])

    def cut_off(client: Client, table: str, *args: Any, **options: Any) -> int:
        if table == "packets":
            raise Stopping
        return insert_if(client, table, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sink, "insert_if", cut_off)
        with pytest.raises(Stopping):
            pipeline.run([end])
    assert count(client, "SELECT count() FROM events WHERE `partition` = 2") == 2
    assert anonymise(client, stored).right
    assert count(client, "SELECT count() FROM events WHERE `partition` = 2") == 1
    other = make_pipeline()
    assert other.assign({2: 0}) == {2: 1}
    assert other.run([end]).done == {2: 2}
    assert total(client, 242)["events"] == count(client, "SELECT count() FROM events")
    assert count(client, "SELECT sum(excluded) FROM packets WHERE `partition` = 2") == 1


def test_without_a_log_nothing_is_taken_back(client: Client, stored: Settings) -> None:
    before = names(client)
    with closing(Topic(stored.kafka, stored.topic("not.there"))) as topic:
        assert take_back(client, topic, [0, 1], "events", MONTH) == 0
    assert names(client) == before


def test_what_was_left_behind_is_brought_to_its_end(
    client: Client, stored: Settings, make_pipeline: MakePipeline
) -> None:
    swaps, before = Swaps(client), names(client)
    for state in (State.PREPARING, State.HELD, State.READY):
        swap = swaps.begin(MONTH)
        swaps.copy(swap)
        client.command(f"ALTER TABLE {swap.table} UPDATE title = 'new' WHERE 1", settings={"mutations_sync": 1})
        swaps.renew(swap, state)
        assert (make_pipeline().assign({0: 0}) == {}) == (state is not State.PREPARING)
        overdue(client)
        assert make_pipeline().assign({0: 0}) == {0: 12}
        assert tables(client) == []
        assert swaps.under_way() == []
        assert names(client) == before
        new = count(client, "SELECT count() FROM events WHERE title = 'new'")
        assert new == (len(before) if state is State.READY else 0)
        with pytest.raises(SwapLost):
            swaps.renew(swap, State.HELD)


def without_a_packet(client: Client, swaps: Swaps) -> None:
    with swapping(swaps, MONTH) as swap:
        client.command(f"ALTER TABLE {swap.table} DELETE WHERE seq = 3", settings={"mutations_sync": 1})
        swaps.replace(swaps.renew(swap, State.HELD))


def test_what_cannot_be_done_changes_nothing(client: Client, stored: Settings) -> None:
    before, today = names(client), datetime.now(UTC).date()
    with pytest.raises(SwapLost):
        without_a_packet(client, Swaps(client))
    assert names(client) == before
    assert tables(client) == []
    with pytest.raises(PastError, match="must be over"):
        Past(client, stored, 1, YESTERDAY, today)
    with pytest.raises(PastError, match="before it begins"):
        Past(client, stored, 1, YESTERDAY, YESTERDAY - timedelta(days=1))
    with pytest.raises(ValueError, match="there is no site 9"):
        Past(client, stored, 9, YESTERDAY, YESTERDAY)


class Flow:
    """Events of yesterday that go on arriving, in two partitions, beside what `stored` has."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.sent, self._seq = settings, 0, 0

    def send(self, amount: int = 60) -> None:
        for partition in (2, 3):
            made = values(yesterdays(amount, partition, self.sent), 20 + partition, self._seq)
            publish(self.settings, partition, made)
        self._seq += len(made)
        self.sent += amount

    def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self.send()
            time.sleep(0.05)


def command(settings: Settings) -> subprocess.Popen[str]:
    day = YESTERDAY.isoformat()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VEILSTREAM_")}
    return subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "anonymize-past", "--site", "1", "--from", day, "--to", day, "--json"],
        cwd=TOP,
        env=environment | settings.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def flow(stored: Settings, start_worker: Starter) -> Flow:
    """A worker that runs, and what it is fed with; the log has what is stored, or it would count as cut."""
    for partition in (0, 1):
        publish(stored, partition, [record.value for record in records(partition)])
    start_worker(stored)
    return Flow(stored)


def test_late_events_are_neither_lost_nor_doubled(client: Client, stored: Settings, flow: Flow) -> None:
    flow.send()
    eventually(lambda: books(client)["received"], lambda received: received == 240 + 2 * flow.sent)
    process = command(stored)
    flow.until(lambda: process.poll() is not None)
    out, err = process.communicate()
    assert process.returncode in (0, 1), err
    report = json.loads(out)
    assert report["rows"] > 0
    flow.send()
    total(client, 240 + 2 * flow.sent)
    assert anonymise(client, stored).right
    assert personal(client) == 0
    total(client, 240 + 2 * flow.sent)


STEPS = ("copied beside", "rows", "inserts held", "swapping", "swapped")


@pytest.mark.long
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("victim", ["command", "engine"])
def test_whatever_is_killed_at_whatever_step(
    client: Client, stored: Settings, flow: Flow, stack: Stack, step: str, victim: str
) -> None:
    process = command(stored)
    assert process.stderr is not None
    for line in process.stderr:
        flow.send(20)
        if step in line:
            break
    if victim == "command":
        process.kill()
    else:
        stack.kill("front", signal.SIGKILL)
        stack.start()
    process.communicate()
    overdue(client)
    flow.send()
    total(client, 240 + 2 * flow.sent)
    assert anonymise(client, stored).right
    assert personal(client) == 0
    assert tables(client) == []
    total(client, 240 + 2 * flow.sent)
