"""When a partition has too many internal errors, what is stored already, and how waiting ends."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest

from streams.partitions import LEAST, WINDOW, Failures
from streams.patience import Patience, Stopping
from streams.stored import Stored, missing


def test_few_failures_are_never_too_many() -> None:
    failures = Failures()
    assert not failures.too_many(LEAST - 1, LEAST - 1)
    assert failures.too_many(LEAST, LEAST)


def test_failures_are_counted_over_the_last_events() -> None:
    failures = Failures()
    for _ in range(20):
        failures.add(WINDOW // 10, 9)
    assert not failures.too_many(WINDOW // 10, 10)
    assert failures.too_many(WINDOW // 10, 20)
    failures.add(WINDOW // 10, 10)
    assert failures.too_many(1, 20)
    for _ in range(10):
        failures.add(WINDOW // 10, 0)
    assert not failures.too_many(1, 99)


def table(*rows: tuple[int, int, int]) -> pa.Table:
    columns = np.array(rows, np.uint64).reshape(-1, 3).T
    names = (("partition", np.uint16), ("offset", np.uint64), ("index", np.uint32))
    return pa.table({name: column.astype(kind) for (name, kind), column in zip(names, columns, strict=True)})


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("events", [(0, 7, 1), (0, 8, 0), (1, 3, 0)]),
        ("rejects", [(0, 7, 0), (0, 7, 1), (1, 3, 0)]),
        ("packets", [(0, 7, 0), (0, 7, 1), (0, 8, 0), (1, 3, 0)]),
    ],
)
def test_stored_rows_are_dropped(kind: str, left: list[tuple[int, int, int]]) -> None:
    stored = {0: Stored(((2, 5), (9, 10)), {7: frozenset([0])}, {8: frozenset([0])})}
    rows = table((0, 2, 0), (0, 4, 5), (0, 7, 0), (0, 7, 1), (0, 8, 0), (0, 9, 0), (1, 3, 0))
    assert missing(rows, stored, kind).equals(table(*left))


def test_the_end_of_what_is_stored() -> None:
    assert Stored().end == 0
    assert Stored(((2, 5),)).end == 5
    assert Stored(((2, 5),), {7: frozenset([0])}).end == 8
    assert Stored((), {}, {9: frozenset([0])}).end == 10


def test_waiting_ends_with_an_answer_or_when_told_to_stop() -> None:
    stop = threading.Event()
    patience = Patience(stop)
    asked: list[str] = []

    def ask() -> int:
        asked.append(patience.waiting_for)
        if len(asked) < 3:
            raise ConnectionError
        return 5

    assert patience.insist("clickhouse", ask, OSError) == 5
    assert asked == ["", "clickhouse", "clickhouse"]
    assert patience.waiting_for == ""
    with pytest.raises(ZeroDivisionError):
        patience.insist("clickhouse", lambda: 1 // 0, OSError)
    asked.clear()
    stop.set()
    with pytest.raises(Stopping):
        patience.insist("clickhouse", ask, OSError)
    assert asked == []
