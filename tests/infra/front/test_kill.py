"""KILL QUERY, replace_running_query and the list of what runs."""

from __future__ import annotations

import socket
import threading
from base64 import b64encode
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.infra.front.conftest import PASSWORD, USER, Answer, RunningFront, until
from tests.infra.front.test_conditional_insert import batch, stream


class InBackground:
    """A request in a thread of its own."""

    def __init__(self, ask: Callable[[], Answer]) -> None:
        self.answer: Answer | None = None
        self._ask = ask
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.answer = self._ask()

    def result(self) -> Answer:
        self._thread.join(60)
        assert self.answer is not None
        return self.answer


def runs(client: Client, condition: str) -> bool:
    return bool(client.query(f"SELECT count() FROM system.processes WHERE {condition}").result_rows[0][0])


def wait_for(client: Client, condition: str) -> None:
    until(condition, lambda: runs(client, condition))


SLOW = "SELECT count() FROM numbers(1000000000) WHERE sleepEachRow(0.01) = 0 SETTINGS max_block_size = 10"


def test_a_killed_read_ends_as_an_error(front: RunningFront, client: Client, table: str) -> None:
    running = InBackground(lambda: front.request(SLOW, query_id=f"{table}-read"))
    wait_for(client, f"query_id = '{table}-read'")
    found = client.query(f"KILL QUERY WHERE query_id LIKE '{table}-%' AND user = '{USER}' SYNC").result_rows
    assert [row[:3] for row in found] == [["finished", f"{table}-read", USER]]
    assert (running.result().status, running.result().code) == (500, 394)
    left = client.query(f"SELECT count() FROM system.processes WHERE query_id = '{table}-read'").result_rows
    assert left == [(0,)]


@pytest.mark.parametrize("conditional", [True, False])
def test_a_killed_insert_ends_as_an_error_and_stays_as_it_is(
    front: RunningFront, client: Client, table: str, conditional: bool
) -> None:
    """What KILL … SYNC leaves does not grow any more."""
    client.command(f"CREATE TABLE {table} (a UInt32, s String) ENGINE = MergeTree ORDER BY a")
    if conditional:
        sql = (
            f"INSERT INTO {table} (a, s) SELECT a, s FROM input('a UInt32, s String') "
            "WHERE sleepEachRow(0.003) = 0 FORMAT ArrowStream"
        )
        data = stream(batch(100_000), chunk=100)
    else:
        sql = f"INSERT INTO {table} (a, s) SELECT number, '' FROM numbers(100000) WHERE sleepEachRow(0.003) = 0"
        data = b""
    settings = {"max_block_size": "100", "min_insert_block_size_rows": "100", "max_insert_block_size": "100"}
    running = InBackground(lambda: front.request(sql, data, query_id=f"{table}-insert", parameters=settings))
    wait_for(client, f"query_id = '{table}-insert' AND read_rows > 0")
    client.command(f"KILL QUERY WHERE query_id = '{table}-insert' SYNC")
    kept = client.query(f"SELECT count() FROM {table}").result_rows
    assert running.result().code == 394
    assert kept[0][0] < 100_000
    assert client.query(f"SELECT count() FROM {table}").result_rows == kept


def test_a_query_whose_body_is_still_coming_is_met(front: RunningFront, client: Client, table: str) -> None:
    client.command(f"CREATE TABLE {table} (a UInt32) ENGINE = MergeTree ORDER BY a")
    credentials = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    target = urlencode({"query": f"INSERT INTO {table} FORMAT JSONEachRow", "query_id": f"{table}-coming"})
    head = f"POST /?{target} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\nContent-Length: 18\r\n\r\n"
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as connection:
        connection.sendall(head.encode() + b'{"a":1}\n')
        wait_for(client, f"query_id = '{table}-coming'")
        found = client.query(f"KILL QUERY WHERE query_id = '{table}-coming' SYNC").result_rows
        assert len(found) == 1
        # The rest comes after the kill was answered, as from a process that was paused.
        connection.sendall(b'{"a":22}\n\n')
        answer = connection.makefile("rb").read()
    assert b"X-ClickHouse-Exception-Code: 394\r\n" in answer
    assert client.query(f"SELECT count() FROM {table}").result_rows == [(0,)]


