"""The checker finds what it is there to find, on the real engine: rows are put into the tables by hand, then spoilt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from infra.books import Books, balance
from infra.load.journal import HEADER, MAGIC, RECORD, Fate, Journal, Outcome, read
from infra.load.numbers import page_view_id
from infra.load.sql import Sql
from infra.rollups import drifted
from infra.service.settings import Settings

START = 1_790_000_000_000  # ms since 1970
WRITER, PER_PACKET, PACKETS, PARTITIONS = 7, 5, 4, 2
EVENTS = PER_PACKET * PACKETS * PARTITIONS
GAP_MS = 100  # between two requests, one event each; an answer takes half of it


@dataclass(frozen=True)
class Row:
    """One row of `events`, with what the checker looks at."""

    number: int
    partition: int
    seq: int
    index: int
    offset: int
    site: int
    visit: int
    position: int

    def values(self) -> str:
        at = f"fromUnixTimestamp64Milli(toInt64({START + self.number * GAP_MS}))"
        place = f"{WRITER}, {self.partition}, {self.seq}, {self.index}, 1, {self.offset}"
        return f"({place}, {self.site}, {at}, {at}, {self.visit}, {self.position}, 1, '{page_view_id(self.number)}')"


def right_rows() -> list[Row]:
    """Numbers rise within each partition; a partition is one site with two visitors who take turns."""
    rows = []
    for number in range(EVENTS):
        partition, place = number % PARTITIONS, number // PARTITIONS
        seq, index = divmod(place, PER_PACKET)
        visit = 10 * partition + place % 2 + 1
        rows.append(Row(number, partition, seq, index, 100 + seq, 1 + partition, visit, place // 2 + 1))
    return rows


def journal(path: Path, outcomes: dict[int, Outcome], fates: dict[int, Fate]) -> Path:
    """One request per event, each sent after the one before was answered."""
    records: list[tuple[int, int, int, int, int]] = []
    for number in range(EVENTS):
        sent = number * GAP_MS
        records.append((number, sent, Outcome.SENT, fates.get(number, Fate.STORED), 0))
        outcome = outcomes.get(number, Outcome.ACKNOWLEDGED)
        if outcome is not Outcome.UNKNOWN:
            records.append((number, sent + GAP_MS // 2, outcome, 0, 204))
    path.write_bytes(HEADER.pack(MAGIC, START, 1, 0) + np.array(records, RECORD).tobytes())
    return path


def one_request(path: Path) -> Path:
    """All events as the items of one bulk."""
    book = Journal(path, seed=1, first=0)
    book.sent(0, bytes([Fate.STORED]) * EVENTS)
    book.ended(0, [Outcome.ACKNOWLEDGED] * EVENTS, 200)
    book.close()
    return path


class Tables:
    """`events`, `packets` and `rejects` of one test, and the journal of what was sent."""

    def __init__(self, sql: Sql, folder: Path) -> None:
        self.sql, self._folder = sql, folder

    def balance(
        self,
        rows: list[Row],
        *,
        packets: dict[tuple[int, int], int | None] | None = None,
        outcomes: dict[int, Outcome] | None = None,
        fates: dict[int, Fate] | None = None,
        excluded: int = 0,
        repeats: int = 0,
        bulk: bool = False,
    ) -> Books:
        """Fill the tables and hold the books. packets: (partition, seq) -> number of rows in place of one, each with
        the counts of a whole packet; None: none. excluded, repeats: so many events of the first packet count as such.
        bulk: all events were sent in one request."""
        for table in ("events", "packets", "rejects"):
            self.sql.raw(f"TRUNCATE TABLE {table}")
        values = ", ".join(row.values() for row in rows)
        columns = "writer, `partition`, seq, `index`, generation, `offset`, site_id, received_at, time, visit_id"
        self.sql.raw(f"INSERT INTO events ({columns}, visit_position, action_type, page_view_id) VALUES {values}")
        written = []
        for partition in range(PARTITIONS):
            for seq in range(PACKETS):
                count = (packets or {}).get((partition, seq), 1)
                less, again = (excluded, repeats) if (partition, seq) == (0, 0) else (0, 0)
                sums = f"{PER_PACKET}, {PER_PACKET - less - again}, {less}, {again}"
                written += [f"({partition}, 1, {100 + seq}, {WRITER}, {seq}, 1, {sums})"] * (count or 0)
        self.sql.raw(
            "INSERT INTO packets (`partition`, generation, `offset`, writer, seq, kind, received, stored, excluded,"
            " repeats_random)"
            f" VALUES {', '.join(written)}"
        )
        path = self._folder / "journal"
        path.unlink(missing_ok=True)
        path = one_request(path) if bulk else journal(path, outcomes or {}, fates or {})
        return balance(read([path]), self.sql)


@pytest.fixture
def tables(installation: Settings, tmp_path: Path) -> Iterator[Tables]:
    password = installation.clickhouse_password.get_secret_value()
    sql = Sql(installation.clickhouse, installation.clickhouse_user, password, installation.clickhouse_database)
    yield Tables(sql, tmp_path)
    sql.close()


def test_what_is_right_passes(tables: Tables) -> None:
    books = tables.balance(right_rows())
    assert books.right, books.findings
    assert (books.sent, books.acknowledged, books.stored) == (EVENTS, EVENTS, EVENTS)
    assert not books.findings


def test_a_lost_packet_is_found(tables: Tables) -> None:
    rows = [row for row in right_rows() if (row.partition, row.seq) != (1, 2)]
    books = tables.balance(rows, packets={(1, 2): None})
    assert books.lost == PER_PACKET
    assert not books.right
    # The numbers behind it are found too: an offset has no row, and the visits count on over the hole.
    assert any("offsets have no row" in finding for finding in books.findings)


def test_a_lost_event_is_found_though_its_packet_is_there(tables: Tables) -> None:
    books = tables.balance([row for row in right_rows() if row.number != EVENTS - 1])
    assert books.lost == 1
    assert any("packets.stored" in finding for finding in books.findings)


def test_a_packet_stored_twice_is_found(tables: Tables) -> None:
    """As two workers would who both think that they own the partition: the same places, all rows twice."""
    rows = right_rows()
    books = tables.balance(rows + [row for row in rows if (row.partition, row.seq) == (0, 1)], packets={(0, 1): 2})
    assert books.doubled == PER_PACKET
    assert any("packets are too many for their names" in finding for finding in books.findings)
    assert any("packets are too many for their places" in finding for finding in books.findings)


def test_a_second_copy_that_is_taken_for_a_first_is_found(tables: Tables) -> None:
    """As after a retry under another name: other places, the same numbers."""
    again = [replace(row, seq=PACKETS, offset=100 + PACKETS) for row in right_rows() if row.seq == PACKETS - 1]
    assert tables.balance(right_rows() + again).doubled == PER_PACKET * PARTITIONS


def test_a_changed_order_within_a_visitor_is_found(tables: Tables) -> None:
    """Two events of one visitor have changed places; nothing is missing and every count holds."""
    rows = right_rows()
    first, second = (row for row in rows if row.visit == 1 and row.position in (1, 2))
    rows[first.number] = replace(first, index=second.index)
    rows[second.number] = replace(second, index=first.index)
    books = tables.balance(rows)
    assert (books.lost, books.doubled, books.unexplained) == (0, 0, 0)
    assert books.reordered > 0
    assert not books.right


def test_a_changed_order_of_packets_is_found(tables: Tables) -> None:
    """The events of two packets have changed places, positions with them, as a worker that reads out of turn does."""
    swapped = {1: 2, 2: 1}
    rows = [
        replace(row, number=row.number + (swapped[row.seq] - row.seq) * PER_PACKET * PARTITIONS)
        if row.partition == 0 and row.seq in swapped
        else row
        for row in right_rows()
    ]
    books = tables.balance(rows)
    assert (books.lost, books.doubled) == (0, 0)
    assert books.reordered >= PER_PACKET
    assert any("after what was sent after them" in finding for finding in books.findings)


def test_a_changed_order_within_a_request_is_found(tables: Tables) -> None:
    """Nothing was acknowledged before anything else was sent, yet the items of a bulk have an order."""
    assert tables.balance(right_rows(), bulk=True).right
    rows = right_rows()
    rows[0], rows[PARTITIONS] = replace(rows[0], index=1), replace(rows[PARTITIONS], index=0)
    books = tables.balance(rows, bulk=True)
    assert any("after what was sent after them" in finding for finding in books.findings)


def test_a_site_on_two_partitions_is_found(tables: Tables) -> None:
    rows = right_rows()
    rows[0] = replace(rows[0], site=2)
    assert any("several partitions" in finding for finding in tables.balance(rows).findings)


def test_a_row_of_a_refused_event_is_found(tables: Tables) -> None:
    books = tables.balance(right_rows(), outcomes={3: Outcome.REFUSED}, fates={3: Fate.REFUSED})
    assert books.unexplained > 0
    assert not books.right


def test_an_unknown_event_may_be_stored_or_not(tables: Tables) -> None:
    outcomes = {EVENTS - 1: Outcome.UNKNOWN, EVENTS - 2: Outcome.UNKNOWN}
    books = tables.balance(right_rows(), outcomes=outcomes)
    assert books.right, books.findings
    assert (books.unknown, books.unknown_stored) == (2, 2)


def test_an_event_that_was_never_sent_is_found(tables: Tables) -> None:
    rows = right_rows()
    stranger = replace(rows[-1], number=EVENTS + 5, position=rows[-1].position + 1, index=PER_PACKET)
    books = tables.balance([*rows, stranger])
    assert any("never sent" in finding for finding in books.findings)


def test_excluded_events_are_counted_and_no_more_than_the_rules_allow(tables: Tables) -> None:
    rows = [row for row in right_rows() if row.number != 0]
    rows = [replace(row, position=row.position - 1) if row.visit == 1 else row for row in rows]
    books = tables.balance(rows, fates={0: Fate.EXCLUDED}, excluded=1)
    assert books.right, books.findings
    assert books.excluded == 1
    books = tables.balance(rows, excluded=1)
    assert books.lost == 1
    assert any("packets.excluded" in finding for finding in books.findings)


def test_what_was_sent_again_must_count_as_a_repeat(tables: Tables) -> None:
    rows = [row for row in right_rows() if row.number != 0]
    rows = [replace(row, position=row.position - 1) if row.visit == 1 else row for row in rows]
    books = tables.balance(rows, fates={0: Fate.REPEATED}, repeats=1)
    assert books.right, books.findings
    assert (books.repeats, books.lost) == (1, 0)
    assert books.acknowledged == books.stored + books.excluded + books.rejected + books.repeats
    stored_twice = tables.balance(right_rows(), fates={0: Fate.REPEATED})
    assert any("rules do not allow" in finding for finding in stored_twice.findings)
    not_counted = tables.balance(rows, fates={0: Fate.REPEATED}, excluded=1)
    assert any("packets.repeats = 0" in finding for finding in not_counted.findings)
    dropped = tables.balance(rows, repeats=1)
    assert dropped.lost == 1
    assert any("packets.repeats = 1" in finding for finding in dropped.findings)


@pytest.mark.parametrize("view", ["hours", "days"])
def test_a_rollup_that_drifted_by_one_is_found(tables: Tables, view: str) -> None:
    """Every row and every count of packets is right, and a reader of the sums is told one page view too many."""
    assert tables.balance(right_rows()).right
    columns = f"site_id, {view[:-1]}, actions, pageviews + (site_id = 2) AS pageviews, visits, revenue"
    tables.sql.raw(f"RENAME TABLE {view} TO kept_{view}")
    tables.sql.raw(f"CREATE VIEW {view} AS SELECT {columns} FROM kept_{view}")
    books = tables.balance(right_rows())
    assert (books.lost, books.doubled, books.reordered) == (0, 0, 0)
    assert not books.right
    assert any(finding.startswith(f"{view}.pageviews of site 2") for finding in books.findings), books.findings
    assert books.unexplained == 1


def test_days_are_those_of_the_site_and_not_of_utc(tables: Tables) -> None:
    columns = "writer, seq, generation, `offset`, site_id, received_at, time, day, visit_position, action_type"
    at = "toDateTime64('2026-09-21 14:10:00', 3, 'UTC')"
    tables.sql.raw(f"INSERT INTO events ({columns}) VALUES (7, 1, 1, 100, 4, {at}, {at}, '2026-09-22', 1, 1)")
    assert tables.sql.rows("SELECT toString(day), actions FROM days") == [["2026-09-22", "1"]]
    assert drifted(tables.sql) == []
