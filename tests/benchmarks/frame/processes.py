"""What processes use, read from /proc (proc(5)): CPU time and memory of a process and all that come from it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu: seconds, user and system, so far. memory: bytes resident now. peak: sum of each process's own peak."""

    cpu: float
    memory: int
    peak: int


@dataclass(frozen=True, slots=True)
class _Stat:
    pid: int
    parent: int
    born: int  # ticks since boot; tells a process from a later one with its number
    cpu: int  # ticks, with those of children that have been waited for


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    fields = text.rpartition(")")[2].split()  # the name, in parentheses, may hold anything
    return _Stat(pid, int(fields[1]), int(fields[19]), sum(int(field) for field in fields[11:15]))


def _memory(pid: int) -> tuple[int, int]:
    """Bytes resident, now and at most."""
    now = most = 0
    try:
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                now = int(line.split()[1]) << 10
            elif line.startswith("VmHWM:"):
                most = int(line.split()[1]) << 10
    except OSError:
        pass
    return now, most


class Tree:
    """Processes and all their descendants. Look often enough to see every process whose parent may end before it.

    A process that has ended and was waited for counts in its parent (cutime and cstime), one that nobody in the tree
    has waited for counts as it was last seen.
    """

    def __init__(self, roots: Iterable[int]) -> None:
        self._known: dict[tuple[int, int], _Stat] = {}
        self._gone = 0
        self._peak = 0
        for pid in roots:
            if stat := _stat(pid):
                self._known[pid, stat.born] = stat

    def usage(self) -> Usage:
        """What the tree has used until now. Never falls."""
        present = {stat.pid: stat for entry in os.listdir(PROC) if entry.isdigit() and (stat := _stat(int(entry)))}
        alive = {pid for pid, born in self._known if pid in present and present[pid].born == born}
        for stat in list(self._known.values()):
            if stat.pid not in alive:
                del self._known[stat.pid, stat.born]
                if stat.parent not in alive:
                    self._gone += stat.cpu
        found = set(alive)
        while new := [stat.pid for stat in present.values() if stat.parent in found and stat.pid not in found]:
            found.update(new)
        ticks = self._gone
        memory = peak = 0
        for pid in found:
            stat = present[pid]
            self._known[pid, stat.born] = stat
            ticks += stat.cpu
            now, most = _memory(pid)
            memory += now
            peak += most
        self._peak = max(self._peak, peak)
        return Usage(ticks / TICK, memory, self._peak)
