"""Loaded by supervisord itself as an RPC interface: bounds the back-off and counts how often each process started.

supervisord waits one second longer after every failed start and gives up at last. Here the wait is bounded and giving
up is out of reach, so that a process comes back when what it needs comes back, whenever that is.
"""

from __future__ import annotations

import time
from typing import Any

from supervisor.events import ProcessStateBackoffEvent, ProcessStateStartingEvent, subscribe

LONGEST_WAIT = 10  # seconds before a process that keeps failing is started again
NEVER_GIVE_UP = 1_000_000_000  # startretries


class Interface:
    """Methods under `veilstream.` of the XML-RPC interface."""

    def __init__(self) -> None:
        self._starts: dict[str, int] = {}
        subscribe(ProcessStateBackoffEvent, self._backoff)
        subscribe(ProcessStateStartingEvent, self._starting)

    def _backoff(self, event: Any) -> None:
        process = event.process
        process.backoff = min(process.backoff, LONGEST_WAIT)
        process.delay = time.time() + process.backoff

    def _starting(self, event: Any) -> None:
        name = event.process.config.name
        self._starts[name] = self._starts.get(name, 0) + 1

    def starts(self) -> dict[str, int]:
        """How often each process was started."""
        return self._starts


def interface(supervisord: Any, **_config: Any) -> Interface:
    """The factory that supervisord's configuration names."""
    return Interface()
