"""Memory, file handles and threads of the stack's processes over time, and whether they stay flat.

A process that is killed begins anew, so growth is looked for within the lives of processes: the slope is that of one
straight line per life, all with the same slope (least squares), without the first part of each life, in which caches
fill. What a life would have grown by, over the longest stretch that was watched, may be no more than what noise does
plus what the hour allows.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

import psutil

EVERY = 1.0  # seconds between two samples
HOUR = 3600.0
MIB = 1 << 20
MEASURES = ("memory_mib", "handles", "threads")
# noise of a life, and what an hour may add
ALLOWED: Mapping[str, tuple[float, float]] = {
    "memory_mib": (64.0, 32.0),
    "handles": (48.0, 8.0),
    "threads": (16.0, 4.0),
}
LEAST = 8  # samples of a life that is looked at


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


def trend(lives: Sequence[Sequence[Sample]], measure: str, warm: float) -> Trend:
    """Of the lives of one kind of process. warm: seconds of each that are left out."""
    over = covariance = squares = 0.0
    values: list[float] = []
    judged = 0
    for life in lives:
        late = [sample for sample in life if sample.at - life[0].at >= warm]
        if len(late) < LEAST:
            continue
        judged += 1
        times, amounts = [s.at / HOUR for s in late], [float(getattr(s, measure)) for s in late]
        middle, mean = sum(times) / len(times), sum(amounts) / len(amounts)
        covariance += sum((t - middle) * (a - mean) for t, a in zip(times, amounts, strict=True))
        squares += sum((t - middle) ** 2 for t in times)
        over = max(over, times[-1] - times[0])
        values += amounts
    slope = covariance / squares if squares else 0.0
    noise, hourly = ALLOWED[measure]
    allowed = noise + hourly * over
    grown = slope * over
    mean_of_all = sum(values) / len(values) if values else 0.0
    most = max(values, default=0.0)
    return Trend(judged, over, mean_of_all, most, slope, grown, allowed, bool(values) and grown <= allowed)


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
        """By role and measure. The warm-up is a minute, or a quarter of what was watched where that is less."""
        ends = [life[-1].at for life in self.lives.values() if life]
        warm = min(60.0, max(ends, default=0.0) / 4)
        roles = sorted({role for role, _ in self.lives})
        return {
            role: {
                measure: trend([life for (of, _), life in self.lives.items() if of == role], measure, warm)
                for measure in MEASURES
            }
            for role in roles
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
