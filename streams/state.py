"""What a worker holds of one partition between batches: watermark, open visits, names seen, identities of repeats.

It is a function of the stored rows before a place, so it needs no changelog. The watermark is the highest
`received_at` of the packets below, each clamped to the broker's time of its record. A visit is held while its last
action is after the watermark less `HELD_MS`; older ones are looked up when a late event asks (`streams.late`).

To build the state before place R = (generation, offset) of partition p:

1. `watermark_ms`: the highest `watermark` of the rows of `packets` of p before R (0 where there are none), in
   milliseconds.
2. `seen`: of the rows of `packets` of p before R with kind FIRST, (writer, first seq, last seq) of ranges that
   cover them; single rows as (writer, seq, seq) will do, in any order.
3. `visits`: of the rows of `events` of p before R with
   `visit_last > watermark - HELD_MS` (and, which follows and prunes, `time > watermark - HELD_MS - 30 min`),
   one row per `visit_id`: each of `VISIT_STATE_COLUMNS` as argMax over the place (generation, offset, index),
   in the order of that tuple. Times are milliseconds as integers.
4. `repeats`: with `from_ms` the highest `repeats_from` of the rows of `packets` of p before R (0 where there are
   none), of the rows of `events` of p before R with `received_at > from_ms` and a `repeat_id` that is not zeros, both.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Any, Final

from streams.window import Window

VISIT_MS = 1_800_000  # Matomo's visit_standard_length
SLACK_MS = 120_000  # an event later than this is a late one
HELD_MS = VISIT_MS + SLACK_MS
VISIT_ACTIONS = 10_000  # after so many actions a new visit begins

VISIT_STATE_COLUMNS = (
    "visit_id",
    "visit_start",
    "visit_last",
    "visit_position",
    "visit_pageviews",
    "visit_campaign",
    "visit_visitor_id",
    "visit_user_id",
    "visit_config_id",
    "generation",
    "offset",
    "index",
)


# A visit, as of its latest event: id, start, last, position, page views, campaign, visitor, user, config.
# Ids are day-keyed hashes, 0 for none; times are milliseconds. It is a value: every event makes a new one.
Visit = tuple[int, int, int, int, int, str, int, int, int]
ID: Final = 0
LAST: Final = 2
VISITOR: Final = 6
USER: Final = 7
CONFIG: Final = 8


class Sequences:
    """A set of `seq` as disjoint closed ranges; of a writer in order it is a single one."""

    __slots__ = ("_first", "_last")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        for first, last in sorted(ranges):
            if self._last and first <= self._last[-1] + 1:
                self._last[-1] = max(self._last[-1], last)
            else:
                self._first.append(first)
                self._last.append(last)

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._first, seq) - 1
        return at >= 0 and seq <= self._last[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._first, self._last, strict=True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequences) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Sequences({list(self)})"

    def copy(self) -> Sequences:
        """An independent set of the same numbers."""
        out = Sequences()
        out._first, out._last = self._first.copy(), self._last.copy()
        return out

    def add(self, seq: int) -> None:
        """Add one number."""
        at = bisect_right(self._first, seq)
        if at and seq <= self._last[at - 1]:
            return
        before = at > 0 and self._last[at - 1] == seq - 1
        after = at < len(self._first) and self._first[at] == seq + 1
        if before and after:
            self._last[at - 1] = self._last[at]
            del self._first[at], self._last[at]
        elif before:
            self._last[at - 1] = seq
        elif after:
            self._first[at] = seq
        else:
            self._first.insert(at, seq)
            self._last.insert(at, seq)


class PartitionState:
    """The state of one partition; changed only by `Outcome.apply`.

    `index` finds a visit by the hash of a user, a visitor or a configuration: of the visits that have it, the
    one with the latest action, and of equals the one touched last. It may still have visits that need not be held;
    they are swept out now and then.
    """

    __slots__ = ("_swept", "applied", "index", "repeats", "seen", "watermark_ms")

    def __init__(self) -> None:
        self.watermark_ms = 0
        self.index: dict[int, Visit] = {}
        self.seen: dict[int, Sequences] = {}
        self.repeats = Window()
        self.applied = 0  # batches; tells an outcome that it is out of date
        self._swept = 0

    @classmethod
    def from_rows(
        cls,
        watermark_ms: int,
        visits: Iterable[tuple[Any, ...]],
        seen: Iterable[tuple[int, int, int]],
        repeats: Window | None = None,
    ) -> PartitionState:
        """The state before a place, from stored rows; see the module's text for what to select."""
        state = cls()
        state.watermark_ms = watermark_ms
        state.repeats = repeats if repeats is not None else Window()
        cutoff = watermark_ms - HELD_MS
        for row in sorted(visits, key=lambda row: (row[2], *row[9:12])):  # latest action, then place
            visit: Visit = tuple(row[:9])
            if visit[LAST] > cutoff:
                for key in (visit[USER], visit[VISITOR], visit[CONFIG]):
                    if key:
                        state.index[key] = visit
        ranges: dict[int, list[tuple[int, int]]] = {}
        for writer, first, last in seen:
            ranges.setdefault(writer, []).append((first, last))
        state.seen = {writer: Sequences(found) for writer, found in ranges.items()}
        state._swept = len(state.index)
        return state

    def open(self) -> dict[int, Visit]:
        """The visits that are held, by each hash that finds them."""
        cutoff = self.watermark_ms - HELD_MS
        return {key: visit for key, visit in self.index.items() if visit[LAST] > cutoff}

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, PartitionState)
            and self.watermark_ms == other.watermark_ms
            and self.seen == other.seen
            and self.repeats == other.repeats
            and self.open() == other.open()
        )

    __hash__ = None  # type: ignore[assignment]

    def sweep(self) -> None:
        """Drop visits that need not be held when the index has doubled since the last time: it stays bounded."""
        if len(self.index) > 2 * self._swept + 1024:
            self.index = self.open()
            self._swept = len(self.index)
