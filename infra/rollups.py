"""Whether the sums that readers are given are those of the rows: by hour (a projection of `events`) and by day.

Shares no code with the pipeline: it counts the rows itself, with projections switched off, and compares cell by cell.
"""

from __future__ import annotations

import math

from infra.load.sql import Sql

_COLUMNS = ("actions", "pageviews", "visits", "revenue")
_COUNTED = "countIf(action_type != 8), countIf(action_type = 1), countIf(visit_position = 1 AND action_type != 8)"
CENT = 0.005  # by which sums of money may differ, as they are added in another order

# view -> its column of time, and the same of a row, in seconds since 1970
_VIEWS = {
    "hours": ("toUnixTimestamp(hour)", "toUnixTimestamp(toStartOfHour(time))"),
    # the site's own date, which a row tells; a site ahead of UTC is in its tomorrow for hours
    "days": ("toUnixTimestamp(toDateTime(day, 'UTC'))", "toUnixTimestamp(toDateTime(day, 'UTC'))"),
}


def drifted(sql: Sql) -> list[str]:
    """The cells that are wrong, each as what it is, what the view says and what the rows say."""
    found = []
    for view, (of_view, of_row) in _VIEWS.items():
        said = _cells(sql, f"SELECT site_id, {of_view}, {', '.join(_COLUMNS)} FROM {view}")
        rows = _cells(
            sql,
            f"SELECT site_id, {of_row} AS at, {_COUNTED}, sum(revenue) FROM events GROUP BY site_id, at "
            "SETTINGS optimize_use_projections = 0",
        )
        for site, at, column in sorted(said.keys() | rows.keys()):
            one, other = said.get((site, at, column), 0.0), rows.get((site, at, column), 0.0)
            if not math.isclose(one, other, abs_tol=CENT):
                found.append(f"{view}.{column} of site {site} at {at} is {one:g}, the rows say {other:g}")
    return found


def _cells(sql: Sql, statement: str) -> dict[tuple[int, int, str], float]:
    return {
        (int(site), int(at), column): float(value)
        for site, at, *values in sql.rows(statement)
        for column, value in zip(_COLUMNS, values, strict=True)
    }
