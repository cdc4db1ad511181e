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


def each(rule: Callable[[K], V]) -> Callable[[Sequence[K]], list[V]]:
    """The rule for several values that a rule for one of them makes."""
    return lambda values: [rule(value) for value in values]


class Cache(Generic[K, V]):
    """Results of a rule, kept while young. Not for use from several threads at once.

    rule: the results of several distinct values; what it makes of one doesn't depend on the others.
    """

    def __init__(
        self,
        rule: Callable[[Sequence[K]], Sequence[V]],
        *,
        entries: int = ENTRIES,
        size: int = BYTES,
        age: int = AGE,
    ) -> None:
        self._rule: Callable[[Sequence[K]], Sequence[V]] = rule
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
        missing = [at for at, result in enumerate(out) if result is _MISSING]
        if missing:
            new = []
            for value in dict.fromkeys([values[at] for at in missing]):
                if value in old:
                    self._keep(value, old[value])
                else:
                    new.append(value)
            self._make(new)
            for at in missing:
                out[at] = young[values[at]]
        if len(young) >= self._entries or self._bytes >= self._size or self._served >= self._age:
            self._old, self._young, self._bytes, self._served = young, {}, 0, 0
        return out

    def _make(self, new: Sequence[K]) -> None:
        try:
            made = self._rule(new) if new else ()
        except Exception:  # the fault of one of them, which raises again: those before it are kept
            for value in new:
                self._keep(value, self._rule([value])[0])
            return
        for value, result in zip(new, made, strict=True):
            self._keep(value, result)

    def _keep(self, value: K, result: V) -> None:
        self._young[value] = result
        self._bytes += len(value)


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
        texts = list(values)
        distinct = list(dict.fromkeys(texts))
        number = {text: at for at, text in enumerate(distinct)}
        return cls(distinct, np.fromiter(map(number.__getitem__, texts), np.int64, len(texts)))

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
