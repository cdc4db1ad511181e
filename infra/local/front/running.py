"""The queries that run now: who, what, since when; how one is killed, and waited for until it has ended.

A query counts as running from the moment its request's head was read, so a KILL also meets one whose body is still on
its way. The engine knows a query by its tag, which travels as ``log_comment``.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from infra.local.front.errors import (
    QUERY_WAS_CANCELLED,
    QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
    TIMEOUT_EXCEEDED,
    TOO_MANY_SIMULTANEOUS_QUERIES,
    FrontError,
)
from infra.local.front.lexer import literal

SHOWN_QUERY = 4096  # characters of a query that the list keeps
RETRY = 0.02  # seconds between two attempts to kill in the engine
TURN_LOOK = 0.25  # seconds after which a query that waits for its turn looks whether it was killed


@dataclass(slots=True, eq=False)
class Query:
    """One request with a query. ``interrupt`` wakes the thread that waits for the client."""

    tag: str
    query_id: str
    user: str
    address: str
    interrupt: Callable[[], None]
    began: float = field(default_factory=time.monotonic)
    sql: str = ""
    database: str = ""
    deadline: float | None = None
    killed: FrontError | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raises what killed this query, if something did."""
        if self.killed is not None:
            raise self.killed


class Running:
    """The list of running queries. ``kill_in_engine`` kills by tag what the engine runs, without waiting."""

    def __init__(self, kill_in_engine: Callable[[str], None], *, at_once: int, dashboards_at_once: int) -> None:
        self._kill_in_engine = kill_in_engine
        self._queries: dict[str, Query] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._slots = threading.BoundedSemaphore(at_once)
        self._at_once = at_once
        self._turns = threading.Semaphore(dashboards_at_once)

    def begin(
        self,
        query_id: str,
        user: str,
        address: str,
        interrupt: Callable[[], None],
        *,
        replace: bool = False,
        wait: float = 5.0,
    ) -> Query:
        """Puts a query on the list. If one of its id runs, it is killed first with ``replace``, else an error."""
        until = time.monotonic() + wait
        while True:
            with self._lock:
                same = [query for query in self._queries.values() if query.query_id == query_id]
                if not same:
                    query = Query(f"front-{next(self._numbers)}", query_id, user, address, interrupt)
                    self._queries[query.tag] = query
                    return query
            if not replace or any(query.user != user for query in same):
                raise FrontError(
                    QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING, f"Query with id = {query_id} is already running"
                )
            self.kill(same, until - time.monotonic())

    def end(self, query: Query) -> None:
        """Takes it off the list; whoever waits for its end goes on."""
        with self._lock:
            self._queries.pop(query.tag, None)
        query.ended.set()

    def execute(self, query: Query) -> Execution:
        """A place among the queries at work in the engine; raises FrontError 202 when all are taken."""
        if not self._slots.acquire(blocking=False):
            raise FrontError(TOO_MANY_SIMULTANEOUS_QUERIES, f"Too many simultaneous queries. Maximum: {self._at_once}")
        return Execution(query, self._slots)

    @contextmanager
    def turn(self, query: Query) -> Iterator[None]:
        """A dashboard's turn, waited for as long as the query may take; raises what killed it meanwhile."""
        while not self._turns.acquire(timeout=TURN_LOOK):
            query.check()
        try:
            query.check()
            yield
        finally:
            self._turns.release()

    def queries(self, user: str | None = None) -> list[Query]:
        with self._lock:
            return [query for query in self._queries.values() if user in (None, query.user)]

    def kill(self, queries: Iterable[Query], wait: float, why: FrontError | None = None) -> None:
        """Kills these and waits until each has ended; raises FrontError 159 if one has not within ``wait`` seconds."""
        queries = list(queries)
        self.signal(queries, why)
        until = time.monotonic() + wait
        for query in queries:
            while not query.ended.wait(min(RETRY, max(0.0, until - time.monotonic()))):
                if time.monotonic() >= until:
                    raise FrontError(TIMEOUT_EXCEEDED, f"Query {query.query_id} was killed but has not ended yet")
                # It may have entered the engine only now.
                self._kill_in_engine(query.tag)

    def signal(self, queries: Iterable[Query], why: FrontError | None = None) -> None:
        """Kills without waiting. What was killed ends in an error, even if its work was done already."""
        for query in queries:
            query.killed = query.killed or why or FrontError(QUERY_WAS_CANCELLED, "Query was cancelled", close=True)
            query.interrupt()
            self._kill_in_engine(query.tag)

    def overdue(self) -> list[Query]:
        now = time.monotonic()
        return [query for query in self.queries() if query.deadline is not None and query.deadline < now]


class Execution:
    """A taken place; given back on leaving the ``with``."""

    def __init__(self, query: Query, slots: threading.BoundedSemaphore) -> None:
        self._query = query
        self._slots = slots

    def __enter__(self) -> Query:
        return self._query

    def __exit__(self, *_: object) -> None:
        self._slots.release()


def processes_table(queries: Iterable[Query]) -> str:
    """A subquery in the form of ``system.processes``: the front's list, joined with what the engine measures."""
    now = time.monotonic()
    rows = ", ".join(
        "(" + ", ".join(
            (
                literal(query.tag),
                literal(query.query_id),
                literal(query.user),
                literal(query.address),
                literal(query.sql[:SHOWN_QUERY]),
                literal(query.database),
                f"{now - query.began:.6f}",
                str(int(query.killed is not None)),
            )
        ) + ")"
        for query in queries
    )  # fmt: skip
    values = (
        "values('tag String, query_id String, user String, address String, query String, current_database String, "
        f"elapsed Float64, is_cancelled UInt8', {rows})"
    )
    return (
        "(SELECT 1::UInt8 AS is_initial_query, l.user AS user, l.query_id AS query_id, l.address AS address, "
        "l.user AS initial_user, l.query_id AS initial_query_id, l.elapsed AS elapsed, l.is_cancelled AS is_cancelled, "
        "e.read_rows AS read_rows, e.read_bytes AS read_bytes, e.written_rows AS written_rows, "
        "e.memory_usage AS memory_usage, e.peak_memory_usage AS peak_memory_usage, e.query_kind AS query_kind, "
        "l.query AS query, l.current_database AS current_database, e.Settings AS Settings "
        f"FROM {values} AS l LEFT JOIN system.processes AS e ON e.Settings['log_comment'] = l.tag)"
    )
