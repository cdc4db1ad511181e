"""Conversions of a site's goals: of what is stored of an event, and of the goal that a request names.

At most one conversion of a goal counts in a visit, unless the goal repeats; of which one it is, views decide
(`goal_conversions`), so that an event's conversions follow from the event alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.goals import Goal, On
from schemas.tables import ActionType

LOOKS_AT = {
    On.URL: (ActionType.PAGE_VIEW, "url"),
    On.TITLE: (ActionType.PAGE_VIEW, "title"),
    On.EVENT_CATEGORY: (ActionType.EVENT, "event_category"),
    On.EVENT_ACTION: (ActionType.EVENT, "event_action"),
    On.EVENT_NAME: (ActionType.EVENT, "event_name"),
    On.DOWNLOAD: (ActionType.DOWNLOAD, "link_url"),
    On.OUTLINK: (ActionType.OUTLINK, "link_url"),
}


class Conversion(NamedTuple):
    """One conversion; `repeats`: others of the goal in the same visit count too."""

    goal: int
    revenue: float
    repeats: int


matcher: Callable[[Goal], Callable[[str], bool]] = lru_cache(maxsize=65_536)(Goal.matcher)


def of_event(row: Mapping[str, Any], goals: Sequence[Goal], revenue: float | None) -> list[Conversion]:
    """The conversions of an event as its row has it; `revenue`: what the request names, None where it names none."""
    if row["action_type"] == ActionType.GOAL:
        return [named(row["goal_id"], goals, revenue)]
    found = []
    for goal in goals:
        if goal.on is not On.MANUAL:
            action, column = LOOKS_AT[goal.on]
            if row["action_type"] == action and row[column] and matcher(goal)(row[column]):
                found.append(_worth(goal, row["event_value"]))
    return found


def named(goal_id: int, goals: Sequence[Goal], revenue: float | None) -> Conversion:
    """The conversion of a goal that a request names; one without a rule is worth what the request says."""
    goal = next((goal for goal in goals if goal.id == goal_id), Goal(goal_id))
    return Conversion(goal_id, goal.revenue if revenue is None else revenue, int(goal.repeats))


def _worth(goal: Goal, value: float) -> Conversion:
    return Conversion(goal.id, value if goal.event_value and value else goal.revenue, int(goal.repeats))


def of_columns(
    goals: Sequence[Sequence[Goal]],
    scope: npt.NDArray[np.int64],
    columns: Mapping[str, pa.Array],
    revenue: npt.NDArray[np.float64],
    given: npt.NDArray[np.bool_],
) -> dict[int, list[Conversion]]:
    """`of_event` for columns, by row where there are any. `goals`: by scope. `given`: where a revenue is named."""
    action = columns["action_type"].to_numpy()
    out: dict[int, list[Conversion]] = {}
    for row in np.flatnonzero(action == ActionType.GOAL).tolist():
        worth = float(revenue[row]) if given[row] else None
        out[row] = [named(columns["goal_id"][row].as_py(), goals[scope[row]], worth)]
    if not any(goals):
        return out
    order = np.argsort(scope, kind="stable")
    bounds = np.searchsorted(scope[order], np.arange(len(goals) + 1)).tolist()
    for rules, (first, after) in zip(goals, pairwise(bounds), strict=True):
        if not rules or first == after:
            continue
        here = order[first:after]
        texts: dict[tuple[ActionType, str], tuple[npt.NDArray[np.int64], list[str], npt.NDArray[np.int64]]] = {}
        for goal in rules:
            if goal.on is On.MANUAL:
                continue
            looked_at = LOOKS_AT[goal.on]
            if looked_at not in texts:
                rows = here[action[here] == looked_at[0]]
                column = columns[looked_at[1]].take(pa.array(rows))
                encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
                texts[looked_at] = rows, encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
            rows, distinct, codes = texts[looked_at]
            matches = matcher(goal)
            matched = np.array([bool(text) and matches(text) for text in distinct], np.bool_)
            for row in rows[matched[codes]].tolist() if matched.any() else ():
                value = columns["event_value"][row].as_py() if goal.event_value else 0.0
                out.setdefault(row, []).append(_worth(goal, value))
    return out
