"""A server that is away for a minute: stopped in order, then nobody listens on its port, then it is back."""

from __future__ import annotations

import time
from collections.abc import Mapping
from random import Random
from typing import ClassVar

from tests.fault.field import FaultError, Field

SETTLE = 5.0  # seconds after which what was under way when it left has ended, and only new events are acknowledged


class Away:
    """`kinds` names the one server. Returns when all parts are ready again."""

    name: str
    kinds: ClassVar[tuple[str]]
    outage = True
    workers = 1

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        field.stack.stop_part(kind)
        settle = min(SETTLE, field.away / 3)
        time.sleep(settle)
        before = field.acknowledged()
        end, resident = time.monotonic() + field.away - settle, 0
        while time.monotonic() < end:
            time.sleep(min(1.0, max(end - time.monotonic(), 0)))
            resident = max(resident, *map(field.resident, field.names("collector")))
        acknowledged = field.acknowledged() - before
        field.stack.start_part(kind)
        self.judge(acknowledged)
        field.whole()
        field.drained()
        return {"acknowledged_meanwhile": acknowledged, f"collector_mib_without_{kind}": resident}

    def judge(self, acknowledged: int) -> None:
        """Raises FaultError where so many events must not have been acknowledged meanwhile."""


class BrokerAway(Away):
    """Kafka: collectors go on with their spools, and drain them afterwards."""

    name = "broker-away"
    kinds = ("kafka",)

    def judge(self, acknowledged: int) -> None:
        """Collectors have their disk."""
        if not acknowledged:
            raise FaultError("nothing was acknowledged while Kafka was away")


class FrontAway(Away):
    """ClickHouse: collectors go on, and the worker catches up afterwards."""

    name = "front-away"
    kinds = ("front",)

    def judge(self, acknowledged: int) -> None:
        """Collectors need no ClickHouse."""
        if not acknowledged:
            raise FaultError("nothing was acknowledged while ClickHouse was away")
