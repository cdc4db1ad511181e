"""Sends traffic: by a schedule that is kept whatever the answers do (open loop), or as fast as the answers come."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from infra.load.answers import outcomes
from infra.load.client import Pool, Sendable
from infra.load.journal import CUT, TIMED_OUT, Journal, Outcome
from infra.load.traffic import BULK_ITEMS, Request, Traffic

STOP_SECONDS = 5.0
FIRST_CONNECTION_SECONDS = 10.0
_TICK = 0.001


class Unreachable(RuntimeError):
    """Nothing took a connection from the start of the run on."""


@dataclass(slots=True)
class Totals:
    """Counts of events, but `requests` and `odd`: answers against the rules. Times are seconds."""

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    requests: int = 0
    odd: int = 0
    in_flight: int = 0
    behind: float = 0.0  # the longest time that the schedule was not kept by
    started: float = 0.0
    ended: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)
    answer_ms: array[float] = field(default_factory=lambda: array("f"))

    @property
    def seconds(self) -> float:
        return (self.ended or time.perf_counter()) - self.started

    def report(self) -> dict[str, object]:
        """What `veilstream load --json` prints."""
        times = np.frombuffer(self.answer_ms, np.float32) if self.answer_ms else np.zeros(1, np.float32)
        p50, p99 = np.percentile(times, (50, 99))
        return {
            "sent": self.sent,
            "acknowledged": self.acknowledged,
            "refused": self.refused,
            "unknown": self.unknown,
            "requests": self.requests,
            "odd_answers": self.odd,
            "statuses": dict(sorted(self.statuses.items())),
            "answer_ms": {"p50": round(float(p50), 2), "p99": round(float(p99), 2)},
            "behind_seconds": round(self.behind, 3),
            "seconds": round(self.seconds, 3),
            "events_per_second": round(self.sent / self.seconds, 1) if self.seconds else 0.0,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """events, seconds: whichever ends first (None: no end). rate: events per second, 0 for as fast as it goes."""

    events: int | None
    seconds: float | None
    rate: float
    connections: int
    timeout: float


class Sender:
    """One run. `totals` may be read at any time; `stop` ends it in order."""

    def __init__(self, traffic: Traffic, plan: Plan, journal: Journal | None) -> None:
        self.totals = Totals()
        self._traffic, self._plan, self._journal = traffic, plan, journal
        self._stopping = False
        self._filling = False
        self._again: deque[Request] = deque()  # acknowledged, to be sent once more
        self._done: asyncio.Event | None = None

    def stop(self) -> None:
        """Send nothing more; `run` returns when what is in flight has its answer, or after STOP_SECONDS."""
        self._stopping = True
        if self._done:
            self._loop.call_later(STOP_SECONDS, self._done.set)
            self._check_done()

    async def run(self, host: str, port: int, each: Callable[[Totals], None] | None = None) -> Totals:
        """Send until the plan or `stop` ends it. `each` is called every quarter of a second.

        Raises Unreachable where no connection comes about at first; one that is lost later is waited for.
        """
        self._done = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.totals.started = time.perf_counter()
        self._start = self._loop.time()
        plan = self._plan
        self._pool = Pool(
            host, port, connections=plan.connections, timeout=plan.timeout, finished=self._finished, on_idle=self._fill
        )
        ticker = asyncio.create_task(self._tick(each))
        try:
            await self._done.wait()
            if not self._pool.connects and not self._stopping:
                raise Unreachable(f"nothing takes connections at {host}:{port}")
        finally:
            ticker.cancel()
            await self._pool.close()
            self.totals.ended = time.perf_counter()
            if self._journal:
                self._journal.flush()
            if each:
                each(self.totals)
        return self.totals

    def _due(self) -> float:
        """How many events should have been sent by now."""
        return (self._loop.time() - self._start) * self._plan.rate

    def _over(self) -> bool:
        events, seconds = self._plan.events, self._plan.seconds
        return (
            self._stopping
            or (events is not None and self.totals.sent >= events)
            or (seconds is not None and self._loop.time() - self._start >= seconds)
        )

    def _fill(self) -> None:
        """Send what is due on the connections that are idle."""
        if self._filling:
            return
        self._filling = True
        plan, totals, idle = self._plan, self.totals, self._pool.idle
        while idle and not self._over() and (not plan.rate or totals.sent <= self._due()):
            most = BULK_ITEMS[1] if plan.events is None else plan.events - totals.sent
            if self._again and len(self._again[0].expected) <= most:
                request = self._traffic.again(self._again.popleft())
            else:
                request = self._traffic.request(most)
            count = len(request.expected)
            if self._journal:
                self._journal.sent(request.first, request.expected)
            totals.sent += count
            totals.in_flight += count
            totals.requests += 1
            self._pool.send(request)
        self._filling = False
        self._check_done()

    def _check_done(self) -> None:
        if self._done and not self.totals.in_flight and self._over():
            self._done.set()

    def _finished(self, sendable: Sendable, status: int, body: bytes, sent_at: float) -> None:
        request = cast(Request, sendable)
        became, allowed = outcomes(request, status, body)
        totals = self.totals
        count = len(became)
        totals.in_flight -= count
        if count == 1:
            acknowledged, refused = int(became[0] == Outcome.ACKNOWLEDGED), int(became[0] == Outcome.REFUSED)
        else:
            acknowledged = sum(outcome == Outcome.ACKNOWLEDGED for outcome in became)
            refused = sum(outcome == Outcome.REFUSED for outcome in became)
        totals.acknowledged += acknowledged
        totals.refused += refused
        totals.unknown += count - acknowledged - refused
        totals.odd += not allowed
        if request.again and acknowledged == count:
            self._again.append(request)
        totals.statuses[{CUT: "cut", TIMED_OUT: "timed out"}.get(status) or str(status)] += 1
        if status > TIMED_OUT:
            totals.answer_ms.append((time.perf_counter() - sent_at) * 1000)
        if self._journal:
            self._journal.ended(request.first, became, status)
        self._check_done()

    async def _tick(self, each: Callable[[Totals], None] | None) -> None:
        told = 0.0
        while True:
            await asyncio.sleep(_TICK if self._plan.rate else 0.05)
            if self._plan.rate and not self._over():
                behind = (self._due() - self.totals.sent) / self._plan.rate
                self.totals.behind = max(self.totals.behind, behind)
            self._fill()
            now = self._loop.time()
            if not self._pool.connects and now - self._start > FIRST_CONNECTION_SECONDS and self._done:
                self._done.set()
            if now - told >= 0.25:
                told = now
                if self._journal:
                    self._journal.flush()
                if each:
                    each(self.totals)
