"""Outcomes as plain rows, and the restart's selection done in Python as `streams.state` describes it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.tables import PacketKind
from streams import batch
from streams.batch import Lookups, Outcome, PartitionState, Record
from streams.repeats import unpacked
from streams.state import HELD_MS, VISIT_MS, VISIT_STATE_COLUMNS
from streams.window import Window
from tests.streams.core.traffic import World, fresh

Rows = dict[str, list[dict[str, Any]]]


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """Rows with moments as milliseconds."""
    rows: list[dict[str, Any]] = table.to_pylist()
    return [{name: _value(value) for name, value in row.items()} for row in rows]


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return round((value - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    return value


def rows(*outcomes: Outcome) -> Rows:
    """All rows of outcomes, in order."""
    out: Rows = {"events": [], "rejects": [], "packets": []}
    for outcome in outcomes:
        for name, found in out.items():
            found += plain(getattr(outcome, name))
    return out


def run(batches: Sequence[Sequence[Record]], lookups: Lookups, process: Any = batch.process) -> Rows:
    """Process and apply batch after batch, from empty states."""
    states = fresh([record for one in batches for record in one])
    outcomes = []
    for one in batches:
        outcome = process(one, states, lookups)
        outcome.apply()
        if isinstance(lookups, World):
            lookups.store(outcome.events)
        outcomes.append(outcome)
    return rows(*outcomes)


def differences(ours: Rows, theirs: Rows) -> list[tuple[Any, ...]]:
    """Where two sets of rows differ, field by field; empty where they are equal."""
    out: list[tuple[Any, ...]] = []
    for table in ours:
        if len(ours[table]) != len(theirs[table]):
            out.append((table, "rows", len(ours[table]), len(theirs[table])))
        for number, (a, b) in enumerate(zip(ours[table], theirs[table], strict=False)):
            out += [(table, number, name, a[name], b[name]) for name in a if a[name] != b[name]]
    return out


def rebuilt(stored: Rows, partition: int, place: tuple[int, int]) -> PartitionState:
    """The state of a partition before a place (generation, offset), from stored rows alone."""

    def before(row: dict[str, Any]) -> bool:
        return row["partition"] == partition and (row["generation"], row["offset"]) < place

    ledger = [row for row in stored["packets"] if before(row)]
    watermark = max((row["watermark"] for row in ledger), default=0)
    since = max((row["repeats_from"] for row in ledger), default=0)
    held = [row for row in stored["events"] if before(row) and row["received_at"] > since and any(row["repeat_id"])]
    high, low = unpacked(b"".join(row["repeat_id"] for row in held))
    latest: dict[int, dict[str, Any]] = {}
    for row in stored["events"]:
        recent = row["visit_last"] > watermark - HELD_MS and row["time"] > watermark - HELD_MS - VISIT_MS
        if before(row) and recent:
            found = latest.get(row["visit_id"])
            if found is None or _place(row) > _place(found):
                latest[row["visit_id"]] = row
    return PartitionState.from_rows(
        watermark,
        [tuple(row[name] for name in VISIT_STATE_COLUMNS) for row in reversed(latest.values())],
        [(row["writer"], row["seq"], row["seq"]) for row in ledger if row["kind"] == PacketKind.FIRST],
        Window.of(since, high, low, np.array([row["received_at"] for row in held], np.int64)),
    )


def _place(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["generation"], row["offset"], row["index"]
