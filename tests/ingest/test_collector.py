"""The collector's process against the real broker: what is acknowledged is in the log, whatever happens."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from kafka import KafkaConsumer, TopicPartition

from infra.local.parts import parts
from infra.local.stack import Stack, install
from infra.service.settings import Settings
from ingest.spool.log import folders
from schemas import parameters, reports
from schemas.packets import Columns, Event, Header, decode
from schemas.sites import PolicySet
from schemas.topics import EVENTS_RAW, INGEST_REPORTS, SITE_POLICIES
from tests.conftest import SettingsMaker, Starter
from tests.ingest.memory import SUPERUSER, write_sites
from tests.opening import opener_of
from tests.services import Services

SITES = (1, 2, 3, 4, 5)
SECONDS = 60.0  # longest wait of a test for anything


@dataclass
class Log:
    """All that is in events.raw: packets by writer and partition in the order of the log."""

    packets: dict[tuple[int, int], list[tuple[Header, Columns]]] = field(default_factory=lambda: defaultdict(list))

    def events(self) -> list[Event]:
        """The events of the first copy of every packet."""
        found = []
        for packets in self.packets.values():
            seen = set()
            for head, columns in packets:
                if head.seq not in seen:
                    seen.add(head.seq)
                    found += [columns.event(i) for i in range(head.count)]
        return found

    def numbers(self) -> list[str]:
        """The unique numbers of the events."""
        return [parameters.parse(event.query).get("n", "") for event in self.events()]

    def once(self) -> set[str]:
        """The numbers, each of which is there once, under names as they should be."""
        self.check_names()
        numbers = self.numbers()
        assert len(numbers) == len(set(numbers))
        return set(numbers)

    def check_names(self) -> None:
        """First copies come in rising `seq` without gaps."""
        for (writer, partition), packets in self.packets.items():
            first: list[int] = []
            for head, _ in packets:
                if head.seq not in first:
                    first.append(head.seq)
            assert first == list(range(len(first))), f"writer {writer}, partition {partition}: {first}"


def records(settings: Settings, topic: str) -> list[tuple[int, bytes | None, bytes]]:
    """(partition, key, value) of everything in a topic now."""
    name = settings.topic(topic)
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False, check_crcs=False)
    try:
        partitions = [TopicPartition(name, number) for number in consumer.partitions_for_topic(name)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found = []
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for batch in consumer.poll(timeout_ms=500).values():
                found += [(record.partition, record.key, record.value) for record in batch]
        return found
    finally:
        consumer.close()


def read_log(settings: Settings) -> Log:
    log = Log()
    opener = opener_of(settings)
    for partition, _, value in records(settings, EVENTS_RAW):
        head, columns = decode(value, opener, partition)
        assert head.seal
        log.packets[head.writer, partition].append((head, columns))
    return log


class Senders:
    """Clients that send numbered events, one at a time each, and note what became of every number."""

    def __init__(self, settings: Settings, clients: int = 8) -> None:
        self.acknowledged: set[str] = set()
        self.unknown: set[str] = set()
        self._settings = settings
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def have(self, count: int) -> bool:
        """Whether more than `count` events were acknowledged."""
        return len(self.acknowledged) > count

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()

    def _run(self, client: int) -> None:
        connection: http.client.HTTPConnection | None = None
        count = 0
        while not self._stop.is_set():
            number = f"{client}-{count}"
            count += 1
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._settings.collector_port, timeout=SECONDS)
                site = SITES[count % len(SITES)]
                connection.request("GET", f"/matomo.php?idsite={site}&rec=1&send_image=0&n={number}")
                answer = connection.getresponse()
                status = answer.status
                answer.read()  # or the connection is not used again
            except ConnectionRefusedError:
                connection = None
                time.sleep(0.05)
            except (OSError, http.client.HTTPException):
                self.unknown.add(number)
                connection = None
            else:
                assert status in (204, 503)
                (self.acknowledged if status == 204 else self.unknown).add(number)


def wait(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def ask(settings: Settings, method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", settings.collector_port, timeout=SECONDS)
    try:
        connection.request(method, target, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def admin(settings: Settings, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", settings.collector_admin_port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def admin_answers(settings: Settings) -> bool:
    """Whether the process has come so far that it answers."""
    with contextlib.suppress(OSError):
        return admin(settings, "/livez")[0] == 200
    return False


def metric(settings: Settings, name: str) -> float:
    """A metric without labels."""
    (line,) = [line for line in admin(settings, "/metrics")[1].splitlines() if line.startswith(f"veilstream_{name} ")]
    return float(line.split()[1])


def drained(settings: Settings) -> bool:
    """Whether the spool is empty, and its files are gone."""
    files = [path for folder in settings.spool.iterdir() for path in folder.glob("*.segment")]
    return metric(settings, "collector_spool_packets") == 0 and not files


@pytest.fixture
def settings(make_settings: SettingsMaker, tmp_path: Path) -> Settings:
    made = make_settings(
        collector_wait_seconds=2.0,
        collector_request_seconds=1.0,
        collector_delivery_seconds=2.0,
        collector_stop_seconds=10.0,
        sites_dir=write_sites(tmp_path / "sites", *SITES),
    )
    install(made)
    return made


def test_requests_of_all_kinds_are_in_the_log_as_sent(settings: Settings, start_collector: Starter) -> None:
    collector = start_collector(settings)
    bulk = {
        "requests": [f"?idsite={site}&rec=1&n=bulk-{site}" for site in (*SITES, 9)],
        "token_auth": SUPERUSER,
    }
    assert ask(settings, "GET", "/matomo.php?idsite=1&rec=1&n=get", User_Agent="A")[0] == 200
    assert ask(settings, "POST", "/piwik.php", b"idsite=2&rec=1&n=post", Accept_Language="de")[0] == 200
    assert ask(settings, "POST", "/piwik.php?idsite=3&rec=1&n=beacon&send_image=0", b"")[0] == 204
    status, body = ask(settings, "POST", "/matomo.php", json.dumps(bulk).encode())
    assert (status, json.loads(body)["tracked"], json.loads(body)["invalid_indices"]) == (200, 5, [5])
    log = read_log(settings)
    log.check_names()
    events = {parameters.parse(event.query)["n"]: event for event in log.events()}
    assert set(events) == {"get", "post", "beacon", *(f"bulk-{site}" for site in SITES)}
    assert (events["get"].agent, events["get"].site, events["get"].query) == ("A", 1, "idsite=1&rec=1&n=get")
    assert events["post"].language == "de"
    assert events["beacon"].query == "idsite=3&rec=1&n=beacon"
    assert [events[f"bulk-{site}"].index for site in SITES] == [0, 1, 2, 3, 4]
    assert {events[f"bulk-{site}"].items for site in SITES} == {6}
    assert events["bulk-1"].role == 4
    now = time.time() * 1000
    assert all(now - 60_000 < event.received_ms <= now for event in events.values())

    # Every packet names a policy that is published, and the books are told.
    policies = {key: PolicySet.load(value) for _, key, value in records(settings, SITE_POLICIES)}
    for packets in log.packets.values():
        for head, _ in packets:
            assert set(policies[head.policy.hex().encode()].sites) == set(SITES)
    assert collector.stop() == 0
    last = [reports.decode(value) for _, _, value in records(settings, INGEST_REPORTS)][-1]
    assert last.final
    assert {partition: (part.below, part.events) for partition, part in last.partitions.items()} == {
        partition: (len(packets), sum(head.count for head, _ in packets))
        for (_, partition), packets in log.packets.items()
    }
    assert {writer for writer, _ in log.packets} == {last.writer}


def test_admin_port(settings: Settings, start_collector: Starter) -> None:
    start_collector(settings)
    ask(settings, "GET", "/matomo.php?idsite=1&rec=1")
    ask(settings, "GET", "/matomo.php?idsite=9&rec=1")
    assert admin(settings, "/livez")[0] == admin(settings, "/readyz")[0] == 200
    shown = admin(settings, "/metrics")[1]
    for line in (
        'veilstream_collector_answers_requests_total{status="200"} 1.0',
        'veilstream_collector_refused_events_total{reason="unknown_site"} 1.0',
        "veilstream_collector_accepted_events_total 1.0",
        "veilstream_collector_acknowledged_events_total 1.0",
        "veilstream_collector_acknowledged_packets_total 1.0",
        "veilstream_collector_unknown_events_total 0.0",
        "veilstream_collector_waiting_bytes 0.0",
        "veilstream_collector_packet_seconds_count 1.0",
    ):
        assert line in shown.splitlines()


def test_reports_come_while_events_do(settings: Settings, start_collector: Starter) -> None:
    start_collector(settings)
    ask(settings, "GET", "/matomo.php?idsite=1&rec=1")
    wait(lambda: records(settings, INGEST_REPORTS))
    report = reports.decode(records(settings, INGEST_REPORTS)[-1][2])
    assert not report.final
    assert sum(part.events for part in report.partitions.values()) == 1
    assert all(part.below == 1 and part.ranges == [] for part in report.partitions.values())


def test_sigterm_under_load_loses_nothing_acknowledged(settings: Settings, start_collector: Starter) -> None:
    collector = start_collector(settings)
    with Senders(settings) as senders:
        wait(partial(senders.have, 300))
        assert collector.stop() == 0
    log = read_log(settings)
    numbers = log.once()
    assert senders.acknowledged <= numbers
    assert numbers <= senders.acknowledged | senders.unknown
    last = [reports.decode(value) for _, _, value in records(settings, INGEST_REPORTS)][-1]
    assert last.final
    assert sum(part.events for part in last.partitions.values()) == len(numbers)


def test_kill_9_under_load_loses_nothing_acknowledged(settings: Settings, start_collector: Starter) -> None:
    collector = start_collector(settings)
    with Senders(settings) as senders:
        for round_ in range(1, 4):
            wait(partial(senders.have, round_ * 150))
            collector.kill(signal.SIGKILL)
            collector.start()
    log = read_log(settings)
    numbers = log.once()
    assert senders.acknowledged <= numbers
    assert numbers <= senders.acknowledged | senders.unknown
    assert len({writer for writer, _ in log.packets}) == 4


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


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"sites_dir": Path("/nowhere")}, "/nowhere"),
        ({"spool_dir": Path("/dev/null/spool")}, "/dev/null/spool"),
        ({"events_partitions": 12}, None),
    ],
)
def test_a_wrong_setting_is_named(
    settings: Settings, start_collector: Starter, overrides: dict[str, object], said: str | None
) -> None:
    collector = start_collector(settings.model_copy(update=overrides), wait=False)
    if said is not None:
        wait(lambda: not collector.running())
        assert said in collector.tail()
        assert collector.stop() == 2
    else:
        wait(lambda: "has 4 partitions, the setting says 12" in collector.tail())
        assert admin(settings, "/readyz")[0] == 503


def test_a_taken_port_is_named(settings: Settings, start_collector: Starter) -> None:
    start_collector(settings)
    second = start_collector(settings, wait=False)
    wait(lambda: not second.running())
    assert str(settings.collector_admin_port) in second.tail()


def test_two_processes_share_the_port(
    settings: Settings, start_collector: Starter, make_settings: SettingsMaker
) -> None:
    start_collector(settings)
    other = settings.model_copy(update={"collector_admin_port": make_settings().collector_admin_port})
    start_collector(other)
    for number in range(60):
        assert ask(settings, "GET", f"/matomo.php?idsite=1&rec=1&n={number}")[0] == 200
    log = read_log(settings)
    log.check_names()
    assert len({writer for writer, _ in log.packets}) == 2
    assert sorted(log.numbers(), key=int) == [str(number) for number in range(60)]


def test_one_of_two_processes_is_killed_and_the_other_goes_on(
    settings: Settings, make_settings: SettingsMaker, services: Services
) -> None:
    two = settings.model_copy(update={"collector_processes": 2})
    first, second = (services.run(part, two) for part in parts(two, ["collector"]))
    assert [
        f'"process": {n}' in one.tail().replace("=", '": ') or f"process={n}" in one.tail()
        for n, one in enumerate((first, second))
    ] == [True, True]
    with Senders(settings, clients=16) as senders:
        wait(lambda: senders.have(2000))
        second.kill()
        had = len(senders.acknowledged)
        wait(lambda: senders.have(had + 2000))
    assert first.running()
    assert first.stop() == 0
    log = read_log(settings)
    log.check_names()
    assert len({writer for writer, _ in log.packets}) == 2
    found = log.numbers()
    assert senders.acknowledged <= set(found)
    assert len(found) == len(set(found))
    assert len(senders.unknown) <= 16 * 2  # what the killed one had in hand, and connections that it had not taken


def test_logs_and_metrics_hold_nothing_of_a_visitor(settings: Settings, start_collector: Starter) -> None:
    collector = start_collector(settings.model_copy(update={"log_level": "debug"}))
    canary = "canary7f3a"
    ask(
        settings,
        "POST",
        f"/matomo.php?idsite=1&rec=1&uid={canary}&token_auth={canary}",
        f"e_n={canary}".encode(),
        User_Agent=canary,
        Referer=f"http://{canary}/",
        Cookie=f"_pk_id.1.1fff={canary}",
        X_Forwarded_For=canary,
        Origin=f"http://{canary}",
    )
    ask(settings, "POST", f"/matomo.php?{canary}", json.dumps({"requests": [canary, f"?idsite={canary}"]}).encode())
    ask(settings, "PUT", f"/{canary}")
    assert canary not in admin(settings, "/metrics")[1]
    collector.stop()
    assert canary not in collector.log.read_text()
    assert canary.encode() not in b"".join(value for _, _, value in records(settings, INGEST_REPORTS))
    (event,) = read_log(settings).events()
    shown = json.dumps([event.agent, event.language, event.hints, event.query])
    assert shown.count(canary) == 4  # the agent, uid, e_n and url, from the Referer; no cookie, token or other header
