"""Query strings as columns: Arrow splits them, and a parameter is asked for by name.

The grammar is that of `schemas.parameters`, and every path gives the same result for a value whatever its
neighbours are: a fast path is taken for a whole column only where it cannot differ from the scalar rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas import parameters
from streams.anonymize import custom, recordings
from streams.distinct import encode

Rows = npt.NDArray[np.int64]
Integers = npt.NDArray[np.int64]

_RECORDED, _TOLD, _DIMENSION = -1, -2, 255
_NO_TEXTS = pa.array([], pa.string())
_NO_ROWS: Rows = np.zeros(0, np.int64)


def _digits_only(values: pa.StringArray) -> bool:
    data, _, _ = text_bytes(values)
    return bool((((data >= 48) & (data <= 57)) | (data == 45)).all())


def text_bytes(values: pa.StringArray) -> tuple[npt.NDArray[np.uint8], Rows, Rows]:
    """The bytes of a column of texts, and where each text starts and how long it is."""
    _, offsets, data = values.buffers()
    bounds = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    if data is None or len(bounds) < 2:
        return np.zeros(0, np.uint8), np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
    used = np.frombuffer(data, np.uint8)[bounds[0] : bounds[-1]]
    return used, bounds[:-1] - bounds[0], np.diff(bounds)


class Query:
    """The parameters, known by `names`, of `n` query strings."""

    def __init__(self, queries: pa.StringArray, names: Mapping[str, int]) -> None:
        """`names`: decoded names that will be asked for, numbered from 1; at most 254."""
        self.n = len(queries)
        self._names = names
        parts = pc.split_pattern(queries, "&")
        row = np.repeat(np.arange(self.n), np.diff(parts.offsets.to_numpy()))
        pairs = pc.split_pattern(parts.flatten(), "=", max_splits=1)
        start = pairs.offsets.to_numpy()
        flat = pairs.flatten()
        distinct, name = encode(flat.take(pa.array(start[:-1])))
        number = [self._number(text) for text in distinct]
        code = np.array(number, np.int64)[name] if number else np.zeros(0, np.int64)
        recorded = code < 0
        self._recorded = np.bincount(row[recorded], minlength=self.n) if recorded.any() else None
        self._told = row[code == _TOLD] if _TOLD in number else _NO_ROWS
        code[recorded] = 0
        # a name without "=" has the empty value, which stands behind all the others
        bare = np.diff(start) == 1
        value = start[:-1] + 1
        if bare.any():
            value = np.where(bare, len(flat), value)
            flat = pa.concat_arrays([flat, pa.array([""])])
        self._flat = flat
        # everything below lies in the order of the names' numbers, and of the rows within
        order = np.argsort(code.astype(np.uint8), kind="stable")
        self._code, self._row, self._value = code[order], row[order], value[order]
        self._distinct, self._name = distinct, name[order]
        self._index()

    def _index(self) -> None:
        self._bounds = np.searchsorted(self._code, np.arange(len(self._names) + 2)).tolist()

    def _number(self, raw: str) -> int:
        name = parameters.decode(raw)
        if name.startswith("dimension") and custom.dimension_name(name):
            return _DIMENSION
        if recordings.recorded(name):
            return _TOLD if name in recordings.TOLD else _RECORDED
        return self._names.get(name, 0)

    def keep(self, rows: Rows) -> None:
        """Go on with these rows only; they are numbered anew from 0."""
        position = np.full(self.n, -1, np.int64)
        position[rows] = np.arange(len(rows))
        if self._recorded is not None:
            self._recorded = self._recorded[rows]
        self.n = len(rows)
        row = position[self._row]
        here = row >= 0
        self._code, self._row, self._value, self._name = (
            self._code[here],
            row[here],
            self._value[here],
            self._name[here],
        )
        self._index()

    def recorded(self) -> Integers:
        """How many parameters of recordings and forms each row had; nothing else of them is left."""
        return np.zeros(self.n, np.int64) if self._recorded is None else self._recorded

    def tells(self) -> npt.NDArray[np.bool_]:
        """Where a recording or a heatmap tells of actions; asked before `keep`."""
        out = np.zeros(self.n, np.bool_)
        out[self._told] = True
        return out

    def values(self, name: str) -> tuple[pa.StringArray, Rows]:
        """The raw values of a parameter and their rows, rising; of duplicates the last."""
        number = self._names[name]
        first, after = self._bounds[number : number + 2]
        if first == after:
            return _NO_TEXTS, _NO_ROWS
        rows, values = self._row[first:after], self._value[first:after]
        if len(rows) > 1:
            last = np.append(rows[1:] != rows[:-1], True)
            if not last.all():
                rows, values = rows[last], values[last]
        return self._flat.take(pa.array(values)), rows

    def given(self, name: str) -> bool:
        """Whether any row may have the parameter."""
        number = self._names[name]
        first, after = self._bounds[number : number + 2]
        return bool(first < after)

    def filled(self, name: str) -> npt.NDArray[np.bool_]:
        """Where the parameter is given and not empty."""
        values, rows = self.values(name)
        out = np.zeros(self.n, np.bool_)
        if len(rows):
            out[rows] = pc.binary_length(values).to_numpy() > 0
        return out

    def texts(self, name: str) -> tuple[list[str], list[int]]:
        """Decoded values and their rows, for a parameter that few rows have."""
        values, rows = self.values(name)
        return [parameters.decode(text) for text in values.to_pylist()], rows.tolist()

    def dimensions(self) -> dict[int, dict[int, str]]:
        """By row, the decoded values of custom dimensions by slot; of duplicates the last."""
        out: dict[int, dict[int, str]] = {}
        first = self._bounds[-1]
        if first == len(self._row):
            return out
        values = self._flat.take(pa.array(self._value[first:])).to_pylist()
        for row, name, text in zip(self._row[first:].tolist(), self._name[first:].tolist(), values, strict=True):
            found = custom.dimension_name(parameters.decode(self._distinct[name]))
            if found:
                out.setdefault(row, {})[int(found[1])] = parameters.decode(text)
        return out

    def full(self, name: str) -> pa.StringArray:
        """The raw value of every row, "" where it is missing."""
        values, rows = self.values(name)
        if len(rows) == self.n:
            return values
        position = np.full(self.n, len(rows), np.int64)
        position[rows] = np.arange(len(rows))
        return pa.concat_arrays([values, pa.array([""])]).take(pa.array(position))

    def each(self, name: str, rule: Callable[[str], Any], default: Any, dtype: Any) -> npt.NDArray[Any]:
        """`rule` of the decoded value, run once per distinct raw value; `default` where it is missing."""
        values, rows = self.values(name)
        out = np.full(self.n, default, dtype)
        if len(rows):
            distinct, codes = encode(values)
            out[rows] = np.array([rule(parameters.decode(text)) for text in distinct], dtype)[codes]
        return out

    def integers(
        self, name: str, default: int = 0, low: int = parameters.INT32[0], high: int = parameters.INT32[1]
    ) -> Integers:
        """`parameters.integer` of every row."""
        values, rows = self.values(name)
        out = np.full(self.n, default, np.int64)
        if len(rows):
            try:
                if not _digits_only(values):  # Arrow reads 0x1F, the grammar does not
                    raise pa.ArrowInvalid
                out[rows] = np.clip(values.cast(pa.int64()).to_numpy(), low, high)
            except pa.ArrowInvalid:
                distinct, codes = encode(values)
                numbers = [parameters.integer(parameters.decode(text), default, low, high) for text in distinct]
                out[rows] = np.array(numbers, np.int64)[codes]
        return out

    def decimals(self, name: str) -> npt.NDArray[np.float64]:
        """`parameters.decimal` of every row."""
        return self.each(name, parameters.decimal, 0.0, np.float64)

    def is_one(self, name: str) -> npt.NDArray[np.bool_]:
        """Where the parameter is the integer 1."""
        values, rows = self.values(name)
        data, _, lengths = text_bytes(values)
        if (lengths == 1).all():
            out = np.zeros(self.n, np.bool_)
            out[rows] = data == ord("1")
            return out
        return self.each(name, lambda text: parameters.integer(text) == 1, False, np.bool_)
