"""HTTP/1.1 over real sockets: what clients do, and what is done about it. Kafka is played by memory here."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from ingest.answers import GIF
from ingest.http import packed_address
from tests.ingest.memory import SUPERUSER, Answer, Running, running, until

Test = Callable[[Running], Awaitable[None]]

OK = b"GET /matomo.php?idsite=1&rec=1&url=http%3A%2F%2Fa%2F HTTP/1.1\r\nHost: c\r\n\r\n"


def get(query: str = "", *headers: str, method: str = "GET", path: str = "/matomo.php", version: str = "1.1") -> bytes:
    target = f"{path}?{query}" if query else path
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: c", *headers, "", ""]).encode("latin-1")


def post(body: bytes, *headers: str, query: str = "", path: str = "/matomo.php") -> bytes:
    return get(query, *headers, f"Content-Length: {len(body)}", method="POST", path=path) + body


def served(**overrides: Any) -> Callable[[Test], Callable[[Path], None]]:
    """Runs a test against a collector with these settings."""

    def decorate(test: Test) -> Callable[[Path], None]:
        def run(tmp_path: Path) -> None:
            async def inside() -> None:
                async with running(tmp_path, **overrides) as collector:
                    await test(collector)

            uvloop.run(inside())

        run.__name__ = test.__name__
        return run

    return decorate


def queries(collector: Running) -> list[str]:
    return [event.query for event in collector.delivery.events()]


@served()
async def test_get_is_answered_with_the_image(collector: Running) -> None:
    answer = await collector.ask(OK)
    assert (answer.status, answer.body) == (200, GIF)
    assert len(GIF) == 43
    assert answer.headers["content-type"] == "image/gif"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    (event,) = collector.delivery.events()
    assert event.query == "idsite=1&rec=1&url=http%3A%2F%2Fa%2F"
    assert event.address == packed_address(("127.0.0.1", 1))


@served()
async def test_send_image_0_is_answered_204(collector: Running) -> None:
    answer = await collector.ask(get("idsite=1&rec=1&send_image=0"))
    assert (answer.status, answer.body) == (204, b"")
    assert "content-length" not in answer.headers


@served()
async def test_all_paths_track(collector: Running) -> None:
    paths = ["/matomo.php", "/piwik.php", "/js/tracker.php", "/js/", "//matomo.php", "http://c/piwik.php"]
    for path in paths:
        assert (await collector.ask(get("idsite=1&rec=1", path=path))).status == 200
    assert len(collector.delivery.events()) == len(paths)
    for path, status in [("/", 200), ("/x", 404), ("/matomo.php/x", 404), ("*", 404), ("ftp://c/matomo.php", 404)]:
        assert (await collector.ask(get("idsite=1&rec=1", path=path))).status == status
    assert len(collector.delivery.events()) == len(paths)


@served()
async def test_beacon_form_and_merged_posts(collector: Running) -> None:
    kind = "Content-Type: application/x-www-form-urlencoded; charset=utf-8"
    requests = [
        post(b"", kind, query="idsite=1&rec=1&a=beacon&send_image=0"),
        post(b"idsite=1&rec=1&a=form", kind),
        post(b"idsite=2&token_auth=" + SUPERUSER.encode(), kind, query="idsite=1&rec=1&a=both"),
        post(b"idsite=1&rec=1&a=json\n", "Content-Type: application/json"),
    ]
    assert [(await collector.ask(request)).status for request in requests] == [204, 200, 200, 200]
    events = collector.delivery.events()
    assert {event.query.rpartition("=")[2]: event.role for event in events} == {
        "beacon": 0,
        "form": 0,
        "both": 4,
        "json": 0,
    }
    assert {event.site for event in events} == {1}


@served()
async def test_bulk_over_partitions(collector: Running) -> None:
    items = [f"?idsite={site}&rec=1&n={number}" for number, site in enumerate([1, 2, 3, 9, 1])]
    body = {"requests": items, "token_auth": SUPERUSER}
    answer = await collector.ask(post(json.dumps(body).encode(), "Origin: http://page"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "http://page"
    assert json.loads(answer.body) == {"status": "success", "tracked": 4, "invalid": 1, "invalid_indices": [3]}
    assert sorted(event.index for event in collector.delivery.events()) == [0, 1, 2, 4]
    quiet = await collector.ask(post(json.dumps(body | {"send_image": 0}).encode()))
    assert quiet.status == 204


@served()
async def test_a_bulk_is_answered_after_all_its_packets(collector: Running) -> None:
    collector.delivery.held = True
    client = await collector.connect()
    client.send(post(json.dumps({"requests": [f"?idsite={site}&rec=1" for site in (1, 2, 3)]}).encode()))
    await until(lambda: len(collector.delivery.packets()) > 1)
    packets = collector.delivery.packets()
    waiting = asyncio.create_task(client.answer())
    for packet in packets[:-1]:
        collector.delivery.release(packet.partition)
    await asyncio.sleep(0.05)
    assert not waiting.done()
    collector.delivery.release(packets[-1].partition)
    assert (await waiting).status == 200


@pytest.mark.parametrize(
    ("request_", "status", "text"),
    [
        (get("rec=1"), 400, b"idsite"),
        (get("idsite=9&rec=1"), 400, b"idsite"),
        (get(), 200, b"collector"),
        (post(b""), 400, b"idsite"),
        (post(b'{"requests":[}'), 400, b'"status":"error"'),
        (get(method="PUT", query="idsite=1&rec=1"), 405, b"GET"),
        (get(method="DELETE", query="idsite=1&rec=1"), 405, b"GET"),
    ],
)
def test_refusals_name_the_parameter(tmp_path: Path, request_: bytes, status: int, text: bytes) -> None:
    @served()
    async def refused(collector: Running) -> None:
        answer = await collector.ask(request_)
        assert answer.status == status
        assert text in answer.body
        assert b"personal" not in answer.body
        assert collector.delivery.events() == []

    refused(tmp_path)


@served()
async def test_cors(collector: Running) -> None:
    preflight = await collector.ask(
        get(
            "",
            "Origin: https://page.example",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: content-type",
            method="OPTIONS",
        )
    )
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "https://page.example"
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert "content-type" in preflight.headers["access-control-allow-headers"].lower().split(", ")
    assert "POST" in preflight.headers["access-control-allow-methods"]
    for request in (
        get("idsite=1&rec=1", "Origin: https://page.example"),
        post(b"", "Origin: https://page.example", query="idsite=1&rec=1&send_image=0"),
        get("idsite=9&rec=1", "Origin: https://page.example"),
    ):
        answer = await collector.ask(request)
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in (await collector.ask(get("idsite=1&rec=1", "Origin: a b\x80"))).headers


@served()
async def test_pipelined_requests_are_answered_in_order(collector: Running) -> None:
    collector.delivery.held = True
    client = await collector.connect()
    sites = [1, 2, 3, 1]
    stored = b"".join(get(f"idsite={site}&rec=1&send_image={n % 2}") for n, site in enumerate(sites))
    client.send(stored + get("idsite=9&rec=1") + get() + get("idsite=2&rec=1"))
    await until(lambda: len(collector.delivery.packets()) >= 2)
    collector.delivery.release(collector.delivery.packets()[-1].partition)
    collector.delivery.held = False
    collector.delivery.release()
    answers = [await client.answer() for _ in range(7)]
    assert [answer.status for answer in answers] == [204, 200, 204, 200, 400, 200, 200]
    assert answers[5].headers["content-type"].startswith("text/plain")
    client.close()


@served()
async def test_an_early_answer_waits_for_its_turn(collector: Running) -> None:
    collector.delivery.held = True
    client = await collector.connect()
    client.send(get("idsite=1&rec=1") + get("idsite=9&rec=1"))
    await until(collector.delivery.packets)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.1)
    collector.delivery.release()
    assert [(await client.answer()).status for _ in range(2)] == [200, 400]


@served()
async def test_unanswered_requests_of_a_connection_are_bounded(collector: Running) -> None:
    collector.delivery.held = True
    client = await collector.connect()
    for _ in range(400):
        client.send(OK * 20)
    await until(lambda: any(connection.paused for connection in collector.collector.server.connections))
    await asyncio.sleep(0.2)
    (connection,) = collector.collector.server.connections
    assert len(connection.pending) < 8000
    collector.delivery.held = False
    collector.delivery.release()
    for _ in range(8000):
        assert (await client.answer()).status == 200
    assert len(collector.delivery.events()) == 8000


@served()
async def test_a_request_in_single_bytes(collector: Running) -> None:
    client = await collector.connect()
    for request in (OK, post(b"idsite=1&rec=1"), post(b'{"requests":["?idsite=1&rec=1"]}')):
        for byte in request:
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.answer()).status == 200
    assert len(collector.delivery.events()) == 3


@served()
async def test_chunked_body(collector: Running) -> None:
    chunks = b"7;x=y\r\nidsite=\r\n8\r\n1&rec=1&\r\n1\r\na\r\n0\r\nCookie: matomo_ignore=1\r\n\r\n"
    client = await collector.connect()
    client.send(get("", "Transfer-Encoding: chunked", method="POST") + chunks + OK)
    assert [(await client.answer()).status for _ in range(2)] == [200, 200]
    first, second = collector.delivery.events()
    assert (first.query, first.flags) == ("idsite=1&rec=1&a", 0)
    assert second.query.startswith("idsite=1&rec=1&url")


@served()
async def test_expect_100_continue(collector: Running) -> None:
    client = await collector.connect()
    body = b"idsite=1&rec=1"
    client.send(get("", f"Content-Length: {len(body)}", "Expect: 100-continue", method="POST"))
    assert (await client.answer()).status == 100
    client.send(body)
    assert (await client.answer()).status == 200
    client.send(get("", "Content-Length: 99999999", "Expect: 100-continue", method="POST"))
    assert (await client.answer()).status == 413
    assert await client.closed() == b""


@served()
async def test_head_is_tracked_and_answered_without_a_body(collector: Running) -> None:
    client = await collector.connect()
    client.send(get("idsite=1&rec=1", method="HEAD") + get(method="HEAD") + get("idsite=9&rec=1", method="HEAD") + OK)
    answers = [await client.answer(head=number < 3) for number in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 400, 200]
    assert answers[0].headers["content-length"] == "43"
    assert answers[3].body == GIF
    assert len(collector.delivery.events()) == 2


@pytest.mark.parametrize(
    ("version", "headers", "said", "stays"),
    [
        ("1.1", (), None, True),
        ("1.1", ("Connection: keep-alive",), None, True),
        ("1.1", ("Connection: close",), "close", False),
        ("1.0", (), "close", False),
        ("1.0", ("Connection: keep-alive",), "keep-alive", True),
    ],
)
def test_connection(tmp_path: Path, version: str, headers: tuple[str, ...], said: str | None, stays: bool) -> None:
    @served()
    async def connection(collector: Running) -> None:
        client = await collector.connect()
        client.send(get("idsite=1&rec=1", *headers, version=version))
        answer = await client.answer()
        assert answer.headers.get("connection") == said
        if stays:
            client.send(OK)
            assert (await client.answer()).status == 200
        else:
            assert await client.closed() == b""

    connection(tmp_path)


@served()
async def test_what_follows_an_offer_of_h2c_is_refused_as_ever(collector: Running) -> None:
    offer = get("idsite=1&rec=1", "Connection: Upgrade", "Upgrade: h2c")
    for request, status in ((post(b"a", path="/nothing"), 404), (get(version="2.0"), 505), (b"HELLO\r\n\r\n", 400)):
        client = await collector.connect()
        client.send(offer + request)
        assert [(await client.answer()).status for _ in range(2)] == [200, status]
        assert await client.closed() == b""


@served()
async def test_an_offer_of_h2c_is_ignored(collector: Running) -> None:
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
    client = await collector.connect()
    bulk = json.dumps({"requests": ["?idsite=2&rec=1&n=2", "?idsite=2&rec=1&n=3"]}).encode()
    client.send(
        get("idsite=1&rec=1&n=1", *offer, "Content-Length: 0")
        + post(bulk, *offer)
        + get("", *offer, "Transfer-Encoding: chunked", method="POST")
        + b"14\r\nidsite=2&rec=1&n=4\r\n\r\n0\r\n\r\n"
        + post(b"idsite=2&rec=1&n=5", *offer)
        + OK
    )
    answers = [await client.answer() for _ in range(5)]
    assert [answer.status for answer in answers] == [200] * 5
    assert json.loads(answers[1].body)["tracked"] == 2
    found = [event.query for event in collector.delivery.events()]
    assert sorted(query.partition("n=")[2] for query in found) == ["", "1", "2", "3", "4", "5"]
    for byte in post(bulk, *offer):
        client.send(bytes([byte]))
        await asyncio.sleep(0)
    assert json.loads((await client.answer()).body)["tracked"] == 2


@pytest.mark.parametrize(
    ("garbage", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /matomo.php?idsite=1&rec=1\r\n\r\n", 505),
        (b"GET /matomo.php?idsite=1&rec=1 HTTP/2.0\r\n\r\n", 505),
        (b"GET /matomo.php HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST /matomo.php HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /matomo.php HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /matomo.php HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /matomo.php?a=b c HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_garbage_is_refused_and_the_connection_closed(tmp_path: Path, garbage: bytes, status: int) -> None:
    @served()
    async def refused(collector: Running) -> None:
        client = await collector.connect()
        client.send(OK + garbage)
        assert (await client.answer()).status == 200
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await client.closed() == b""
        assert len(collector.delivery.events()) == 1

    refused(tmp_path)


@served()
async def test_raw_bytes_in_a_url_are_taken(collector: Running) -> None:
    assert (await collector.ask(get("idsite=1&rec=1&action_name=K\xe4se"))).status == 200
    assert queries(collector) == ["idsite=1&rec=1&action_name=K%E4se"]


@served()
async def test_long_heads_are_refused_and_others_taken(collector: Running) -> None:
    long = "x" * 15_000
    assert (await collector.ask(get(f"idsite=1&rec=1&a={long}"))).status == 200
    assert (await collector.ask(get("idsite=1&rec=1", f"X-A: {long}"))).status == 200
    for request in (
        get("idsite=1&rec=1&a=" + "x" * 40_000),
        get("idsite=1&rec=1", "X-A: " + "x" * 40_000),
        get("idsite=1&rec=1", *(f"X-{n}: {'x' * 100}" for n in range(400))),
    ):
        assert (await collector.ask(request)).status == 431
    endless = await collector.connect()
    endless.send(b"GET /matomo.php HTTP/1.1\r\nX-A: ")
    for _ in range(100):
        endless.send(b"x" * 1000)
        await asyncio.sleep(0)
    assert (await endless.answer()).status == 431
    assert len(collector.delivery.events()) == 2


@served(collector_body_bytes=1 << 20)
async def test_long_bodies_are_refused_unread(collector: Running) -> None:
    noise = os.urandom(10_000_000)
    assert (await collector.ask(post(noise))).status == 413
    chunked = await collector.connect()
    chunked.send(get("", "Transfer-Encoding: chunked", method="POST"))
    for start in range(0, 2 << 20, 65536):
        chunked.send(b"10000\r\n" + noise[start : start + 65536] + b"\r\n")
    assert (await chunked.answer()).status == 413
    assert (await collector.ask(post(noise[: 1 << 20]))).status in (400, 413)
    assert (await collector.ask(post(noise, path="/upload"))).status == 404
    assert collector.collector.server.receiving == 0
    assert (await collector.ask(OK)).status == 200


@served(collector_head_seconds=0.3, collector_body_seconds=0.6)
async def test_slow_clients_are_answered_408(collector: Running) -> None:
    head, body = await collector.connect(), await collector.connect()
    head.send(b"GET /matomo.php?idsite=1&rec=1 HTTP/1.1\r\nHost")
    body.send(get("", "Content-Length: 100", method="POST") + b"idsite")
    for client in (head, body):
        assert (await client.answer()).status == 408
        assert await client.closed() == b""


@served(collector_idle_seconds=0.3, collector_head_seconds=0.3)
async def test_idle_connections_are_closed_but_not_waiting_ones(collector: Running) -> None:
    idle, waiting = await collector.connect(), await collector.connect()
    collector.delivery.held = True
    waiting.send(OK)
    assert await idle.closed() == b""
    await asyncio.sleep(1.2)
    collector.delivery.held = False
    collector.delivery.release()
    assert (await waiting.answer()).status == 200
    assert await waiting.closed() == b""


@served(collector_connections=2)
async def test_connections_are_bounded(collector: Running) -> None:
    first, second = await collector.connect(), await collector.connect()
    for client in (first, second):
        client.send(OK)
        assert (await client.answer()).status == 200
    third = await collector.connect()
    answer = await third.answer()
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    first.close()
    third.close()
    await until(lambda: len(collector.collector.server.connections) == 1)
    assert (await collector.ask(OK)).status == 200


@served()
async def test_a_vanished_client_disturbs_nobody(collector: Running) -> None:
    collector.delivery.held = True
    clients = [await collector.connect() for _ in range(20)]
    for client in clients:
        client.send(OK)
    await until(lambda: collector.collector.tracking.accepted == 20)
    for client in clients[::2]:
        raw = client.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.writer.transport.abort()
    await until(lambda: len(collector.collector.server.connections) == 10)
    collector.delivery.held = False
    collector.delivery.release()
    for client in clients[1::2]:
        assert (await client.answer()).status == 200
    assert len(collector.delivery.events()) == 20
    assert collector.collector.server.gone == 10


@served()
async def test_a_client_that_closes_its_half_is_answered(collector: Running) -> None:
    collector.delivery.held = True
    client = await collector.connect()
    client.send(OK)
    client.writer.write_eof()
    await until(lambda: collector.collector.tracking.accepted)
    collector.delivery.held = False
    collector.delivery.release()
    assert (await client.answer()).status == 200
    assert await client.closed() == b""


@served(collector_body_seconds=0.5)
async def test_a_client_that_reads_nothing_is_cut_off(collector: Running) -> None:
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(raw, ("127.0.0.1", collector.port))

    async def flood() -> None:
        while True:
            await loop.sock_sendall(raw, get() * 100)

    flooding = asyncio.create_task(flood())
    await until(lambda: any(connection.blocked for connection in collector.collector.server.connections))
    await until(lambda: not collector.collector.server.connections)
    flooding.cancel()
    raw.close()
    assert (await collector.ask(OK)).status == 200


@served(collector_memory_bytes=1 << 20)
async def test_full_memory_is_answered_503_and_bodies_are_not_read(collector: Running) -> None:
    collector.delivery.held = True
    statuses: list[int] = []

    async def ask(request: bytes) -> Answer:
        answer = await collector.ask(request)
        statuses.append(answer.status)
        return answer

    many = json.dumps({"requests": [f"?idsite=1&rec=1&a={os.urandom(500).hex()}" for _ in range(900)]}).encode()
    tasks = [asyncio.create_task(ask(post(many))) for _ in range(3)]
    await until(lambda: collector.collector.packing.full())
    refused = await collector.ask(OK)
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    client = await collector.connect()
    client.send(get("", "Content-Length: 100000", method="POST"))
    assert (await client.answer()).status == 503
    collector.delivery.held = False
    collector.delivery.release()
    await asyncio.gather(*tasks)
    assert set(statuses) <= {200, 503}
    assert len(collector.delivery.events()) == 900 * statuses.count(200)
    assert (await collector.ask(OK)).status == 200


@served(collector_wait_seconds=0.4, collector_spool_bytes=0)
async def test_who_waits_too_long_for_kafka_gets_503(collector: Running) -> None:
    collector.delivery.held = True
    client = await collector.connect()
    client.send(get("idsite=1&rec=1", "Origin: https://page.example"))
    answer = await client.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    assert answer.headers["access-control-expose-headers"] == "Retry-After"
    assert collector.collector.ready() != ""
    collector.delivery.held = False
    collector.delivery.release()
    client.send(OK)
    assert (await client.answer()).status == 200
    assert len(collector.delivery.events()) == 2
    assert collector.collector.packing.unknown == 1


@served()
async def test_a_failure_inside_costs_one_request(collector: Running) -> None:
    good, bad = await collector.connect(), await collector.connect()
    collector.delivery.held = True
    good.send(OK)
    await until(lambda: collector.collector.tracking.accepted)
    directory, collector.collector.tracking.directory = collector.collector.tracking.directory, cast(Any, None)
    bad.send(OK)
    assert (await bad.answer()).status == 500
    collector.collector.tracking.directory = directory
    collector.delivery.held = False
    collector.delivery.release()
    assert (await good.answer()).status == 200


@served()
async def test_stop_answers_what_is_in_hand(collector: Running) -> None:
    idle, half, waiting = [await collector.connect() for _ in range(3)]
    collector.delivery.held = True
    waiting.send(OK)
    half.send(OK[:30])
    await until(lambda: collector.collector.tracking.accepted)
    stopping = asyncio.create_task(collector.collector.stop(5.0))
    assert await idle.closed() == b""
    with pytest.raises(ConnectionRefusedError):
        await collector.connect()
    half.send(OK[30:])
    await until(lambda: collector.collector.tracking.accepted == 2)
    collector.delivery.held = False
    collector.delivery.release()
    assert (await waiting.answer()).status == 200
    assert (await half.answer()).headers["connection"] == "close"
    assert await stopping == 0
    assert len(collector.delivery.events()) == 2


@pytest.mark.parametrize(
    ("peer", "packed"),
    [
        (("127.0.0.1", 5), bytes(10) + b"\xff\xff\x7f\0\0\x01"),
        (("::ffff:1.2.3.4", 5, 0, 0), bytes(10) + b"\xff\xff\x01\x02\x03\x04"),
        (("2001:db8::1", 5, 0, 0), bytes.fromhex("20010db8000000000000000000000001")),
        (("fe80::1%eth0", 5, 0, 2), bytes.fromhex("fe800000000000000000000000000001")),
        ("", bytes(16)),
        (None, bytes(16)),
    ],
)
def test_addresses_are_16_bytes(peer: object, packed: bytes) -> None:
    assert packed_address(peer) == packed
