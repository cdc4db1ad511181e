"""A broker that is away: what is acknowledged meanwhile is in the log afterwards."""

from __future__ import annotations

import signal
from functools import partial

import pytest

from infra.local.stack import Stack
from infra.service.settings import Settings
from ingest.spool.log import folders
from schemas import reports
from schemas.topics import INGEST_REPORTS
from tests.conftest import Starter
from tests.ingest.process import (
    Senders,
    admin,
    admin_answers,
    ask,
    drained,
    metric,
    read_log,
    records,
    wait,
)


@pytest.fixture
def settings(impatient: Settings) -> Settings:
    return impatient


@pytest.mark.long
def test_the_broker_may_be_away(settings: Settings, start_collector: Starter, stack: Stack) -> None:
    collector = start_collector(settings)
    with Senders(settings) as senders:
        wait(partial(senders.have, 100))
        stack.kill("kafka", signal.SIGSTOP)
        try:
            wait(lambda: metric(settings, "collector_spool_packets") > 0)
            before = len(senders.acknowledged)
            wait(partial(senders.have, before + 100))
            assert admin(settings, "/readyz")[0] == admin(settings, "/livez")[0] == 200
        finally:
            stack.kill("kafka", signal.SIGCONT)
        wait(lambda: drained(settings))
        stack.wait_ready("kafka", after=stack.kill("kafka"))
        before = len(senders.acknowledged)
        wait(partial(senders.have, before + 100))
    wait(lambda: drained(settings))
    assert collector.stop() == 0
    log = read_log(settings)
    numbers = log.once()
    assert senders.unknown == set()
    assert numbers == senders.acknowledged
    assert folders(settings.spool) == []


@pytest.mark.long
def test_collectors_killed_while_the_broker_is_away_leave_what_they_acknowledged_to_the_next(
    settings: Settings, start_collector: Starter, stack: Stack
) -> None:
    collector = start_collector(settings)
    with Senders(settings) as senders:
        wait(partial(senders.have, 100))
        stack.stop_part("kafka")
        for _ in range(3):
            wait(lambda: metric(settings, "collector_spool_packets") > 3)
            before = len(senders.acknowledged)
            wait(partial(senders.have, before + 50))
            collector.kill(signal.SIGKILL)
            collector.start(wait=False)
            wait(lambda: collector.running() and admin_answers(settings))
        before = len(senders.acknowledged)
        wait(partial(senders.have, before + 50))
        stack.start_part("kafka")
        wait(lambda: drained(settings))
    assert collector.stop() == 0
    log = read_log(settings)
    numbers = log.once()
    assert senders.acknowledged <= numbers
    assert numbers <= senders.acknowledged | senders.unknown
    assert len({writer for writer, _ in log.packets}) == 4
    for (_, partition), packets in log.packets.items():
        assert packets, partition
    # Whoever drained them reported in their name.
    told: dict[tuple[int, int], reports.PartitionReport] = {}
    for _, _, value in records(settings, INGEST_REPORTS):
        report = reports.decode(value)
        told.update({(report.writer, number): part for number, part in report.partitions.items()})
    assert {place: (part.below, part.events) for place, part in told.items()} == {
        place: (len(firsts := {head.seq: head.count for head, _ in packets}), sum(firsts.values()))
        for place, packets in log.packets.items()
    }
    assert folders(settings.spool) == []


@pytest.mark.long
def test_a_collector_stopped_while_the_broker_is_away_leaves_everything_to_the_next(
    settings: Settings, start_collector: Starter, stack: Stack
) -> None:
    collector = start_collector(settings)
    stack.stop_part("kafka")
    with Senders(settings) as senders:
        wait(partial(senders.have, 50))
        assert collector.stop() == 0
    assert senders.acknowledged
    stack.start_part("kafka")
    collector.start()
    wait(lambda: drained(settings))
    assert read_log(settings).once() >= senders.acknowledged


@pytest.mark.long
def test_without_a_spool_the_broker_may_be_away(settings: Settings, start_collector: Starter, stack: Stack) -> None:
    settings = settings.model_copy(update={"collector_spool_bytes": 0})
    collector = start_collector(settings)
    with Senders(settings) as senders:
        wait(partial(senders.have, 100))
        stack.kill("kafka", signal.SIGSTOP)
        try:
            wait(lambda: len(senders.unknown) > 20)
            wait(lambda: admin(settings, "/readyz")[0] == 503)
            assert admin(settings, "/livez")[0] == 200
        finally:
            stack.kill("kafka", signal.SIGCONT)
        before = len(senders.acknowledged)
        wait(partial(senders.have, before + 100))
        stack.wait_ready("kafka", after=stack.kill("kafka"))
        before = len(senders.acknowledged)
        wait(partial(senders.have, before + 100))
        wait(lambda: admin(settings, "/readyz")[0] == 200)
    assert collector.stop() == 0
    log = read_log(settings)
    numbers = log.once()
    # While this process lives, what was answered 503 is stored too.
    assert numbers == senders.acknowledged | senders.unknown


@pytest.mark.long
def test_the_direct_way_is_left_at_a_failure_and_taken_again(
    settings: Settings, start_collector: Starter, stack: Stack
) -> None:
    def direct(what: str) -> float:
        name = f"veilstream_collector_direct_{what}_total "
        (line,) = [line for line in admin(settings, "/metrics")[1].splitlines() if line.startswith(name)]
        return float(line.removeprefix(name))

    collector = start_collector(settings)
    with Senders(settings) as senders:
        wait(lambda: direct("records") > 20)
        stack.stop_part("kafka")
        wait(lambda: direct("failures") >= 1)
        stack.start_part("kafka")
        before, acknowledged = direct("records"), len(senders.acknowledged)
        wait(lambda: direct("records") > before + 20)
        wait(partial(senders.have, acknowledged + 20))
    wait(lambda: drained(settings))
    assert collector.stop() == 0
    log = read_log(settings)
    numbers = log.once()
    assert numbers == senders.acknowledged | senders.unknown


@pytest.mark.long
def test_a_start_without_a_broker_waits_for_it(settings: Settings, start_collector: Starter, stack: Stack) -> None:
    stack.stop_part("kafka")
    start_collector(settings, wait=False)
    wait(lambda: admin_answers(settings))
    assert admin(settings, "/readyz")[0] == 503
    assert ask(settings, "GET", "/matomo.php?idsite=1&rec=1&n=early")[0] == 200
    wait(lambda: admin(settings, "/readyz")[0] == 200)  # it can take events
    stack.start_part("kafka")
    wait(lambda: "early" in read_log(settings).numbers())
    assert ask(settings, "GET", "/matomo.php?idsite=1&rec=1&n=late")[0] == 200


@pytest.mark.long
def test_a_start_without_a_broker_and_without_a_spool_waits_for_it(
    settings: Settings, start_collector: Starter, stack: Stack
) -> None:
    settings = settings.model_copy(update={"collector_spool_bytes": 0})
    stack.stop_part("kafka")
    start_collector(settings, wait=False)
    wait(lambda: admin_answers(settings))
    assert ask(settings, "GET", "/matomo.php?idsite=1&rec=1&n=early")[0] == 503
    assert admin(settings, "/readyz")[0] == 503
    stack.start_part("kafka")
    wait(lambda: admin(settings, "/readyz")[0] == 200)
    wait(lambda: "early" in read_log(settings).numbers())
    assert ask(settings, "GET", "/matomo.php?idsite=1&rec=1&n=late")[0] == 200
