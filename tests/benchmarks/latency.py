"""`latency`: from a request to its visible row under a steady rate, against a row that is put straight into the engine.

Both are seen by polling every 10 ms at the same time, so both are too long by up to one poll and the time of one query.
"""

from __future__ import annotations

import json
import os
import subprocess
import time

import numpy as np
import pyarrow as pa

from infra.service.clickhouse import Client
from tests.benchmarks.frame import BenchmarkError, Frame
from tests.benchmarks.frame.laboratory import TOP, Laboratory, laboratory, placed, python
from tests.benchmarks.frame.machine import Listening, Noise
from tests.benchmarks.frame.result import Result, Setting
from tests.benchmarks.frame.rounds import Sample, Series
from tests.benchmarks.frame.rows import real_rows

SITES = 40
PROBES = 20  # a second
DIRECT_PAUSE = 0.2  # seconds between two rows that are put straight into the engine
POLL = 0.01
LIMIT = 30.0


def run(frame: Frame) -> Result:
    """The whole local stack, all on all cores."""
    rate, seconds = frame.pick(2_000, 300), frame.pick(30, 6)
    row = real_rows(100).slice(0, 1)
    ours: list[Sample] = []
    direct: list[Sample] = []
    noises: list[Noise] = []
    with laboratory(frame, ["kafka", "front"], apart=False) as lab:
        lab.install(SITES)
        with lab.part("collector") as collector, lab.part("worker") as worker, lab.tables() as client:
            client.command("CREATE TABLE direct AS events")
            _load(lab, rate, 3, client, row)
            for number in range(frame.rounds):
                listening = Listening()
                before = collector.tree.usage().cpu + worker.tree.usage().cpu
                visible, sent, straight = _load(lab, rate, seconds, client, row)
                after = collector.tree.usage(), worker.tree.usage()
                cpu = after[0].cpu + after[1].cpu - before
                memory = after[0].peak + after[1].peak
                if visible["unseen"] or visible["unanswered"]:
                    raise BenchmarkError(f"not every probe was answered and seen: {visible}")
                details = {"p50_ms": visible["p50"], "max_ms": visible["max"], "sent_per_second": sent / seconds}
                ours.append(Sample(visible["p99"], sent, cpu, memory, details))
                p50, p99 = np.percentile(straight, (50, 99)).tolist()
                direct.append(Sample(p99, details={"p50_ms": p50, "max_ms": max(straight)}))
                noises.append(listening.noise())
                frame.say(
                    f"round {number + 1} of {frame.rounds}  request to row p50 {visible['p50']:.0f}"
                    f" p99 {visible['p99']:.0f} ms  straight insert p50 {p50:.0f} p99 {p99:.0f} ms"
                )
    setting = Setting(
        f"{rate} events/s", Series(tuple(ours), tuple(noises)), Series(tuple(direct), tuple(noises)), "less"
    )
    name = "a row inserted straight into the engine, at the same time"
    return Result("latency", "milliseconds, p99, request to visible row", "event", name, [setting], {"rate": rate})


def _load(
    lab: Laboratory, rate: int, seconds: int, client: Client, row: pa.Table
) -> tuple[dict[str, float], int, list[float]]:
    """Runs the load and meanwhile puts rows straight in; the probes' figures, events sent, and times in ms."""
    command = python("-m", "infra.cli", "load", "--sites", f"1-{SITES}", "--rate", str(rate), "--bulk", "0")
    command += ["--bad", "0", "--seconds", str(seconds), "--visible", "--probes", str(PROBES), "--json"]
    started = subprocess.Popen(
        placed(command, sorted(os.sched_getaffinity(0))),
        cwd=TOP,
        env=os.environ | lab.settings.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    times: list[float] = []
    try:
        while started.poll() is None:
            times.append(_straight(client, row, time.time_ns()))
            time.sleep(DIRECT_PAUSE)
        output, errors = started.communicate()
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()
    if started.returncode:
        raise BenchmarkError(f"the load ended with status {started.returncode}: {errors[-500:].strip()}")
    report = json.loads(output.splitlines()[-1])
    if report["unknown"] or report["refused"]:
        raise BenchmarkError(f"{report['unknown']} events are unknown and {report['refused']} were refused")
    return report["visible_ms"], report["sent"], times


def _straight(client: Client, row: pa.Table, number: int) -> float:
    """Milliseconds from the start of an insert until a query shows its row."""
    place = row.schema.get_field_index("visit_id")
    row = row.set_column(place, row.schema.field(place), pa.array([number], pa.uint64()))
    began = time.monotonic()
    client.insert_arrow("direct", row, settings={"async_insert": 0})
    while not client.query(f"SELECT count() FROM direct WHERE visit_id = {number}").result_rows[0][0]:
        if time.monotonic() - began > LIMIT:
            raise BenchmarkError(f"a row that was inserted is not visible after {LIMIT:.0f} s")
        time.sleep(POLL)
    return (time.monotonic() - began) * 1000
