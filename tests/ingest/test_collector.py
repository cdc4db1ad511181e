"""The collector's process against the real broker: what is acknowledged is in the log, whatever happens."""

from __future__ import annotations

import json
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from infra.local.parts import parts
from infra.service.settings import Settings
from schemas import parameters, reports
from schemas.sites import PolicySet
from schemas.topics import INGEST_REPORTS, SITE_POLICIES
from tests.conftest import SettingsMaker, Starter
from tests.ingest.memory import SUPERUSER
from tests.ingest.process import (
    SITES,
    Senders,
    admin,
    ask,
    read_log,
    records,
    wait,
)
from tests.services import Services


@pytest.fixture
def settings(impatient: Settings) -> Settings:
    return impatient


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
