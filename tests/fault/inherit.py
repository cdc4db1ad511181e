"""Collectors that are killed while Kafka is away: what they acknowledged lies in their spools, for the next one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from random import Random

from tests.fault.field import Field

AWAY = (0.5, 4.0)  # seconds without Kafka before each kill
MOST = 3  # kills in one strike


class Inherit:
    """Kafka is stopped, the collector killed one to three times, and Kafka started; the spools must drain."""

    name = "inherit"
    kinds = ("collector",)
    outage = False
    workers = 1

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        name = field.pick(kind, random)
        kills = random.randint(1, MOST)
        field.stack.stop_part("kafka")
        try:
            for _ in range(kills):
                time.sleep(random.uniform(*AWAY))
                field.back(name, after=field.stack.kill(name))
        finally:
            field.stack.start_part("kafka")
        field.whole()
        field.drained()
        return {"collectors_killed_without_kafka": kills}
