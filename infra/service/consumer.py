"""A consumer in a group of Kafka: whole where kafka-python's is not."""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError

REJOIN = 5.0  # seconds
STILL = 15.0  # seconds for which what is known to wait may stay unread


class StandsStill(KafkaError):  # type: ignore[misc]
    """The client reads nothing of what waits; another one may."""


class Consumer(KafkaConsumer):  # type: ignore[misc]
    """As kafka-python's, less three faults of it (seen in 3.0.12), and it tells when there is another.

    A rejoin that a change of the topics began is forgotten by a `poll` that ends before it is through: what was new is
    taken for known as soon as the leader assigns it, so no later `poll` asks for the end of the join. The member reads
    nothing and sends no heartbeat from then on. (The Java client had the same fault: KAFKA-9815.)

    A join that gets through between two polls begins anew. So a `poll` that waits at all sees a join through, for
    REJOIN seconds at most; one that does not wait, does not.

    What was fetched of a partition that is paused is parked there, and is taken up again, once the partition was
    resumed, only while no other fetch is in line. One that was read to its end stays in line, so the partition stands
    still: it is not fetched either, as something of it is parked.

    Fetches are whole ones: with few partitions that are paused and resumed all the time, a session of increments saves
    nothing and is one more state to go wrong.
    """

    def __init__(self, *topics: str, **config: Any) -> None:
        super().__init__(*topics, **{"enable_incremental_fetch_sessions": False, **config})
        self._waiting_since = 0.0

    def poll(self, timeout_ms: float = 0, max_records: int | None = None, update_offsets: bool = True) -> Any:
        """As the base's."""
        until = time.monotonic() + REJOIN
        while True:
            fetcher = self._fetcher
            in_line = getattr(fetcher, "_next_partition_records", None)
            if in_line is not None and not in_line:
                fetcher._next_partition_records = None
            found = super().poll(timeout_ms, max_records, update_offsets)
            if not self._is_joining():
                return found
            self._coordinator.request_rejoin()
            if found or not timeout_ms or time.monotonic() > until:
                return found

    def read_nothing(self, waiting: bool) -> None:
        """To be told after each poll that gave nothing, with whether there was something to read, and with False after
        one that gave something. Raises StandsStill where there was for STILL seconds."""
        now = time.monotonic()
        if not waiting:
            self._waiting_since = 0.0
        elif not self._waiting_since:
            self._waiting_since = now
        elif now - self._waiting_since > STILL:
            raise StandsStill(f"nothing was read for {STILL:.0f} s of what waits")

    def _is_joining(self) -> bool:
        return self._coordinator is not None and bool(self._coordinator.rejoining)
