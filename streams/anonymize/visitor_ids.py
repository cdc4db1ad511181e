"""Visitor ids: the id of the first-party cookie (`_id`), the forced id (`cid`), and the fingerprint.

None is ever stored as it came. Each holds a visit together as a hash keyed by the site's key of the day, which means
nothing the day after; a policy that keeps ids stores a hash by the site's permanent key beside it.

Matomo: `_id` is hex, 16 digits or more, of which the first 16 count, anything else is no id; `cid` must be
exactly 16 hex digits, anything else is an error of the request; `cid` goes before `_id`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import xxhash

from streams.keyed import Kind, hash_words

_leading_hex = re.compile(r"[0-9a-fA-F]{16}").match
_exact_hex = re.compile(r"[0-9a-fA-F]{16}").fullmatch

_DIGIT = np.full(256, 255, np.uint8)
for _value, _char in enumerate(b"0123456789abcdef"):
    _DIGIT[_char] = _value
    _DIGIT[ord(chr(_char).upper())] = _value


def forced(text: str) -> int | None:
    """The number of a `cid`, None where it is malformed."""
    return int(text, 16) if _exact_hex(text) else None


def cookie(text: str) -> int | None:
    """The number of an `_id`, None where there is none."""
    found = _leading_hex(text)
    return int(found[0], 16) if found else None


def named(parameters: Mapping[str, str], cookieless: bool = False) -> int | None:
    """The number of the request's visitor id, None where it names none."""
    number = forced(parameters.get("cid", ""))
    if number is None and not cookieless:
        number = cookie(parameters.get("_id", ""))
    return number


def visitor_hash(key: bytes, number: int | None) -> int:
    """The keyed hash of a visitor id, 0 where there is none."""
    return 0 if number is None else hash_words(key, Kind.VISITOR, number)


def fingerprint_word(text: str) -> int:
    """One text of the fingerprint (device, language) as a word of the message; not secret by itself."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "replace"))


def config_hash(key: bytes, masked: bytes, device: str, language: str, plugins: int | None = None) -> int:
    """The config id: a day-keyed hash of the masked address, the device's families and the language.

    `plugins`: bits that count too where the policy asks for a fine fingerprint.
    """
    high, low = int.from_bytes(masked[:8], "big"), int.from_bytes(masked[8:], "big")
    more = () if plugins is None else (plugins,)
    return hash_words(key, Kind.CONFIG, high, low, fingerprint_word(device), fingerprint_word(language), *more)


def cookie_column(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
    """Numbers of `_id` values that lie in `data` without escapes, and which rows have one.

    `starts` and `lengths`: where each value lies, in bytes.
    """
    numbers = np.zeros(len(starts), np.uint64)
    good = lengths >= 16
    rows = np.flatnonzero(good)
    if len(rows):
        digits = _DIGIT[data[starts[rows][:, None] + np.arange(16)]]
        whole = (digits < 16).all(axis=1)
        pairs = (digits[:, 0::2] << np.uint8(4)) | (digits[:, 1::2] & np.uint8(15))
        numbers[rows] = np.ascontiguousarray(pairs).view(">u8").ravel()
        numbers[rows[~whole]] = 0
        good[rows] = whole
    return numbers, good
