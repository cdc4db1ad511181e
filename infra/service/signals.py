"""SIGTERM and SIGINT: stop gracefully within a deadline, then leave in any case."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import threading
import time
from collections.abc import Callable

from infra.service.logs import logger

log = logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
LINE_SECONDS = 1.0  # that a line of the log may take
DEADLINE_STATUS = 70  # exit status when the deadline passed (EX_SOFTWARE of sysexits.h)


def on_stop(
    stop: Callable[[], object], *, deadline: float, loop: asyncio.AbstractEventLoop | None = None
) -> Callable[[], None]:
    """Calls `stop` once, at the first signal; `deadline` seconds later the process exits hard.

    With a loop the call is made inside it; without one, in the main thread between two of its instructions, so there
    `stop` should only set a flag or an event. Later signals change nothing. Returns the function that does what a
    signal does, for a process that decides itself to stop.
    """
    began, said = threading.Event(), threading.Event()

    def watch() -> None:
        log.info("stopping", deadline_seconds=deadline)
        said.set()
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

    def leave() -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if began.is_set():
            said.wait(LINE_SECONDS)  # the interpreter dies of a thread that writes while it closes down

    def caught(*_: object) -> None:
        if loop is None:
            begin()
        elif not began.is_set() and not loop.is_closed():
            loop.call_soon_threadsafe(begin)

    # Not the loop's own handlers: those end with the loop, and then a second signal would kill a process that is
    # just leaving. For the same reason signals are ignored from when the interpreter closes down.
    for number in STOP_SIGNALS:
        signal.signal(number, caught)
    atexit.register(leave)
    return begin
