"""Routing: stable for ever, and even."""

from __future__ import annotations

from collections import Counter

from schemas.packets import MAPPED_IPV4
from schemas.routing import partition_of, shard_of


def test_partitions_are_what_they_have_always_been() -> None:
    """Stored events lie by these numbers: a change here tears every site's order apart."""
    assert [partition_of(site, 0, 8) for site in range(1, 9)] == [7, 1, 1, 3, 3, 2, 1, 0]
    assert [partition_of(1, shard, 8) for shard in range(4)] == [7, 7, 1, 0]


def test_sites_are_spread() -> None:
    counts = Counter(partition_of(site, 0, 16) for site in range(1, 16_001))
    assert len(counts) == 16
    assert max(counts.values()) < 1_200


def address(*numbers: int) -> bytes:
    return MAPPED_IPV4 + bytes(numbers)


def test_shards_are_what_they_have_always_been() -> None:
    assert [shard_of(1, address(198, 51, n, 7), "Firefox", "de", 8) for n in range(3)] == [7] * 3
    assert [shard_of(site, address(198, 51, 100, 7), "Firefox", "de", 1) for site in range(5)] == [0] * 5


def test_a_visitor_keeps_its_shard_within_a_network() -> None:
    home = shard_of(1, address(198, 51, 100, 7), "Firefox", "de", 1024)
    assert shard_of(1, address(198, 51, 3, 4), "Firefox", "de", 1024) == home
    six = bytes.fromhex("20010db8000100020003000400050006")
    assert shard_of(1, six, "", "", 1024) == shard_of(1, six[:6] + bytes(10), "", "", 1024)
    others = [
        shard_of(1, address(198, 52, 100, 7), "Firefox", "de", 1024),
        shard_of(1, address(198, 51, 100, 7), "Firefox", "en", 1024),
        shard_of(1, address(198, 51, 100, 7), "Chrome", "de", 1024),
        shard_of(2, address(198, 51, 100, 7), "Firefox", "de", 1024),
        shard_of(1, address(198, 51, 100, 7), "Firefo", "xde", 1024),
        shard_of(1, six, "", "", 1024),
        shard_of(1, six[:5] + bytes(11), "", "", 1024),
    ]
    assert home not in others
    assert len(set(others)) == len(others)


def test_visitors_are_spread_over_the_shards() -> None:
    counts = Counter(shard_of(1, address(a, b, 0, 1), f"agent {b % 7}", "de", 8) for a in range(40) for b in range(100))
    assert sorted(counts) == list(range(8))
    assert max(counts.values()) < 600
