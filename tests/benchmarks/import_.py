"""`import`: lines per second of `veilstream import`, from the start of the command until the last row is visible.

A log in the combined format is made; it is imported into a site of its own, and imported again, which must change
nothing. Collector, worker, broker and engine share the machine. Beside it stands how fast the lines are read and
parsed alone, without sending anything.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from infra.imports.formats import parser
from infra.imports.requests import Chosen
from infra.service.clickhouse import Client
from tests.benchmarks.frame import BenchmarkError, Frame
from tests.benchmarks.frame.laboratory import TOP, Laboratory, laboratory, python
from tests.benchmarks.frame.machine import Listening
from tests.benchmarks.frame.result import Result, Setting
from tests.benchmarks.frame.rounds import Sample, Series
from tests.infra.imports.lines import combined

ROUNDS = 2
LIMIT = 900.0  # seconds until the last row must be visible


def run(frame: Frame) -> Result:
    """A site a round."""
    count = frame.pick(1_000_000, 5_000)
    frame.say(f"making a log of {count:,} lines")
    log = frame.folder / "access.log"
    visitors = max(count // 20, 10)
    log.write_text("".join(f"{line}\n" for line in combined(count, visitors=visitors, step=80_000 / count)))
    ours, alone, noises = [], [], []
    with laboratory(frame, ["kafka", "front"], apart=False) as lab:
        lab.install(frame.rounds)
        with lab.part("collector") as collector, lab.part("worker") as worker, lab.tables() as client:
            for site in range(1, frame.rounds + 1):
                listening = Listening()
                before = collector.tree.usage().cpu + worker.tree.usage().cpu
                began = time.monotonic()
                first = _import(lab, site, log)
                seconds = _visible(client, site, first["sent"], began)
                after = collector.tree.usage(), worker.tree.usage()
                again = _import(lab, site, log)
                rows = _rows(client, site)
                if first != again or rows != first["sent"] or first["lines"] != count:
                    raise BenchmarkError(f"the second import is another one: {first}, {again}, {rows} rows")
                cpu, memory = sum(one.cpu for one in after) - before, sum(one.peak for one in after)
                ours.append(Sample(count / seconds, count, cpu, memory, {"rows": rows}))
                alone.append(_alone(log, count))
                noises.append(listening.noise())
                frame.say(
                    f"round {site} of {frame.rounds}  {count / seconds:,.0f} lines/s, {rows:,} rows, twice the same"
                )
    setting = Setting(f"{count:,} lines", Series(tuple(ours), tuple(noises)), Series(tuple(alone), tuple(noises)))
    return Result("import", "lines per second, wall", "line", "reading and parsing the same lines alone", [setting])


def _import(lab: Laboratory, site: int, log: Path) -> dict[str, int]:
    command = python(
        "-m", "infra.cli", "import", str(log), "--site", str(site), "--base", "https://shop.example", "--json"
    )
    done = subprocess.run(
        command, cwd=TOP, env=os.environ | lab.settings.environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"the import ended with status {done.returncode}: {done.stderr[-500:].strip()}")
    found = json.loads(done.stdout.splitlines()[-1])
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _rows(client: Client, site: int) -> int:
    return int(client.query(f"SELECT count() FROM events WHERE site_id = {site}").result_rows[0][0])


def _visible(client: Client, site: int, expected: int, began: float) -> float:
    """Seconds from the start until all rows are there."""
    while (rows := _rows(client, site)) < expected:
        if time.monotonic() - began > LIMIT:
            raise BenchmarkError(f"{rows} of {expected} rows are visible after {LIMIT:.0f} s")
        time.sleep(0.1)
    return time.monotonic() - began


def _alone(log: Path, count: int) -> Sample:
    parse, chosen = parser("combined"), Chosen(1, "https://shop.example")
    began, cpu = time.monotonic(), time.process_time()
    with log.open("rb") as file:
        for line in file:
            hit = parse(line.decode().rstrip("\n"))
            if hit is not None:
                chosen.request(hit)
    return Sample(count / (time.monotonic() - began), count, time.process_time() - cpu)
