"""The order of the rows: what was sent after something else was acknowledged lies after it, and visits count on.

Shares no code with the pipeline: it holds the journal against the places of the rows, (generation, offset, index)
within a partition. Of two events of one partition the order is known when one was acknowledged before the other was
sent, and when both were items of one request. Of events under way at the same time it is not, and nothing is asked.

Three more rules need no journal: a site lies on one partition (here every site has one shard); one writer's events of
a partition do not go back in `received_at`; and `visit_position` is the number of a visit's actions up to there
(heartbeats, action_type 8, are none).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.load.journal import Entries
from infra.load.numbers import LENGTH, numbers
from infra.load.sql import Sql

# What a journal's moments may be wrong by against those of another one, as its start is kept in whole milliseconds.
SLACK_MS = 2
_ROW = np.dtype([("id", "u1", LENGTH), ("partition", "<u2")])
_BY_PLACE = "ORDER BY `partition`, generation, `offset`, `index`"
_NEXT = f"PARTITION BY %s {_BY_PLACE} ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"

RULES = {
    "sites lie on several partitions": (
        "SELECT count() FROM (SELECT site_id FROM events GROUP BY site_id HAVING uniqExact(`partition`) > 1)"
    ),
    "rows were received before the row that lies before them": (
        "SELECT countIf(received_at < before) FROM (SELECT received_at, lagInFrame(received_at, 1, received_at) OVER"
        f" ({_NEXT % '`partition`, writer'}) AS before FROM events)"
    ),
    "rows have another position in their visit than counting gives": (
        "SELECT countIf(visit_position != position) FROM (SELECT visit_position, countIf(action_type != 8) OVER"
        f" ({_NEXT % '`partition`, visit_id'}) AS position FROM events)"
    ),
}


@dataclass(frozen=True, slots=True)
class Disorder:
    """numbers: events that lie after one that they must lie before. rules: of RULES, how often each is broken."""

    numbers: npt.NDArray[np.int64]
    rules: dict[str, int]

    @property
    def count(self) -> int:
        """All of them."""
        return len(self.numbers) + sum(self.rules.values())


def disorder(entries: Entries, sql: Sql, *, whole: bool = True) -> Disorder:
    """What is out of order at this moment. Rows that no journal knows are left out.

    whole: all rows of the table are the journals', and none was erased, so that the rules hold.
    """
    found, partition = _by_place(sql)
    at = np.searchsorted(entries.number, found)
    known = at < len(entries)
    known[known] = entries.number[at[known]] == found[known]
    at, partition = at[known], partition[known]
    wrong: list[npt.NDArray[np.int64]] = []
    for number in np.unique(partition):
        of_partition = at[partition == number]
        late = _sent_later_lies_before(entries, of_partition) | _item_lies_before(entries, of_partition)
        wrong.append(entries.number[of_partition[late]])
    broken = {rule: sql.numbers(statement)[0] for rule, statement in RULES.items()} if whole else {}
    return Disorder(
        np.concatenate(wrong) if wrong else entries.number[:0], {rule: n for rule, n in broken.items() if n}
    )


def _by_place(sql: Sql) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
    """The numbers of all rows in the order of their places, and their partitions."""
    data = sql.raw(
        f"SELECT toFixedString(page_view_id, {LENGTH}), `partition` FROM events"
        f" WHERE length(page_view_id) = {LENGTH} {_BY_PLACE} FORMAT RowBinary"
    )
    rows = np.frombuffer(data, _ROW)
    return numbers(rows["id"]), rows["partition"]


def _sent_later_lies_before(entries: Entries, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Of rows in the order of their places: before which lies one that was sent after this one was acknowledged."""
    newest = np.maximum.accumulate(entries.sent[rows])
    return np.asarray(entries.ended[rows] < newest - SLACK_MS)


def _item_lies_before(entries: Entries, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Of rows in the order of their places: before which lies an item of the same request that comes after it."""
    late = np.zeros(len(rows), np.bool_)
    grouped = np.argsort(entries.request[rows], kind="stable")
    number, request = entries.number[rows[grouped]], entries.request[rows[grouped]]
    late[grouped[1:]] = (np.diff(request) == 0) & (np.diff(number) < 0)
    return late
