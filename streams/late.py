"""Late events: those that come so long after they happened that memory may not reach back to their visits.

Memory holds of each hash the visit that acted last, if it did so after the watermark less `HELD_MS`. An event not
later than `SLACK_MS`, and out of order by less than 30 minutes, can only belong to that one. Of all others every
visit that may be theirs is looked up among the stored rows before the batch, once for all of them, and what the
batch itself does to these visits is laid over it. So a late event finds the visit that it would have found in the
whole history, however old it is.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from streams.description import Description
from streams.gather import Gathered
from streams.overlay import Overlay
from streams.state import CONFIG, HELD_MS, ID, LAST, SLACK_MS, USER, VISIT_MS, VISITOR, Visit
from streams.surroundings import AskedVisits, Lookups

APART_MS = 4 * 3_600_000  # late events of a site further apart than this are looked up in ranges of their own
SPANS = 64  # ranges of one look-up; beyond it a site has one
Flags = npt.NDArray[np.bool_]

_by_last = itemgetter(0, 1)


class LateVisits:
    """Of one partition: visits beside those that the index finds, as of the batch so far, by hash and last action."""

    __slots__ = ("_asked", "_changed", "_floor", "_looked_up", "_older", "_overlay", "_touched")

    def __init__(self, overlay: Overlay, visits: Iterable[tuple[object, ...]]) -> None:
        """`visits`: rows of `VISIT_STATE_COLUMNS` that were looked up."""
        self._overlay = overlay
        self._floor = overlay.state.watermark_ms - HELD_MS
        self._older: dict[int, list[tuple[int, int, Visit]]] = {}
        self._touched = count()
        below = overlay.state.index
        for row in sorted(visits, key=lambda row: (row[LAST], *row[9:12])):
            visit: Visit = tuple(row[:9])  # type: ignore[assignment]
            for key in _keys(visit):
                held = below.get(key)
                if held is None or held[ID] != visit[ID] or held[LAST] <= self._floor:
                    self._older.setdefault(key, []).append((visit[LAST], next(self._touched), visit))

    def find(self, key: int, time: int) -> Visit | None:
        """The visit with this hash that acted last, of those less than 30 minutes from `time`."""
        newest = self._newest(key)
        if newest is not None and abs(time - newest[LAST]) < VISIT_MS:
            return newest
        older = self._older.get(key, ())
        at = bisect_left(older, (time + VISIT_MS, -1), key=_by_last) - 1
        return older[at][2] if at >= 0 and older[at][0] > time - VISIT_MS else None

    def keep(self, visit: Visit, before: Visit | None) -> None:
        """The visit has changed from what it was before, or is new."""
        id, last = visit[ID], visit[LAST]
        for key in _keys(visit):
            newest = self._newest(key)
            if before is not None:
                self._drop(key, before)
            if last > self._floor and (newest is None or newest[ID] == id or newest[LAST] <= last):
                self._overlay.index[key] = visit
                if newest is not None and newest[ID] != id:
                    self._add(key, newest)
            else:
                self._add(key, visit)

    def _newest(self, key: int) -> Visit | None:
        newest = self._overlay.index.get(key) or self._overlay.state.index.get(key)
        return newest if newest is not None and newest[LAST] > self._floor else None

    def _add(self, key: int, visit: Visit) -> None:
        insort(self._older.setdefault(key, []), (visit[LAST], next(self._touched), visit), key=_by_last)

    def _drop(self, key: int, visit: Visit) -> None:
        older = self._older.get(key)
        if older:
            at = bisect_left(older, (visit[LAST], -1), key=_by_last)
            while at < len(older) and older[at][0] == visit[LAST]:
                if older[at][2][ID] == visit[ID]:
                    del older[at]
                    return
                at += 1


def _keys(visit: Visit) -> Iterator[int]:
    return (key for key in (visit[USER], visit[VISITOR], visit[CONFIG]) if key)


def late(gathered: Gathered, pieces: Sequence[Description]) -> list[Flags | None]:
    """Of each piece which kept rows are late; None where none is."""
    partitions = np.array([packet.record.partition for packet in gathered.packets], np.int64)
    highest = {number: overlay.state.watermark_ms for number, overlay in gathered.overlays.items()}
    out: list[Flags | None] = []
    for piece in pieces:
        times = np.array(piece.time, np.int64)
        of_row = partitions[gathered.rows.packet[piece.kept]]
        found = np.zeros(len(times), np.bool_)
        for number in np.unique(of_row).tolist():
            mine = np.flatnonzero(of_row == number)
            so_far = np.maximum.accumulate(np.append(highest[number], times[mine]))
            border = gathered.overlays[number].state.watermark_ms - SLACK_MS
            found[mine] = (times[mine] < border) | (times[mine] <= so_far[:-1] - VISIT_MS)
            highest[number] = int(so_far[-1])
        out.append(found if found.any() else None)
    return out


def look_up(
    gathered: Gathered, pieces: Sequence[Description], flags: Sequence[Flags | None], lookups: Lookups
) -> dict[int, list[tuple[object, ...]]]:
    """By partition that has late events the visits that may be theirs; raises VisitsMissing."""
    keys: dict[int, tuple[set[int], set[int], set[int]]] = {}  # of users, visitors and configurations
    times: dict[int, dict[int, list[int]]] = {}
    for piece, found in zip(pieces, flags, strict=True):
        if found is None:
            continue
        at = np.flatnonzero(found)
        rows = piece.kept[at]
        sites = gathered.rows.site[rows].tolist()
        for position, packet, site in zip(at.tolist(), gathered.rows.packet[rows].tolist(), sites, strict=True):
            number = gathered.packets[packet].record.partition
            mine = keys.setdefault(number, (set(), set(), set()))
            for found_keys, key in zip(mine, (piece.user, piece.visitor, piece.config), strict=True):
                found_keys.add(key[position])
            times.setdefault(number, {}).setdefault(site, []).append(piece.time[position])
    first: dict[int, tuple[int, int]] = {}
    for one in gathered.packets:
        first.setdefault(one.record.partition, (one.record.generation, one.record.offset))
    asked = []
    for number in sorted(keys):
        users, visitors, configs = (frozenset(found - {0}) for found in keys[number])
        asked.append(AskedVisits(number, *first[number], users, visitors, configs, tuple(_spans(times[number]))))
    if not asked:
        return {}
    return {one.partition: list(rows) for one, rows in zip(asked, lookups.visits(asked), strict=True)}


def _spans(times: dict[int, list[int]]) -> Iterator[tuple[int, int, int]]:
    """Ranges of time by site that hold every row which tells of a visit less than 30 minutes from these times.

    A visit's latest row lies at most 30 minutes before its last action; and one that went on beyond 30 minutes after
    has a row that shows it before 60.
    """
    most = max(1, SPANS // len(times))
    for site, moments in sorted(times.items()):
        ordered = np.unique(np.array(moments, np.int64))
        cuts = np.flatnonzero(np.diff(ordered) > APART_MS)
        parts = np.split(ordered, cuts + 1) if len(cuts) < most else [ordered]
        for part in parts:
            yield site, int(part[0]) - 2 * VISIT_MS, int(part[-1]) + 2 * VISIT_MS
