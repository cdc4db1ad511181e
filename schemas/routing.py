"""Which partition of `events.raw` an event belongs to: a hash of (site, shard), so a site keeps its order.

A site has one shard unless its file says more. Its visitors are then dealt over the shards by what of them is known
from the first request on, so that the events of a visit lie together as long as it keeps network and browser.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import xxhash

from schemas.packets import MAPPED_IPV4

ROUTING_VERSION = 1
UNKNOWN_SITE = 0  # all unknown sites are one bucket
NETWORK_IPV4, NETWORK_IPV6 = 14, 6  # bytes of a 16-byte address that name its network: a.b.*.*, a:b:c::/48


@lru_cache(maxsize=65_536)
def partition_of(site: int, shard: int, partitions: int) -> int:
    """The partition, in [0, partitions), of a shard of a site.

    `partitions` is the count of the topic definition, not what the broker reports: records must not move
    because somebody added partitions behind our back.
    """
    return xxhash.xxh3_64_intdigest(struct.pack("<QH", site, shard)) % partitions


def shard_of(site: int, address: bytes, agent: str, language: str, shards: int) -> int:
    """The shard, in [0, shards), of a visitor: a hash, keyed by the site, of the network, agent and language.

    `address`: 16 bytes. Only its network counts, as in what is stored by default.
    """
    network = address[: NETWORK_IPV4 if address.startswith(MAPPED_IPV4) else NETWORK_IPV6]
    text = b"%s\0%s\0%s" % (network, agent.encode("utf-8", "replace"), language.encode("utf-8", "replace"))
    return xxhash.xxh3_64_intdigest(text, site) % shards
