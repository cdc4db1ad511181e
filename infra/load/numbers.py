"""The unique number of every event: it travels as `pv_id`, six characters of base62, and comes back in the rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LENGTH = 6
LIMIT = 62**LENGTH
PROBES = LIMIT // 2  # numbers from here on are those of probes (`infra.load.visible`), below it those of traffic

_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]
_DIGITS = np.full(256, -1, np.int64)
_DIGITS[np.frombuffer(ALPHABET.encode(), np.uint8)] = np.arange(62)


def page_view_id(number: int) -> str:
    """The six characters of a number in [0, LIMIT)."""
    return _PAIRS[number // 14_776_336] + _PAIRS[number // 3_844 % 3_844] + _PAIRS[number % 3_844]


def numbers(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The numbers of ids given as an array of bytes of shape (n, 6); -1 where one is not base62."""
    digits = _DIGITS[ids]
    values = digits @ (62 ** np.arange(LENGTH - 1, -1, -1, dtype=np.int64))
    values[(digits < 0).any(axis=1)] = -1
    return values
