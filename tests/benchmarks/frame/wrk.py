"""Load by wrk: many connections, one request in flight on each, the requests of a file in turns."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.frame import BenchmarkError
from tests.benchmarks.frame.laboratory import placed

SCRIPT = Path(__file__).with_name("wrk.lua")
THREADS = 4  # at most; one a core
ANSWER_LIMIT = 30  # seconds after which wrk counts an answer as late


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw. answered: requests with an answer of any status; refused: those of 400 and more."""

    answered: int
    refused: int
    broken: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.answered / self.seconds


def write_requests(path: Path, requests: Iterable[bytes]) -> Path:
    """Writes the file that wrk.lua reads."""
    with path.open("wb") as file:
        for request in requests:
            file.write(struct.pack("<I", len(request)) + request)
    return path


def send(port: int, requests: Path, *, connections: int, seconds: int, on: list[int]) -> Load:
    """Sends for so many seconds; raises BenchmarkError when requests got no answer or one of 400 and more."""
    threads = min(len(on), THREADS, connections)
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", f"{ANSWER_LIMIT}s"]
    command += ["-s", str(SCRIPT), f"http://127.0.0.1:{port}/", "--", str(requests)]
    try:
        done = subprocess.run(placed(command, on), capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise BenchmarkError(f"{error.filename} is missing; `./run bench` installs wrk") from None
    figures = [line.removeprefix("FIGURES ") for line in done.stdout.splitlines() if line.startswith("FIGURES ")]
    if done.returncode or not figures:
        raise BenchmarkError(f"wrk ended with status {done.returncode}: {(done.stdout + done.stderr)[-500:].strip()}")
    found = json.loads(figures[-1])
    broken = found["connect"] + found["read"] + found["write"] + found["timeout"]
    load = Load(found["requests"], found["status"], broken, found["seconds"], found["p50_ms"], found["p99_ms"])
    if load.refused or load.broken:
        raise BenchmarkError(f"{load.refused} requests were refused and {load.broken} got no answer in time: {found}")
    return load
