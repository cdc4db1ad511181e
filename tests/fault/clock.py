"""The stream workers' clock is set by hand: hours ahead, hours back, and right again, while events flow.

No stage reads the clock, so the rows must be the same; what a time-out or a key's age is judged by must not stall.
libfaketime stands between the worker and the system's clock; the monotonic clock goes on as it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from random import Random

from tests.fault.field import FaultError, Field

LIBRARY = "libfaketimeMT.so.1"
FOLDERS = ("/usr/lib", "/usr/local/lib", "/lib")
STEPS = (-7200, -600, -30, 30, 600, 7200)  # seconds
THERE = (2.0, 6.0)  # seconds until the clock is right again
LATER = 0.5  # seconds


def library() -> Path:
    """libfaketime, for programs with threads; raises FaultError where it is not installed."""
    for folder in FOLDERS:
        if found := sorted(Path(folder).glob(f"**/faketime/{LIBRARY}")):
            return found[0]
    raise FaultError("libfaketime is not installed: sudo apt-get install -y libfaketime")


def faked(clock: Path) -> dict[str, str]:
    """The environment of a process whose clock is set by this file."""
    return {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def set_clock(clock: Path, seconds: int) -> None:
    """The clock is so far ahead from now on."""
    fresh = clock.with_suffix(".new")
    fresh.write_text(f"{seconds:+d}\n")
    os.replace(fresh, clock)


class Clock:
    """All stream workers at once."""

    name = "clock"
    kinds = ("worker",)
    outage = False
    workers = 1

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        if field.clock is None:
            raise FaultError("the workers' clock cannot be set in this stack")
        for name in field.names(kind):
            if LIBRARY not in Path(f"/proc/{field.stack.pids()[name]}/maps").read_text():
                raise FaultError(f"{name} runs without {LIBRARY}, so its clock is not set")
        before = field.acknowledged()
        set_clock(field.clock, random.choice(STEPS))
        time.sleep(random.uniform(*THERE))
        field.whole()
        set_clock(field.clock, 0)
        time.sleep(LATER)
        field.whole()
        return {"acknowledged_meanwhile": field.acknowledged() - before}
