"""How long what is stored of a site is kept: table `[retention]` of its file over that of `default.toml`.

    [retention]
    events = 400                         # days; 0, which is what holds without it: until they are erased
    rejects = 30                         # reasons why events could not be stored
    recordings = 30                      # of sessions, masked
    heatmap = 90                         # clicks, moves and scrolls

Days are the site's own and whole: with 400 the rows of today and of the 400 days before it are kept. The raw log and
what workers must remember of rows is younger than `LEAST` days, so nothing is removed before.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

LEAST, MOST = 10, 36_500  # days


class RetentionError(ValueError):
    """A time of retention is wrong; the message names the key and what is expected."""


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Days by kind of data; None is for ever, in a file: what stands above it."""

    events: int | None = None
    rejects: int | None = None
    recordings: int | None = None
    heatmap: int | None = None


KINDS: tuple[str, ...] = Retention.__struct_fields__


def resolve(tables: Mapping[str, Retention]) -> tuple[Retention, dict[str, str]]:
    """What holds, and by kind where it is from; `tables` by where they stand, the strongest first.

    Raises RetentionError.
    """
    days: dict[str, int | None] = {}
    sources = {}
    for kind in KINDS:
        said = ((name, getattr(table, kind)) for name, table in tables.items())
        where, found = next(((name, value) for name, value in said if value is not None), ("unless set", 0))
        if found and not LEAST <= found <= MOST:
            raise RetentionError(f"retention.{kind} must be from {LEAST} to {MOST} days, or 0 to keep what there is")
        days[kind], sources[kind] = found or None, where
    return Retention(**days), sources
