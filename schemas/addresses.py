"""Internet addresses and ranges of them, as sites' files, settings and headers write them. One grammar everywhere.

An address is 16 bytes, IPv4 as ::ffff:a.b.c.d (`packets.MAPPED_IPV4`), so an IPv4 address and its mapped form are the
same. A range is an address, a network `a.b.c.d/n`, or an address whose last parts are `*`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, inet_pton

from schemas.packets import MAPPED_IPV4

_MAPPED = int.from_bytes(MAPPED_IPV4, "big") << 32


@dataclass(frozen=True, slots=True)
class Range:
    """The addresses from `low` to `high`, as numbers of 128 bits."""

    low: int
    high: int

    def __contains__(self, address: bytes) -> bool:
        return self.low <= int.from_bytes(address, "big") <= self.high


def host(text: str) -> str:
    """The host of `host`, `host:port`, `[address]`, `[address]:port` or `address/bits`; stripped of blanks."""
    text = text.strip().partition("/")[0]
    if text.startswith("["):
        return text[1:].partition("]")[0]
    if text.count(":") == 1:
        return text.partition(":")[0]
    return text


def pack(text: str) -> bytes | None:
    """The 16 bytes of an address in any form that `host` reads; None when it is none."""
    try:
        return MAPPED_IPV4 + inet_pton(AF_INET, text)  # a bare IPv4 address, in a twentieth of the time
    except (OSError, ValueError):
        pass
    try:
        address = ip_address(host(text).partition("%")[0])
    except ValueError:
        return None
    return _number(address).to_bytes(16, "big")


def parse_range(text: str) -> Range | None:
    """A range; None when it is none."""
    address, slash, bits = text.strip().partition("/")
    stars = 0
    if "*" in address:
        mark = ":" if ":" in address else "."
        parts = address.split(mark)
        while stars < len(parts) and parts[-1 - stars] == "*":
            stars += 1
        if slash or not stars:
            return None
        address = mark.join(parts[: len(parts) - stars] + ["0"] * stars)
        bits = str(len(parts) * 8 - stars * 8 if mark == "." else 128 - stars * 16)
    elif not slash:
        bits = "32" if ":" not in address else "128"
    try:
        first = ip_address(address)
    except ValueError:
        return None
    if not (bits.isascii() and bits.isdigit() and len(bits) <= 3 and int(bits) <= first.max_prefixlen):
        return None
    size = 1 << (first.max_prefixlen - int(bits))
    low = _number(first) & ~(size - 1)
    return Range(low, low + size - 1)


def any_holds(ranges: Iterable[Range], address: bytes) -> bool:
    """Whether one of the ranges holds the address."""
    number = int.from_bytes(address, "big")
    return any(found.low <= number <= found.high for found in ranges)


def _number(address: IPv4Address | IPv6Address) -> int:
    return _MAPPED | int(address) if address.version == 4 else int(address)
