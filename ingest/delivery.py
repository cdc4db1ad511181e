"""What leaves for Kafka, and what is expected of whoever delivers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Record:
    """A record for Kafka. `done` is called in the loop once it is acknowledged, never before, never twice."""

    __slots__ = ("done", "handed_at", "key", "partition", "topic", "value")

    def __init__(
        self,
        topic: str,
        value: bytes,
        done: Callable[[], None],
        *,
        key: bytes | None = None,
        partition: int | None = None,
    ) -> None:
        self.topic = topic
        self.value = value
        self.done = done
        self.key = key
        self.partition = partition
        self.handed_at = 0.0


class Delivery(Protocol):
    """Takes records and keeps trying, under their name and bytes, until each is acknowledged."""

    def send(self, *records: Record) -> None:
        """Never blocks and never raises; each `record.done` follows in a later turn of the loop, or never.

        What is given together is meant to travel together.
        """
