"""Goals of a site: what counts as a conversion, and what it is worth.

    goals = [1, 2]                       # ids that requests may name by `idgoal`, and nothing more

or, with rules, one table each:

    [[goals]]
    id = 3
    name = "Signed up"                   # shown to people
    on = "url"                           # what is looked at, see `On`; default: nothing, requests name the goal
    match = "contains"                   # or "exact" or "regex" (searched for)
    pattern = "/thanks"
    case_sensitive = false
    revenue = 12.5                       # of one conversion
    event_value = false                  # with an event_...: its value is the revenue, where it has one
    repeats = false                      # false: at most one conversion per visit

What is looked at is what is stored: an address without the parameters that the site's rules remove. A request that
names a goal by `idgoal` converts it whatever its rule is, with `revenue` instead of the goal's where it is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

MOST_GOALS = 1_000
HIGHEST_ID = 2**31 - 1


class On(StrEnum):
    """What decides about a conversion; each looks at events of one kind."""

    MANUAL = "manual"
    URL = "url"  # of a page view
    TITLE = "title"  # of a page view
    EVENT_CATEGORY = "event_category"
    EVENT_ACTION = "event_action"
    EVENT_NAME = "event_name"
    DOWNLOAD = "download"
    OUTLINK = "outlink"


class Match(StrEnum):
    """How a pattern is compared with a text."""

    CONTAINS = "contains"
    EXACT = "exact"
    REGEX = "regex"


class Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A goal as workers need it, without its name."""

    id: int
    on: On = On.MANUAL
    match: Match = Match.CONTAINS
    pattern: str = ""
    case_sensitive: bool = False
    revenue: float = 0.0
    event_value: bool = False
    repeats: bool = False

    def matcher(self) -> Callable[[str], bool]:
        """Whether a stored text is meant; raises re.error."""
        if self.match is Match.REGEX:
            found = re.compile(self.pattern, re.RegexFlag(0) if self.case_sensitive else re.IGNORECASE)
            return lambda text: found.search(text) is not None
        exact = self.match is Match.EXACT
        if self.case_sensitive:
            return lambda text: text == self.pattern if exact else self.pattern in text
        wanted = self.pattern.casefold()
        return lambda text: text.casefold() == wanted if exact else wanted in text.casefold()


class GoalEntry(Goal, frozen=True, forbid_unknown_fields=True):
    """A goal as a site's file has it."""

    name: str = ""


class GoalError(ValueError):
    """A goal is wrong; the message names it and what is expected."""


def read_goals(entries: Sequence[int | GoalEntry]) -> tuple[tuple[int, ...], tuple[Goal, ...], dict[int, str]]:
    """The ids of all goals, the rules of those that have any, and names by id; raises GoalError."""
    rules: dict[int, Goal] = {}
    names: dict[int, str] = {}
    ids: set[int] = set()
    for entry in entries:
        number = entry if isinstance(entry, int) else entry.id
        if not 1 <= number <= HIGHEST_ID:
            raise GoalError(f"must be ids of goals, from 1 to {HIGHEST_ID}, or tables with an `id`")
        ids.add(number)
        if isinstance(entry, int):
            continue
        if number in rules:
            raise GoalError(f"holds goal {number} twice")
        if entry.name:
            names[number] = entry.name
        rules[number] = _rule(entry)
    if len(ids) > MOST_GOALS:
        raise GoalError(f"must be at most {MOST_GOALS}")
    return tuple(sorted(ids)), tuple(rules[number] for number in sorted(rules)), names


def _rule(entry: GoalEntry) -> Goal:
    def wrong(key: str, expected: str) -> GoalError:
        return GoalError(f"(goal {entry.id}): {key} {expected}")

    if entry.on is On.MANUAL and entry.pattern:
        raise wrong("pattern", f"needs `on`, one of {', '.join(on for on in On if on is not On.MANUAL)}")
    if entry.on is not On.MANUAL and not entry.pattern:
        raise wrong("pattern", f"must say which {entry.on} is meant")
    if not 0 <= entry.revenue < 1e12:
        raise wrong("revenue", "must be a number from 0 to 10^12")
    if entry.event_value and not entry.on.startswith("event_"):
        raise wrong("event_value", "needs `on` to be event_category, event_action or event_name")
    goal = Goal(*(getattr(entry, name) for name in Goal.__struct_fields__))
    try:
        goal.matcher()
    except re.error as error:
        raise wrong("pattern", f"is no regular expression: {error}") from None
    return goal
