"""Location: whatever tells a place on earth sees the masked address only.

A location that the request names itself (`country`, `region`, `city`, `lat`, `long`) is finer than the masked
address and is dropped by the default policy.
"""

from __future__ import annotations

DROPPED = frozenset({"country", "region", "city", "lat", "long"})


def visible(masked: bytes, level: int) -> bytes | None:
    """What location enrichment may see of an address: the masked one, None where nothing of it is left."""
    return None if level >= 4 else masked
