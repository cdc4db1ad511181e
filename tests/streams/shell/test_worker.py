"""The worker as a process, on a real broker and the real engine, under everything that may happen to the three."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.structs import OffsetAndMetadata

from infra import topics
from infra.local.stack import Stack
from infra.service.clickhouse import Client, connect
from infra.service.settings import Settings
from schemas.topics import EVENTS_RAW
from streams.app import group
from tests.conftest import SettingsMaker, Starter
from tests.streams.shell.stream import (
    books,
    count,
    events,
    eventually,
    log_lines,
    number_text,
    packets,
    publish,
    total,
)

PARTITIONS = range(4)
PER = 400  # events of a partition at once


class Source:
    """Writes to all partitions, with a writer of its own per partition, for as long as it is asked to."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.sent = 0
        self._seq = dict.fromkeys(PARTITIONS, 0)

    def send(self, amount: int = PER) -> None:
        """Write `amount` events to each partition."""
        for partition in PARTITIONS:
            found = events(amount, seed=partition, first=self.sent // len(PARTITIONS))
            values = packets(found, writer=100 + partition, first=self._seq[partition])
            self._seq[partition] += len(values)
            publish(self.settings, partition, values)
        self.sent += amount * len(PARTITIONS)

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Goes on writing meanwhile."""
        done = threading.Event()

        def flow() -> None:
            while not done.is_set():
                self.send(40)
                done.wait(0.1)

        thread = threading.Thread(target=flow)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


@pytest.fixture
def source(world: Settings) -> Source:
    """Events for the installation of the test."""
    return Source(world)


def second(world: Settings, make_settings: SettingsMaker) -> Settings:
    """The same installation, for another worker on the same machine."""
    return world.model_copy(update={"worker_admin_port": make_settings().worker_admin_port})


def progress(client: Client, more: int) -> None:
    """Returns once so many more events were received than now."""
    before = books(client)["received"]
    eventually(lambda: books(client)["received"], lambda received: received >= before + more)


def test_from_event_to_row(world: Settings, client: Client, source: Source, start_worker: Starter) -> None:
    worker = start_worker(world)
    source.send(20)
    total(client, source.sent)
    columns = "site_id, url_path, title, referrer_name, browser, address, policy_version, generation, `partition`"
    row = client.query(
        f"SELECT {columns} FROM events WHERE page_view_id = {number_text(5)!r} AND `partition` = 2"
    ).result_rows[0]
    site, path, title, referrer, browser, address, _, generation, partition = row
    assert (generation, partition, title, referrer) == (1, 2, "Page", "Google")
    assert site in (1, 2, 3)
    assert path.startswith("/p/")
    assert browser in ("Firefox", "Mobile Safari", "Googlebot", "")
    assert address in ("198.51.0.0", "198.51.100.0") or address.startswith("198.51.")
    assert worker.stop() == 0
    assert not log_lines(worker.log, "leaving")


@pytest.mark.long
def test_killed_in_mid_stream_and_started_again(
    world: Settings, client: Client, source: Source, start_worker: Starter
) -> None:
    worker = start_worker(world)
    with source.flowing():
        for _ in range(2):
            progress(client, 200)
            worker.kill()
            worker.start()
    total(client, source.sent)


@pytest.mark.long
def test_commits_do_not_say_where_to_start(
    world: Settings, client: Client, source: Source, start_worker: Starter
) -> None:
    worker = start_worker(world)
    source.send()
    total(client, source.sent)
    assert worker.stop() == 0
    source.send()
    admin = KafkaAdminClient(bootstrap_servers=world.kafka.split(","))
    for commit in (100, 0):  # between what is stored and the end of the log; the beginning
        tps = [TopicPartition(world.topic(EVENTS_RAW), partition) for partition in PARTITIONS]
        members = lambda: admin.describe_groups([group(world)])  # noqa: E731
        eventually(members, lambda found: "'members': []" in str(found))
        admin.alter_group_offsets(group(world), {tp: OffsetAndMetadata(commit, "", -1) for tp in tps})
        worker.start()
        total(client, source.sent)
        source.send(40)
        total(client, source.sent)
        assert worker.stop() == 0
    admin.close()


@pytest.mark.long
def test_the_broker_is_restarted(
    world: Settings, client: Client, source: Source, start_worker: Starter, stack: Stack
) -> None:
    worker = start_worker(world)
    source.send()
    total(client, source.sent)
    pid = stack.kill("kafka")
    stack.wait_ready("kafka", after=pid)
    source.send()
    total(client, source.sent)
    assert worker.running() or worker.start()


@pytest.mark.long
def test_the_engine_is_restarted(
    world: Settings, client: Client, source: Source, start_worker: Starter, stack: Stack
) -> None:
    worker = start_worker(world)
    with source.flowing():
        for _ in range(2):
            progress(client, 200)
            pid = stack.kill("front")
            stack.wait_ready("front", after=pid)
    with connect(world) as fresh:
        total(fresh, source.sent)
    assert worker.running(), worker.tail()


@pytest.mark.long
def test_the_engine_is_away_for_a_while(
    world: Settings, client: Client, source: Source, start_worker: Starter, stack: Stack
) -> None:
    worker = start_worker(world)
    source.send()
    total(client, source.sent)
    stack.stop_part("front")
    for _ in range(4):
        source.send()
    eventually(lambda: log_lines(worker.log, "waiting"), lambda lines: len(lines) > 3)
    assert worker.running(), worker.tail()
    stack.start_part("front")
    with connect(world) as fresh:
        total(fresh, source.sent)
    assert worker.running(), worker.tail()


@pytest.mark.long
def test_the_topic_is_made_again_under_a_full_table(
    world: Settings, client: Client, source: Source, start_worker: Starter
) -> None:
    worker = start_worker(world)
    source.send()
    total(client, source.sent)
    admin = KafkaAdminClient(bootstrap_servers=world.kafka.split(","))
    admin.delete_topics([world.topic(EVENTS_RAW)])
    admin.close()
    topics.ensure(world)
    source.send(2 * PER)  # more records than the old log had, so that the old offsets exist again
    eventually(worker.running, lambda running: not running)
    assert log_lines(worker.log, "leaving")
    worker.start()
    total(client, source.sent)
    assert client.query("SELECT DISTINCT generation FROM events ORDER BY 1").result_rows == [(1,), (2,)]
    first = "SELECT min(`offset`) FROM packets WHERE generation = 2"
    assert count(client, first) == 0


@pytest.mark.long
def test_two_workers_share_and_take_over(
    world: Settings, client: Client, source: Source, start_worker: Starter, make_settings: SettingsMaker
) -> None:
    one = start_worker(world)
    with source.flowing():
        progress(client, 200)
        two = start_worker(second(world, make_settings))
        owners = "SELECT count() FROM ownership"
        eventually(lambda: count(client, owners), lambda found: found >= len(PARTITIONS) + 2)
        progress(client, 400)
        one.kill(signal.SIGSTOP)  # long enough for its partitions to be given away
        eventually(lambda: count(client, owners), lambda found: found >= 2 * len(PARTITIONS))
        progress(client, 400)
        one.kill(signal.SIGCONT)
        progress(client, 400)
        two.kill()
        progress(client, 800)
    total(client, source.sent)
    if not one.running():
        one.start()
    source.send(40)
    total(client, source.sent)


def test_bad_packets_among_good_ones(world: Settings, client: Client, source: Source, start_worker: Starter) -> None:
    start_worker(world)
    source.send(40)
    publish(world, 0, [b"", b"noise", packets(events(3), writer=3)[0][:-4], None])
    source.send(40)
    total(client, source.sent)
    assert count(client, "SELECT count() FROM packets WHERE kind = 3") == 4


@pytest.mark.long
def test_stops_in_time_while_the_engine_is_away(
    world: Settings, client: Client, source: Source, start_worker: Starter, stack: Stack
) -> None:
    worker = start_worker(world)
    stack.stop_part("front")
    source.send()
    eventually(lambda: log_lines(worker.log, "waiting"), bool)
    assert worker.stop() == 0
    stack.start_part("front")
    worker.start()
    with connect(world) as fresh:
        total(fresh, source.sent)


@pytest.mark.long
def test_waits_for_a_topic_that_is_not_there(settings: Settings, start_worker: Starter) -> None:
    worker = start_worker(settings, wait=False)
    began = time.monotonic()
    eventually(lambda: "waiting" in worker.tail() or not worker.running(), bool)
    assert worker.running(), worker.tail()
    assert worker.stop() == 0
    assert time.monotonic() - began < 60
