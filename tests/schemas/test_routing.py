"""Routing: stable for ever, and even."""

from __future__ import annotations

from collections import Counter

from schemas.routing import partition_of


def test_partitions_are_what_they_have_always_been() -> None:
    """Stored events lie by these numbers: a change here tears every site's order apart."""
    assert [partition_of(site, 0, 8) for site in range(1, 9)] == [7, 1, 1, 3, 3, 2, 1, 0]
    assert [partition_of(1, shard, 8) for shard in range(4)] == [7, 7, 1, 0]


def test_sites_are_spread() -> None:
    counts = Counter(partition_of(site, 0, 16) for site in range(1, 16_001))
    assert len(counts) == 16
    assert max(counts.values()) < 1_200
