"""A process that rebuilds a partition's state once and prints what it took, as JSON.

    python -m tests.benchmarks.peers.rebuilding ours|rows GENERATION OFFSET

`ours`: as the worker does, one aggregated row per open visit. `rows`: every row of the window is read and folded here.
"""

from __future__ import annotations

import json
import sys
import time

import psutil

from infra.service.clickhouse import Client, connect
from infra.service.settings import load_settings
from streams.restart import state_before
from streams.state import HELD_MS, VISIT_STATE_COLUMNS, PartitionState
from tests.benchmarks.frame.processes import Tree

PARTITION = 0
MOMENTS = ("visit_start", "visit_last")


def from_rows(client: Client, generation: int, offset: int) -> PartitionState:
    """The state from every row, the last of a visit winning."""
    before = f"`partition` = {PARTITION} AND (generation, `offset`) < ({generation}, {offset})"
    watermark = client.query(f"SELECT toUnixTimestamp64Milli(max(watermark)) FROM packets WHERE {before}").result_rows
    watermark_ms = int(watermark[0][0])
    columns = ", ".join(f"toUnixTimestamp64Milli({c})" if c in MOMENTS else f"`{c}`" for c in VISIT_STATE_COLUMNS)
    found: dict[int, tuple[object, ...]] = {}
    query = (
        f"SELECT {columns} FROM events WHERE {before} AND visit_id != 0"
        f" AND toUnixTimestamp64Milli(visit_last) > {watermark_ms - HELD_MS} ORDER BY generation, `offset`, `index`"
    )
    with client.query_row_block_stream(query) as blocks:
        for block in blocks:
            for row in block:
                found[row[0]] = tuple(row)
    return PartitionState.from_rows(watermark_ms, found.values(), [])


def main(kind: str, generation: int, offset: int) -> None:
    """Rebuilds and prints."""
    settings = load_settings()
    process = psutil.Process()
    with connect(settings, timeout=600) as client:
        client.query("SELECT 1")
        before, cpu, began = process.memory_info().rss, time.process_time(), time.monotonic()
        rebuild = state_before if kind == "ours" else _from_rows_of
        state = rebuild(client, PARTITION, generation, offset)
        seconds, used = time.monotonic() - began, time.process_time() - cpu
    after = process.memory_info().rss
    peak = Tree([process.pid]).usage().peak
    found = {"keys": len(state.index), "seconds": seconds, "cpu": used, "bytes": after - before, "peak": peak}
    print(json.dumps(found))


def _from_rows_of(client: Client, _partition: int, generation: int, offset: int) -> PartitionState:
    return from_rows(client, generation, offset)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
