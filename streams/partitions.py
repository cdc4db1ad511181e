"""One partition's life in this worker.

assigned ──► running ──► waiting (something around is missing; tried again after a while) ──► running
   │            ├──────► lost (another worker owns it; claimed again after a while) ──► assigned
   │            └──────► stopped (an alarm; only a restart of the process tries again)
   └──────────► lost
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from streams.batch import PartitionState
from streams.ownership import Claim
from streams.stored import Stored

# More than this share of the last events, and at least so many, rejected for internal errors stop a partition.
WINDOW, SHARE, LEAST = 10_000, 0.01, 100


class Life(StrEnum):
    """Where a partition stands; only running ones are read."""

    ASSIGNED = "assigned"
    RUNNING = "running"
    WAITING = "waiting"
    LOST = "lost"
    STOPPED = "stopped"


class Failures:
    """How many of a partition's last WINDOW events were rejected for an internal error."""

    def __init__(self) -> None:
        self._packets: deque[tuple[int, int]] = deque()
        self._events = self._failed = 0

    def add(self, events: int, failed: int) -> None:
        """Count the events of a batch."""
        self._packets.append((events, failed))
        self._events += events
        self._failed += failed
        while self._events - self._packets[0][0] >= WINDOW:
            old_events, old_failed = self._packets.popleft()
            self._events -= old_events
            self._failed -= old_failed

    def too_many(self, events: int, failed: int) -> bool:
        """Whether these further events would make them too many; counts nothing."""
        total = self._failed + failed
        return total >= LEAST and total > SHARE * min(self._events + events, WINDOW)


@dataclass(slots=True)
class Partition:
    """A partition that was assigned once. Without a claim there is no state: it is rebuilt with the next claim.

    wanted: the offset to process next; everything below it is stored. stored: what stands from there on already.
    """

    number: int
    life: Life = Life.ASSIGNED
    claim: Claim | None = None
    wanted: int = 0
    state: PartitionState | None = None
    stored: Stored = field(default_factory=Stored)
    failures: Failures = field(default_factory=Failures)
    why: str = ""

    def run(self, claim: Claim, wanted: int, state: PartitionState, stored: Stored) -> None:
        """The partition is owned and may be read from `wanted` on."""
        self.life, self.why = Life.RUNNING, ""
        self.claim, self.wanted, self.state, self.stored = claim, wanted, state, stored

    def assign(self) -> None:
        """The partition is to be claimed; until then nothing is known of it."""
        self.life, self.why = Life.ASSIGNED, ""
        self.claim = self.state = None
        self.stored = Stored()

    def lose(self) -> None:
        """Another worker owns the partition."""
        self.assign()
        self.life, self.why = Life.LOST, "another worker owns it"

    def wait(self, why: str) -> None:
        """Something around is missing; the claim and the state stay."""
        self.life, self.why = Life.WAITING, why

    def stop(self, why: str) -> None:
        """An alarm: nothing of this partition is stored or acknowledged until the process starts again."""
        self.life, self.why = Life.STOPPED, why
        self.claim = self.state = None
