"""Which partition of `events.raw` an event belongs to: a hash of (site, shard), so a site keeps its order."""

from __future__ import annotations

import struct
from functools import lru_cache

import xxhash

ROUTING_VERSION = 1
UNKNOWN_SITE = 0  # all unknown sites are one bucket


@lru_cache(maxsize=65_536)
def partition_of(site: int, shard: int, partitions: int) -> int:
    """The partition, in [0, partitions), of a shard of a site.

    `partitions` is the count of the topic definition, not what the broker reports: records must not move
    because somebody added partitions behind our back.
    """
    return xxhash.xxh3_64_intdigest(struct.pack("<QH", site, shard)) % partitions
