"""A consumer of Kafka whose partitions are paused and resumed."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer


class Consumer(KafkaConsumer):  # type: ignore[misc]
    """As kafka-python's, less a fault of it (seen in 3.0.12).

    What was fetched of a partition that is paused is parked there, and is taken up again, once the partition was
    resumed, only while no other fetch is in line. One that was read to its end stays in line, so the partition stands
    still: it is not fetched either, as something of it is parked.
    """

    def poll(self, *args: Any, **kwargs: Any) -> Any:
        """As the base's."""
        fetcher = self._fetcher
        in_line = getattr(fetcher, "_next_partition_records", None)
        if in_line is not None and not in_line:
            fetcher._next_partition_records = None
        return super().poll(*args, **kwargs)
