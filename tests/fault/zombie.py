"""A stream worker that stands still until its partitions belong to the other one, and then goes on.

What it had in hand when it was stopped is stored by the other worker; if the fence does not hold, it is stored twice,
and the books show it as doubled. Half of the strikes come at any moment, half amid a batch: ClickHouse is held for a
moment, so that the worker has sent an insert and waits, then the worker is stopped, and only then does ClickHouse go
on. That insert lands, as the claim still holds; what the worker sends when it wakes must not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from random import Random

from tests.fault.field import Field

AMID = 0.5  # seconds in which a worker under load has begun an insert that does not end
LONGER = (0.0, 2.0)  # seconds that it stays away after its last partition has moved
FENCED = "veilstream_worker_fenced_inserts_total"


class Zombie:
    """Two stream workers; either may be the one."""

    name = "zombie"
    kinds = ("worker", "worker")  # a second share when dealt with other faults: only here the fence is needed
    outage = False
    workers = 2

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        field.shared()
        name = field.pick(kind, random)
        fenced = field.metric(name, FENCED)
        with ExitStack() as stopped:
            if random.random() < 0.5:
                with field.paused("front"):
                    time.sleep(AMID)
                    stopped.enter_context(field.paused(name))
            else:
                stopped.enter_context(field.paused(name))
            field.until(f"the partitions of {name} belong to another", lambda: name not in field.owners().values())
            time.sleep(random.uniform(*LONGER))
        field.shared()
        return {"fenced_inserts": max(field.metric(name, FENCED) - fenced, 0)}
