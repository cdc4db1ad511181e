"""Addresses and ranges as people write them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.addresses import any_holds, host, pack, parse_range


def packed(text: str) -> bytes:
    address = pack(text)
    assert address is not None
    return address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1", "::ffff:127.0.0.1"),
        (" 127.0.0.1:80 ", "::ffff:127.0.0.1"),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::1/128", "2001:db8::1"),
    ],
)
def test_an_address_is_16_bytes_in_whatever_form_it_comes(text: str, expected: str) -> None:
    assert packed(text) == IPv6Address(expected).packed


@pytest.mark.parametrize("text", ["", "-", "unknown", "localhost", "1.2.3", "1.2.3.4.5", "1.2.3.256", "[::1", "1:2"])
def test_what_is_no_address(text: str) -> None:
    assert pack(text) is None or text == "[::1"  # a bracket that is not closed hides nothing


@given(
    st.one_of(
        st.lists(st.sampled_from(["0", "1", "00", "07", "255", "256", "1e1", "0x1", " 1", "", "\uff11", "\0"])).map(
            ".".join
        ),
        st.text("0123456789.x \u0661", max_size=16),
        st.ip_addresses().map(str),
    )
)
@example("1.2.3.4\n")
@example("1.2.3.04")
@example("127.1")
def test_the_short_cut_for_bare_addresses_has_the_same_grammar(text: str) -> None:
    try:
        address = ip_address(host(text).partition("%")[0])
    except ValueError:
        assert pack(text) is None
        return
    number = int(address) | (0xFFFF << 32 if address.version == 4 else 0)
    assert packed(text) == number.to_bytes(16, "big")


def test_a_host_without_its_port() -> None:
    assert [host(text) for text in ("example.com:80", "www.example.com", "[::1]:80", "::1")] == [
        "example.com",
        "www.example.com",
        "::1",
        "::1",
    ]


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("192.168.1.*", "192.168.1.255", "192.168.2.0"),
        ("192.168.1.127/29", "192.168.1.120", "192.168.1.119"),
        ("2001:db8:*:*:*:*:*:*", "2001:db8:ffff::", "2001:db9::"),
        ("1::*", "1::ffff", "1::1:0"),
        ("192.168.1.10", "::ffff:192.168.1.10", "::c0a8:10a"),
        ("*.*.*.*", "255.255.255.255", "::1"),
        ("::/0", "1.2.3.4", ""),
    ],
)
def test_ranges(text: str, inside: str, outside: str) -> None:
    found = parse_range(text)
    assert found is not None
    assert packed(inside) in found
    assert any_holds([found], packed(inside))
    if outside:
        assert packed(outside) not in found
        assert not any_holds([found], packed(outside))


@pytest.mark.parametrize(
    "text", ["", "*", "1.*.1.1", "1.1.1.**", "1.1.1.1/33", "1.1.1.1/-1", "1.1.1.1/", "1.1.1.*/24", "::1/129", "::**"]
)
def test_what_is_no_range(text: str) -> None:
    assert parse_range(text) is None


@given(st.ip_addresses(), st.data())
def test_networks_are_those_of_the_standard_library(address: IPv4Address | IPv6Address, data: st.DataObject) -> None:
    bits = data.draw(st.integers(0, address.max_prefixlen))
    network = ip_network(f"{address}/{bits}", strict=False)
    found = parse_range(f"{address}/{bits}")
    assert found is not None
    for other in (network[0], network[-1]):
        assert packed(str(other)) in found
    for beyond in (int(network[0]) - 1, int(network[-1]) + 1):
        if 0 <= beyond < 1 << address.max_prefixlen:
            assert packed(str(type(ip_address(str(address)))(beyond))) not in found
