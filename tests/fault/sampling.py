"""Memory, file handles and threads of the stack's processes over time, and whether they stay flat.

A process that is killed begins anew, so growth is looked for within the lives of processes, without the first part of
each, in which caches and pools fill. An outage makes everything queue for a while, so it is the floor that counts: the
low tenth of the samples of each stretch of time. The slope is the median of those between any two stretches of a life
(Theil and Sen). What the longest life would have grown by may be no more than what noise does plus what the hour
allows.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import median

import psutil

EVERY = 1.0  # seconds between two samples
HOUR = 3600.0
MIB = 1 << 20
MEASURES = ("memory_mib", "handles", "threads")
# noise of a life, and what an hour may add
ALLOWED: Mapping[str, tuple[float, float]] = {
    "memory_mib": (128.0, 32.0),
    "handles": (48.0, 8.0),
    "threads": (32.0, 4.0),
}
STRETCHES = 24  # of the whole time
LEAST = 3  # stretches of a life that is looked at
WARM_SECONDS = 600.0  # at most; a sixth of the time that was watched where that is less


@dataclass(frozen=True, slots=True)
class Sample:
    """at: seconds since the start."""

    at: float
    memory_mib: float
    handles: float
    threads: float


Life = tuple[str, int]  # role, pid


@dataclass(frozen=True, slots=True)
class Trend:
    """lives: that were long enough. hours: of the longest, without its warm-up. grown: the slope over these hours.

    flat: what was grown is allowed; False too where no life was long enough to tell.
    """

    lives: int
    hours: float
    mean: float
    most: float
    slope_per_hour: float
    grown: float
    allowed: float
    flat: bool

    def as_dict(self) -> dict[str, float | int | bool]:
        """For programs; rounded."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


def trend(lives: Sequence[Sequence[Sample]], measure: str, warm: float, stretch: float) -> Trend:
    """Of the lives of one kind of process. warm: seconds of each that are left out. stretch: seconds."""
    slopes: list[float] = []
    values: list[float] = []
    over, judged = 0.0, 0
    for life in lives:
        stretches: dict[int, list[float]] = defaultdict(list)
        for sample in life:
            if sample.at - life[0].at >= warm:
                stretches[int(sample.at // stretch)].append(float(getattr(sample, measure)))
        if len(stretches) < LEAST:
            continue
        judged += 1
        floors = [(number * stretch / HOUR, _floor(some)) for number, some in sorted(stretches.items())]
        slopes += [(b - a) / (late - early) for (early, a), (late, b) in combinations(floors, 2)]
        over = max(over, floors[-1][0] - floors[0][0])
        values += [value for some in stretches.values() for value in some]
    slope = median(slopes) if slopes else 0.0
    noise, hourly = ALLOWED[measure]
    allowed, grown = noise + hourly * over, slope * over
    mean = sum(values) / len(values) if values else 0.0
    return Trend(judged, over, mean, max(values, default=0.0), slope, grown, allowed, judged > 0 and grown <= allowed)


def _floor(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 10]


@dataclass(slots=True)
class Sampling:
    """Samples in a thread of its own until `stop`. `processes` tells the pids by role, and may raise OSError."""

    processes: Callable[[], Mapping[int, str]]
    lives: dict[Life, list[Sample]] = field(default_factory=lambda: defaultdict(list))
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Samples from now on."""
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No more samples."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def trends(self) -> dict[str, dict[str, Trend]]:
        """By role and measure."""
        total = max((life[-1].at for life in self.lives.values() if life), default=0.0)
        warm, stretch = min(WARM_SECONDS, total / 6), max(total / STRETCHES, EVERY)
        roles = sorted({role for role, _ in self.lives})
        of_role = {role: [life for (of, _), life in self.lives.items() if of == role] for role in roles}
        return {
            role: {measure: trend(lives, measure, warm, stretch) for measure in MEASURES}
            for role, lives in of_role.items()
        }

    def _run(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(EVERY):
            with suppress(OSError):
                for pid, role in self.processes().items():
                    if sample := _sample(pid, time.monotonic() - began):
                        self.lives[role, pid].append(sample)


def _sample(pid: int, at: float) -> Sample | None:
    """Of a process and its children together; None where it is gone."""
    try:
        process = psutil.Process(pid)
        memory, handles, threads = 0, 0, 0
        for one in [process, *process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                memory += one.memory_info().rss
                handles += one.num_fds()
                threads += one.num_threads()
    except psutil.NoSuchProcess:
        return None
    return Sample(at, memory / MIB, handles, threads) if memory else None
