"""Addresses: masked before anything else sees them.

Level 0 to 4 is the number of low bytes of an IPv4 address that are zeroed; of an IPv6 address 128, 64, 48, 24
or 0 leading bits are kept (Matomo, plugin PrivacyManager). At level 5 nothing is stored, and what is left of an
address is its family. IPv4 inside IPv6 is masked as IPv4: the mapped form ::ffff:a.b.c.d, which is how packets carry
IPv4; the address within 6to4 (RFC 3056), whose leading 48 bits would otherwise keep it whole; and the addresses at
the end of NAT64 (RFC 6052, 64:ff9b::/96) and of the compatible form (RFC 4291, ::/96), of which otherwise nothing would
be left. Teredo (RFC 4380) has the visitor's address at its end and a server's in front, so it needs no more than IPv6.
"""

from __future__ import annotations

import ipaddress
import struct

import numpy as np
import numpy.typing as npt

MAPPED = b"\0" * 10 + b"\xff\xff"
DROPPED = b"\0" * 10 + b"\xff\0"  # what level 5 leaves of MAPPED (Matomo)
SIX_TO_FOUR = b"\x20\x02"
NAT64 = b"\x00\x64\xff\x9b" + b"\0" * 8
COMPATIBLE = b"\0" * 12
KEPT_BITS = {0: 128, 1: 64, 2: 48, 3: 24, 4: 0, 5: 0}
DROP = 5


def mask_bytes(level: int) -> tuple[bytes, bytes, bytes, bytes]:
    """What is kept at a level, as masks of 16 bytes: IPv4-mapped, 6to4, IPv4 at the end, any other IPv6."""
    level = max(0, min(DROP, level))
    low = min(4, level)
    ipv4 = b"\xff" * (4 - low) + b"\0" * low
    bits = KEPT_BITS[level]
    ipv6 = (((1 << bits) - 1) << (128 - bits)).to_bytes(16, "big")
    six_to_four = bytes(a & b for a, b in zip(ipv6, b"\xff\xff" + ipv4 + b"\xff" * 10, strict=True))
    prefix = b"\xff" * 11 + (b"\0" if level == DROP else b"\xff")
    at_end = b"\0" * 16 if level >= 4 else b"\xff" * 12 + ipv4
    return prefix + ipv4, six_to_four, at_end, ipv6


_MASKS = [mask_bytes(level) for level in range(DROP + 1)]
_MASK_WORDS = np.array([[struct.unpack(">QQ", kept) for kept in masks] for masks in _MASKS], np.uint64)


def mask(address: bytes, level: int) -> bytes:
    """A 16-byte address at a level (beyond 5 is 5)."""
    masks = _MASKS[max(0, min(DROP, level))]
    front = address[:12]
    kept = masks[
        0 if front in (MAPPED, DROPPED) else 1 if front[:2] == SIX_TO_FOUR else 2 if front in (NAT64, COMPATIBLE) else 3
    ]
    return bytes(a & b for a, b in zip(address, kept, strict=True))


def mask_column(addresses: npt.NDArray[np.uint8], levels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Addresses of shape (n, 16), each at the level of its row, as numbers of shape (n, 2): high and low half."""
    words = np.ascontiguousarray(addresses).view(">u8").astype(np.uint64)
    high, low = words[:, 0], words[:, 1]
    kind = np.full(len(words), 3, np.int64)
    end = low >> np.uint64(32)
    kind[high >> np.uint64(48) == 0x2002] = 1
    kind[((high == 0x64FF9B << 32) | (high == 0)) & (end == 0)] = 2
    kind[(high == 0) & ((end == 0xFFFF) | (end == 0xFF00))] = 0
    words &= _MASK_WORDS[np.clip(levels, 0, DROP), kind]
    return words


def packed(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """The 16 bytes of each address, from its two halves."""
    return words.astype(">u8").view(np.uint8).reshape(-1, 16)


def text(masked: bytes) -> str:
    """How a masked 16-byte address is written: IPv4 in dots, IPv6 compressed."""
    if masked[:12] == MAPPED or masked == DROPPED + bytes(4):
        return ".".join(map(str, masked[12:]))
    return ipaddress.IPv6Address(masked).compressed


def stored(masked: bytes, level: int) -> str:
    """What is stored of an address at a level: "" where it is dropped."""
    return "" if level >= DROP else text(masked)
