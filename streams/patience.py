"""Waiting for what is away: back-off with jitter, for ever, until the process is told to stop."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from infra.service.logs import describe, logger

log = logger(__name__)

FIRST, LONGEST = 0.1, 5.0  # seconds
T = TypeVar("T")


class Stopping(Exception):
    """The process was told to stop while it waited; what was under way is not acknowledged."""


class Patience:
    """One thread's waiting. `waiting_for` names what is away now, for health and logs; "" when nothing is."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.stop = stop or threading.Event()
        self._wait = FIRST
        self.waiting_for = ""
        self.since = 0.0

    def check(self) -> None:
        """Raises Stopping once the process is told to stop."""
        if self.stop.is_set():
            raise Stopping

    def wait(self, what: str, error: BaseException) -> None:
        """Wait before the next try of what has just failed; each time longer, up to LONGEST. Raises Stopping."""
        if not self.waiting_for:
            self.since = time.monotonic()
        log.warning("waiting", what=what, seconds=round(time.monotonic() - self.since, 1), **describe(error))
        self.waiting_for = what
        if self.stop.wait(self._wait * random.uniform(0.5, 1.0)):
            raise Stopping
        self._wait = min(self._wait * 2, LONGEST)

    def over(self) -> None:
        """What was away has answered."""
        if self.waiting_for:
            log.info("waiting_over", what=self.waiting_for, seconds=round(time.monotonic() - self.since, 1))
        self._wait, self.waiting_for = FIRST, ""

    def insist(self, what: str, ask: Callable[[], T], *errors: type[Exception]) -> T:
        """The answer of `ask`, asked again while it raises one of `errors`. Raises Stopping."""
        while True:
            self.check()
            try:
                answer = ask()
            except errors as error:
                self.wait(what, error)
            else:
                self.over()
                return answer
