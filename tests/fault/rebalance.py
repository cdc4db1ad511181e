"""Two stream workers, of which one leaves and comes back again and again: partitions move, move back, and move again
before anybody has settled."""

from __future__ import annotations

import time
from collections.abc import Mapping
from random import Random

from tests.fault.field import Field

TIMES = 2
GONE = (0.0, 1.0)  # seconds between an orderly stop and the start
THERE = (0.5, 5.0)  # seconds until the next departure: amid joining, claiming or storing


class Rebalance:
    """Half of the departures are orderly (SIGTERM), half are not (SIGKILL)."""

    name = "rebalance"
    kinds = ("worker", "worker")  # see `zombie`
    outage = False
    workers = 2

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        name = field.pick(kind, random)
        for _ in range(TIMES):
            if random.random() < 0.5:
                field.stack.stop_part(name)
                time.sleep(random.uniform(*GONE))
                field.stack.start_part(name, wait=False)
            else:
                field.until(f"{name} runs", lambda: name in field.stack.pids())
                field.stack.kill(name)
            time.sleep(random.uniform(*THERE))
        field.shared()
        return {"departures": TIMES}
