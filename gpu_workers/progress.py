"""How far a task is: told by the decoder's process while it works, not oftener than EVERY seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

EVERY = 1.0  # seconds


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """`share`: of the presentation time, as far as it is decoded, 0 to 1. `making`: the kind of output, as it is asked
    for, that the last frame was for, or that is being written."""

    share: float
    making: str


Tell = Callable[[Progress], None]


def nobody(_progress: Progress) -> None:
    """For those who do not want to know."""


class Teller:
    """Hands on what it is told, but for what follows too soon."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._last = time.monotonic()

    def at(self, moment: float, duration: float, making: str) -> None:
        """The time of the presentation (seconds) that is reached; nothing is told where the duration is not known."""
        now = time.monotonic()
        if duration > 0 and now - self._last >= EVERY:
            self._last = now
            self._tell(Progress(round(min(max(moment / duration, 0.0), 1.0), 3), making))
