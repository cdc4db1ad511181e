"""The books of the event path: what collectors report as acknowledged against the rows of `packets`.

    rule                                                                       broken by
    every seq that is reported as acknowledged has one first copy              missing, doubled
    the first copies between two reports hold as many events as these tell     miscounted
    received = stored + excluded + rejected + repeats; copies count nothing    unbalanced
    every offset from 0 on has one row                                         lost, doubled

Told apart, and no fault: packets stored but never reported (a collector that was killed between acknowledgement and
report), seqs that are open (absent below a stored one, and not reported) and those that never were acknowledged (the
same, once their writer has ended or the time is over in which a spool could bring them).

Nothing here reads a clock to decide what is missing. Reports are read first, then the ends of the log: what was
acknowledged lies below these ends, so it must be stored once a partition's rows reach them. Until then what is absent
beyond a writer's last stored packet is waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from infra.service.clickhouse import Client
from schemas.tables import PacketKind
from streams.accounts import Account, Name, Point

NAMED = 50  # packets or ranges that are named of each kind
CHUNK = 500  # accounts in a query
SLACK_MS = 600_000  # between a packet's appending and the report of it, at most
SETTINGS = {"max_bytes_before_external_group_by": 1 << 30, "max_query_size": 16 << 20}
_FATES = "stored + excluded + rejected + repeats_key + repeats_random + repeats_body"
_FIRST = f"kind = {int(PacketKind.FIRST)}"
_NAME = "writer, `partition`"


class Wrong(StrEnum):
    """How the books can be out of balance."""

    MISSING = "missing"  # reported as acknowledged, no first copy
    DOUBLED = "doubled"  # several first copies of a name, or several rows of a place
    MISCOUNTED = "miscounted"  # the packets hold another number of events than was acknowledged
    UNBALANCED = "unbalanced"  # a packet's events are not the sum of their fates
    LOST = "lost"  # offsets that left the log before they were stored


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """Packets first to last of one writer and partition; of LOST, offsets of a generation, which is in `writer`.

    expected, found: events where a count is wrong, rows where they are doubled; else 0.
    """

    writer: int
    partition: int
    first: int
    last: int
    expected: int = 0
    found: int = 0

    @property
    def packets(self) -> int:
        """How many."""
        return self.last - self.first + 1

    @property
    def name(self) -> str:
        """The packets by name."""
        seq = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return f"{self.writer:016x}/{self.partition}/{seq}"

    def as_dict(self) -> dict[str, object]:
        """For programs. writer: 16 hexadecimal digits."""
        told = {"writer": f"{self.writer:016x}", "partition": self.partition, "first": self.first, "last": self.last}
        return told | ({"expected": self.expected, "found": self.found} if self.expected or self.found else {})


Found = Mapping[Wrong, tuple[Range, ...]]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the rows looked at. copies, bad: rows of a second copy, and of records that nobody can read."""

    packets: int = 0
    received: int = 0
    stored: int = 0
    excluded: int = 0
    rejected: int = 0
    repeats: int = 0
    copies: int = 0
    bad: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """The books at a moment. wrong: by kind, at most NAMED of each. accounts: writers times partitions that reported.

    reported, reported_events: packets that were acknowledged since the accounts begin, and the events in them. waiting:
    packets of these that the worker has not come to. unreported: stored and never reported. open, never: seqs, see
    the module.
    """

    accounts: int
    reported: int
    reported_events: int
    waiting: int
    totals: Totals
    wrong: Found
    unreported: tuple[Range, ...]
    open: tuple[Range, ...]
    never: tuple[Range, ...]

    @property
    def balanced(self) -> bool:
        """Whether every rule holds."""
        return not any(self.wrong.values())

    @classmethod
    def empty(cls) -> Ledger:
        """The books of nothing."""
        return cls(0, 0, 0, 0, Totals(), {}, (), (), ())

    def count(self, wrong: Wrong) -> int:
        """Packets (of LOST, offsets) with this fault, of those that are named."""
        return sum(one.packets for one in self.wrong.get(wrong, ()))

    def confirmed(self, earlier: Ledger | None) -> Ledger:
        """These books with the faults alone that stood in the earlier ones too.

        An insert into several parts of a table is seen in pieces for a moment.
        """
        before = {kind: set(earlier.wrong.get(kind, ())) if earlier else set[Range]() for kind in Wrong}
        wrong = {kind: tuple(one for one in found if one in before[kind]) for kind, found in self.wrong.items()}
        return replace(self, wrong=wrong)

    def as_dict(self) -> dict[str, object]:
        """What `veilstream ledger --json` prints."""
        totals = self.totals
        return {
            "balanced": self.balanced,
            "accounts": self.accounts,
            "reported": {"packets": self.reported, "events": self.reported_events, "waiting": self.waiting},
            "stored": {name: getattr(totals, name) for name in Totals.__dataclass_fields__},
            "wrong": {kind: [one.as_dict() for one in self.wrong.get(kind, ())] for kind in Wrong},
            "unreported": [one.as_dict() for one in self.unreported],
            "open": [one.as_dict() for one in self.open],
            "never_acknowledged": [one.as_dict() for one in self.never],
        }


