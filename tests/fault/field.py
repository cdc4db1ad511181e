"""What faults act on: a running stack, its parts by role, and what can be seen of them from outside."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import psutil

from infra.local.stack import Stack

if TYPE_CHECKING:
    from tests.fault.link import Link

BACK_SECONDS = 120.0  # a part that is not ready by then does not come back
POLL = 0.2
SPOOLED = "veilstream_collector_spool_packets"
_OWNED = b'"event": "partition_owned"'


class FaultError(RuntimeError):
    """The stack did not come back, or did what it must not; the message says what."""


class Field:
    """acknowledged: asks how many events the load has had acknowledged. away: seconds that an outage lasts.

    link: the network between collector and broker, where it is a proxy. spared: parts that are not picked. clock: the
    file that sets the stream workers' clocks, see `clock`.
    """

    def __init__(
        self,
        stack: Stack,
        acknowledged: Callable[[], int],
        away: float,
        link: Link | None = None,
        spared: Collection[str] = (),
        clock: Path | None = None,
    ) -> None:
        self.stack, self.acknowledged, self.away, self.link = stack, acknowledged, away, link
        self.clock = clock
        self._spared = spared

    def names(self, role: str) -> list[str]:
        """The parts of a role."""
        return [part.name for part in self.stack.parts if part.role == role]

    def pick(self, role: str, random: Random) -> str:
        """One part of a role."""
        return random.choice([name for name in self.names(role) if name not in self._spared])

    def back(self, name: str, *, after: int | None = None) -> None:
        """Returns when a part is ready; `after`: under another pid than this one."""
        self.stack.wait_ready(name, after=after, limit=BACK_SECONDS)

    def whole(self) -> None:
        """Returns when all parts are ready."""
        for name in self.stack.names():
            self.back(name)

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Returns when it holds; raises FaultError where that takes longer than BACK_SECONDS."""
        end = time.monotonic() + BACK_SECONDS
        while not holds():
            if time.monotonic() > end:
                raise FaultError(f"after {BACK_SECONDS:.0f} s still not: {what}")
            time.sleep(POLL)

    def drained(self) -> None:
        """Returns when every collector's spool is empty and its files are gone."""
        names = self.names("collector")
        for name in names:
            self.back(name)

        def empty() -> bool:
            files = any(self.stack.settings.spool.glob("*/*.segment"))
            return not files and not any(self.metric(name, SPOOLED) for name in names)

        self.until("the spool is empty", empty)

    def resident(self, name: str) -> int:
        """MiB of memory that a part's process has."""
        try:
            return int(psutil.Process(self.stack.pids()[name]).memory_info().rss) >> 20
        except (KeyError, psutil.Error):
            return 0

    def owners(self) -> dict[int, str]:
        """The stream worker that was the last to own each partition, by what the workers' logs say."""
        last: dict[int, tuple[int, str]] = {}
        for name in self.names("worker"):
            for line in self.stack.supervision.log(name).read_bytes().splitlines():
                if _OWNED in line:
                    said = json.loads(line)
                    last[said["partition"]] = max(last.get(said["partition"], (0, "")), (said["epoch"], name))
        return {partition: name for partition, (_, name) in last.items()}

    def shared(self) -> None:
        """Returns when every stream worker is ready and owns partitions."""
        workers = set(self.names("worker"))
        self.until("every worker owns partitions", lambda: set(self.owners().values()) == workers)
        for name in workers:
            self.back(name)

    def metric(self, name: str, metric: str) -> int:
        """A part's metric, named with its labels; 0 where it does not answer; its admin port is its last one."""
        port = next(part for part in self.stack.parts if part.name == name).ports[-1].number
        connection = http.client.HTTPConnection(self.stack.settings.host, port, timeout=2)
        try:
            connection.request("GET", "/metrics")
            found = re.search(rf"^{re.escape(metric)} (\S+)$", connection.getresponse().read().decode(), re.MULTILINE)
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()
        return int(float(found[1])) if found else 0

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """The part's process stands still (SIGSTOP) and goes on afterwards (SIGCONT)."""
        pid = self.stack.kill(name, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
