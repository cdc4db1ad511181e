"""Where the core's time goes: the stages of `streams.batch`, each with the CPU time that it takes itself.

Runs as a process of its own, `python -m tests.benchmarks.frame.stages FILE`, on the core of the processes under test.
"""

from __future__ import annotations

import functools
import inspect
import json
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.sites import PolicySet
from tests.benchmarks.frame import BenchmarkError
from tests.benchmarks.frame.laboratory import TOP, Laboratory, placed, publish_policies, python
from tests.benchmarks.frame.rows import Lookups
from tests.benchmarks.frame.worker import WorkerBench

BATCH_EVENTS = 30_000  # as the worker's under load
WARM_SHARE = 0.5  # of the events, for the caches


def stages(lab: Laboratory, worker: WorkerBench, events: int) -> dict[str, float]:
    """Microseconds of CPU time per event of each stage, for events as the worker gets them."""
    file = lab.frame.folder / "stages"
    policies = publish_policies(lab.settings)
    file.write_bytes(pickle.dumps((policies.dump(), worker.make(int(events * WARM_SHARE)), worker.make(events))))
    command = placed(python("-m", "tests.benchmarks.frame.stages", str(file)), lab.under_test)
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"measuring the stages ended with status {done.returncode}: {done.stderr[-800:].strip()}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


class Clock:
    """Adds up, by name, the time spent in functions less that spent in others of them that they call."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def watch(self, owner: Any, attribute: str, name: str) -> None:
        """Measures a function of a module or class from now on."""
        function: Callable[..., Any] = getattr(owner, attribute)

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            began = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                took = time.process_time() - began
                self.seconds[name] = self.seconds.get(name, 0.0) + took - self._inner.pop()
                self._inner[-1] += took

        setattr(owner, attribute, timed)


def _watch(clock: Clock) -> None:
    """The stages, by the names that the code has for them."""
    from schemas import packets
    from streams import batch, describe, gather, repeats, stages, tables, visits

    clock.watch(batch, "process", "rest of process")
    clock.watch(packets, "body", "decode packets")
    clock.watch(gather, "gather", "gather")
    clock.watch(describe, "describe", "rest of describe")
    clock.watch(describe, "Query", "split query strings")
    frame = stages.Stages
    for name in re.findall(r"self\.(\w+)\(", inspect.getsource(frame.run)):
        clock.watch(frame, name, name)
    clock.watch(visits, "follow", "visits")
    for part in ("identify", "among", "remember"):
        clock.watch(repeats, part, "repeats")
    clock.watch(repeats.Earlier, "repeated", "repeats")
    clock.watch(batch.Outcome, "apply", "apply")
    for name in ("events", "rejects", "packets"):
        clock.watch(tables, name, "tables")


def _batches(packets: Sequence[tuple[int, bytes]], offsets: dict[int, int], appended_ms: int) -> list[list[Any]]:
    from schemas.packets import header
    from streams.batch import Record

    batches: list[list[Any]] = [[]]
    events = 0
    for partition, value in packets:
        count = header(value).count
        if events + count > BATCH_EVENTS:
            batches.append([])
            events = 0
        events += count
        offset = offsets[partition] = offsets.get(partition, -1) + 1
        batches[-1].append(Record(partition, offset, 1, appended_ms, value))
    return batches


def main(file: Path) -> None:
    """Prints the table as JSON."""
    from schemas.packets import header
    from streams import batch

    dump, *parts = pickle.loads(file.read_bytes())
    lookups = Lookups(PolicySet.load(dump))
    offsets: dict[int, int] = {}
    now = time.time_ns() // 1_000_000
    warm, measured = (_batches(packets, offsets, now) for packets in parts)
    states = {partition: batch.PartitionState() for partition in offsets}
    clock = Clock()
    _watch(clock)

    def run(records: Sequence[Any]) -> None:
        outcome = batch.process(records, states, lookups)
        outcome.apply()
        for table in (outcome.events, outcome.rejects, outcome.packets):
            with pa.ipc.new_stream(pa.BufferOutputStream(), table.schema) as writer:
                writer.write_table(table)

    clock.watch(pa.ipc, "new_stream", "Arrow IPC")
    clock.watch(pa.RecordBatchStreamWriter, "write_table", "Arrow IPC")
    for records in warm:
        run(records)
    clock.seconds.clear()
    for records in measured:
        run(records)
    events = sum(header(value).count for _, value in parts[-1])
    print(json.dumps({name: seconds / events * 1e6 for name, seconds in clock.seconds.items()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
