"""What one client or one site may use: rates, connections, items, and the tricks to use more than is counted."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
from pathlib import Path

import pytest
import uvloop

from ingest.guard import PLACES, ROWS, Addresses, Rates, Turned
from schemas.packets import MAPPED_IPV4
from schemas.sites import Limit, SitesError, limit_of, load_sites
from tests.ingest.memory import SUPERUSER, WRITER, Running, running, until, write_sites
from tests.ingest.test_http import OK, get, post, served

A, B = MAPPED_IPV4 + b"\x0a\0\0\1", MAPPED_IPV4 + b"\x0a\0\0\2"
SIX = b"\x20\x01\x0d\xb8" + bytes(4)


def bulk(count: int, *headers: str, site: int = 1, token: str = "") -> bytes:
    body = {"requests": [f"?idsite={site}&rec=1&n={n}" for n in range(count)]} | (
        {"token_auth": token} if token else {}
    )
    return post(json.dumps(body).encode(), *headers)


def turned(collector: Running) -> dict[str, int]:
    return {str(reason): count for reason, count in collector.collector.server.rates.turned.items() if count}


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    rates = Rates(Limit(2.0, 5.0))
    assert [rates.take(A, (1,), 100.0) is None for _ in range(7)] == [True] * 5 + [False] * 2
    late = rates.take(A, (1,), 100.0)
    assert late is not None
    assert (late.reason, late.seconds) == (Turned.ADDRESS_RATE, 0.5)
    assert rates.take(B, (1,), 100.0) is None
    assert rates.take(A, (1,), 100.5) is None
    assert rates.take(A, (1,), 100.5) is not None
    assert [rates.take(A, (1,), 1000.0) is None for _ in range(6)] == [True] * 5 + [False]


def test_a_bulk_is_taken_whole_or_not_and_a_large_one_by_a_full_bucket_only() -> None:
    rates = Rates(Limit(1.0, 10.0))
    assert rates.take(A, [1] * 6, 100.0) is None
    assert rates.take(A, [1] * 6, 100.0) is not None
    assert rates.take(A, [1] * 4, 100.0) is None
    assert rates.take(A, [1] * 100, 109.0) is not None
    assert rates.take(A, [1] * 100, 110.0) is None
    assert rates.take(A, [1], 200.0) is not None  # the large one is paid for
    assert rates.take(A, [1], 201.0) is None


def test_a_site_that_has_sent_enough_takes_nothing_from_an_address() -> None:
    rates = Rates(Limit(1.0, 3.0))
    rates.adopt({7: Limit(1.0, 1.0)})
    assert rates.take(A, [7], 100.0) is None
    late = rates.take(A, [7, 8], 100.0)
    assert late is not None
    assert late.reason is Turned.SITE_RATE
    assert rates.take(A, [8, 8], 100.0) is None
    rates.adopt({})
    assert rates.take(B, [7, 7], 100.0) is None


def test_a_client_of_ipv6_has_its_network_s_bucket() -> None:
    rates = Rates(Limit(1.0, 2.0))
    assert [rates.take(SIX + os.urandom(8), (1,), 100.0) is None for _ in range(3)] == [True, True, False]
    assert rates.take(b"\x20\x01\x0d\xb9" + bytes(12), (1,), 100.0) is None


def test_the_table_of_addresses_has_a_fixed_size_and_refuses_nobody_for_others() -> None:
    random_ = random.Random(1)
    table = Addresses(Limit(1.0, 2.0))
    many = [MAPPED_IPV4 + random_.randbytes(4) for _ in range(3000)]
    for address in many:
        table.take(address, 2, 100.0)
    assert all(table.wait(address, 1, 100.0) > 0 for address in many)
    others = [MAPPED_IPV4 + random_.randbytes(4) for _ in range(20_000)]
    assert sum(table.wait(address, 1, 100.0) > 0 for address in others) < 10
    assert sum(len(row) for row in table._rows) == ROWS * PLACES


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("", None),
        ("[limits]\nrate = 5", Limit(5.0, 50.0)),
        ("[limits]\nrate = 0.01\nburst = 3", Limit(0.01, 3.0)),
        ("[limits]\nrate = 0", None),
    ],
)
def test_the_limit_of_a_site(tmp_path: Path, text: str, limit: Limit | None) -> None:
    (tmp_path / "1.toml").write_text(text)
    assert load_sites(tmp_path).by_id[1].limit == limit


def test_a_default_limit_gives_way_to_a_site_s_own(tmp_path: Path) -> None:
    (tmp_path / "default.toml").write_text("[limits]\nrate = 5\nburst = 7")
    (tmp_path / "1.toml").write_text("")
    (tmp_path / "2.toml").write_text("[limits]\nrate = 9")
    (tmp_path / "3.toml").write_text("[limits]\nrate = 0")
    found = [site.limit for site in load_sites(tmp_path).by_id.values()]
    assert found == [Limit(5.0, 7.0), limit_of(9.0, None), None]


@pytest.mark.parametrize(
    "text", ["rate = -1", "rate = nan", "rate = 1e12", "rate = 1e-9", 'rate = "a"', "rate = 5\nburst = 0", "rat = 1"]
)
def test_a_wrong_limit_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "1.toml").write_text(f"[limits]\n{text}")
    with pytest.raises(SitesError, match=r"1\.toml.*limits"):
        load_sites(tmp_path)


@served(collector_address_rate=0.01, collector_address_burst=3.0)
async def test_beyond_the_rate_of_an_address_the_answer_is_429(collector: Running) -> None:
    asked = [await collector.ask(get("idsite=1&rec=1", "Origin: https://page.example")) for _ in range(6)]
    assert [answer.status for answer in asked] == [200] * 3 + [429] * 3
    late = asked[-1].headers
    assert 1 <= int(late["retry-after"]) <= 100
    assert late["access-control-allow-origin"] == "https://page.example"
    assert late["access-control-allow-credentials"] == "true"
    assert late["access-control-expose-headers"] == "Retry-After"
    assert (await collector.ask(bulk(2))).status == 429
    for token, status in ((WRITER, 200), (SUPERUSER, 200), ("wrong", 429)):
        assert (await collector.ask(get(f"idsite=1&rec=1&token_auth={token}"))).status == status
        assert (await collector.ask(bulk(3, token=token))).status == status
    assert (await collector.ask(get("", "Origin: https://page.example", method="OPTIONS"))).status == 204
    assert len(collector.delivery.events()) == 3 + 2 * 4
    assert turned(collector) == {"address_rate": 6}


@served(collector_address_rate=0.01, collector_address_burst=5.0)
async def test_a_known_head_counts_like_any_other(collector: Running) -> None:
    client = await collector.connect()
    statuses = []
    for _ in range(8):
        client.send(OK)
        statuses.append((await client.answer()).status)
    assert statuses == [200] * 5 + [429] * 3
    assert len(collector.delivery.events()) == 5


@served(
    collector_address_rate=0.01,
    collector_address_burst=1.0,
    collector_proxies="127.0.0.0/8",
)
async def test_behind_a_proxy_the_visitor_s_address_counts(collector: Running) -> None:
    for address, status in (("10.0.0.1", 200), ("10.0.0.2", 200), ("10.0.0.1", 429), ("10.0.0.2", 429)):
        assert (await collector.ask(get("idsite=1&rec=1", f"X-Forwarded-For: {address}"))).status == status


@served()
async def test_the_limit_of_a_site_comes_and_goes_with_its_file(collector: Running) -> None:
    server, tracking = collector.collector.server, collector.collector.tracking
    folder = collector.collector.settings.sites
    assert server.service is tracking  # nothing asks for a rate while there is none
    path = write_sites(folder, 2) / "2.toml"
    path.write_text("[limits]\nrate = 0.01\nburst = 2\n")
    await collector.collector.policies.look()
    client = await collector.connect()
    statuses = []
    for number in range(4):
        client.send(get("idsite=2&rec=1"))
        statuses.append((await client.answer()).status)
        client.send(get("idsite=3&rec=1"))
        assert (await client.answer()).status == 200, number
    assert statuses == [200, 200, 429, 429]
    assert (await collector.ask(bulk(1, site=2))).status == 429
    assert (await collector.ask(bulk(9, site=3))).status == 200
    path.write_text("")
    await collector.collector.policies.look()
    assert server.service is tracking
    assert (await collector.ask(get("idsite=2&rec=1"))).status == 200
    assert turned(collector) == {"site_rate": 3}


@served(collector_bulk_items=10)
async def test_the_items_of_a_bulk_are_bounded(collector: Running) -> None:
    answer = await collector.ask(bulk(11))
    assert (answer.status, json.loads(answer.body)["status"]) == (413, "error")
    assert (await collector.ask(bulk(10))).status == 200
    assert len(collector.delivery.events()) == 10
    assert turned(collector) == {"long_bulk": 1}


@served(collector_address_connections=2)
async def test_the_connections_of_an_address_are_bounded(collector: Running) -> None:
    first, _ = await collector.connect(), await collector.connect()
    third = await collector.connect()
    answer = await third.answer()
    assert (answer.status, "retry-after" in answer.headers) == (429, True)
    assert turned(collector) == {"address_connections": 1}
    first.close()
    third.close()
    await until(lambda: len(collector.collector.server.connections) == 1)
    assert (await collector.ask(OK)).status == 200
    await until(lambda: len(collector.collector.server.connections) == 1)
    assert list(collector.collector.server._addresses.values()) == [1]


@served(collector_head_seconds=0.6, collector_idle_seconds=1.0)
async def test_a_head_in_drops_is_ended_whatever_it_goes_on_with(collector: Running) -> None:
    """Slowloris: every drop comes in time, the head does not."""

    async def drip(first: bytes, drop: bytes) -> bytes:
        client = await collector.connect()
        client.send(first)

        async def send() -> None:
            while True:
                await asyncio.sleep(0.1)
                client.send(drop)

        sending = asyncio.create_task(send())
        found = await client.closed()
        sending.cancel()
        return found

    kinds = [
        (b"GET /matomo.php?idsite=1&rec=1 HTTP/1.1\r\n", b"X-A: b\r\n"),
        (b"GET /matomo.php?", b"a"),
        (OK + b"GET /matomo.php HTTP/1.1\r\n", b"X: y\r\n"),
        (b"", b"\r\n"),
        (b"", b""),
    ]
    found = await asyncio.gather(*(drip(*kind) for kind in kinds))
    assert [b" 408 " in one for one in found] == [True, True, True, False, False]
    assert turned(collector) == {"slow": 3}
    await until(lambda: not collector.collector.server.connections)


@served(collector_body_seconds=0.6)
async def test_a_body_in_drops_is_ended(collector: Running) -> None:
    for framing, drop in (("Content-Length: 1000", b"a"), ("Transfer-Encoding: chunked", b"1\r\na\r\n")):
        client = await collector.connect()
        client.send(get("", framing, method="POST"))

        async def send(client: object = client, drop: bytes = drop) -> None:
            while True:
                await asyncio.sleep(0.1)
                client.send(drop)  # type: ignore[attr-defined]

        sending = asyncio.create_task(send())
        assert (await client.answer()).status == 408
        sending.cancel()
    assert collector.collector.server.receiving == 0


@served()
async def test_ten_thousand_tiny_chunks_are_one_body(collector: Running) -> None:
    body = b"idsite=1&rec=1&n=" + b"x" * 10_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    answer = await collector.ask(get("", "Transfer-Encoding: chunked", method="POST") + chunks + b"0\r\n\r\n")
    assert answer.status == 200
    assert collector.delivery.events()[0].query == body.decode()


@pytest.mark.parametrize(
    "start",
    [
        b"1;" + b"a" * 100,  # the extension of a chunk
        b"1\r\na\r\n0\r\nX-Trailer: ",
        b"0\r\nX-Trailer: b\r\n",
    ],
)
def test_what_is_neither_head_nor_body_is_bounded_too(tmp_path: Path, start: bytes) -> None:
    async def test() -> None:
        async with running(tmp_path) as collector:
            client = await collector.connect()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            client.send(get("", "Transfer-Encoding: chunked", method="POST") + start)
            await asyncio.sleep(0.05)
            more = b"X-T: b\r\n" * 1000 if start.endswith(b"\n") else b"b" * 8000
            for _ in range(1000):
                if client.writer.is_closing():
                    break
                client.send(more)
                await asyncio.sleep(0.001)
                if turned(collector):
                    break
            assert turned(collector) == {"long_head": 1}
            assert (await client.answer()).status == 431
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024
            assert (await collector.ask(OK)).status == 200

    uvloop.run(test())


@served()
async def test_pipelining_without_end_waits_for_its_answers(collector: Running) -> None:
    collector.delivery.held = True
    client = await collector.connect()
    client.send(OK * 50_000)
    await until(lambda: collector.collector.tracking.accepted >= 64)
    await asyncio.sleep(0.3)
    (connection,) = collector.collector.server.connections
    assert connection.paused
    assert len(connection.pending) < 10_000  # at most what one read brings beyond the limit
    collector.delivery.held = False
    collector.delivery.release()
    for _ in range(50_000):
        assert (await client.answer()).status == 200


@served(collector_body_bytes=1024)
async def test_what_is_turned_away_is_counted_by_its_reason(collector: Running) -> None:
    asked: list[tuple[bytes, str]] = [
        (b"HELLO\r\n\r\n", "bad_http"),
        (b"GET / HTTP/3.0\r\n\r\n", "bad_http"),
        (get("", "X: " + "a" * 40_000), "long_head"),
        (post(b"a" * 2000), "long_body"),
    ]
    for request, reason in asked:
        before = turned(collector).get(reason, 0)
        await collector.ask(request)
        assert turned(collector)[reason] == before + 1, request[:40]
