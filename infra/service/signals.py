"""SIGTERM and SIGINT: stop gracefully within a deadline, then leave in any case."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable

from infra.service.logs import logger

log = logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
DEADLINE_STATUS = 70  # exit status when the deadline passed (EX_SOFTWARE of sysexits.h)


def on_stop(
    stop: Callable[[], object], *, deadline: float, loop: asyncio.AbstractEventLoop | None = None
) -> Callable[[], None]:
    """Calls `stop` once, at the first signal; `deadline` seconds later the process exits hard.

    With a loop the call is made inside it; without one, in the main thread between two of its instructions, so there
    `stop` should only set a flag or an event. Later signals change nothing. Returns the function that does what a
    signal does, for a process that decides itself to stop.
    """
    began = threading.Event()

    def watch() -> None:
        log.info("stopping", deadline_seconds=deadline)
        time.sleep(deadline)
        log.error("stop_deadline_passed", seconds=deadline)
        os._exit(DEADLINE_STATUS)

    def begin() -> None:
        if began.is_set():
            return
        began.set()
        # The main thread may have been interrupted while it wrote to the log, which cannot be entered twice.
        threading.Thread(target=watch, name="stopping", daemon=True).start()
        stop()

    for number in STOP_SIGNALS:
        if loop is None:
            signal.signal(number, lambda *_: begin())
        else:
            loop.add_signal_handler(number, begin)
    return begin
