"""A consumer of Kafka whose partitions are paused and resumed."""

from __future__ import annotations

import time
from typing import Any

from kafka import KafkaConsumer
from kafka.errors import KafkaError

STILL = 15.0  # seconds for which what is known to wait may stay unread


class StandsStill(KafkaError):  # type: ignore[misc]
    """The client reads nothing of what waits; another one may."""


class Consumer(KafkaConsumer):  # type: ignore[misc]
    """As kafka-python's, less a fault of it (seen in 3.0.12), and it tells when there is another.

    What was fetched of a partition that is paused is parked there, and is taken up again, once the partition was
    resumed, only while no other fetch is in line. One that was read to its end stays in line, so the partition stands
    still: it is not fetched either, as something of it is parked.

    Fetches are whole ones: with few partitions that are paused and resumed all the time, a session of increments saves
    nothing and is one more state to go wrong.
    """

    def __init__(self, *topics: str, **config: Any) -> None:
        super().__init__(*topics, **{"enable_incremental_fetch_sessions": False, **config})
        self._waiting_since = 0.0

    def poll(self, *args: Any, **kwargs: Any) -> Any:
        """As the base's."""
        fetcher = self._fetcher
        in_line = getattr(fetcher, "_next_partition_records", None)
        if in_line is not None and not in_line:
            fetcher._next_partition_records = None
        return super().poll(*args, **kwargs)

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
