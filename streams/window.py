"""The identities of one partition's events of the last minutes, as sorted numpy runs: some 24 bytes each.

An identity is 128 bits (high, low), the high half never 0; beside it stands when its event was received, in
milliseconds. Runs are grouped by blocks of time, so that old ones leave as a whole; a new run takes the runs before it
in that are no larger than twice its size, so a block has few.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
Moments = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

BLOCK_MS = 300_000


class Run(NamedTuple):
    """Identities and their moments, by rising `high`."""

    high: U64
    low: U64
    at: Moments

    @classmethod
    def of(cls, high: U64, low: U64, at: Moments) -> Run:
        """The run of these, given in any order."""
        order = np.argsort(high, kind="stable")  # takes two sorted runs in one pass
        return cls(high[order], low[order], at[order])


class Window:
    """All identities of stored events that were received after `from_ms`; what is older may still be there."""

    __slots__ = ("_blocks", "from_ms")

    def __init__(self, from_ms: int = 0) -> None:
        self.from_ms = from_ms
        self._blocks: dict[int, list[Run]] = {}

    @classmethod
    def of(cls, from_ms: int, high: U64, low: U64, at: Moments) -> Window:
        """The window that holds these."""
        window = cls(from_ms)
        window.add(high, low, at)
        return window

    def __len__(self) -> int:
        return sum(len(run.at) for runs in self._blocks.values() for run in runs)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Window) or self.from_ms != other.from_ms:
            return False
        return all(np.array_equal(ours, theirs) for ours, theirs in zip(self.rows(), other.rows(), strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Window({self.from_ms}, {len(self)} identities)"

    def rows(self) -> Run:
        """What was received after `from_ms`, by moment and identity."""
        runs = [run for runs in self._blocks.values() for run in runs] or [_EMPTY]
        high, low, at = (np.concatenate(parts) for parts in zip(*runs, strict=True))
        live = np.flatnonzero(at > self.from_ms)
        order = live[np.lexsort((low[live], high[live], at[live]))]
        return Run(high[order], low[order], at[order])

    def leave(self, from_ms: int) -> None:
        """Let go of what was received up to this moment."""
        self.from_ms = from_ms
        for block in [block for block in self._blocks if (block + 1) * BLOCK_MS <= from_ms]:
            del self._blocks[block]

    def add(self, high: U64, low: U64, at: Moments) -> None:
        """Hold these too, unless they have left already."""
        number = at // BLOCK_MS
        for block in np.unique(number[at > self.from_ms]).tolist():
            here = number == block
            run = Run.of(high[here], low[here], at[here])
            runs = self._blocks.setdefault(block, [])
            while runs and len(runs[-1].at) <= 2 * len(run.at):
                run = Run.of(*(np.concatenate(parts) for parts in zip(runs.pop(), run, strict=True)))
            runs.append(run)

    def find(self, high: U64, low: U64, at: Moments, within: Moments) -> Mask:
        """Which of these identities are held with a moment at most `within` from `at`."""
        found = np.zeros(len(high), np.bool_)
        if not len(high) or not self._blocks:
            return found
        order = np.argsort(high)
        high, low, at, within = high[order], low[order], at[order], within[order]
        first, last = int((at - within).min()) // BLOCK_MS, int((at + within).max()) // BLOCK_MS
        hit = np.zeros(len(high), np.bool_)
        for block, runs in self._blocks.items():
            if first <= block <= last:
                for run in runs:
                    _search(run, high, low, at, within, hit)
        found[order] = hit
        return found


_EMPTY = Run(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))


def _search(run: Run, high: U64, low: U64, at: Moments, within: Moments, hit: Mask) -> None:
    place = np.searchsorted(run.high, high)
    last = len(run.high) - 1
    asked = np.flatnonzero(run.high[np.minimum(place, last)] == high)
    place = place[asked]
    while len(asked):  # an identity may be held several times, further apart than the window
        same = (run.low[place] == low[asked]) & (np.abs(run.at[place] - at[asked]) <= within[asked])
        hit[asked[same]] = True
        place = place + 1
        more = ~same & (place <= last)
        more[more] = run.high[place[more]] == high[asked[more]]
        asked, place = asked[more], place[more]
