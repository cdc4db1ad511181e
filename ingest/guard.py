"""How much one client or one site may send: token buckets of bounded memory, and the reasons why requests are refused.

A bucket is kept as one number, the time at which it will be full again (the generic cell rate algorithm): taking n
events moves that time on by n / rate, and is refused where it would then lie further ahead than burst / rate.

Addresses have no entry of their own. A keyed hash of the address (of an IPv6 address its /64, which is what one client
holds) chooses one place in each of four rows, and the least of the four counts. So the table has a fixed size, holds
nothing that tells who was here, and who chooses addresses cannot choose places. Two addresses would have to meet in all
four rows for one to be refused for the other's requests.
"""

from __future__ import annotations

import secrets
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from struct import Struct
from time import monotonic

from schemas.packets import MAPPED_IPV4
from schemas.sites import Limit

ROWS = 4
PLACES = 1 << 16  # of a row; 8 bytes each

_places = Struct(f"<{ROWS}H").unpack


class Turned(StrEnum):
    """Why a request or a connection was turned away, whatever it said."""

    BAD_HTTP = "bad_http"  # no HTTP/1.1 that is understood here
    LONG_HEAD = "long_head"
    LONG_BODY = "long_body"
    LONG_BULK = "long_bulk"  # too many items
    SLOW = "slow"  # the request did not arrive in time
    UNREAD = "unread"  # the client did not read its answers
    CONNECTIONS = "connections"  # of all clients
    ADDRESS_CONNECTIONS = "address_connections"
    ADDRESS_RATE = "address_rate"
    SITE_RATE = "site_rate"
    MEMORY = "memory"  # too many events wait to be stored


@dataclass(frozen=True, slots=True)
class Late:
    """Too much was sent. `seconds`: after which the same would be taken."""

    reason: Turned
    seconds: float


class Addresses:
    """The buckets of all addresses."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._key = secrets.token_bytes(16)
        self._rows = [array("d", bytes(8 * PLACES)) for _ in range(ROWS)]

    def wait(self, address: bytes, events: int, now: float) -> float:
        """Seconds until that many events would be taken; 0 when they are now. address: 16 bytes."""
        full = min(row[place] for row, place in zip(self._rows, self._of(address), strict=True))
        return self.limit.wait(full, events, now)

    def take(self, address: bytes, events: int, now: float) -> None:
        """Takes them."""
        places = self._of(address)
        full = self.limit.after(min(row[place] for row, place in zip(self._rows, places, strict=True)), events, now)
        for row, place in zip(self._rows, places, strict=True):
            row[place] = max(row[place], full)

    def _of(self, address: bytes) -> tuple[int, ...]:
        text = address if address.startswith(MAPPED_IPV4) else address[:8]
        return _places(blake2b(text, digest_size=2 * ROWS, key=self._key).digest())


class Rates:
    """The limits in force. `addresses`: None where there is no limit of addresses."""

    def __init__(self, address: Limit | None = None) -> None:
        self.addresses = Addresses(address) if address is not None else None
        self.turned: Counter[Turned] = Counter()
        self._limits: Mapping[int, Limit] = {}
        self._sites: dict[int, float] = {}

    def adopt(self, limits: Mapping[int, Limit]) -> None:
        """The limits of sites as they are from now on."""
        self._limits = limits
        self._sites = {site: full for site, full in self._sites.items() if site in limits}

    @property
    def sites(self) -> bool:
        """Whether any site has a limit."""
        return bool(self._limits)

    def __bool__(self) -> bool:
        return self.addresses is not None or bool(self._limits)

    def take(self, address: bytes, sites: Iterable[int], now: float | None = None) -> Late | None:
        """Takes all events, given by their sites, or none: then says why.

        More events than a burst pass when their bucket is full, or they could never pass.
        """
        now = monotonic() if now is None else now
        counts = Counter(sites)
        total = sum(counts.values())
        if self.addresses is not None and (seconds := self.addresses.wait(address, total, now)) > 0:
            return self._late(Turned.ADDRESS_RATE, seconds)
        limited = [(site, count, limit) for site, count in counts.items() if (limit := self._limits.get(site))]
        for site, count, limit in limited:
            if (seconds := limit.wait(self._sites.get(site, 0.0), count, now)) > 0:
                return self._late(Turned.SITE_RATE, seconds)
        for site, count, limit in limited:
            self._sites[site] = limit.after(self._sites.get(site, 0.0), count, now)
        if self.addresses is not None and total:
            self.addresses.take(address, total, now)
        return None

    def spent(self, address: bytes) -> Late | None:
        """Whether this address has nothing left, before anything of a request is read."""
        if self.addresses is None or (seconds := self.addresses.wait(address, 1, monotonic())) <= 0:
            return None
        return self._late(Turned.ADDRESS_RATE, seconds)

    def _late(self, reason: Turned, seconds: float) -> Late:
        self.turned[reason] += 1
        return Late(reason, seconds)
