"""A process that stands still for seconds (SIGSTOP) and then goes on as if nothing had been (SIGCONT)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from random import Random

from tests.fault.field import Field
from tests.fault.kill import EVERY_KIND

SECONDS = (0.5, 8.0)  # the sessions of workers and of the broker, 6 and 3 s, end for some of them and not for others


class Pause:
    """Every kind of process in turns, or those given."""

    name = "pause"
    outage = False
    workers = 1

    def __init__(self, kinds: Sequence[str] = EVERY_KIND) -> None:
        self.kinds = kinds

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        name = field.pick(kind, random)
        with field.paused(name):
            time.sleep(random.uniform(*SECONDS))
        field.back(name)
        return {}