def test_a_killed_stream_breaks_off(front: RunningFront, client: Client, table: str) -> None:
    """The reader reads nothing for a while, so the query hangs on its pipe, where the engine does not see a kill."""
    credentials = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    target = urlencode({"query": "SELECT * FROM numbers(1000000000)", "query_id": f"{table}-stream"})
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as connection:
        connection.sendall(f"GET /?{target} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n\r\n".encode())
        reader = connection.makefile("rb")
        assert reader.readline() == b"HTTP/1.1 200 OK\r\n"
        killing = InBackground(lambda: front.request(f"KILL QUERY WHERE query_id = '{table}-stream' SYNC"))
        tail = b""
        while piece := reader.read(1 << 16):
            tail = (tail + piece)[-2000:]
        assert b"\r\n__exception__\r\n" in tail
        assert b"QUERY_WAS_CANCELLED" in tail
        assert not tail.endswith(b"0\r\n\r\n")
    assert killing.result().body.startswith(b"finished\t")


def test_kill_meets_only_what_its_condition_names(front: RunningFront, client: Client, table: str) -> None:
    nobody = front.request("KILL QUERY WHERE query_id = 'nobody' SYNC")
    assert (nobody.status, nobody.body) == (200, b"")
    assert front.request("KILL QUERY WHERE 0 FORMAT Native").body.startswith(b"\x04\x00\x0bkill_status\x06String")
    running = InBackground(lambda: front.request(SLOW, query_id=f"{table}-other"))
    wait_for(client, f"query_id = '{table}-other'")
    assert front.request("KILL QUERY WHERE query_id = 'nobody' SYNC").body == b""
    assert len(client.query(f"KILL QUERY WHERE query_id = '{table}-other' TEST").result_rows) == 1
    assert running.answer is None
    found = front.request(f"KILL QUERY WHERE query_id = '{table}-other' ASYNC FORMAT JSONCompactEachRow").body
    assert found.startswith(b'["waiting"')
    assert running.result().code == 394
    with pytest.raises(DatabaseError) as caught:
        client.command("KILL QUERY WHERE no_such_column = 1 SYNC")
    assert caught.value.code == 47


def test_a_query_id_runs_once_and_can_be_replaced(front: RunningFront, client: Client, table: str) -> None:
    first = InBackground(lambda: front.request(SLOW, query_id=table))
    wait_for(client, f"query_id = '{table}'")
    again = front.request("SELECT 1", query_id=table)
    assert again.code == 216
    replacing = front.request("SELECT 1", query_id=table, replace_running_query="1")
    assert (replacing.status, replacing.body) == (200, b"1\n")
    assert first.result().code == 394


def test_a_client_that_leaves_ends_its_read(front: RunningFront, client: Client, table: str) -> None:
    credentials = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    leaving = {"cancel_http_readonly_queries_on_client_close": "1"}
    target = urlencode({"query": SLOW, "query_id": f"{table}-left", **leaving})
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as connection:
        connection.sendall(f"GET /?{target} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n\r\n".encode())
        wait_for(client, f"query_id = '{table}-left'")
    until("the read has ended", lambda: not runs(client, f"query_id = '{table}-left'"))


def test_max_execution_time(front: RunningFront) -> None:
    answer = front.request(SLOW, max_execution_time="0.2")
    assert (answer.status, answer.code) == (408, 159)


def test_max_memory_usage(front: RunningFront) -> None:
    sql = "SELECT number, count() FROM numbers(5000000) GROUP BY number FORMAT Null"
    assert front.request(sql, max_memory_usage="20000000").code == 241
    limit = front.request("SELECT getSetting('max_memory_usage')").body
    assert front.request("SELECT getSetting('max_memory_usage')", max_memory_usage="0").body == limit
    assert front.request("SELECT getSetting('max_memory_usage')", max_memory_usage="9" * 15).body == limit
