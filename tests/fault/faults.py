"""What every fault is, and the order in which a seed deals them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from random import Random
from typing import Protocol

from tests.fault.field import Field

PAUSE_SECONDS = (0.2, 3.0)  # between the part being back and the next strike


class Fault(Protocol):
    """name: as on the command line. kinds: the roles that strikes are dealt over, in equal shares.

    outage: it happens once in a run (or as often as was asked for), whatever the number of kills. workers: how many
    stream workers there must be.
    """

    @property
    def name(self) -> str: ...
    @property
    def kinds(self) -> Sequence[str]: ...
    @property
    def outage(self) -> bool: ...
    @property
    def workers(self) -> int: ...

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """Do it to a part of this role, and return when that part is back and ready.

        `random` serves this strike alone. Returns figures to be summed up; raises FaultError or StackError.
        """


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault that will be done: after `pause` seconds, to a part of this role."""

    fault: Fault
    kind: str
    pause: float
    seed: int


def deal(faults: Sequence[Fault], kills: int, seed: int, *, outages: int = 1) -> list[Strike]:
    """`kills` strikes over the kinds of all faults in equal shares, and each outage `outages` times, ordered by seed.

    A remainder goes to the first kinds of each fault.
    """
    random = Random(seed)
    rows = zip_longest(*([(fault, kind) for kind in fault.kinds] for fault in faults if not fault.outage))
    targets = [target for target in chain.from_iterable(rows) if target is not None]
    order = [targets[n % len(targets)] for n in range(kills)] if targets else []
    for fault in faults:
        if fault.outage:
            order += [(fault, kind) for kind in fault.kinds] * outages
    random.shuffle(order)
    return [Strike(fault, kind, random.uniform(*PAUSE_SECONDS), random.getrandbits(32)) for fault, kind in order]
