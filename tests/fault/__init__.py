"""The fault laboratory. A new fault is a class as in `kill` and a line in FAULTS."""

from __future__ import annotations

from collections.abc import Callable

from tests.fault.kill import Kill
from tests.fault.laboratory import Fault

FAULTS: dict[str, Callable[[], Fault]] = {Kill.name: Kill}
