"""Python on distinct values only: a column is dictionary-encoded, and a rule runs on values not seen before.

A cache is bounded in entries, in bytes and in age: it has two generations, and when the young one is full or
has served its number of rows, it becomes the old one and the old one is dropped. Raw values are personal
data; they live in these caches, in memory, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

K = TypeVar("K", str, bytes)
V = TypeVar("V")

Codes = npt.NDArray[np.int64]

ENTRIES = 60_000  # per generation
BYTES = 16 << 20  # raw bytes per generation
AGE = 250_000  # rows served before a generation ends: what is not met within one or two of these is forgotten
_MISSING = object()


class Cache(Generic[K, V]):
    """`rule` of a value, kept while young. Not for use from several threads at once."""

    def __init__(self, rule: Callable[[K], V], *, entries: int = ENTRIES, size: int = BYTES, age: int = AGE) -> None:
        self._rule: Callable[[K], V] = rule
        self._entries, self._size, self._age = entries, size, age
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._bytes = 0
        self._served = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._bytes, self._served = {}, {}, 0, 0

    def of(self, values: Sequence[K], served: int = 0) -> list[V]:
        """The rule's results, value by value; `served`: for how many rows they stand."""
        self._served += served
        young, old = self._young, self._old
        out: list[Any] = list(map(young.get, values, repeat(_MISSING)))
        for at in [at for at, result in enumerate(out) if result is _MISSING]:
            value = values[at]
            if (result := young.get(value, _MISSING)) is _MISSING:  # `values` may hold it twice
                result = old[value] if value in old else self._rule(value)
                young[value] = result
                self._bytes += len(value)
            out[at] = result
        if len(young) >= self._entries or self._bytes >= self._size or self._served >= self._age:
            self._old, self._young, self._bytes, self._served = young, {}, 0, 0
        return out


def encode(values: pa.Array) -> tuple[list[Any], Codes]:
    """The distinct values of a column without nulls, and each row's position among them."""
    encoded = values.dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


class Texts(NamedTuple):
    """A column of texts: the distinct ones, all of them used, and each row's position among them."""

    distinct: list[str]
    codes: Codes

    @classmethod
    def of(cls, values: Iterable[str]) -> Texts:
        """The column of these values."""
        number: dict[str, int] = {}
        codes = [number.setdefault(value, len(number)) for value in values]
        return cls(list(number), np.array(codes, np.int64))

    def take(self, rows: Codes) -> Texts:
        """These rows alone."""
        return self.used(self.distinct, self.codes[rows])

    def override(self, values: Sequence[str], rows: Sequence[int]) -> Texts:
        """With these values in these rows, where a value is not blank."""
        more = [(row, value) for value, row in zip(values, rows, strict=True) if value.strip()]
        if not more:
            return self
        number = {text: at for at, text in enumerate(self.distinct)}
        codes = self.codes.copy()
        codes[[row for row, _ in more]] = [number.setdefault(value, len(number)) for _, value in more]
        return self.used(list(number), codes)

    @classmethod
    def used(cls, distinct: list[str], codes: Codes) -> Texts:
        """The column `distinct[codes]`, without texts that no row has: no rule shall see them."""
        used = np.bincount(codes, minlength=len(distinct)) > 0
        if used.all():
            return cls(distinct, codes)
        return cls([distinct[at] for at in np.flatnonzero(used).tolist()], (np.cumsum(used) - 1)[codes])


def low(texts: Sequence[str], codes: Codes) -> pa.DictionaryArray:
    """A LowCardinality column of `texts[codes]`; its dictionary holds each text once."""
    distinct = pa.array(texts, pa.string()).dictionary_encode()
    positions = distinct.indices.to_numpy()[codes] if len(texts) else np.zeros(0, np.int32)
    return pa.DictionaryArray.from_arrays(pa.array(positions), distinct.dictionary)


def plain(texts: Sequence[str], codes: Codes) -> pa.Array:
    """A String column of `texts[codes]`."""
    return pa.array(texts, pa.string()).take(pa.array(codes))
