"""Whose address is the visitor's: the peer's, unless a trusted proxy names another."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

import pytest
import uvloop

from ingest.proxies import Proxies, ProxiesError, entries
from schemas.addresses import pack
from tests.ingest.memory import running

PEER = "10.0.0.1"


def visitor(proxies: Proxies, peer: str, **fields: str) -> str:
    address = pack(peer)
    assert address is not None
    given = {name.replace("_", "-"): value.encode() for name, value in fields.items()}
    found = IPv6Address(proxies.visitor(address, given))
    return str(found.ipv4_mapped or found)


@pytest.mark.parametrize(
    ("value", "last", "first"),
    [
        ("1.1.1.1", "1.1.1.1", "1.1.1.1"),
        ("6.6.6.6, 1.1.1.1", "1.1.1.1", "6.6.6.6"),
        ("6.6.6.6, 1.1.1.1, 10.9.9.9", "1.1.1.1", "6.6.6.6"),
        ("10.2.3.4, 6.6.6.6, 1.1.1.1,", "1.1.1.1", "6.6.6.6"),
        ("unknown, 1.1.1.1", "1.1.1.1", PEER),
        ("1.1.1.1, unknown", PEER, "1.1.1.1"),
        ("", PEER, PEER),
        ("10.0.0.2", PEER, PEER),
        ("[2001:db8::1]:443", "2001:db8::1", "2001:db8::1"),
        ("1.1.1.1:5000", "1.1.1.1", "1.1.1.1"),
    ],
)
def test_the_list_is_read_from_its_end_less_what_is_trusted(value: str, last: str, first: str) -> None:
    assert visitor(Proxies(["10.0.0.0/8"], ["x-forwarded-for"]), PEER, x_forwarded_for=value) == last
    assert visitor(Proxies(["10.*.*.*"], ["x-forwarded-for"], first=True), PEER, x_forwarded_for=value) == first


def test_headers_in_their_order() -> None:
    proxies = Proxies([PEER], ["x-real-ip", "forwarded"])
    assert visitor(proxies, PEER, x_real_ip="1.1.1.1", forwarded="for=2.2.2.2") == "1.1.1.1"
    assert visitor(proxies, PEER, forwarded='for="[2001:db8::7]:80";proto=https') == "2001:db8::7"
    assert visitor(proxies, PEER, x_forwarded_for="3.3.3.3") == PEER


def test_forwarded() -> None:
    value = b'for=192.0.2.43;proto=http, For="[2001:db8::17]:4711" ; by=x, by=y, for=_hidden'
    assert entries("forwarded", value) == ["192.0.2.43", "[2001:db8::17]:4711", "unknown", "_hidden"]


def test_only_the_nearest_entries_are_looked_at() -> None:
    assert len(entries("x-forwarded-for", b"1.1.1.1," * 5000)) == 64


@pytest.mark.parametrize(
    ("networks", "headers", "said"), [(["10.0.0.0/40"], [], "10.0.0.0/40"), ([], ["x-nothing"], "x-nothing")]
)
def test_a_wrong_setting_is_named(networks: list[str], headers: list[str], said: str) -> None:
    with pytest.raises(ProxiesError, match=said):
        Proxies(networks, headers)


BULK = b'{"requests":["?idsite=1&rec=1"]}'


@pytest.mark.parametrize("trusted", [True, False])
def test_every_way_into_a_packet_asks(trusted: bool, tmp_path: Path) -> None:
    async def inside() -> None:
        overrides = {"collector_proxies": "127.0.0.0/8"} if trusted else {"collector_proxies": "10.0.0.0/8"}
        async with running(tmp_path, **overrides) as collector:
            head = b"Host: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n"
            get = b"GET /matomo.php?idsite=1&rec=1&a=b HTTP/1.1\r\n" + head + b"\r\n"
            client = await collector.connect()
            post = b"POST /matomo.php HTTP/1.1\r\n" + head + b"Content-Length: %d\r\n\r\n"
            for request in (get, get, post % 0, post % 14 + b"idsite=1&rec=1", post % len(BULK) + BULK):
                client.send(request)
                await client.answer()
            client.close()
            found = {str(IPv6Address(event.address).ipv4_mapped) for event in collector.delivery.events()}
            assert found == {"1.2.3.4" if trusted else "127.0.0.1"}
            assert len(collector.delivery.events()) == 4  # the empty POST is refused

    uvloop.run(inside())
