"""The fault laboratory. A new fault is a class as in `kill` and a place in FAULTS; `all` is all of them in one run."""

from __future__ import annotations

from tests.fault.away import BrokerAway, FrontAway
from tests.fault.faults import Fault
from tests.fault.kill import Kill
from tests.fault.pause import Pause
from tests.fault.rebalance import Rebalance
from tests.fault.zombie import Zombie

_EACH: tuple[Fault, ...] = (Kill(), Pause(), Zombie(), Rebalance(), BrokerAway(), FrontAway())
FAULTS: dict[str, tuple[Fault, ...]] = {fault.name: (fault,) for fault in _EACH} | {"all": _EACH}
