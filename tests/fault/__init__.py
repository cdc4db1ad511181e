"""The fault laboratory. A new fault is a class as in `kill` and a place in FAULTS; `all` is all of them in one run."""

from __future__ import annotations

from tests.fault.away import BrokerAway, FrontAway
from tests.fault.clock import Clock
from tests.fault.decoder import KillDecoder
from tests.fault.disk import FullDisk
from tests.fault.engine import Engine
from tests.fault.faults import Fault
from tests.fault.inherit import Inherit
from tests.fault.kill import Kill
from tests.fault.link import Cut
from tests.fault.pause import Pause
from tests.fault.privacy import PrivacyKill
from tests.fault.rebalance import Rebalance
from tests.fault.reset import Reset
from tests.fault.zombie import Zombie

_EACH: tuple[Fault, ...] = (Kill(), Pause(), Zombie(), Rebalance(), BrokerAway(), FrontAway(), Engine(), Reset())
# What stands between a client's event and the log: the collector, its disk, the network, the broker.
_COLLECTOR: tuple[Fault, ...] = (Kill(("collector", "kafka")), Inherit(), Cut(), BrokerAway(), FullDisk())
# What an accepted video goes through; every third one is damaged.
_MEDIA: tuple[Fault, ...] = (Kill(("media",)), KillDecoder(), Pause(("media",)), Kill(("kafka", "videos")))
# For hours: what may happen on any day, again and again, to everything at once.
SOAK: tuple[Fault, ...] = (Kill(), Pause(), Zombie(), Rebalance(), BrokerAway(), FrontAway(), Cut(), Engine())
_ALONE: tuple[Fault, ...] = (*_EACH, *_COLLECTOR[1:], Clock(), PrivacyKill())
FAULTS: dict[str, tuple[Fault, ...]] = {fault.name: (fault,) for fault in _ALONE} | {
    "collector": _COLLECTOR,
    "media": _MEDIA,
    "all": (*_EACH, *_COLLECTOR[1:3], _COLLECTOR[4]),
}
