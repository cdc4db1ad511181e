"""The ledger on the real broker and the real engine: what is right balances, and every fault is found and named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from kafka import KafkaProducer

from infra.service.clickhouse import Client
from infra.service.settings import Settings
from schemas.packets import header
from schemas.reports import PartitionReport, Report, encode
from schemas.topics import EVENTS_RAW, INGEST_REPORTS
from streams.accounts import POINTS, Account, Point, Reports
from streams.batch import Record
from streams.ledger import Ledger, Range, Wrong
from streams.reconciling import Reconciling
from streams.topic_generations import Topic
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import events, packets, publish

TOP = Path(__file__).parents[3]
WRITER, KILLED = 7, 8
AMOUNT = 60  # events of a writer
Opened = Callable[..., Reconciling]


def tell(settings: Settings, *reports: Report) -> None:
    """Write reports to their topic."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka.split(","))
    try:
        for report in reports:
            producer.send(settings.topic(INGEST_REPORTS), encode(report), partition=0)
        producer.flush()
    finally:
        producer.close()


def told(values: Sequence[bytes], *belows: int, final: bool = False, started_ms: int = 1) -> list[Report]:
    """Reports of the writer of these packets of partition 0, each of all `seq` below a number."""
    heads = [header(value) for value in values]
    sums = [(below, sum(head.count for head in heads if head.seq < below)) for below in belows]
    return [
        Report(heads[0].writer, started_ms, 2, final, {0: PartitionReport(below, [], events)}) for below, events in sums
    ]


@pytest.fixture
def reconcile(world: Settings, client: Client) -> Iterator[Opened]:
    """Makes what looks at the books of one test."""
    made: list[Reconciling] = []

    def make(*, hours: float | None = None, grace: float = 0.0, closing: float = 3600.0) -> Reconciling:
        topics = Reports(world.kafka, world.topic(INGEST_REPORTS)), Topic(world.kafka, world.topic(EVENTS_RAW))
        made.append(Reconciling(client, *topics, 1, hours=hours, grace=grace, closing=closing))
        return made[-1]

    yield make
    for one in made:
        one.close()


Spoil = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def spoilt(client: Client) -> Spoil:
    """Runs SQL that spoils `packets`, which is as before afterwards."""

    @contextmanager
    def spoil(sql: str) -> Iterator[None]:
        client.command("DROP TABLE IF EXISTS kept SYNC")
        client.command("CREATE TABLE kept AS packets")
        client.command("INSERT INTO kept SELECT * FROM packets")
        client.command(sql, settings={"mutations_sync": 1})
        yield
        client.command("TRUNCATE TABLE packets")
        client.command("INSERT INTO packets SELECT * FROM kept")

    return spoil


def store(make_pipeline: MakePipeline, values: Sequence[bytes]) -> None:
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    at = events(1)[0].received_ms
    records = [Record(0, n, 1, at, value) for n, value in enumerate(values)]
    assert pipeline.run(records).done == {0: len(values)}


def named(ledger: Ledger) -> dict[Wrong, list[Range]]:
    """The faults that there are."""
    return {kind: list(found) for kind, found in ledger.wrong.items() if found}


def test_every_fault_is_found_and_named(
    world: Settings, make_pipeline: MakePipeline, reconcile: Opened, spoilt: Spoil
) -> None:
    values = packets(events(AMOUNT))
    last = len(values)
    tell(world, *told(values, *range(2, last + 1)))
    store(make_pipeline, [*values[:4], values[1], *values[4:]])  # a second copy is no fault
    reconciling, of_late = reconcile(), reconcile(hours=1.0)
    ledger = reconciling.look()
    assert ledger.balanced, ledger
    assert of_late.look().balanced
    sums = ledger.totals
    assert (ledger.reported, ledger.reported_events, sums.packets) == (last, AMOUNT, last)
    assert (sums.received, sums.copies) == (AMOUNT, 1)
    assert sums.received == sums.stored + sums.excluded + sums.rejected + sums.repeats
    assert (ledger.waiting, ledger.unreported, ledger.open, ledger.never) == (0, (), (), ())
    at = "`partition` = 0 AND writer = 7 AND kind = 1 AND seq ="
    with spoilt(f"ALTER TABLE packets DELETE WHERE {at} 5"):
        found = {Wrong.MISSING: [Range(7, 0, 5, 5)], Wrong.LOST: [Range(1, 0, 6, 6)]}
        assert named(reconciling.look()) == found
        assert named(of_late.look()) == found
    with spoilt(f"ALTER TABLE packets DELETE WHERE {at} {last - 1}"):  # no row behind it
        assert named(reconciling.look()) == {Wrong.MISSING: [Range(7, 0, last - 1, last - 1)]}
    with spoilt(f"INSERT INTO packets SELECT * FROM packets WHERE {at} 3"):
        assert named(reconciling.look()) == {Wrong.DOUBLED: [Range(7, 0, 3, 3, 1, 2)]}
    with spoilt(f"ALTER TABLE packets UPDATE received = received + 1, stored = stored + 1 WHERE {at} 6"):
        assert named(reconciling.look()) == {Wrong.MISCOUNTED: [Range(7, 0, 6, 6, 3, 4)]}
    with spoilt(f"ALTER TABLE packets UPDATE excluded = excluded + 1 WHERE {at} 6"):
        assert named(reconciling.look()) == {Wrong.UNBALANCED: [Range(7, 0, 6, 6, 3, 4)]}


