"""Inserts from ``input()`` under a condition: all or nothing, the count told truly, the types those of a server."""

from __future__ import annotations

import datetime
import gzip
import io
import os
import socket
import threading
import uuid
from base64 import b64encode
from urllib.parse import urlencode

import lz4.frame
import pyarrow as pa
import pytest
import zstandard
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.infra.front.conftest import PASSWORD, USER, RunningFront, until

STRUCTURE = "id FixedString(16), a UInt32, s LowCardinality(String)"
COLUMNS = "id, a, s"
EOS = b"\xff\xff\xff\xff\0\0\0\0"


def batch(rows: int, start: int = 0) -> pa.Table:
    return pa.table(
        {
            "id": pa.array([number.to_bytes(16, "big") for number in range(start, start + rows)], pa.binary(16)),
            "a": pa.array(range(start, start + rows), pa.uint32()),
            "s": [f"s{number % 5}" for number in range(rows)],
        }
    )


def stream(table: pa.Table, chunk: int | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return sink.getvalue()


def insert(table: str, condition: str = "1", format: str = "ArrowStream") -> str:
    structure = STRUCTURE.replace("'", "\\'")
    return (
        f"INSERT INTO {table} ({COLUMNS}) SELECT {COLUMNS} FROM input('{structure}') "
        f"WHERE ({condition}) FORMAT {format}"
    )


@pytest.fixture
def target(client: Client, table: str) -> str:
    client.command(f"CREATE TABLE {table} ({STRUCTURE}) ENGINE = MergeTree ORDER BY a")
    client.command(f"CREATE TABLE {table}_owner (epoch UInt32, owner UInt64) ENGINE = MergeTree ORDER BY epoch")
    client.command(f"INSERT INTO {table}_owner VALUES (4, 1), (5, 9)")
    return table


def owned(target: str, epoch: int) -> str:
    return f"(SELECT max((epoch, owner)) FROM {target}_owner) = ({epoch}, 9)"


def count(client: Client, target: str) -> int:
    return int(client.query(f"SELECT count() FROM {target}").result_rows[0][0])


@pytest.mark.parametrize("where", ["url", "body"])
def test_the_condition_decides_and_the_count_is_true(
    front: RunningFront, client: Client, target: str, where: str
) -> None:
    data = stream(batch(1000))
    for epoch, written in ((5, 1000), (6, 0), (4, 0)):
        sql = insert(target, owned(target, epoch))
        url, body = (sql, data) if where == "url" else ("", sql.encode() + b"\n" + data)
        answer = front.request(url, body)
        assert (answer.status, answer.written_rows) == (200, written), answer.body
    assert count(client, target) == 1000


def test_by_the_client(client: Client, target: str) -> None:
    data = stream(batch(10))
    for epoch, written in ((5, 10), (6, 0)):
        sql = insert(target, owned(target, epoch))
        summary = client.command(sql, data=data, settings={"query_id": f"ingest-{target}-{epoch}", "async_insert": 0})
        assert summary.written_rows == written  # type: ignore[union-attr]
        assert summary.query_id() == f"ingest-{target}-{epoch}"  # type: ignore[union-attr]
    assert client.raw_insert("", insert_block=insert(target).encode() + b"\n" + data).written_rows is not None
    assert count(client, target) == 20


def test_a_condition_on_rows_lets_these_through(client: Client, target: str) -> None:
    summary = client.command(insert(target, "a % 2 = 0"), data=stream(batch(1000)))
    assert summary.written_rows == 500  # type: ignore[union-attr]


def test_a_failing_condition_inserts_nothing(client: Client, target: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.command(insert(target, "throwIf(a = 700, 'no') = 0"), data=stream(batch(1000), chunk=100))
    assert caught.value.code == 395
    assert count(client, target) == 0


def test_no_rows(client: Client, target: str) -> None:
    summary = client.command(insert(target), data=stream(batch(0)))
    assert summary.written_rows == 0  # type: ignore[union-attr]


def test_other_formats(front: RunningFront, client: Client, target: str) -> None:
    file = io.BytesIO()
    with pa.ipc.new_file(file, batch(3).schema) as writer:
        writer.write_table(batch(3))
    assert front.request(insert(target, format="Arrow"), file.getvalue()).written_rows == 3
    line = b'{"id":"0123456789abcdef","a":7,"s":"x"}\n'
    assert front.request(insert(target, format="JSONEachRow"), line).written_rows == 1
    assert count(client, target) == 4


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("lz4", lz4.frame.compress), ("zstd", zstandard.ZstdCompressor().compress)],
)
def test_compressed_bodies(front: RunningFront, client: Client, target: str, encoding: str, compress: object) -> None:
    data = stream(batch(5000))
    body = compress(data)  # type: ignore[operator]
    answer = front.request(insert(target), body, headers={"Content-Encoding": encoding})
    assert answer.written_rows == 5000, answer.body
    for cut in (1, len(body) // 2, len(body) - 1):
        answer = front.request(insert(target), body[:cut], headers={"Content-Encoding": encoding})
        assert answer.status == 400, answer.body
    assert count(client, target) == 5000


def test_a_stream_without_its_end_is_refused_wherever_it_is_cut(
    front: RunningFront, client: Client, target: str
) -> None:
    data = stream(batch(100), chunk=10)
    assert data.endswith(EOS)
    for cut in (*range(0, len(data), 97), len(data) - 8, len(data) - 1):
        for sql in (insert(target), f"INSERT INTO {target} ({COLUMNS}) FORMAT ArrowStream"):
            answer = front.request(sql, data[:cut])
            assert answer.code in (3, 33, 117), (cut, answer.body)
    assert count(client, target) == 0
    # A cut that ends like the end.
    answer = front.request(insert(target), data[: len(data) // 2] + EOS)
    assert answer.code != 0
    assert count(client, target) == 0


def _head(sql: str, framing: str) -> bytes:
    credentials = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    lines = [
        f"POST /?{urlencode({'query': sql})} HTTP/1.1",
        "Host: x",
        f"Authorization: Basic {credentials}",
        framing,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("framing", ["length", "chunks", "within a chunk"])
@pytest.mark.parametrize("closes", ["sending", "all"])
def test_a_body_that_ends_early_inserts_nothing(
    front: RunningFront, client: Client, target: str, framing: str, closes: str
) -> None:
    """Lines of JSON are complete at each line, so only the framing tells that more was to come."""
    line = b'{"id":"0123456789abcdef","a":7,"s":"x"}\n' * 50
    sql = f"INSERT INTO {target} ({COLUMNS}) FORMAT JSONEachRow"
    if framing == "length":
        sent = _head(sql, f"Content-Length: {2 * len(line)}") + line
    else:
        chunk = b"%x\r\n%s\r\n" % (len(line), line)
        rest = b"%x\r\n%s" % (len(line), line[:-40]) if framing == "within a chunk" else b""
        sent = _head(sql, "Transfer-Encoding: chunked") + chunk + rest
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as connection:
        connection.sendall(sent)
        if closes == "sending":
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").read()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"X-ClickHouse-Exception-Code: 3\r\n" in answer
    until("the request has ended", lambda: _is_quiet(client, target))
    assert count(client, target) == 0


def _is_quiet(client: Client, target: str) -> bool:
    """No other query on the table runs."""
    mine = uuid.uuid4().hex
    sql = f"SELECT count() FROM system.processes WHERE query LIKE '%{target}%' AND query_id != '{mine}'"
    return bool(client.query(sql, settings={"query_id": mine}).result_rows[0][0] == 0)


def test_types_are_those_of_a_server(client: Client, table: str) -> None:
    structure = (
        "id FixedString(16), at DateTime64(3, 'UTC'), s LowCardinality(String), d LowCardinality(String), "
        "a Array(String), f Array(Float64), u Array(UInt32), b UInt8, e Enum8('x' = 1, 'y' = 2), text String, "
        "ip IPv6, day Date, n Nullable(Float64), big UInt64"
    )
    client.command(f"CREATE TABLE {table} ({structure}) ENGINE = MergeTree ORDER BY big")
    rows = 300
    identity = [os.urandom(16) for _ in range(rows)]
    moments = [datetime.datetime(2026, 3, 29, 1, 59, 59, n * 1000, tzinfo=datetime.UTC) for n in range(rows)]
    texts = [["", "é\0\n'\\", "x" * 500][n % 3] for n in range(rows)]
    columns = {
        "id": pa.array(identity, pa.binary(16)),
        "at": pa.array(moments, pa.timestamp("ms", "UTC")),
        "s": pa.array(texts),
        "d": pa.array(texts).dictionary_encode(),
        "a": pa.array([["p", "q"], []] * (rows // 2), pa.list_(pa.string())),
        "f": pa.array([[0.1, float("inf")], []] * (rows // 2), pa.list_(pa.float64())),
        "u": pa.array([[0, 2**32 - 1], []] * (rows // 2), pa.list_(pa.uint32())),
        "b": pa.array([0, 255] * (rows // 2), pa.uint8()),
        "e": pa.array(["x", "y"] * (rows // 2)),
        "text": pa.array(texts),
        "ip": pa.array([bytes(10) + b"\xff\xff\x01\x02\x03\x04"] * rows, pa.binary(16)),
        "day": pa.array([datetime.date(2026, 3, 29)] * rows, pa.date32()),
        "n": pa.array([None, 0.5] * (rows // 2), pa.float64()),
        "big": pa.array(range(2**64 - rows, 2**64), pa.uint64()),
    }
    names = ", ".join(columns)
    quoted = structure.replace("'", "\\'")
    summary = client.command(
        f"INSERT INTO {table} ({names}) SELECT {names} FROM input('{quoted}') WHERE 1 FORMAT ArrowStream",
        data=stream(pa.table(columns)),
    )
    assert summary.written_rows == rows  # type: ignore[union-attr]
    sql = (
        f"SELECT id, toUnixTimestamp64Milli(at), s, d, a, f, u, b, e, text, toString(ip), day, n, big FROM {table} "
        "ORDER BY big"
    )
    found = client.query(sql, column_oriented=True).result_columns
    expected = {
        **{name: column.to_pylist() for name, column in columns.items()},
        "at": [int(moment.timestamp() * 1000 + 0.5) for moment in moments],
        "ip": ["::ffff:1.2.3.4"] * rows,
    }
    for name, column in zip(columns, found, strict=True):
        assert list(column) == expected[name], name


def test_many_at_once_do_not_mix(front: RunningFront, client: Client, target: str) -> None:
    problems: list[object] = []

    def write(start: int) -> None:
        own = front.client()
        for part in range(5):
            data = stream(batch(200, start + part * 200))
            summary = own.command(insert(target, owned(target, 5)), data=data)
            if summary.written_rows != 200:  # type: ignore[union-attr]
                problems.append(summary)
        own.close()

    threads = [threading.Thread(target=write, args=(start,)) for start in range(0, 6000, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert client.query(f"SELECT count(), uniqExact(a), uniqExact(id) FROM {target}").result_rows == [
        (6000, 6000, 6000)
    ]


def test_a_batch_in_many_pieces_is_one_part(client: Client, target: str) -> None:
    summary = client.command(insert(target), data=stream(batch(100_000), chunk=500))
    assert summary.written_rows == 100_000  # type: ignore[union-attr]
    parts = f"SELECT name FROM system.parts WHERE table = '{target}' AND database = 'veilstream'"
    assert client.query(parts).result_rows == [("all_1_1_0",)]


def test_memory_stays_flat_over_inserts(front: RunningFront, client: Client, target: str) -> None:
    data = stream(batch(1000))
    sql = insert(target)
    client.command(f"SYSTEM STOP MERGES {target}")
    for _ in range(50):
        client.command(sql, data=data)
    client.command(f"TRUNCATE TABLE {target}")
    before = front.memory()
    for _ in range(3):
        for _ in range(50):
            client.command(sql, data=data)
        client.command(f"TRUNCATE TABLE {target}")
    assert front.memory() - before < 48 << 20
