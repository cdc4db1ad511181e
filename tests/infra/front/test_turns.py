"""Dashboards take turns, so that inserts keep their share of the machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.infra.front.conftest import DASHBOARD, DASHBOARD_PASSWORD, Answer, RunningFront, start, until
from tests.infra.front.test_kill import InBackground, wait_for

LONG = "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)"


@pytest.fixture
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFront]:
    """A front of one turn at a time, with two places for all."""
    running = start(tmp_path_factory.mktemp("turns") / "engine", dashboard_queries="1", concurrent_queries="2")
    yield running
    running.terminate()


def ask(front: RunningFront, sql: str, name: str) -> Answer:
    return front.request(sql, user=(DASHBOARD, DASHBOARD_PASSWORD), query_id=name)


def test_a_dashboard_waits_for_its_turn_and_others_do_not(front: RunningFront) -> None:
    with front.client() as client:
        first = InBackground(lambda: ask(front, LONG, "first"))
        wait_for(client, "query_id = 'first' AND read_rows > 0")
        waiting = [InBackground(lambda name=name: ask(front, "SELECT 1", name)) for name in ("a", "b", "c")]  # type: ignore[misc]
        for name in ("a", "b", "c"):
            wait_for(client, f"query_id = '{name}'")
        assert client.query("SELECT 2").result_rows == [(2,)]  # a place is left: who waits takes none
        client.command("KILL QUERY WHERE query_id = 'b' SYNC")
        assert waiting[1].result().code == 394
        assert [one.answer for one in (first, waiting[0], waiting[2])] == [None] * 3
        client.command("KILL QUERY WHERE query_id = 'first' SYNC")
        assert first.result().code == 394
        assert [one.result().body for one in (waiting[0], waiting[2])] == [b"1\n"] * 2
        until("nothing runs", lambda: client.query("SELECT count() FROM system.processes").result_rows == [(1,)])


def test_a_dashboards_query_has_one_thread(front: RunningFront) -> None:
    assert ask(front, "SELECT getSetting('max_threads')", "threads").body == b"1\n"
