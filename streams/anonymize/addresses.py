"""Addresses: masked before anything else sees them.

Level 0 to 4 is the number of low bytes of an IPv4 address that are zeroed; of an IPv6 address 128, 64, 48, 24
or 0 leading bits are kept (Matomo, plugin PrivacyManager). IPv4 inside IPv6 is masked as IPv4: the mapped form
::ffff:a.b.c.d, which is how packets carry IPv4, and the address within 6to4 (RFC 3056), whose leading 48 bits
would otherwise keep it whole.
"""

from __future__ import annotations

import ipaddress
import struct

import numpy as np
import numpy.typing as npt

MAPPED = b"\0" * 10 + b"\xff\xff"
SIX_TO_FOUR = b"\x20\x02"
KEPT_BITS = {0: 128, 1: 64, 2: 48, 3: 24, 4: 0}


def mask_bytes(level: int) -> tuple[bytes, bytes, bytes]:
    """What is kept at a level, as three masks of 16 bytes: IPv4-mapped, 6to4, any other IPv6."""
    level = max(0, min(4, level))
    ipv4 = b"\xff" * (4 - level) + b"\0" * level
    bits = KEPT_BITS[level]
    ipv6 = (((1 << bits) - 1) << (128 - bits)).to_bytes(16, "big")
    six_to_four = bytes(a & b for a, b in zip(ipv6, b"\xff\xff" + ipv4 + b"\xff" * 10, strict=True))
    return b"\xff" * 12 + ipv4, six_to_four, ipv6


_MASKS = [mask_bytes(level) for level in range(5)]
_MASK_WORDS = np.array([[struct.unpack(">QQ", kept) for kept in masks] for masks in _MASKS], np.uint64)


def mask(address: bytes, level: int) -> bytes:
    """A 16-byte address at a level (beyond 4 is 4)."""
    masks = _MASKS[max(0, min(4, level))]
    kept = masks[0 if address[:12] == MAPPED else 1 if address[:2] == SIX_TO_FOUR else 2]
    return bytes(a & b for a, b in zip(address, kept, strict=True))


def mask_column(addresses: npt.NDArray[np.uint8], levels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Addresses of shape (n, 16), each at the level of its row, as numbers of shape (n, 2): high and low half."""
    words = np.ascontiguousarray(addresses).view(">u8").astype(np.uint64)
    high, low = words[:, 0], words[:, 1]
    kind = np.full(len(words), 2, np.int64)
    kind[high >> np.uint64(48) == 0x2002] = 1
    kind[(high == 0) & (low >> np.uint64(32) == 0xFFFF)] = 0
    words &= _MASK_WORDS[np.clip(levels, 0, 4), kind]
    return words


def packed(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
    """The 16 bytes of each address, from its two halves."""
    return words.astype(">u8").view(np.uint8).reshape(-1, 16)


def text(masked: bytes) -> str:
    """How a masked 16-byte address is written: IPv4 in dots, IPv6 compressed."""
    if masked[:12] == MAPPED:
        return ".".join(map(str, masked[12:]))
    return ipaddress.IPv6Address(masked).compressed
