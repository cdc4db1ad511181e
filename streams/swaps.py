"""A month of `events` put in the place of itself: written anew in a table beside it, then swapped while nobody inserts.

A swap is a row per step in table `swaps`, and one is under way at a time. Its steps, and what a kill leaves of them:

preparing  a copy of the month lies in a table of its own and is changed there; workers go on inserting
           -> the table is dropped
held       no worker owns a partition: pairs above all others are in `ownership`, and a worker that claims sees the hold
           and leaves its partition alone. What was inserted meanwhile is copied too, and the names of both are compared
           -> the table is dropped, workers go on
ready      the month is replaced, at once for readers, by REPLACE PARTITION
           -> the month is replaced again from the same table, which gives the same rows
swapped    the table is dropped and the hold is over; workers claim again and rebuild their state from the rows, so that
given up   what they hold is what stands there

Each step has a term. Whoever finds one that is over brings it to its end: a worker that wants to claim, the owner of
partition 0 now and then, the next swap. Who was only slow is fenced by the table: without it neither a copy nor a
replacement can land any more.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from infra.service.clickhouse import Client, DatabaseError, OperationalError, quote
from infra.service.logs import logger

log = logger(__name__)

TERM = 60  # seconds that a step is believed to be alive
_NAMES = "count(), sum(cityHash64(writer, `partition`, seq, `index`))"


class State(StrEnum):
    """The steps of a swap in their order; the last two end it."""

    PREPARING = "preparing"
    HELD = "held"
    READY = "ready"
    SWAPPED = "swapped"
    GIVEN_UP = "given up"


_ENDED = f"({quote(State.SWAPPED)}, {quote(State.GIVEN_UP)})"
_HOLDING = (State.HELD, State.READY)


class SwapBusy(RuntimeError):
    """Another swap is under way."""


class SwapLost(RuntimeError):
    """The term of this swap was over and somebody else has ended it, or the month has changed under it."""


@dataclass(frozen=True, slots=True)
class Swap:
    """`month`: as YYYYMM. `over`: its term has passed by the database's clock."""

    id: int
    month: int
    state: State = State.PREPARING
    over: bool = False

    @property
    def table(self) -> str:
        """The table beside `events`; its name is never used again."""
        return f"swap_{self.id:016x}"


class Swaps:
    """Table `swaps` as one process sees it. Every method asks ClickHouse and raises its errors."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def under_way(self) -> list[Swap]:
        """The swaps that have not ended, by id."""
        steps = ", ".join(quote(state) for state in State)
        rows = self._client.query(
            f"SELECT swap, any(month), argMax(state, indexOf([{steps}], state)), max(until) < now64(3, 'UTC') "
            f"FROM swaps GROUP BY swap HAVING countIf(state IN {_ENDED}) = 0 ORDER BY swap"
        ).result_rows
        return [Swap(int(swap), int(month), State(state), bool(over)) for swap, month, state, over in rows]

    def held(self) -> bool:
        """Whether inserts are held now; what was left behind is brought to its end first."""
        return any(swap.state in _HOLDING for swap in self.settle())

    def settle(self) -> list[Swap]:
        """The swaps that are under way and alive; others are brought to their end."""
        alive = []
        for swap in self.under_way():
            if swap.over:
                log.warning("swap_left_behind", swap=swap.table, month=swap.month, state=swap.state)
                self.end(swap)
            else:
                alive.append(swap)
        return alive

    def wait(self, tell: Callable[[str], None]) -> None:
        """Until none is under way; one that was left behind ends with its term. Raises SwapBusy after two terms."""
        until = time.monotonic() + 2 * TERM
        while self.settle():
            if time.monotonic() > until:
                raise SwapBusy("stored rows are being changed already; try again when that has ended")
            tell("waiting for another change of stored rows to end")
            time.sleep(1)

    def begin(self, month: int) -> Swap:
        """A new swap; raises SwapBusy while another is under way."""
        if self.settle():
            raise SwapBusy("stored rows are being changed already; try again when that has ended")
        swap = Swap(secrets.randbits(64), month)
        self._step(swap, State.PREPARING)
        first = next(iter(self.settle()), None)
        if first is None or first.id != swap.id:  # two began at the same moment
            self.end(swap)
            raise SwapBusy("stored rows are being changed already; try again when that has ended")
        return swap

    def copy(self, swap: Swap) -> None:
        """Make the table, with the rows that the month has now."""
        self._client.command(f"CREATE TABLE {swap.table} AS events")
        self._client.command(f"ALTER TABLE {swap.table} ATTACH PARTITION ID '{swap.month}' FROM events")

    def renew(self, swap: Swap, state: State) -> Swap:
        """The swap at a step, its term begun anew; raises SwapLost when it has been ended."""
        self._step(swap, state)
        for one in self.under_way():
            if one.id == swap.id:
                return one
        raise SwapLost(f"the change of month {swap.month} took too long in one step and was given up")

    def replace(self, swap: Swap) -> None:
        """Put the table in the place of the month and end the swap; inserts must be held.

        Raises SwapLost when the names of the two differ: then nothing was changed.
        """
        if self.names(swap.table, swap.month) != self.names("events", swap.month):
            raise SwapLost(f"the rows of month {swap.month} changed while they were copied")
        self.end(self.renew(swap, State.READY))

    def names(self, table: str, month: int) -> tuple[int, int]:
        """How many rows a month has, and a sum over their names."""
        rows = self._client.query(f"SELECT {_NAMES} FROM {table} WHERE toYYYYMM(time) = {month}").result_rows
        return int(rows[0][0]), int(rows[0][1])

    def end(self, swap: Swap) -> None:
        """Bring a swap to its end, whatever was left of it; doing it twice, or by two at once, does it once."""
        state = State.GIVEN_UP
        if swap.state is State.READY:
            state = State.SWAPPED
            if self._exists(swap) and not self._replaced(swap):
                state = State.GIVEN_UP
        self._client.command(f"DROP TABLE IF EXISTS {swap.table} SYNC")
        self._step(swap, state)

    def _replaced(self, swap: Swap) -> bool:
        try:
            self._client.command(f"ALTER TABLE events REPLACE PARTITION ID '{swap.month}' FROM {swap.table}")
        except OperationalError:  # no answer: it may have landed or not
            raise
        except DatabaseError:
            if not self._exists(swap):
                return True  # somebody else has brought it to its end
            if self.names(swap.table, swap.month) != self.names("events", swap.month):
                raise
            # The engine refuses it, for a column that came meanwhile, and has changed nothing.
            return False
        return True

    def _exists(self, swap: Swap) -> bool:
        return bool(self._client.query(f"EXISTS TABLE {swap.table}").result_rows[0][0])

    def _step(self, swap: Swap, state: State) -> None:
        self._client.command(
            f"INSERT INTO swaps (swap, state, month, until) "
            f"SELECT {swap.id}, {quote(state)}, {swap.month}, now64(3, 'UTC') + INTERVAL {TERM} SECOND",
            settings={"async_insert": 0},
        )


@contextmanager
def swapping(swaps: Swaps, month: int) -> Iterator[Swap]:
    """A new swap that is ended, given up or swapped, however the block is left."""
    swap = swaps.begin(month)
    try:
        swaps.copy(swap)
        yield swap
    finally:
        for one in swaps.under_way():
            if one.id == swap.id:
                swaps.end(one)
