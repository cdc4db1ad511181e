"""How long ago the oldest record was appended that is not stored yet, by partition.

The broker is asked for the ends of the log now and then; a record below an end was there at that moment. Of records
that were fetched the moment is known exactly, so what had piled up before this worker came is seen at its true age.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

MOMENTS = 512  # kept of a partition; beyond it every second one goes


class Ages:
    """Moments are seconds since 1970."""

    def __init__(self) -> None:
        self._ends: dict[int, deque[tuple[float, int]]] = {}

    def seen(self, ends: Mapping[int, int], now: float) -> None:
        """The ends of the log at this moment, of all partitions that are looked after."""
        for gone in self._ends.keys() - ends.keys():
            del self._ends[gone]
        for partition, end in ends.items():
            moments = self._ends.setdefault(partition, deque())
            if not moments or moments[-1][1] != end:
                moments.append((now, end))
            if len(moments) > MOMENTS:
                self._ends[partition] = deque(list(moments)[::2])

    def age(self, partition: int, wanted: int, appended: float | None, now: float) -> float:
        """Seconds that the record at offset `wanted` has been there; 0 where there is none.

        appended: when the oldest one was that was fetched and is not stored; None where none is.
        """
        moments = self._ends.get(partition, deque())
        while moments and moments[0][1] <= wanted:
            moments.popleft()
        if not moments:
            return 0.0
        return max(now - moments[0][0], now - appended if appended is not None else 0.0, 0.0)
