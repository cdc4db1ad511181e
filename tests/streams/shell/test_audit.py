"""A running worker looks at the books by itself: an alarm that names the packet, and how far it is behind."""

from __future__ import annotations

import json
import re
import signal
import urllib.request

import pytest

from infra.local.stack import Stack
from infra.service.clickhouse import Client
from infra.service.settings import Settings
from tests.conftest import Starter
from tests.streams.shell.stream import events, eventually, log_lines, packets, publish, total
from tests.streams.shell.test_ledger import tell, told

AMOUNT = 200


def metric(settings: Settings, name: str) -> float:
    """A number of the worker's, named with its labels; -1 where it shows none."""
    with urllib.request.urlopen(f"http://{settings.host}:{settings.worker_admin_port}/metrics", timeout=5) as answer:
        found = re.search(rf"^{re.escape(name)} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else -1


@pytest.mark.long
def test_a_worker_names_what_is_lost_and_tells_its_lag(
    world: Settings, client: Client, start_worker: Starter, stack: Stack
) -> None:
    settings = world.model_copy(update={"ledger_seconds": 0.5})
    worker = start_worker(settings)
    values = packets(events(AMOUNT))
    publish(world, 0, values)
    total(client, AMOUNT)
    tell(world, *told(values, len(values), started_ms=events(1)[0].received_ms))
    wrong = 'veilstream_ledger_wrong_packets{fault="missing"}'
    eventually(lambda: metric(settings, "veilstream_ledger_reported_packets"), lambda n: n == len(values))
    assert metric(settings, wrong) == 0
    client.command("ALTER TABLE packets DELETE WHERE seq = 3", settings={"mutations_sync": 1})
    eventually(lambda: metric(settings, wrong), lambda n: n == 1)
    (line,) = eventually(lambda: log_lines(worker.log, "books_out_of_balance"), lambda lines: len(lines) == 1)
    assert json.loads(line)["missing"] == ["0000000000000007/0/3"]

    late = 'veilstream_worker_lag_seconds{partition="0"}'
    eventually(lambda: metric(settings, late), lambda n: n == 0)
    pid = stack.kill("front", signal.SIGSTOP)
    try:
        publish(world, 0, packets(events(AMOUNT, first=AMOUNT), first=len(values)))
        eventually(lambda: metric(settings, late), lambda n: n > 1)
    finally:
        assert stack.kill("front", signal.SIGCONT) == pid
    eventually(lambda: metric(settings, late), lambda n: n == 0)
    assert worker.stop() == 0
