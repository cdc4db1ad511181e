"""Where a partition starts again, and the state it starts with: both are functions of the stored rows alone.

The restart offset is the lowest offset of the current topic id, at or above the log's start, without a row in
`packets`. The state is built from rows before it; every record from there on runs through the stages again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infra.service.clickhouse import Client
from infra.service.logs import logger
from schemas.tables import PacketKind
from streams import metrics
from streams.repeats import unpacked
from streams.state import HELD_MS, VISIT_MS, VISIT_STATE_COLUMNS, PartitionState
from streams.stored import islands
from streams.surroundings import Asked, AskedVisits
from streams.window import Run, Window

log = logger(__name__)

RANGES_LOGGED = 20
QUERY_BYTES = 16 << 20  # of a look-up; it names every late event of a batch
_moments = {"visit_start", "visit_last"}
_high = "reinterpretAsUInt64(substring(repeat_id, 1, 8))"
_place = "(generation, `offset`, `index`)"


@dataclass(frozen=True, slots=True)
class Restart:
    """offset: where to start. lost: how many offsets left the log before they were stored."""

    offset: int
    lost: int


def restart(client: Client, partition: int, generation: int, log_start: int) -> Restart:
    """The restart offset of a partition; what left the log before it was stored is counted and logged."""
    place = f"`partition` = {partition} AND generation = {generation}"
    ranges = islands(client, f"{place} AND `offset` >= {log_start}")
    offset = ranges[0][1] if ranges and ranges[0][0] == log_start else log_start
    below = client.query(
        f"SELECT uniqExact(`offset`) FROM packets WHERE {place} AND `offset` < {log_start}"
    ).result_rows[0][0]
    lost = log_start - int(below)
    if lost:
        present = islands(client, f"{place} AND `offset` < {log_start}")
        firsts, afters = (*(first for first, _ in present), log_start), (0, *(after for _, after in present))
        gaps = [(after, first - 1) for after, first in zip(afters, firsts, strict=True) if after < first]
        log.error("offsets_lost", partition=partition, generation=generation, offsets=lost, ranges=gaps[:RANGES_LOGGED])
    metrics.lost.labels(str(partition)).set(lost)
    return Restart(offset, lost)


def state_before(client: Client, partition: int, generation: int, offset: int) -> PartitionState:
    """The state of a partition before place (generation, offset); what is selected is said in `streams.state`."""
    before = f"`partition` = {partition} AND (generation, `offset`) < ({generation}, {offset})"
    highest = client.query(
        "SELECT toUnixTimestamp64Milli(max(watermark)), toUnixTimestamp64Milli(max(repeats_from)) "
        f"FROM packets WHERE {before}"
    )
    watermark_ms, from_ms = (max(int(value), 0) for value in highest.result_rows[0])
    return PartitionState.from_rows(
        watermark_ms,
        _visits(
            client,
            f"{before} AND visit_last > {_moment(watermark_ms - HELD_MS)} "
            f"AND time > {_moment(watermark_ms - HELD_MS - VISIT_MS)}",
        ),
        _seen(client, before),
        Window.of(from_ms, *_identities(client, f"{before} AND received_at > {_moment(from_ms)}")),
    )


def stored_repeats(client: Client, asked: Sequence[Asked]) -> list[Run]:
    """For each of these its identities among the stored rows, by one query."""
    places = []
    for one in asked:
        sites, high = (", ".join(map(str, sorted(numbers))) for numbers in (one.sites, one.high))
        places.append(
            f"(`partition` = {one.partition} AND (generation, `offset`) < ({one.generation}, {one.offset}) "
            f"AND site_id IN ({sites}) AND received_at BETWEEN {_moment(one.first_ms)} AND {_moment(one.last_ms)} "
            f"AND {_high} IN ({high}))"
        )
    metrics.repeat_lookups.inc()
    high, low, at, partition = _identities(client, " OR ".join(places), "`partition`")
    return [Run(*(column[partition == one.partition] for column in (high, low, at))) for one in asked]


def _identities(client: Client, where: str, *more: str) -> tuple[Any, ...]:
    """Columns high, low and moment (ms) of the rows that have an identity, and those asked for beside them."""
    columns = ", ".join(("repeat_id", "toUnixTimestamp64Milli(received_at) AS at", *more))
    rows = client.query_arrow(
        f"SELECT {columns} FROM events WHERE ({where}) AND {_high} != 0", settings={"max_query_size": QUERY_BYTES}
    )
    ids = b"".join(rows["repeat_id"].to_pylist())
    return (*unpacked(ids), *(rows[name].to_numpy() for name in rows.column_names[1:]))


def stored_visits(client: Client, asked: Sequence[AskedVisits]) -> list[list[tuple[object, ...]]]:
    """For each of these the visits among the stored rows, by a query each."""
    return [_visits(client, _asked(one)) for one in asked]


def _asked(one: AskedVisits) -> str:
    metrics.visit_lookups.inc()
    spans = " OR ".join(
        f"site_id = {site} AND time BETWEEN {_moment(first)} AND {_moment(last)}" for site, first, last in one.spans
    )
    kinds = " OR ".join(
        f"visit_{kind}_id IN ({', '.join(map(str, sorted(hashes)))})"
        for kind, hashes in (("user", one.users), ("visitor", one.visitors), ("config", one.configs))
        if hashes
    )
    before = f"`partition` = {one.partition} AND (generation, `offset`) < ({one.generation}, {one.offset})"
    return f"{before} AND ({spans}) AND ({kinds})"


def _visits(client: Client, where: str) -> list[tuple[object, ...]]:
    # one argMax of a tuple: a row is compared and kept once, not column by column
    latest = ", ".join(f"`{column}`" for column in VISIT_STATE_COLUMNS)
    columns = (
        f"toUnixTimestamp64Milli(latest.{n})" if column in _moments else f"latest.{n}"
        for n, column in enumerate(VISIT_STATE_COLUMNS, 1)
    )
    rows = client.query(
        f"SELECT {', '.join(f'{sql} AS c{n}' for n, sql in enumerate(columns))} FROM ("
        f"SELECT argMax(({latest}), {_place}) AS latest FROM events WHERE {where} AND visit_id != 0 GROUP BY visit_id)",
        settings={"max_query_size": QUERY_BYTES},
    ).result_rows
    return [tuple(row) for row in rows]


def _seen(client: Client, before: str) -> list[tuple[int, int, int]]:
    first = f"{before} AND kind = {int(PacketKind.FIRST)}"
    rows = client.query(
        f"SELECT writer, min(seq), max(seq), uniqExact(seq) FROM packets WHERE {first} GROUP BY writer"
    ).result_rows
    whole = [(int(w), int(low), int(high)) for w, low, high, n in rows if high - low + 1 == n]
    torn = [int(w) for w, low, high, n in rows if high - low + 1 != n]
    for start in range(0, len(torn), 500):
        writers = ", ".join(map(str, torn[start : start + 500]))
        ranges = client.query(
            "SELECT writer, min(seq), max(seq) FROM ("
            "SELECT writer, seq, seq - row_number() OVER (PARTITION BY writer ORDER BY seq) AS island "
            f"FROM packets WHERE {first} AND writer IN ({writers})) GROUP BY writer, island"
        ).result_rows
        whole += [(int(w), int(low), int(high)) for w, low, high in ranges]
    return whole


def _moment(ms: int) -> str:
    """A moment as SQL, from milliseconds since 1970; never before it."""
    text = datetime.fromtimestamp(max(ms, 0) // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"toDateTime64('{text}.{max(ms, 0) % 1000:03}', 3, 'UTC')"
