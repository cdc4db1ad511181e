"""Visits: which events belong together (Matomo's rules, as `facts` of the tracking API state them).

Events are taken in the order of the log, with the time that they say they happened at. An event finds its visit by
its user, else by its visitor id, else by its configuration; each of the last two only if the visit has no other id of
the kinds before, so that a visit whose id comes late stays one visit. All three are hashes under the site's key of
the day, so a visit ends with the day in the site's time zone.

Of the visits with the hash counts the one that acted last, among those whose last action lies less than 30 minutes
from the event, either way. A campaign other than the visit's, `new_visit=1` or 10,000 actions begin a new visit. A
heartbeat prolongs a visit, is no action of it, and never begins one. So which visit an event belongs to follows from
the events before it in the log, and not from how these are cut into batches or what memory holds: late events are
looked up (`streams.late`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.tables import ActionType
from streams import late as late_visits
from streams.description import Description
from streams.gather import Gathered
from streams.late import Flags, LateVisits
from streams.overlay import Overlay
from streams.state import (
    ID,
    LAST,
    USER,
    VISIT_ACTIONS,
    VISIT_MS,
    VISIT_STATE_COLUMNS,
    VISITOR,
    Visit,
)
from streams.surroundings import Lookups
from streams.verdicts import INTERNAL_ERROR, NUMBER, PING_WITHOUT_VISIT

COLUMNS = VISIT_STATE_COLUMNS[:9]
PING, PAGE_VIEW = int(ActionType.PING), int(ActionType.PAGE_VIEW)


@dataclass(frozen=True, slots=True)
class Followed:
    """Of one description: the visit of each event that has a row after all, and which these are."""

    visits: list[Visit]  # of each stored event, its visit as of that event
    gaps: list[int]  # milliseconds since the action before, 0 for a visit's first
    stored: npt.NDArray[np.int64]  # positions among the kept rows, rising
    lost: dict[int, int]  # the other positions, and why: numbers of `verdicts.VERDICTS`


class _Failed(Exception):
    def __init__(self, piece: int, position: int) -> None:
        super().__init__(piece, position)
        self.piece, self.position = piece, position


def follow(gathered: Gathered, pieces: Sequence[Description], lookups: Lookups) -> list[Followed]:
    """The visits of all kept rows, in order; raises VisitsMissing.

    Verdicts of heartbeats without a visit, and of repeats of events of the same batch, are written into the pieces.
    """
    broken: set[tuple[int, int]] = set()
    late = late_visits.late(gathered, pieces)
    found = late_visits.look_up(gathered, pieces, late, lookups)
    while True:
        for overlay in gathered.overlays.values():
            overlay.forget_visits()
        for piece in pieces:
            piece.doubts.stored.clear()
        older = {number: LateVisits(gathered.overlays[number], visits) for number, visits in found.items()}
        try:
            out = [_piece(gathered, piece, number, broken, late[number], older) for number, piece in enumerate(pieces)]
        except _Failed as failure:
            broken.add((failure.piece, failure.position))
            continue
        for piece, followed in zip(pieces, out, strict=True):
            for position, verdict in followed.lost.items():
                piece.verdict[int(np.searchsorted(piece.rows, piece.kept[position]))] = verdict
        return out


def _piece(
    gathered: Gathered,
    piece: Description,
    number: int,
    broken: set[tuple[int, int]],
    late: Flags | None,
    older: Mapping[int, LateVisits],
) -> Followed:
    found: list[Visit] = []
    gaps: list[int] = []
    failed = {position for n, position in broken if n == number}
    lost: dict[int, int] = dict.fromkeys(failed, NUMBER[INTERNAL_ERROR])
    packet = gathered.rows.packet[piece.kept]
    # the kept rows of one packet lie together
    starts = np.flatnonzero(np.diff(packet, prepend=-1)).tolist()
    flags = late.tolist() if late is not None else None
    for start, end in pairwise([*starts, len(packet)]):
        partition = gathered.packets[int(packet[start])].record.partition
        overlay, looked_up = gathered.overlays[partition], older.get(partition)
        _packet(overlay, looked_up, flags, piece, range(start, end), found, gaps, lost, number, failed)
    stored = np.delete(np.arange(len(piece.kept)), list(lost)) if lost else np.arange(len(piece.kept))
    return Followed(found, gaps, stored, lost)


def _packet(
    overlay: Overlay,
    older: LateVisits | None,
    late: list[bool] | None,
    piece: Description,
    span: range,
    found: list[Visit],
    gaps: list[int],
    lost: dict[int, int],
    number: int,
    failed: set[int],
) -> None:
    """Follow the events of one packet; `older`: where the batch has late events of the partition."""
    changed = overlay.index
    look_changed, look_below = changed.get, overlay.state.index.get
    add, add_gap = found.append, gaps.append
    doubts = piece.doubts if piece.doubts.rows else None
    cut = slice(span.start, span.stop)
    position = span.start
    try:
        for position, user, visitor, config, time, action, new_visit, campaign in zip(
            span,
            piece.user[cut],
            piece.visitor[cut],
            piece.config[cut],
            piece.time[cut],
            piece.action[cut],
            piece.new_visit[cut],
            piece.campaign[cut],
            strict=True,
        ):
            if failed and position in failed:
                continue
            if doubts is not None and (repeated := doubts.verdict(position)):
                lost[position] = repeated
                continue
            visit = None
            if older is not None and late is not None and late[position]:
                visit = _late(older, user, visitor, config, time)
            else:  # not late, so only the visit that acted last can be near, and none acted 30 minutes after
                since = time - VISIT_MS
                if user:
                    visit = look_changed(user) or look_below(user)
                    if visit is not None and visit[LAST] <= since:
                        visit = None
                if visit is None and visitor:
                    visit = look_changed(visitor) or look_below(visitor)
                    if visit is not None and (visit[LAST] <= since or (user and visit[USER] not in (0, user))):
                        visit = None
                if visit is None:
                    visit = look_changed(config) or look_below(config)
                    if visit is not None and (
                        visit[LAST] <= since
                        or (user and visit[USER] not in (0, user))
                        or (visitor and visit[VISITOR] not in (0, visitor))
                    ):
                        visit = None
            before, gap = visit, 0
            if visit is not None:
                id, start, last, actions, pageviews, of_campaign, of_visitor, of_user, of_config = visit
                if (campaign and campaign != of_campaign) or new_visit or actions >= VISIT_ACTIONS:
                    visit = None
                else:
                    if time > last:
                        gap, last = time - last, time
                    if action != PING:
                        actions += 1
                        pageviews += action == PAGE_VIEW
                    user, visitor, config = of_user or user, of_visitor or visitor, of_config
                    visit = (id, start, last, actions, pageviews, of_campaign, visitor, user, config)
            if visit is None:
                if action == PING:
                    lost[position] = NUMBER[PING_WITHOUT_VISIT]
                    continue
                id, last, before = piece.visit_name[position], time, None
                visit = (id, time, time, 1, int(action == PAGE_VIEW), campaign, visitor, user, config)
            if older is not None:
                older.keep(visit, before)
            else:  # each of its hashes finds this visit from now on, unless it finds one that acted later
                other = look_changed(config) or look_below(config)
                if other is None or other[ID] == id or other[LAST] <= last:
                    changed[config] = visit
                if visitor:
                    other = look_changed(visitor) or look_below(visitor)
                    if other is None or other[ID] == id or other[LAST] <= last:
                        changed[visitor] = visit
                if user:
                    other = look_changed(user) or look_below(user)
                    if other is None or other[ID] == id or other[LAST] <= last:
                        changed[user] = visit
            add(visit)
            add_gap(gap)
            if doubts is not None:
                doubts.keep(position)
    except MemoryError:
        raise
    except Exception as error:
        raise _Failed(number, position) from error


def _late(older: LateVisits, user: int, visitor: int, config: int, time: int) -> Visit | None:
    """The visit that a late event finds."""
    if user and (visit := older.find(user, time)) is not None:
        return visit
    if visitor:
        visit = older.find(visitor, time)
        if visit is not None and not (user and visit[USER] not in (0, user)):
            return visit
    visit = older.find(config, time)
    if visit is None or (user and visit[USER] not in (0, user)) or (visitor and visit[VISITOR] not in (0, visitor)):
        return None
    return visit


def columns(followed: Followed) -> dict[str, Sequence[Any]]:
    """The visits of the stored events by the names of table `events`; times are milliseconds."""
    visits = followed.visits  # one pass per column: transposing them all at once is five times as slow
    found: dict[str, Sequence[Any]] = {name: [visit[at] for visit in visits] for at, name in enumerate(COLUMNS)}
    return found | {"gap_ms": followed.gaps}
