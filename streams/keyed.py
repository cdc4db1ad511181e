"""Keyed 64-bit hashes (SipHash-2-4): every id that is stored is one of these, under a key of the site's day,
or, where its policy keeps ids, under the site's permanent key.

A value and a whole column give the same hash: a message is a row of 64-bit words, the first of which says what
kind of thing is hashed, so that equal bytes of two kinds never meet. A hash is never 0, which means "none".
"""

from __future__ import annotations

import hashlib
import struct
from datetime import date
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from siphash24 import siphash24

U64 = npt.NDArray[np.uint64]
MASK = 2**64 - 1


class Kind(IntEnum):
    """What is hashed; the numbers are part of every stored id."""

    VISITOR = 1
    USER = 2
    ORDER = 3
    CONFIG = 4
    VISIT = 5
    REPEAT = 6
    REQUEST = 7
    DIMENSION = 8
    VARIABLE = 9
    AGAIN = 10  # of an id that was stored, when the past is made anonymous
    RECORDING = 11  # a session of a recorder
    PAGE_VIEW = 12
    PLAYING = 13  # of a medium


def site_day_key(secret: bytes, site: int) -> bytes:
    """The 16-byte key of a site on the date whose secret this is; keys of two sites tell nothing of each other."""
    return hashlib.blake2b(struct.pack("<I", site), digest_size=16, key=secret).digest()


def import_secret(secret: bytes, day: date) -> bytes:
    """The secret of a date for what is imported long after it; it dies with `secret`, that of the import's day."""
    return hashlib.blake2b(day.isoformat().encode(), digest_size=32, key=secret, person=b"import").digest()


def site_key(secret: bytes, site: int) -> bytes:
    """The 16-byte permanent key of a site, from its secret in the vault."""
    return hashlib.blake2b(struct.pack("<I", site), digest_size=16, key=secret, person=b"site").digest()


def hash_words(key: bytes, kind: Kind, *words: int) -> int:
    """The hash of a row of 64-bit words; equal to `hash_columns` of one row."""
    data = struct.pack(f"<{len(words) + 1}Q", kind, *words)
    return int(siphash24(data, key=key).intdigest()) & MASK or 1  # the digest is a signed number


def hash_text(key: bytes, kind: Kind, text: str) -> int:
    """The hash of a text as UTF-8."""
    data = struct.pack("<Q", kind) + text.encode("utf-8", "replace")
    return int(siphash24(data, key=key).intdigest()) & MASK or 1


def key_words(key: bytes) -> tuple[int, int]:
    """The two 64-bit halves of a key, as `hash_columns` takes them."""
    k0, k1 = struct.unpack("<QQ", key)
    return k0, k1


def _rotate(x: U64, bits: int, spare: U64) -> None:
    np.right_shift(x, np.uint64(64 - bits), out=spare)
    np.left_shift(x, np.uint64(bits), out=x)
    np.bitwise_or(x, spare, out=x)


def _round(v0: U64, v1: U64, v2: U64, v3: U64, spare: U64) -> None:
    v0 += v1
    _rotate(v1, 13, spare)
    v1 ^= v0
    _rotate(v0, 32, spare)
    v2 += v3
    _rotate(v3, 16, spare)
    v3 ^= v2
    v0 += v3
    _rotate(v3, 21, spare)
    v3 ^= v0
    v2 += v1
    _rotate(v1, 17, spare)
    v1 ^= v2
    _rotate(v2, 32, spare)


def hash_columns(k0: U64, k1: U64, kind: Kind, *words: U64) -> U64:
    """SipHash-2-4 of one message per row under the row's own key; arithmetic is modulo 2^64 and in place."""
    length = np.uint64((8 * (len(words) + 1)) % 256 << 56)
    v0 = k0 ^ np.uint64(0x736F6D6570736575)
    v1 = k1 ^ np.uint64(0x646F72616E646F6D)
    v2 = k0 ^ np.uint64(0x6C7967656E657261)
    v3 = k1 ^ np.uint64(0x7465646279746573)
    spare = np.empty_like(v0)
    message: tuple[U64 | np.uint64, ...] = (np.uint64(kind), *words, length)
    for word in message:
        np.bitwise_xor(v3, word, out=v3)
        for _ in range(2):
            _round(v0, v1, v2, v3, spare)
        np.bitwise_xor(v0, word, out=v0)
    v2 ^= np.uint64(0xFF)
    for _ in range(4):
        _round(v0, v1, v2, v3, spare)
    v0 ^= v1
    v0 ^= v2
    v0 ^= v3
    v0[v0 == 0] = 1
    return v0
