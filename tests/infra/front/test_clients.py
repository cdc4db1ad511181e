"""clickhouse-connect, sync and async, as against a server."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import threading
import uuid
from decimal import Decimal

import clickhouse_connect
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, StreamFailureError
from clickhouse_connect.driver.external import ExternalData

from tests.infra.front.conftest import DASHBOARD, DASHBOARD_PASSWORD, PASSWORD, USER, RunningFront, until

CANARY_TYPES = {
    "i8": ("Int8", -5),
    "u64": ("UInt64", 2**64 - 1),
    "f": ("Float64", 0.1),
    "s": ("String", "naïve\t'quoted'\\ \n"),
    "lc": ("LowCardinality(String)", "one"),
    "n": ("Nullable(Int32)", None),
    "d": ("Date", datetime.date(2026, 2, 28)),
    "a": ("Array(String)", ["a", "b'c"]),
    "u": ("UUID", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    "dec": ("Decimal(18, 4)", Decimal("12.3400")),
    "e": ("Enum8('x' = 1, 'y' = 2)", "y"),
    "t": ("Tuple(UInt8, String)", (1, "z")),
    "fs": ("FixedString(3)", b"abc"),
}


def test_rows_come_back_as_they_were_inserted(client: Client, table: str) -> None:
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in CANARY_TYPES.items())
    client.command(f"CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY i8")
    row = [value for _, value in CANARY_TYPES.values()]
    summary = client.insert(table, [row, row], column_names=list(CANARY_TYPES))
    assert summary.written_rows == 2
    found = client.query(f"SELECT * FROM {table}")
    assert found.column_names == tuple(CANARY_TYPES)
    assert [list(one) for one in found.result_rows] == [row, row]


@pytest.mark.parametrize("compression", [False, "lz4", "zstd", "gzip"])
def test_compression_both_ways(front: RunningFront, table: str, compression: str | bool) -> None:
    client = front.client(compress=compression)
    client.command(f"CREATE TABLE {table} (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    rows = [[number, f"text {number % 100}"] for number in range(20_000)]
    assert client.insert(table, rows).written_rows == 20_000
    assert client.query(f"SELECT * FROM {table} ORDER BY a").result_rows == [tuple(row) for row in rows]
    client.close()


def test_an_insert_of_one_batch_is_one_part(client: Client, table: str) -> None:
    client.command(f"CREATE TABLE {table} (a UInt32) ENGINE = MergeTree ORDER BY a")
    client.insert(table, [[number] for number in range(100_000)])
    parts = f"SELECT count() FROM system.parts WHERE table = '{table}' AND active"
    assert client.query(parts).result_rows == [(1,)]


def test_parameters_are_never_read_as_sql(client: Client) -> None:
    text = "it's {x:String} \\ \t \n '; DROP TABLE x; --"
    found = client.query(
        "SELECT {a:String}, {b:Array(String)}, {c:DateTime('UTC')}, {d:Nullable(Int8)}",
        parameters={"a": text, "b": [text], "c": datetime.datetime(2026, 1, 2, 3, 4, 5), "d": None},
    ).result_rows
    assert found == [(text, [text], datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), None)] or found == [
        (text, [text], datetime.datetime(2026, 1, 2, 3, 4, 5), None)
    ]


def test_a_value_of_a_setting_is_never_read_as_sql(front: RunningFront) -> None:
    value = "UTC', readonly = '0"
    answer = front.request("SELECT 1", session_timezone=value)
    assert answer.code != 0
    assert value.encode() in answer.body or b"timezone" in answer.body.lower()
    assert front.request("SELECT 1", max_threads="1, max_block_size = 2").code != 0


def test_form_encoded_queries(front: RunningFront) -> None:
    client = front.client(form_encode_query_params=True)
    assert client.query("SELECT {a:String}", parameters={"a": "x" * 5000}).result_rows == [("x" * 5000,)]
    client.close()


def test_external_data(client: Client) -> None:
    data = ExternalData(file_name="other.csv", data=b"1,one\n2,two\n", fmt="CSV", structure=["a UInt8", "b String"])
    assert client.query("SELECT b FROM other WHERE a = 2", external_data=data).result_rows == [("two",)]
    typed = ExternalData(file_name="typed.csv", data=b"1,2.5\n", fmt="CSV", types=["UInt8", "Decimal(4, 1)"])
    assert client.query("SELECT _1, _2 FROM typed", external_data=typed).result_rows == [(1, Decimal("2.5"))]


def test_a_result_without_rows_has_columns(client: Client) -> None:
    found = client.query("SELECT 1 AS a, 'x' AS b, toLowCardinality('y') AS c WHERE 0")
    assert found.result_rows == []
    assert found.column_names == ("a", "b", "c")
    assert [kind.name for kind in found.column_types] == ["UInt8", "String", "LowCardinality(String)"]
    assert client.query("SHOW TABLES LIKE 'nothing of this name'").column_names == ("name",)
    assert client.query("SELECT 1 AS a LIMIT 0").column_names == ("a",)


def test_arrow_both_ways(client: Client, table: str) -> None:
    client.command(f"CREATE TABLE {table} (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    rows = pa.table({"a": pa.array(range(1000), pa.uint32()), "b": [str(number) for number in range(1000)]})
    assert client.insert_arrow(table, rows).written_rows == 1000
    found = client.query_arrow(f"SELECT a, b FROM {table} ORDER BY a", use_strings=True)
    assert found.column("b").to_pylist() == rows.column("b").to_pylist()
    assert client.query_arrow(f"SELECT a FROM {table} WHERE 0").column_names == ["a"]


@pytest.mark.parametrize(
    ("format", "data"),
    [
        ("JSONEachRow", b'{"a":1,"b":"x"}\n{"a":2,"b":"y"}\n'),
        ("CSV", b'1,"x"\n2,"y"\n'),
        ("TabSeparated", b"1\tx\n2\ty\n"),
        ("Values", b"(1,'x'),(1+1,'y')"),
        ("RowBinary", b"\x01\0\0\0\x01x\x02\0\0\0\x01y"),
        ("Native", b"\x02\x02\x01a\x06UInt32\x01\0\0\0\x02\0\0\0\x01b\x06String\x01x\x01y"),
    ],
)
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_raw_inserts(client: Client, table: str, format: str, data: bytes, compression: str | None) -> None:
    client.command(f"CREATE TABLE {table} (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    body = gzip.compress(data) if compression else data
    summary = client.raw_insert(table, ["a", "b"], body, fmt=format, compression=compression)
    assert summary.written_rows == 2
    assert client.query(f"SELECT a, b FROM {table} ORDER BY a").result_rows == [(1, "x"), (2, "y")]


def test_values_in_a_command(client: Client, table: str) -> None:
    client.command(f"CREATE TABLE {table} (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    client.command(f"INSERT INTO {table} VALUES (1, 'x'), ({{a:UInt32}}, {{b:String}})", parameters={"a": 2, "b": "y"})
    client.command(f"INSERT INTO {table} SELECT number, 'n' FROM numbers(3, 2)")
    assert client.query(f"SELECT a FROM {table} ORDER BY a").result_columns == [[1, 2, 3, 4]]


def test_errors_are_typed(client: Client) -> None:
    for sql, code, name in (
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELECT nothing", 47, "UNKNOWN_IDENTIFIER"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT throwIf(1)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("SELECT 1; SELECT 2", 62, "SYNTAX_ERROR"),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", 358, "INTO_OUTFILE_NOT_ALLOWED"),
        ("SET max_threads = 1", 48, "NOT_IMPLEMENTED"),
        ("SYSTEM SHUTDOWN", 48, "NOT_IMPLEMENTED"),
    ):
        with pytest.raises(DatabaseError) as caught:
            client.command(sql)
        assert (caught.value.code, caught.value.name) == (code, name), sql


def test_a_large_result_is_streamed_in_bounded_memory(front: RunningFront, client: Client) -> None:
    client.query("SELECT 1")
    before = front.memory()
    rows = 0
    peak = before
    with client.query_column_block_stream(
        "SELECT number, repeat('x', 200) FROM numbers(1000000)", settings={"max_block_size": 20_000}
    ) as stream:
        for block in stream:
            rows += len(block[0])
            peak = max(peak, front.memory())
    assert rows == 1_000_000
    # The result is 208 MB.
    assert peak - before < 100 << 20


def test_an_error_in_mid_stream_is_told(client: Client) -> None:
    sql = "SELECT number, throwIf(number = 3000000, 'in the middle') FROM numbers(4000000)"
    with pytest.raises(StreamFailureError) as caught, client.query_column_block_stream(sql) as stream:
        for _ in stream:
            pass
    assert "in the middle" in str(caught.value)
    assert caught.value.code == 395


def test_an_error_after_a_part_that_was_held_back_is_an_error_with_a_status(client: Client) -> None:
    sql = "SELECT number, throwIf(number = 500000, 'in the middle') FROM numbers(600000)"
    with pytest.raises(DatabaseError) as caught:
        client.query(sql, settings={"wait_end_of_query": 1})
    assert not isinstance(caught.value, StreamFailureError)
    assert caught.value.code == 395


async def _ask(front: RunningFront, table: str) -> list[object]:
    client = await clickhouse_connect.get_async_client(
        host="127.0.0.1", port=front.port, username=USER, password=PASSWORD, database="veilstream", compress="lz4"
    )
    await client.command(f"CREATE TABLE {table} (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    await client.insert(table, [[number, "x"] for number in range(1000)])
    found = await asyncio.gather(
        *(client.query("SELECT sum(a), {k:String} FROM " + table, parameters={"k": "v"}) for _ in range(6))
    )
    with pytest.raises(DatabaseError) as caught:
        await client.query("SELECT nothing")
    assert caught.value.code == 47
    rows = 0
    async with await client.query_rows_stream("SELECT number FROM numbers(200000)") as stream:
        async for _ in stream:
            rows += 1
    await client.close()
    return [*(one.result_rows for one in found), rows]


def test_the_async_client(front: RunningFront, table: str) -> None:
    assert asyncio.run(_ask(front, table)) == [*([[(499500, "v")]] * 6), 200_000]


def test_reads_run_beside_a_write(front: RunningFront, client: Client, table: str) -> None:
    """An insert that cannot end before reads have ended: were there one lock, this would wait for ever."""
    client.command(f"CREATE TABLE {table} (a UInt64) ENGINE = MergeTree ORDER BY a")
    writer, reader = front.client(), front.client()
    ended = threading.Event()

    def write() -> None:
        slow = f"INSERT INTO {table} SELECT number FROM numbers(30) WHERE sleepEachRow(0.03) = 0"
        writer.command(slow, settings={"max_block_size": 1, "query_id": f"slow-{table}"})
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    running = f"SELECT count() FROM system.processes WHERE query_id = 'slow-{table}' AND read_rows > 0"
    until("the insert runs", lambda: reader.query(running).result_rows[0][0])
    seen = [reader.query(f"SELECT count() FROM {table}").result_rows[0][0] for _ in range(5)]
    assert not ended.is_set()
    assert len(seen) == 5
    thread.join()
    assert reader.query(f"SELECT count() FROM {table}").result_rows == [(30,)]
    for one in (writer, reader):
        one.close()


def test_the_dashboard_user_with_the_client(front: RunningFront) -> None:
    client = front.client(DASHBOARD, DASHBOARD_PASSWORD)
    found = client.query("SELECT getSetting('max_execution_time')", settings={"max_execution_time": 7})
    assert float(found.result_rows[0][0]) == 7
    with pytest.raises(DatabaseError) as caught:
        client.command("CREATE TABLE x (a UInt8) ENGINE = Memory")
    assert caught.value.code == 164
    client.close()
