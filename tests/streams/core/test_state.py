from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.state import HELD_MS, PartitionState, Sequences


@given(st.lists(st.integers(0, 40)))
def test_sequences_are_a_set(numbers: list[int]) -> None:
    found = Sequences()
    for number in numbers:
        found.add(number)
    assert [number for number in range(-1, 42) if number in found] == sorted(set(numbers))
    assert found == Sequences((number, number) for number in numbers)
    ranges = list(found)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))
    copy = found.copy()
    copy.add(99)
    assert 99 not in found


def test_ranges_are_joined() -> None:
    assert list(Sequences([(5, 9), (0, 3), (4, 4), (8, 12), (20, 20)])) == [(0, 12), (20, 20)]


def visit(id: int, last: int, place: int, *, visitor: int = 0, user: int = 0, config: int = 9) -> tuple[object, ...]:
    return (id, last, last, 1, 1, "", visitor, user, config, 1, place, 0)


def test_of_visits_with_one_configuration_the_one_that_acted_last_is_found() -> None:
    now = 10 * HELD_MS
    rows = [visit(1, now, 5), visit(2, now - 1, 9), visit(3, now, 7), visit(4, now - HELD_MS, 8, config=8)]
    for given_rows in (rows, rows[::-1]):
        state = PartitionState.from_rows(now, given_rows, [])
        assert {key: found[0] for key, found in state.open().items()} == {9: 3}


def test_equality() -> None:
    def make(**more: int) -> PartitionState:
        return PartitionState.from_rows(100, [visit(1, 90, 1, **more)], [(7, 0, 3)])

    assert make() == make()
    assert make() != make(visitor=3)
    assert make() != PartitionState.from_rows(101, [visit(1, 90, 1)], [(7, 0, 3)])
    assert make() != PartitionState.from_rows(100, [visit(1, 90, 1)], [(7, 0, 2)])
    assert make() != PartitionState.from_rows(100, [], [(7, 0, 3)])
    with pytest.raises(TypeError):
        hash(make())


def test_closed_visits_are_swept_out() -> None:
    state = PartitionState()
    for minute in range(300):
        state.watermark_ms = minute * 60_000
        for n in range(100):
            key = minute * 1000 + n + 1
            state.index[key] = (key, 0, state.watermark_ms, 1, 1, "", 0, 0, key)
        before = state.open()
        state.sweep()
        assert state.open() == before
        assert len(state.index) < 2 * 3_300 + 1_200
