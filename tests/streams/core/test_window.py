"""The window holds what was added and finds it, against a plain list."""

from __future__ import annotations

import random

import numpy as np
import pytest

from streams.window import BLOCK_MS, Run, Window


def columns(rows: list[tuple[int, int, int]]) -> Run:
    high, low, at = ([row[n] for row in rows] for n in range(3))
    return Run(np.array(high, np.uint64), np.array(low, np.uint64), np.array(at, np.int64))


@pytest.mark.parametrize("seed", range(5))
def test_it_finds_what_a_list_would_find(seed: int) -> None:
    draw = random.Random(seed)
    now, since = 10 * BLOCK_MS, 0
    window = Window()
    held: list[tuple[int, int, int]] = []
    for _ in range(60):
        now += draw.randrange(BLOCK_MS // 4)
        since = max(since, now - 3 * BLOCK_MS)
        window.leave(since)
        held = [row for row in held if row[2] > since]
        added = [
            (draw.randrange(1, 40), draw.randrange(3), now - draw.randrange(4 * BLOCK_MS))
            for _ in range(draw.randrange(30))
        ]
        window.add(*columns(added))
        held += [row for row in added if row[2] > since]
        assert window == Window.of(since, *columns(draw.sample(held, len(held))))
        asked = [(draw.randrange(1, 40), draw.randrange(3), now - draw.randrange(BLOCK_MS)) for _ in range(20)]
        found = window.find(*columns(asked), np.full(len(asked), BLOCK_MS))
        expected = [any(row[:2] == one[:2] and abs(row[2] - one[2]) <= BLOCK_MS for row in held) for one in asked]
        assert found.tolist() == expected
    assert len(window) < 4 * 60 * 30


def test_windows_differ_by_what_they_hold_and_by_where_they_begin() -> None:
    rows = columns([(1, 2, 30), (4, 5, 60)])
    window = Window.of(20, *rows)
    assert window == Window.of(20, *Run._make(column[::-1] for column in rows))
    assert window != Window.of(21, *rows)
    assert window != Window.of(20, *Run._make(column[:1] for column in rows))
    assert window != Window.of(20, rows.high, rows.low + np.uint64(1), rows.at)
    with pytest.raises(TypeError):
        hash(window)


def test_memory_is_bounded_by_what_is_in_the_window() -> None:
    window = Window()
    draw = np.random.default_rng(1)
    for minute in range(300):
        now = minute * 60_000
        window.leave(now - 17 * 60_000)
        high, low = draw.integers(1, 2**63, (2, 1_000)).astype(np.uint64)
        window.add(high, low, np.full(1_000, now))
        assert max(len(runs) for runs in window._blocks.values()) <= 12
    assert len(window) <= (17 + 6) * 1_000
