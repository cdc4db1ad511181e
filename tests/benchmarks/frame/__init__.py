"""What all benchmarks share: processes under test, rounds, load, figures and how they are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class BenchmarkError(RuntimeError):
    """The benchmark could not be run, or what it measured is not valid; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How one run is to be made. `quick`: as little as shows that it works; its figures mean little.

    folder: a temporary one that is the run's own. say: shows a line of progress. table: where a benchmark leaves what
    others decide by.
    """

    rounds: int
    quick: bool
    folder: Path
    say: Callable[[str], None]
    table: Path | None = None

    def pick(self, full: int, quick: int) -> int:
        """A size: for a real run, and for a quick one."""
        return quick if self.quick else full