@dataclass(frozen=True, slots=True)
class Reported:
    """What is judged. told: points by account. settled: partitions whose rows reach the ends of the log that were
    asked for after `told` was read. newest: all accounts as of now."""

    told: Mapping[Name, tuple[Point, ...]]
    settled: frozenset[int]
    newest: Mapping[Name, Account]


def judge(client: Client, reported: Reported, *, since_ms: int, grace: float, closing: float) -> Ledger:
    """Compare. since_ms: rows appended before are left alone, 0 for none. Raises ClickHouse's errors.

    grace: seconds after which a stored packet that no report tells counts as unreported. closing: seconds after a
    writer's last sign in which its open packets may still come.
    """
    told = {name: points for name, points in reported.told.items() if points[-1].below > points[0].below}
    missing: list[Range] = []
    miscounted: list[Range] = []
    waiting = 0
    for name in _unlike_reports(client, told, since_ms):
        settled = name[1] in reported.settled
        absent, others = _apart(client, name, told[name], _after(since_ms - SLACK_MS))
        if since_ms and (others or any(settled or one.expected for one in absent)):
            # a packet that was appended long before its acknowledgement came lies further back
            absent, others = _apart(client, name, told[name], _after(0))
        missed = [replace(one, expected=0) for one in absent if settled or one.expected]
        waiting += sum(one.packets for one in absent) - sum(one.packets for one in missed)
        missing += missed
        miscounted += others
    unreported, open_, never = _beyond_reports(client, reported.newest, since_ms, grace, closing)
    wrong = {
        Wrong.MISSING: missing,
        Wrong.DOUBLED: _doubled(client, since_ms),
        Wrong.MISCOUNTED: miscounted,
        Wrong.UNBALANCED: _unbalanced(client, since_ms),
        Wrong.LOST: _lost(client, since_ms),
    }
    return Ledger(
        accounts=len(reported.newest),
        reported=sum(points[-1].below - points[0].below for points in told.values()),
        reported_events=sum(points[-1].events - points[0].events for points in told.values()),
        waiting=waiting,
        totals=_totals(client, since_ms),
        wrong={kind: tuple(sorted(found)[:NAMED]) for kind, found in wrong.items()},
        unreported=tuple(sorted(unreported)),
        open=tuple(sorted(open_)),
        never=tuple(sorted(never)),
    )


def reached(client: Client, generation: int, partitions: Iterable[int]) -> dict[int, int]:
    """Of each partition, the offset behind its last row in the current generation; 0 where there is none."""
    found = {}
    for partition in partitions:
        rows = client.query(
            f"SELECT generation, `offset` + 1 FROM packets WHERE `partition` = {partition} "
            "ORDER BY generation DESC, `offset` DESC LIMIT 1"
        ).result_rows
        found[partition] = int(rows[0][1]) if rows and int(rows[0][0]) == generation else 0
    return found


def _unlike_reports(client: Client, told: Mapping[Name, tuple[Point, ...]], since_ms: int) -> Iterator[Name]:
    """The accounts whose packets or events are others than was told."""
    names = list(told)
    for start in range(0, len(names), CHUNK):
        chunk = names[start : start + CHUNK]
        spans = ", ".join(f"({w}, {p}, {told[w, p][0].below}, {told[w, p][-1].below})" for w, p in chunk)
        rows = client.query(
            f"SELECT {_NAME}, uniqExact(seq), count(), sum(received) FROM packets INNER JOIN (SELECT * FROM "
            f"values('writer UInt64, partition UInt16, a UInt64, b UInt64', {spans})) AS told USING ({_NAME}) "
            f"WHERE {_FIRST} AND {_after(since_ms - SLACK_MS)} AND seq >= a AND seq < b GROUP BY {_NAME}",
            settings=SETTINGS,
        ).result_rows
        there = {(int(w), int(p)): (int(n), int(count), int(events)) for w, p, n, count, events in rows}
        for name in chunk:
            first, last = told[name][0], told[name][-1]
            packets = last.below - first.below
            if there.get(name) != (packets, packets, last.events - first.events):
                yield name


