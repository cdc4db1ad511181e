"""`rebuild`: how long a worker takes to hold a partition's open visits again after a restart, and how much memory.

Against reading every row of the last hour and folding it in Python, which is what the aggregated rows replace. What
is rebuilt must have as many keys as the visits have.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from functools import partial

import numpy as np
import pyarrow as pa

from infra.service.clickhouse import Client, insert_if
from schemas.tables import PACKETS, PacketKind
from streams.state import VISIT_MS, PartitionState
from tests.benchmarks.frame import BenchmarkError, Frame
from tests.benchmarks.frame.laboratory import TOP, Laboratory, laboratory, placed, python
from tests.benchmarks.frame.result import Result, Setting
from tests.benchmarks.frame.rounds import Sample, interleaved
from tests.benchmarks.frame.rows import real_rows, repeated, with_columns

ROUNDS = 3
GENERATION = 1
ROWS_PER_VISIT = 3
EVENTS_PER_PACKET = 200
CHUNK = 100_000
KEYS = 2  # by which a visit of these is found: visitor and configuration
NO_REPEATS = "the worker holds no identities of repeats yet, so nothing is measured for them"


def run(frame: Frame) -> Result:
    """A million open visits of one partition."""
    visits = frame.pick(1_000_000, 30_000)
    frame.say("making rows")
    rows = real_rows(30_000)
    with laboratory(frame, ["front"]) as lab, lab.tables() as client:
        offset = fill(client, rows, visits)
        frame.say(f"{visits:,} open visits are stored")
        lanes = {
            name: partial(_measured, lab, kind, offset, visits)
            for name, kind in (("rows folded in Python", "rows"), ("state_before", "ours"))
        }
        series = interleaved(lanes, frame.rounds, frame.say)
    setting = Setting(f"{visits:,} open visits", series["state_before"], series["rows folded in Python"], "less")
    repeats = "repeats" in PartitionState.__slots__
    details = {"repeat_identities": None, "remark": "identities of repeats are not measured" if repeats else NO_REPEATS}
    name = "every row of the window read and folded in Python"
    return Result("rebuild", "seconds per million open visits", "open visit", name, [setting], details)


def fill(client: Client, rows: pa.Table, visits: int) -> int:
    """Stores the rows and packets of so many visits that are still open; returns the offset after them."""
    total = visits * ROWS_PER_VISIT
    now = time.time_ns() // 1_000_000
    for start in range(0, total, CHUNK):
        number = np.arange(start, min(start + CHUNK, total), dtype=np.int64)
        visit = number % visits
        last = now - (VISIT_MS - 60_000) + (number * (VISIT_MS - 120_000)) // total
        columns = {
            "partition": np.zeros(len(number)),
            "generation": np.full(len(number), GENERATION),
            "offset": number // EVENTS_PER_PACKET,
            "index": number % EVENTS_PER_PACKET,
            "time": last,
            "received_at": last,
            "visit_last": last,
            "visit_start": last,
            "visit_position": number // visits + 1,
            "visit_id": (visit + 1).astype(np.uint64) * np.uint64(11_400_714_819_323_198_485),
            "visit_visitor_id": (visit + 1).astype(np.uint64) * np.uint64(14_029_467_366_897_019_727),
            "visit_config_id": (visit + 1).astype(np.uint64) * np.uint64(1_609_587_929_392_839_161),
            "visit_user_id": np.zeros(len(number)),
        }
        _insert(client, "events", with_columns(repeated(rows, len(number)), columns))
    packets = -(-total // EVENTS_PER_PACKET)
    offsets = np.arange(packets)
    moment = pa.array(np.full(packets, now)).view(pa.timestamp("ms", "UTC"))
    values = {
        "generation": np.full(packets, GENERATION),
        "offset": offsets,
        "writer": np.ones(packets),
        "seq": offsets,
        "kind": np.full(packets, int(PacketKind.FIRST)),
        "policy_version": pa.array([bytes(16)] * packets, pa.binary(16)),
        "appended_at": moment,
        "watermark": moment,
        "repeats_from": moment,
        "received": np.full(packets, EVENTS_PER_PACKET),
        "stored": np.full(packets, EVENTS_PER_PACKET),
    }
    arrays = [
        pa.array([[]] * packets, field.type)
        if pa.types.is_list(field.type)
        else pa.array(values.get(field.name, np.zeros(packets))).cast(field.type)
        for field in PACKETS
    ]
    _insert(client, "packets", pa.Table.from_arrays(arrays, schema=PACKETS))
    return packets


def _insert(client: Client, table: str, rows: pa.Table) -> None:
    written = insert_if(client, table, rows, "1", query_id=f"bench-{time.monotonic_ns()}")
    if written != rows.num_rows:
        raise BenchmarkError(f"{written} of {rows.num_rows} rows of {table} were written")


def _measured(lab: Laboratory, kind: str, offset: int, visits: int) -> Sample:
    command = python("-m", "tests.benchmarks.peers.rebuilding", kind, str(GENERATION), str(offset))
    environment = os.environ | lab.settings.environment()
    engine = lab.tree("front")
    before = engine.usage().cpu
    done = subprocess.run(
        placed(command, lab.under_test), cwd=TOP, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"rebuilding ended with status {done.returncode}: {done.stderr[-500:].strip()}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["keys"] != visits * KEYS:
        raise BenchmarkError(f"{found['keys']:,} keys were rebuilt, {visits * KEYS:,} were stored ({kind})")
    details = {
        "mb_per_million": found["bytes"] / visits,
        "engine_cpu_us_per_item": (engine.usage().cpu - before) / visits * 1e6,
        "seconds": found["seconds"],
    }
    return Sample(found["seconds"] / visits * 1e6, visits, found["cpu"], found["peak"], details)
