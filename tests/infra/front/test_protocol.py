"""The HTTP protocol, byte by byte where clients depend on it."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import zlib
from base64 import b64encode
from urllib.parse import quote

import lz4.frame
import pytest
import zstandard

from tests.infra.front.conftest import DASHBOARD, DASHBOARD_PASSWORD, PASSWORD, USER, Answer, RunningFront, until

BASIC = f"Authorization: Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}\r\n"


def exchange(front: RunningFront, *pieces: bytes, end: bool = True) -> bytes:
    """Sends raw bytes and reads until the front closes."""
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
        if end:
            connection.shutdown(socket.SHUT_WR)
        return connection.makefile("rb").read()


@pytest.mark.parametrize("path", ["/ping", "/replicas_status", "/"])
def test_health_needs_no_user(front: RunningFront, path: str) -> None:
    answer = front.request(method="GET", path=path, user=None)
    assert (answer.status, answer.body) == (200, b"Ok.\n")


def test_live_ready_metrics(front: RunningFront) -> None:
    for path in ("/livez", "/readyz"):
        answer = front.request(method="GET", path=path, user=None)
        assert (answer.status, json.loads(answer.body)["ok"]) == (200, True)
    front.request("SELECT nothing")

    def metrics() -> str:
        return front.request(method="GET", path="/metrics", user=None).body.decode()

    # A query is counted after it was answered.
    counted = 'veilstream_front_finished_queries_total{kind="none",outcome="UNKNOWN_IDENTIFIER"}'
    until("the query is counted", lambda: counted in metrics())
    assert "process_resident_memory_bytes" in metrics()
    assert front.request(method="GET", path="/nowhere", user=None).status == 404
    assert front.request(method="DELETE", path="/", user=None).status in (405, 411)


def test_headers(front: RunningFront) -> None:
    answer = front.request("SELECT 1 AS a FORMAT JSONEachRow", query_id="the-id", session_timezone="Asia/Tokyo")
    assert answer.body == b'{"a":1}\n'
    assert answer.headers["x-clickhouse-query-id"] == "the-id"
    assert answer.headers["x-clickhouse-format"] == "JSONEachRow"
    assert answer.headers["x-clickhouse-timezone"] == "Asia/Tokyo"
    assert answer.headers["x-clickhouse-server-display-name"] == "veilstream"
    assert len(answer.headers["x-clickhouse-exception-tag"]) == 16
    assert json.loads(answer.headers["x-clickhouse-summary"])["result_rows"] == "1"
    assert len(front.request("SELECT 1").headers["x-clickhouse-query-id"]) == 36


@pytest.mark.parametrize(
    ("sql", "body"),
    [
        ("SELECT 1", b""),
        ("SELECT", b" 1"),
        ("", b"SELECT 1"),
        ("SELECT 1 -- why", b""),
        ("/* a /* b */ */ SELECT 1;", b""),
    ],
)
def test_the_query_may_stand_in_url_and_body(front: RunningFront, sql: str, body: bytes) -> None:
    assert front.request(sql, body).body == b"1\n"


def test_formats(front: RunningFront) -> None:
    assert front.request("SELECT 1", default_format="CSV").headers["content-type"].startswith("text/csv")
    assert front.request("SELECT 'a' AS format FORMAT tsv SETTINGS max_threads = 1").body == b"a\n"
    assert (
        front.request("SELECT 'a' AS format", headers={"X-ClickHouse-Format": "JSONCompactEachRow"}).body == b'["a"]\n'
    )
    assert front.request("SELECT 1 FORMAT Nope").code == 73
    assert front.request("SELECT 1", default_format="Nope").status == 404
    assert front.request("SELECT number FROM numbers(2) WITH TOTALS FORMAT Nope").code != 0
    with_totals = (
        "SELECT number % 2 AS a, sum(number) AS b FROM numbers(5) GROUP BY a WITH TOTALS ORDER BY a FORMAT JSON"
    )
    assert json.loads(front.request(with_totals).body)["totals"] == {"a": 0, "b": 10}


def test_a_native_result_without_rows_is_its_header(front: RunningFront) -> None:
    for sql in ("SELECT 1 AS a WHERE 0 FORMAT Native", "SELECT {x:UInt8} AS a WHERE 0 FORMAT Native"):
        assert front.request(sql, param_x="1").body == b"\x01\x00\x01a\x05UInt8"
    assert front.request("CREATE TABLE IF NOT EXISTS empty_answer (a UInt8) ENGINE = Memory").body == b""


def test_the_hello_of_clickhouse_go(front: RunningFront) -> None:
    """At revision 54460: BlockInfo, a serialization byte after each type, and revision 0 for what follows."""
    version = front.request("SELECT version()").body.strip()
    answer = front.request(
        "SELECT displayName(), version(), revision(), timezone()",
        default_format="Native",
        client_protocol_version="54460",
    )
    expected = b"\x01\x00\x02\xff\xff\xff\xff\x00\x04\x01"
    for name, kind, value in (
        (b"displayName()", b"String", b"\x0aveilstream"),
        (b"version()", b"String", bytes([len(version)]) + version),
        (b"revision()", b"UInt32", b"\0\0\0\0"),
        (b"timezone()", b"String", b"\x03UTC"),
    ):
        expected += bytes([len(name)]) + name + bytes([len(kind)]) + kind + b"\0" + value
    assert answer.body == expected


def test_response_compression_is_asked_for_twice(front: RunningFront) -> None:
    sql = "SELECT 'text ' || toString(number % 10) FROM numbers(300000)"
    plain = front.request(sql).body
    undo = {
        "gzip": gzip.decompress,
        "deflate": zlib.decompress,
        "lz4": lz4.frame.decompress,
        "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    }
    for encoding, decompress in undo.items():
        headers = {"Accept-Encoding": f"br, {encoding}"}
        assert "content-encoding" not in front.request(sql, headers=headers).headers
        answer = front.request(sql, headers=headers, enable_http_compression="1")
        assert answer.headers["content-encoding"] == encoding
        assert len(answer.body) < len(plain) / 2
        assert decompress(answer.body) == plain, encoding
    refused = front.request(sql, headers={"Accept-Encoding": "gzip;q=0"}, enable_http_compression="1")
    assert "content-encoding" not in refused.headers


def test_compressed_queries(front: RunningFront) -> None:
    sql = b"SELECT 'x'"
    for encoding, body in (
        ("gzip", gzip.compress(b"SELECT ") + gzip.compress(b"'x'")),
        ("deflate", zlib.compress(sql)),
        ("lz4", lz4.frame.compress(sql[:4]) + lz4.frame.compress(sql[4:])),
        ("zstd", zstandard.compress(sql[:4]) + zstandard.compress(sql[4:])),
    ):
        assert front.request("", body, headers={"Content-Encoding": encoding}).body == b"x\n", encoding
    assert front.request("", sql, headers={"Content-Encoding": "br"}).status == 415
    assert front.request("", sql, headers={"Content-Encoding": "gzip"}).code == 271
    assert front.request("SELECT 1", compress="1").code == 48


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "lz4", "zstd"])
def test_a_bomb_is_refused_in_bounded_memory(front: RunningFront, encoding: str) -> None:
    zeros = bytes(1 << 20)
    if encoding in ("gzip", "deflate"):
        packer = zlib.compressobj(1, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
        bomb = b"".join(packer.compress(zeros) for _ in range(100)) + packer.flush()
    else:
        pack = lz4.frame.compress if encoding == "lz4" else zstandard.compress
        bomb = pack(zeros * 300)
    before = front.memory()
    answer = front.request("INSERT INTO nowhere FORMAT CSV", bomb, headers={"Content-Encoding": encoding})
    assert (answer.status, answer.code) == (413, 307)
    assert front.memory() - before < 150 << 20


def test_chunked_bodies(front: RunningFront) -> None:
    head = f"POST / HTTP/1.1\r\n{BASIC}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
    answer = exchange(front, head, b"4\r\nSELE\r\n", b"4;ext=1\r\nCT 1\r\n0\r\nTrailer: x\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n1\n")


def test_several_requests_on_one_connection_are_answered_in_order(front: RunningFront) -> None:
    one = f"GET /?query=SELECT+%d HTTP/1.1\r\n{BASIC}\r\n"
    sent = "".join(one % number for number in range(5)) + f"GET /ping HTTP/1.1\r\nConnection: close\r\n{BASIC}\r\n"
    answer = exchange(front, sent.encode(), end=False)
    positions = [answer.index(f"\r\n\r\n{number}\n".encode()) for number in range(5)]
    assert positions == sorted(positions)
    assert answer.endswith(b"Ok.\n")


def test_expect_continue(front: RunningFront) -> None:
    head = f"POST / HTTP/1.1\r\n{BASIC}Content-Length: 8\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", front.port), timeout=30) as connection:
        connection.sendall(head)
        reader = connection.makefile("rb")
        assert reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert reader.readline() == b"\r\n"
        connection.sendall(b"SELECT 1")
        assert reader.read().endswith(b"\r\n\r\n1\n")


def test_http_1_0_and_head(front: RunningFront) -> None:
    answer = exchange(
        front, f"GET /?query=SELECT+number+FROM+numbers(300000) HTTP/1.0\r\n{BASIC}\r\n".encode(), end=False
    )
    assert b"chunked" not in answer.lower()
    assert answer.endswith(b"\n299999\n")
    answer = exchange(front, f"HEAD /?query=SELECT+1 HTTP/1.1\r\nConnection: close\r\n{BASIC}\r\n".encode(), end=False)
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /" + b"x" * (3 << 20) + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /?a=%ff HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + BASIC.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + BASIC.encode() + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_refused_and_ends_the_connection(
    front: RunningFront, request_bytes: bytes, status: int
) -> None:
    assert exchange(front, request_bytes, end=False).startswith(b"HTTP/1.1 %d " % status)


def test_a_body_over_the_bound(front: RunningFront) -> None:
    head = f"POST /?query={quote('INSERT INTO t FORMAT CSV')} HTTP/1.1\r\n{BASIC}Content-Length: 99999999999\r\n\r\n"
    assert exchange(front, head.encode(), end=False).startswith(b"HTTP/1.1 413 ")
    assert front.request("INSERT INTO t FORMAT CSV", bytes(33 << 20)).status == 413
    assert front.request("SELECT '" + "x" * (5 << 20) + "'").status == 413


def test_settings_are_taken_from_a_list(front: RunningFront) -> None:
    assert front.request("SELECT getSetting('max_threads')", max_threads="1").body == b"1\n"
    unknown = front.request("SELECT 1", no_such_setting="1")
    assert (unknown.status, unknown.code) == (404, 115)
    assert front.request("SELECT 1", readonly="0").code == 452
    # Nothing of one request is left for the next.
    assert front.request("SELECT getSetting('max_block_size')", max_block_size="7").body == b"7\n"
    assert front.request("SELECT getSetting('max_block_size')").body != b"7\n"


def test_database(front: RunningFront) -> None:
    front.request("CREATE DATABASE IF NOT EXISTS `odd ``name` ENGINE = Atomic")
    assert front.request("SELECT currentDatabase()").body == b"veilstream\n"
    assert front.request("SELECT currentDatabase()", database="odd `name").body == b"odd `name\n"
    assert front.request("SELECT currentDatabase()", headers={"X-ClickHouse-Database": "default"}).body == b"default\n"
    missing = front.request("SELECT 1", database="missing")
    assert (missing.status, missing.code) == (404, 81)


def test_get_only_reads(front: RunningFront) -> None:
    assert front.request("SELECT 1", method="GET").body == b"1\n"
    for sql in ("CREATE TABLE by_get (a UInt8) ENGINE = Memory", "INSERT INTO x VALUES (1)", "KILL QUERY WHERE 1"):
        assert front.request(sql, method="GET").code == 164


def test_empty_and_unreadable_queries(front: RunningFront) -> None:
    for sql in ("", "   ", "-- nothing"):
        assert front.request(sql).code == 62
    assert front.request("", b"SELECT '\xff'").code == 36
    assert front.request("SELECT 1; DROP TABLE x").code == 62
    assert front.request("DROP TABLE IF EXISTS x; garbage").code == 62


def test_queries_over_the_bound_are_refused_at_once(front: RunningFront) -> None:
    slow = "SELECT count() FROM numbers(1000000000) WHERE sleepEachRow(0.01) = 0 SETTINGS max_block_size = 10"
    answers: list[Answer] = []

    def stay(number: int) -> None:
        while (answer := front.request(slow, query_id=f"crowd-{number}")).code == 202:
            pass
        answers.append(answer)

    threads = [threading.Thread(target=stay, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    until("all places are taken", lambda: front.request("SELECT 1").code == 202)
    assert b"(TOO_MANY_SIMULTANEOUS_QUERIES)" in front.request("SELECT 1").body
    # A kill needs no place.
    assert front.request("KILL QUERY WHERE query_id LIKE 'crowd-%' SYNC").body.count(b"finished") == 8
    for thread in threads:
        thread.join()
    assert [answer.code for answer in answers] == [394] * 8
    assert front.request("SELECT 1").body == b"1\n"


def test_users(front: RunningFront) -> None:
    for user in (None, (USER, "wrong"), ("nobody", PASSWORD), ("", "")):
        answer = front.request("SELECT 1", user=user)
        assert answer.code in (194, 516)
        assert answer.status == (401 if user is None else 403)
        assert b"\n1" not in answer.body
    by_header = {"X-ClickHouse-User": USER, "X-ClickHouse-Key": PASSWORD}
    assert front.request("SELECT 1", user=None, headers=by_header).body == b"1\n"
    assert front.request("SELECT 1", user=None, headers={**by_header, "X-ClickHouse-Key": "no"}).status == 403
    by_url = f"/?user={DASHBOARD}&password={quote(DASHBOARD_PASSWORD)}"
    answer = front.request("SELECT getSetting('readonly')", user=None, path=by_url)
    assert answer.body == b"1\n"
    assert front.request("SELECT 1", headers=by_header).code == 516
    assert front.request("SELECT 1", user=None, headers={"Authorization": "Basic !"}).code == 516
    assert front.request("SELECT 1", user=None, headers={"Authorization": "Bearer x"}).code == 516