def _apart(client: Client, name: Name, points: Sequence[Point], after: str) -> tuple[list[Range], list[Range]]:
    """Packets of an account that are absent, see `_gaps`, and spans that hold another number of events than told."""
    writer, partition = name
    low, high = points[0].below, points[-1].below
    of_account = f"writer = {writer} AND `partition` = {partition} AND {_FIRST} AND {after}"
    absent = _gaps(client, of_account, name, low, high)
    bounds = ", ".join(str(point.below) for point in points[1:])
    rows = client.query(
        f"SELECT arrayFirstIndex(b -> b > seq, CAST([{bounds}], 'Array(UInt64)')) AS span, count(), sum(received) "
        f"FROM packets WHERE {of_account} AND seq >= {low} AND seq < {high} GROUP BY span"
    ).result_rows
    there = {int(span): (int(count), int(events)) for span, count, events in rows}
    wrong = []
    for span, (one, next_) in enumerate(pairwise(points), 1):
        count, events = there.get(span, (0, 0))
        # where packets are absent or doubled, that is what there is to say
        if count == next_.below - one.below and events != next_.events - one.events:
            wrong.append(Range(writer, partition, one.below, next_.below - 1, next_.events - one.events, events))
    return absent, wrong


def _gaps(client: Client, where: str, name: Name, low: int, high: int) -> list[Range]:
    """Ranges of seq in [low, high) without a row; of one that a row follows (in all that is stored) `expected` is 1."""
    rows = client.query(
        "SELECT before + 1, seq - 1 FROM (SELECT seq, lagInFrame(toInt64(seq), 1, toInt64("
        f"{low - 1})) OVER (ORDER BY seq ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before FROM "
        f"(SELECT DISTINCT seq FROM packets WHERE {where} AND seq >= {low} AND seq < {high})) "
        f"WHERE seq > before + 1 ORDER BY seq LIMIT {NAMED}"
    ).result_rows
    found = [Range(*name, int(first), int(last), 1) for first, last in rows]
    ((below, last, beyond),) = client.query(
        f"SELECT countIf(seq < {high}), maxIf(seq, seq < {high}), countIf(seq >= {high}) FROM packets "
        f"WHERE {where} AND seq >= {low}"
    ).result_rows
    end = int(last) + 1 if int(below) else low
    if end < high:
        found.append(Range(*name, end, high - 1, int(int(beyond) > 0)))
    return found


def _beyond_reports(
    client: Client, newest: Mapping[Name, Account], since_ms: int, grace: float, closing: float
) -> tuple[list[Range], list[Range], list[Range]]:
    """Stored packets that no report tells, and the seqs absent among them: open, and never acknowledged."""
    old = f"{_FIRST} AND {_after(since_ms)} AND appended_at < now64(3) - INTERVAL {int(grace * 1000)} MILLISECOND"
    rows = client.query(
        f"SELECT {_NAME}, max(seq) FROM packets WHERE {old} GROUP BY {_NAME}", settings=SETTINGS
    ).result_rows
    belows = {(int(w), int(p)): _below(newest, (int(w), int(p))) for w, p, _ in rows}
    beyond = [(int(w), int(p)) for w, p, last in rows if int(last) >= belows[int(w), int(p)]]
    unreported: list[Range] = []
    open_: list[Range] = []
    never: list[Range] = []
    for start in range(0, len(beyond), CHUNK):
        spans = ", ".join(f"({w}, {p}, {belows[w, p]})" for w, p in beyond[start : start + CHUNK])
        rows = client.query(
            f"SELECT {_NAME}, min(seq), max(seq), uniqExact(seq), toUnixTimestamp64Milli(max(appended_at)), "
            "toUnixTimestamp64Milli(now64(3)) FROM packets INNER JOIN (SELECT * FROM "
            f"values('writer UInt64, partition UInt16, a UInt64', {spans})) AS told USING ({_NAME}) "
            f"WHERE {old} AND seq >= a GROUP BY {_NAME}",
            settings=SETTINGS,
        ).result_rows
        for w, p, first, last, packets, appended, now in rows:
            name = int(w), int(p)
            account = newest.get(name)
            unreported.append(Range(*name, int(first), int(last), found=int(packets)))
            # without an account the first packets may lie before the rows that are looked at
            begin = belows[name] if account or not since_ms else int(first)
            if int(packets) == int(last) - begin + 1 or len(open_) + len(never) >= NAMED:
                continue
            where = f"writer = {name[0]} AND `partition` = {name[1]} AND {old}"
            gaps = [replace(gap, expected=0) for gap in _gaps(client, where, name, begin, int(last) + 1)]
            told = account.last.told_ms if account else 0
            over = (account is not None and account.final) or int(now) - max(int(appended), told) > closing * 1000
            (never if over else open_).extend(gaps)
    return unreported, open_, never


