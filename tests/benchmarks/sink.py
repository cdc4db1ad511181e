"""`sink`: the worker's conditional insert with the real columns of `events`, against a plain insert of the same rows.

Speeds are rows per CPU second of client and engine together, without merges, which come later for both alike.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import count

import pyarrow as pa

from infra.service.clickhouse import INSERT_SETTINGS, Client, insert_if
from streams.ownership import Ownership
from tests.benchmarks.frame import BenchmarkError, Frame
from tests.benchmarks.frame.laboratory import laboratory
from tests.benchmarks.frame.processes import Tree
from tests.benchmarks.frame.result import Result, Setting
from tests.benchmarks.frame.rounds import Sample, interleaved
from tests.benchmarks.frame.rows import real_rows

BATCH = 30_000  # rows of an insert, as the worker's under load
OURS, PLAIN = "events", "events_plain"


def run(frame: Frame) -> Result:
    """Some batches into an empty table, in turns."""
    inserts = frame.pick(10, 2)
    frame.say(f"making {BATCH:,} rows")
    rows = real_rows(BATCH)
    with laboratory(frame, ["front"]) as lab, lab.tables() as client:
        client.command(f"CREATE TABLE {PLAIN} AS events")
        for table in (OURS, PLAIN):
            client.command(f"SYSTEM STOP MERGES {table}")
        engine = lab.tree("front")
        lanes = {
            "plain insert": partial(_measured, client, engine, PLAIN, _plain(client, rows), inserts, rows.num_rows),
            "insert_if": partial(
                _measured, client, engine, "events", _conditional(client, rows), inserts, rows.num_rows
            ),
        }
        for lane in lanes.values():
            lane()
        series = interleaved(lanes, frame.rounds, frame.say)
    settings = [Setting("insert_if", series["insert_if"], series["plain insert"])]
    details = {"rows_per_insert": rows.num_rows, "arrow_bytes_per_row": round(rows.nbytes / rows.num_rows)}
    name = "insert_arrow of clickhouse-connect, without a condition"
    return Result("sink", "rows per CPU second of client and engine", "row", name, settings, details)


class _conditional:
    """An insert under claims of all partitions, as a worker makes it."""

    def __init__(self, client: Client, rows: pa.Table) -> None:
        ownership = Ownership(client, "bench")
        claims = ownership.claim(range(8)).values()
        self._client, self._rows = client, rows
        self._condition = ownership.condition(claims)
        self._query_id = partial(ownership.query_id, claims)

    def __call__(self) -> None:
        written = insert_if(self._client, OURS, self._rows, self._condition, query_id=self._query_id())
        if written != self._rows.num_rows:
            raise BenchmarkError(f"{written} of {self._rows.num_rows} rows were written")


class _plain:
    """An insert as anybody makes it."""

    def __init__(self, client: Client, rows: pa.Table) -> None:
        self._client, self._rows = client, rows
        self._number = count()

    def __call__(self) -> None:
        settings = {**INSERT_SETTINGS, "query_id": f"bench-plain-{next(self._number)}"}
        self._client.insert_arrow(PLAIN, self._rows, settings=settings)


def _measured(
    client: Client, engine: Tree, table: str, insert: _conditional | _plain, inserts: int, rows: int
) -> Sample:
    client.command(f"TRUNCATE TABLE {table}")
    before, own, began = engine.usage().cpu, time.process_time(), time.monotonic()
    for _ in range(inserts):
        insert()
    seconds = time.monotonic() - began
    by_client, usage = time.process_time() - own, engine.usage()
    by_engine = usage.cpu - before
    total = rows * inserts
    found = client.query(f"SELECT count() FROM {table}").result_rows[0][0]
    if found != total:
        raise BenchmarkError(f"{table} has {found} rows, {total} were inserted")
    details = {
        "per_second": total / seconds,
        "client_cpu_us_per_item": by_client / total * 1e6,
        "engine_cpu_us_per_item": by_engine / total * 1e6,
    }
    return Sample(total / (by_client + by_engine), total, by_client + by_engine, usage.peak, details)
