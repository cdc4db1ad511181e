"""The books: what a load run's journal says was sent and acknowledged, against what the tables hold.

Shares no code with the pipeline: it reads the journal and asks plain SQL. Every number is held against its fates:

    outcome        rows allowed                            otherwise
    acknowledged   1 where it must be stored, 0 where not  0: lost; a row against the rules: unexplained
    refused        0                                       unexplained
    (sent again)   0: its events carry their first numbers unexplained
    unknown        0 or 1                                  -
    any            at most 1                               each row more: doubled
    (not sent)     none                                    unexplained

An event without a row leaves no number behind, only a count in `packets`; so the counts of excluded and rejected
events and of repeats must be those of the numbers that have no row, give or take the unknown ones (whole=True: all rows
of the tables are this run's). Every record of a partition has one row in `packets`, every name one first copy, and no
offset is left out. The order of the rows is for `infra.order`, the sums by hour and day for `infra.rollups`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from infra.load.journal import Entries, Fate, Outcome, read
from infra.load.numbers import LENGTH, numbers
from infra.load.sql import Sql, SqlError
from infra.order import disorder
from infra.rollups import drifted

DRIFTED_SHOWN = 5

_STORED, _EXCLUDED, _REJECTED = int(Fate.STORED), int(Fate.EXCLUDED), int(Fate.REJECTED)
_REPEATED = int(Fate.REPEATED)

_NAMES = {
    "rows of packets are too many for their places": (
        "SELECT count() - uniqExact(`partition`, generation, `offset`) FROM packets"
    ),
    "first copies of packets are too many for their names": (
        "SELECT count() - uniqExact(writer, `partition`, seq) FROM packets WHERE kind = 1"
    ),
    "offsets have no row in packets": (
        "SELECT sum(missing) FROM (SELECT max(`offset`) - min(`offset`) + 1 - uniqExact(`offset`) AS missing"
        " FROM packets GROUP BY `partition`, generation)"
    ),
    "rows are too many for their names": ("SELECT count() - uniqExact(writer, `partition`, seq, `index`) FROM events"),
}


@dataclass(frozen=True, slots=True)
class Books:
    """Numbers of events. sent = acknowledged + refused + unknown; acknowledged = stored + excluded + rejected + repeats
    but for the unknown ones that count as well.

    stored: numbers with a row. lost: acknowledged, to be stored, no row. doubled: rows beyond the first of a number.
    unknown_stored: of the unknown ones, those with a row. unexplained: rows and counts that no rule allows.
    reordered: events out of order, and rows that break a rule of order.
    """

    sent: int
    acknowledged: int
    refused: int
    unknown: int
    stored: int
    unknown_stored: int
    excluded: int
    rejected: int
    repeats: int
    lost: int
    doubled: int
    unexplained: int
    reordered: int
    findings: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Nothing lost, doubled, unexplained or out of order."""
        return not (self.lost or self.doubled or self.unexplained or self.reordered)

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over `packets`, and the rows of `events` and `rejects`."""

    received: int
    stored: int
    excluded: int
    rejected: int
    repeats: int
    rows: int
    rejects: int


def counts(sql: Sql) -> Counts:
    """What the tables say of themselves."""
    received, stored, excluded, rejected, repeats = sql.numbers(
        "SELECT sum(received), sum(stored), sum(excluded), sum(rejected),"
        " sum(repeats_key) + sum(repeats_random) + sum(repeats_body) FROM packets"
    )
    (rows,), (rejects,) = (sql.numbers(f"SELECT count() FROM {table}") for table in ("events", "rejects"))
    (replayed,) = sql.numbers("SELECT uniqExact(writer, `partition`, seq, `index`) FROM rejects_replayed")
    return Counts(received, stored + replayed, excluded, rejected - replayed, repeats, rows, rejects - replayed)


def stored_numbers(sql: Sql) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    """The number of every row whose page_view_id is one, in no order, and how many rows have none."""
    named = f"SELECT toFixedString(page_view_id, {LENGTH}) FROM events WHERE length(page_view_id) = {LENGTH}"
    data = sql.raw(f"{named} FORMAT RowBinary")
    found = numbers(np.frombuffer(data, np.uint8).reshape(-1, LENGTH))
    (others,) = sql.numbers(f"SELECT count() FROM events WHERE length(page_view_id) != {LENGTH}")
    return found[found >= 0], others + int((found < 0).sum())


def balance(entries: Entries, sql: Sql, *, whole: bool = True) -> Books:
    """The books at this moment. whole: nobody else has written to these tables, so every row must be explained."""
    rows, nameless = stored_numbers(sql)
    of_packets = counts(sql)
    found, copies = np.unique(rows, return_counts=True)
    place = np.searchsorted(entries.number, found)
    ours = place < len(entries)
    ours[ours] = entries.number[place[ours]] == found[ours]
    has = np.zeros(len(entries), np.int64)
    has[place[ours]] = copies[ours]

    acknowledged = entries.outcome == Outcome.ACKNOWLEDGED
    refused = entries.outcome == Outcome.REFUSED
    unknown = entries.outcome == Outcome.UNKNOWN
    may_be_stored = (entries.expected & _STORED) != 0
    must_be_stored = acknowledged & (entries.expected & (_STORED | _EXCLUDED | _REJECTED) == _STORED)
    lost = must_be_stored & (has == 0)
    doubled = int((has - 1).clip(0).sum())
    against = (has > 0) & (refused | ~may_be_stored)
    findings: list[str] = []

    def note(what: str, of: np.ndarray[tuple[int], np.dtype[np.int64]], amount: int) -> int:
        if amount:
            examples = f" (numbers {', '.join(str(n) for n in of[:5])})" if len(of) else ""
            findings.append(f"{amount} {what}{examples}")
        return amount

    note("acknowledged events have no row", entries.number[lost], int(lost.sum()))
    note("rows too many for their numbers", entries.number[has > 1], doubled)
    unexplained = note("events have a row that the rules do not allow", entries.number[against], int(against.sum()))
    if whole:
        unexplained += note("numbers with a row were never sent", found[~ours], int((~ours).sum()))
        unexplained += note("rows carry no number", found[:0], nameless)
        # What must not be refused but was is no loss (nobody was told that it is safe), yet no rule explains it.
        wrongly = refused & ((entries.expected & int(Fate.REFUSED)) == 0)
        unexplained += note("events were refused that the rules accept", entries.number[wrongly], int(wrongly.sum()))
        unexplained += _unlike_packets(entries, has, of_packets, note)
        for rule, statement in _NAMES.items():
            unexplained += note(rule, found[:0], sql.numbers(statement)[0])
        drift = drifted(sql)
        unexplained += len(drift)
        findings += drift[:DRIFTED_SHOWN]
    mixed = disorder(entries, sql, whole=whole)
    reordered = note("events lie after what was sent after them", mixed.numbers, len(mixed.numbers))
    for rule, count in mixed.rules.items():
        reordered += note(rule, found[:0], count)
    absent = acknowledged & (has == 0) & ~lost
    excluded = int((absent & ((entries.expected & _EXCLUDED) != 0)).sum())
    repeats = int((absent & ((entries.expected & _REPEATED) != 0)).sum())
    return Books(
        sent=len(entries),
        acknowledged=int(acknowledged.sum()),
        refused=int(refused.sum()),
        unknown=int(unknown.sum()),
        stored=int((has > 0).sum()),
        unknown_stored=int((unknown & (has > 0)).sum()),
        excluded=of_packets.excluded if whole else excluded,
        rejected=of_packets.rejected if whole else int(absent.sum()) - excluded - repeats,
        repeats=of_packets.repeats if whole else repeats,
        lost=int(lost.sum()),
        doubled=doubled,
        unexplained=unexplained,
        reordered=reordered,
        findings=tuple(findings),
    )


def _unlike_packets(
    entries: Entries,
    has: np.ndarray[tuple[int], np.dtype[np.int64]],
    of_packets: Counts,
    note: Callable[[str, np.ndarray[tuple[int], np.dtype[np.int64]], int], int],
) -> int:
    """How far `packets` is from the rows of the other tables, and from the numbers that have no row."""
    nothing = entries.number[:0]
    p = of_packets
    wrong = note("is the difference between packets.stored and the rows of events", nothing, abs(p.stored - p.rows))
    wrong += note(
        "is the difference between packets.rejected and the rows of rejects", nothing, abs(p.rejected - p.rejects)
    )
    accounted = p.stored + p.excluded + p.rejected + p.repeats
    wrong += note("is the difference between packets.received and its parts", nothing, abs(p.received - accounted))
    without = has == 0
    sure = without & (entries.outcome == Outcome.ACKNOWLEDGED)
    doubtful = without & (entries.outcome == Outcome.UNKNOWN)
    kinds = ("excluded", _EXCLUDED, p.excluded), ("rejected", _REJECTED, p.rejected), ("repeats", _REPEATED, p.repeats)
    for name, bit, counted in kinds:
        of_kind = (entries.expected & bit) != 0
        least = int((sure & of_kind).sum())
        most = least + int((doubtful & of_kind).sum())
        wrong += note(
            f"is how far packets.{name} = {counted} lies from the {least} to {most} that the journal allows",
            nothing,
            max(least - counted, counted - most, 0),
        )
    return wrong


def settle(
    paths: Iterable[Path],
    sql: Sql,
    *,
    lag: Callable[[], int | None] = lambda: None,
    patience: float = 120.0,
    quiet: float = 2.0,
    whole: bool = True,
) -> Books:
    """The books when the pipeline has come to rest: nothing lost and nothing moving for `quiet` seconds.

    While something is missing it waits longer: until the tables have stood still with a lag of 0 (None: unknown) for
    five times `quiet`, or `patience` seconds are over. Raises SqlError where ClickHouse stays away that long.
    """
    entries = read(paths)
    end = time.monotonic() + patience
    last: Counts | None = None
    still_since = time.monotonic()
    while True:
        now = time.monotonic()
        try:
            present = counts(sql)
            if present != last:
                last, still_since = present, now
            still = now - still_since
            behind = lag()
            if still >= quiet or now >= end:
                books = balance(entries, sql, whole=whole)
                if now >= end or (not behind and (books.right or still >= 5 * quiet)):
                    return books
        except SqlError:
            if now >= end:
                raise
        time.sleep(0.25)
