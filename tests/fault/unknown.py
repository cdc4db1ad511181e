"""Which events may be of unknown fate: those under way while the collector or the broker was struck.

Everything else that a run does (workers, ClickHouse, the video path) must leave no client without an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from infra.load.journal import Entries, Outcome

BETWEEN_CLIENT_AND_ANSWER = ("collector", "kafka")
RECOVERY_MS = 10_000  # after the part is ready again: producers connect again, with back-off


@dataclass(frozen=True, slots=True)
class Span:
    """Milliseconds since 1970 from the strike until the part was ready."""

    kind: str
    start_ms: float
    end_ms: float


def unexplained(entries: Entries, spans: Iterable[Span]) -> npt.NDArray[np.int64]:
    """The numbers of unknown fate that no strike explains."""
    open_ = entries.outcome == Outcome.UNKNOWN
    for span in spans:
        if span.kind in BETWEEN_CLIENT_AND_ANSWER:
            open_ &= (entries.ended < span.start_ms) | (entries.sent > span.end_ms + RECOVERY_MS)
    return np.asarray(entries.number[open_])