def _below(newest: Mapping[Name, Account], name: Name) -> int:
    return newest[name].last.below if name in newest else 0


def _doubled(client: Client, since_ms: int) -> list[Range]:
    after = _after(since_ms)
    names = client.query(
        f"SELECT {_NAME}, seq, count() AS n FROM packets WHERE {_FIRST} AND {after} GROUP BY {_NAME}, seq "
        f"HAVING n > 1 ORDER BY {_NAME}, seq LIMIT {NAMED}",
        settings=SETTINGS,
    ).result_rows
    places = client.query(
        f"SELECT any(writer), `partition`, any(seq), count() AS n FROM packets WHERE {after} "
        f"GROUP BY `partition`, generation, `offset` HAVING n > 1 ORDER BY `partition`, `offset` LIMIT {NAMED}",
        settings=SETTINGS,
    ).result_rows
    return sorted({Range(int(w), int(p), int(s), int(s), 1, int(n)) for w, p, s, n in [*names, *places]})


def _unbalanced(client: Client, since_ms: int) -> list[Range]:
    rows = client.query(
        f"SELECT {_NAME}, seq, received, {_FATES} AS accounted FROM packets WHERE {_after(since_ms)} "
        f"AND (received != accounted OR (NOT {_FIRST} AND received != 0)) ORDER BY {_NAME}, seq LIMIT {NAMED}"
    ).result_rows
    return [Range(int(w), int(p), int(s), int(s), int(received), int(sums)) for w, p, s, received, sums in rows]


def _lost(client: Client, since_ms: int) -> list[Range]:
    """Offsets without a row between two that have one and, where all rows are looked at, below the first."""
    after = _after(since_ms)
    begin = "toInt64(min(`offset`))" if since_ms else "toInt64(0)"
    torn = client.query(
        f"SELECT `partition`, generation, {begin} FROM packets WHERE {after} GROUP BY `partition`, generation "
        f"HAVING max(`offset`) - {begin} + 1 != uniqExact(`offset`)",
        settings=SETTINGS,
    ).result_rows
    found = []
    for partition, generation, first in torn:
        rows = client.query(
            "SELECT before + 1, `offset` - 1 FROM (SELECT `offset`, lagInFrame(toInt64(`offset`), 1, toInt64("
            f"{int(first) - 1})) OVER (ORDER BY `offset` ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before FROM "
            f"(SELECT DISTINCT `offset` FROM packets WHERE `partition` = {partition} AND generation = {generation} "
            f"AND {after})) WHERE `offset` > before + 1 ORDER BY `offset` LIMIT {NAMED}"
        ).result_rows
        found += [Range(int(generation), int(partition), int(low), int(high)) for low, high in rows]
    return found


def _totals(client: Client, since_ms: int) -> Totals:
    sums = ", ".join(f"sum({name})" for name in ("received", "stored", "excluded", "rejected"))
    ((row),) = client.query(
        f"SELECT countIf({_FIRST}), {sums}, sum(repeats_key) + sum(repeats_random) + sum(repeats_body), "
        f"countIf(kind = {int(PacketKind.COPY)}), countIf(kind = {int(PacketKind.BAD)}) "
        f"FROM packets WHERE {_after(since_ms)}"
    ).result_rows
    return Totals(*map(int, row))


def _after(ms: int) -> str:
    """The SQL of having been appended at or after a moment (milliseconds since 1970)."""
    return f"appended_at >= fromUnixTimestamp64Milli(toInt64({ms}))" if ms > 0 else "1"
