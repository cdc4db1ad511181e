"""kill -9 of one process at a moment by chance; its supervisor starts it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from tests.fault.field import Field

EVERY_KIND = ("worker", "collector", "kafka", "front", "media", "videos")


class Kill:
    """Every kind of process in turns, or those given."""

    name = "kill"
    outage = False
    workers = 1

    def __init__(self, kinds: Sequence[str] = EVERY_KIND) -> None:
        self.kinds = kinds

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        name = field.pick(kind, random)
        field.back(name, after=field.stack.kill(name))
        return {}