def test_what_a_killed_collector_left_is_told_apart(
    world: Settings, make_pipeline: MakePipeline, reconcile: Opened
) -> None:
    values = packets(events(AMOUNT), writer=KILLED)
    tell(world, *told(values, 4))
    absent = 6  # was under way and never acknowledged, or lies in a spool
    store(make_pipeline, [*values[:absent], *values[absent + 1 :]])
    last = len(values) - 1
    reconciling = reconcile()
    ledger = reconciling.look()
    assert ledger.balanced, ledger
    assert ledger.unreported == (Range(KILLED, 0, 4, last, found=last - 4),)
    assert (ledger.open, ledger.never) == ((Range(KILLED, 0, absent, absent),), ())
    assert reconcile(grace=3600.0).look().unreported == (), "a report may still come"
    assert reconcile(closing=-3600.0).look().never == (Range(KILLED, 0, absent, absent),)
    # Whoever drains its spool reports on in its name.
    tell(world, *told(values, absent, final=True))
    ledger = reconciling.look()
    assert ledger.unreported == (Range(KILLED, 0, absent + 1, last, found=last - absent),)
    assert (ledger.open, ledger.never) == ((), (Range(KILLED, 0, absent, absent),))
    # It says that the absent one was acknowledged: that is a loss.
    tell(world, *told(values, last + 1))
    ledger = reconciling.look()
    assert named(ledger)[Wrong.MISSING] == [Range(KILLED, 0, absent, absent)]
    assert ledger.confirmed(None).balanced
    assert not reconciling.look().confirmed(ledger).balanced


def test_what_the_worker_has_not_come_to_is_waiting(
    world: Settings, make_pipeline: MakePipeline, reconcile: Opened
) -> None:
    values = packets(events(AMOUNT))
    publish(world, 0, values)
    tell(world, *told(values, len(values)))
    reconciling = reconcile()
    ledger = reconciling.look()
    assert ledger.balanced, ledger
    assert (ledger.waiting, reconciling.behind) == (len(values), frozenset({0}))
    store(make_pipeline, values)
    ledger = reconciling.look()
    assert ledger.balanced, ledger
    assert (ledger.waiting, reconciling.behind) == (0, frozenset())


def test_the_command_names_what_is_wrong(world: Settings, client: Client, make_pipeline: MakePipeline) -> None:
    values = packets(events(AMOUNT))
    tell(world, *told(values, len(values)))
    store(make_pipeline, values)

    def run(*options: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "infra.cli", "ledger", *options]
        done = subprocess.run(
            command, cwd=TOP, env={"PATH": "/usr/bin:/bin"} | world.environment(), capture_output=True, text=True
        )
        assert not done.stderr
        return done.returncode, done.stdout

    status, text = run("--json")
    assert status == 0
    told_ = json.loads(text)
    assert told_["balanced"]
    assert told_["reported"] == {"packets": len(values), "events": AMOUNT, "waiting": 0}
    client.command("ALTER TABLE packets DELETE WHERE seq = 4", settings={"mutations_sync": 1})
    status, text = run()
    assert status == 1
    assert "0000000000000007/0/4" in text
    assert "THE BOOKS DO NOT BALANCE" in text


def test_reports_are_thinned_and_the_newest_stay() -> None:
    account = Account([Point(0, 0, 0)])
    for n in range(1, 10 * POINTS):
        account.add(Point(n, 2 * n, n))
        assert len(account.points) <= POINTS
        assert account.points == sorted(account.points)
    assert (account.first, account.last) == (Point(0, 0, 0), Point(10 * POINTS - 1, 2 * (10 * POINTS - 1), n))
    account.add(Point(3, 6, n))
    assert account.last.below == n, "a report that tells less changes nothing"
    account.forget(n - 1)
    assert [point.below for point in account.points] == [n - 2, n - 1, n]
