"""What the whole machine does beside the benchmark, so that a run that was disturbed can be told from a quiet one."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.frame.processes import TICK, Tree

QUIET = 0.2  # cores that others may use; more, and differences of some 15 % mean nothing


@dataclass(frozen=True, slots=True)
class Noise:
    """Cores used by others while something was measured: programs of this machine, and other machines (steal)."""

    foreign: float
    steal: float

    @property
    def quiet(self) -> bool:
        """Whether figures taken meanwhile can be trusted."""
        return self.foreign + self.steal <= QUIET


def _cores() -> tuple[float, float]:
    """Seconds that all cores together were busy since boot, and that were stolen."""
    fields = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:]]
    user, nice, system, _idle, _iowait, interrupts, softirqs, steal = fields[:8]
    return (user + nice + system + interrupts + softirqs) / TICK, steal / TICK


class Listening:
    """Measures from its making until `noise` is asked; all that this process has started counts as ours."""

    def __init__(self) -> None:
        self._own = Tree([os.getpid()])
        self._began = time.monotonic(), *_cores(), self._own.usage().cpu

    def noise(self) -> Noise:
        """What others have used since the beginning."""
        began, busy_before, steal_before, own_before = self._began
        seconds = max(time.monotonic() - began, 1e-3)
        busy, steal = _cores()
        own = self._own.usage().cpu - own_before
        return Noise(max(busy - busy_before - own, 0.0) / seconds, max(steal - steal_before, 0.0) / seconds)


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]
