"""Heatmaps: where people clicked, where the pointer was, and how far they scrolled, without who and when.

Places are parts of something that `relative_to` names: of the viewport (rrweb), of the element (`hsr_ev`). Scrolls
count how much of the page was seen: in viewports (rrweb) or as a part of the document (`hsr_sr`). Moves are counted by
cells of a grid, so that a row is no track.

Of `hsr_*` are read `hsr_vid` (the page view), `hsr_vw` and `hsr_vh` (the viewport), `hsr_sr` (per mille of the page
seen), and of `hsr_ev`, a JSON list, events with `ty` 1 (move) or 2 (click), `x` and `y` (in 2000 parts of the element)
and `s` (its selector). What Matomo's recorder sends of pages and forms there is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

import msgspec

from schemas.parameters import integer
from streams.anonymize.recordings.documents import Document
from streams.anonymize.recordings.events import Json, Source, Type, bounded
from streams.anonymize.recordings.names import selector
from streams.anonymize.recordings.texts import Tally

GRID = 50  # cells of a side, for moves
MOST = 5_000  # points of one chunk
CLICKS = frozenset((2, 4))  # rrweb's MouseInteractions Click and DblClick
HSR_MOVE, HSR_CLICK = 1, 2  # `ty` of Matomo's events
PART = 2000.0  # what Matomo's x and y are parts of
PHONE, TABLET = 600, 1024  # pixels of width below which a viewport counts as one


class Action(IntEnum):
    """The numbers are stored."""

    CLICK = 1
    MOVE = 2
    SCROLL = 3


class Point(NamedTuple):
    """x and y: parts of `relative_to`, 0 to 1; of a scroll only y counts, a part or how many viewports."""

    action: Action
    selector: str
    x: float
    y: float
    relative_to: str
    weight: int = 1


def viewport_class(width: int) -> str:
    """phone, tablet or desktop; "" where the width is not known."""
    return "" if width <= 0 else "phone" if width < PHONE else "tablet" if width < TABLET else "desktop"


def of_events(events: Iterable[Json], document: Document, width: int, height: int) -> tuple[list[Point], int]:
    """The points of a masked chunk, and the width of the viewport where the chunk or the request tells it."""
    points: list[Point] = []
    moves: Counter[tuple[int, int]] = Counter()
    seen = 0.0
    for event in events:
        data = event["data"]
        assert isinstance(data, Mapping)
        if event["type"] == Type.META or data.get("source") == Source.VIEWPORT:
            width, height = int(data["width"]), int(data["height"])
        if event["type"] != Type.INCREMENTAL or width <= 0 or height <= 0:
            continue
        if data["source"] == Source.INTERACTION and data["type"] in CLICKS and "x" in data and len(points) < MOST:
            x, y = _part(data["x"], width), _part(data.get("y"), height)
            points.append(Point(Action.CLICK, document.path(data["id"]), x, y, "viewport"))
        elif data["source"] in (Source.MOUSE_MOVE, Source.TOUCH_MOVE):
            for place in data["positions"]:
                moves[_cell(_part(place["x"], width)), _cell(_part(place["y"], height))] += 1
        elif data["source"] == Source.SCROLL:
            seen = max(seen, (data["y"] + height) / height)
    points += _of_moves(moves, "", "viewport")
    if seen:
        points.append(Point(Action.SCROLL, "", 0.0, min(round(seen, 2), 1000.0), "viewports"))
    return points, width


def of_request(given: Mapping[str, str], tally: Tally) -> list[Point]:
    """The points of a request with `hsr_*`."""
    points: list[Point] = []
    moves: dict[str, Counter[tuple[int, int]]] = {}
    for event in _listed(given.get("hsr_ev", ""), tally):
        if not isinstance(event, Mapping) or event.get("ty") not in (HSR_MOVE, HSR_CLICK):
            tally.dropped["hsr_event"] += 1
            continue
        where = event.get("s")
        where = selector(where) if isinstance(where, str) else ""
        x, y = _part(bounded(event.get("x")), PART), _part(bounded(event.get("y")), PART)
        if event["ty"] == HSR_CLICK and len(points) < MOST:
            points.append(Point(Action.CLICK, where, x, y, "element"))
        elif event["ty"] == HSR_MOVE:
            moves.setdefault(where, Counter())[_cell(x), _cell(y)] += 1
    for where, cells in moves.items():
        points += _of_moves(cells, where, "element")
    if (seen := integer(given.get("hsr_sr"))) > 0:
        points.append(Point(Action.SCROLL, "", 0.0, min(seen, 1000) / 1000, "document"))
    return points[: 2 * MOST]


def _listed(text: str, tally: Tally) -> Sequence[object]:
    if not text:
        return ()
    try:
        found = msgspec.json.decode(text.encode("utf-8", "replace"))
    except (msgspec.DecodeError, RecursionError):
        tally.dropped["hsr_ev"] += 1
        return ()
    return found if isinstance(found, list) else ()


def _of_moves(cells: Mapping[tuple[int, int], int], where: str, relative_to: str) -> Iterable[Point]:
    for (x, y), count in sorted(cells.items()):
        yield Point(Action.MOVE, where, (x + 0.5) / GRID, (y + 0.5) / GRID, relative_to, count)


def _cell(part: float) -> int:
    return min(int(part * GRID), GRID - 1)


def _part(value: object, whole: float) -> float:
    return round(min(max(bounded(value) / whole, 0.0), 1.0), 4)
