"""The listening socket, a thread per connection, the paths, and how all of it ends."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import uuid
from collections.abc import Mapping

from infra.local.front import metrics
from infra.local.front.access import Account, authenticate, credentials
from infra.local.front.engine import Engine, Result
from infra.local.front.errors import ABORTED, TIMEOUT_EXCEEDED, UNKNOWN_FORMAT, FrontError, from_engine
from infra.local.front.exchange import Exchange
from infra.local.front.queries import Queries
from infra.local.front.reply import Reply
from infra.local.front.request import Body, Budget, request_of
from infra.local.front.results import BrokenOff
from infra.local.front.running import Query, Running
from infra.local.front.settings import MEBIBYTE, FrontSettings
from infra.local.front.wire import (
    Connection,
    Gone,
    Head,
    Limits,
    Malformed,
    TooSlow,
    answer_head,
    parameters,
)
from infra.service.logs import logger
from infra.service.metrics import CONTENT_TYPE, exposition

log = logger(__name__)

LINGER = 2.0  # seconds that a client which is still sending gets to read why it was refused
DRAIN = 1 << 16  # bytes of an unwanted body that are read so that the connection can go on
WATCH = 0.25  # seconds between two looks at overdue queries
UNKNOWN_PATH = "There is no handle {path}\n\nUse / or /ping for health checks, and / with a query for queries.\n"


class Front:
    """The server. ``serve`` runs until ``stop`` is called, then drains and returns."""

    def __init__(self, settings: FrontSettings) -> None:
        """Takes the port first, so that a taken one is told before the engine is opened. Raises OSError."""
        self._settings = settings
        self._listener = socket.create_server((settings.host, settings.port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._stopping = threading.Event()
        self._connections: set[Connection] = set()
        self._lock = threading.Lock()
        self._budget = Budget(settings.bodies_mb * MEBIBYTE)
        self._limits = Limits(
            settings.head_bytes,
            settings.idle_seconds,
            settings.head_seconds,
            settings.stall_seconds,
            settings.body_seconds,
        )
        self._accounts = [Account(settings.user, settings.password.get_secret_value(), False)]
        if settings.dashboard_password is not None:
            self._accounts.append(
                Account(settings.dashboard_user, settings.dashboard_password.get_secret_value(), True)
            )

    def open(self) -> None:
        """Opens the engine; raises EngineUnavailable."""
        settings = self._settings
        self._engine = Engine(
            settings.path,
            server_memory=settings.server_memory_mb * MEBIBYTE,
            mark_cache=settings.mark_cache_mb * MEBIBYTE,
        )
        with self._engine.session() as session:
            session.run(f"CREATE DATABASE IF NOT EXISTS {settings.database} ENGINE = Atomic", "Null")
        self._running = Running(
            self._engine.kill,
            at_once=settings.concurrent_queries,
            dashboards_at_once=settings.dashboard_queries,
        )
        self._queries = Queries(self._engine, self._running, settings)
        metrics.RUNNING.set_function(lambda: len(self._running.queries()))

    def serve(self) -> None:
        """Accepts until stopped; then lets the running queries end within their time, and closes the engine."""
        watch = threading.Thread(target=self._watch, name="watch", daemon=True)
        watch.start()
        self._listener.settimeout(WATCH)
        while not self._stopping.is_set():
            try:
                client, address = self._listener.accept()
            except OSError:  # none within the time, or one that left at once
                continue
            self._take(client, str(address[0]))
        self._listener.close()
        self._drain()
        self._engine.close()

    def stop(self) -> None:
        self._stopping.set()

    def _take(self, client: socket.socket, address: str) -> None:
        connection = Connection(client, self._limits)
        with self._lock:
            full = len(self._connections) >= self._settings.connections
            if not full:
                self._connections.add(connection)
        if full:
            metrics.REFUSED_CONNECTIONS.inc()
            with contextlib.suppress(Gone):
                connection.send(answer_head(503, {"Content-Length": "0", "Connection": "Close", "Retry-After": "1"}))
            connection.close()
            return
        metrics.CONNECTIONS.inc()
        threading.Thread(target=self._talk, args=(connection, address), name="connection", daemon=True).start()

    def _talk(self, connection: Connection, address: str) -> None:
        linger = 0.0
        try:
            while not self._stopping.is_set() and (head := connection.head()) is not None:
                if not self._respond(connection, head, address):
                    linger = LINGER if head.has_body else 0.0
                    break
        except Malformed as problem:
            linger = LINGER
            with contextlib.suppress(Gone):
                _send_plain(connection, problem.status, f"{problem}\n", keep_alive=False)
        except (TooSlow, Gone):
            pass
        except Exception:
            log.exception("connection_failed")
        finally:
            connection.close(linger)
            with self._lock:
                self._connections.discard(connection)
            metrics.CONNECTIONS.dec()

    def _respond(self, connection: Connection, head: Head, address: str) -> bool:
        """Answers one request; whether the connection can go on."""
        found = parameters(head.query)
        if head.path == "/" and (head.method == "POST" or "query" in found) and head.method in ("GET", "HEAD", "POST"):
            return self._query(connection, head, found, address)
        keep_alive = head.keep_alive and _drained(connection, head) and not self._stopping.is_set()
        if head.method not in ("GET", "HEAD"):
            _send_plain(connection, 405, "GET and POST are known here\n", keep_alive=keep_alive, method=head.method)
            return keep_alive
        status, body, content_type = self._page(head.path)
        _send_plain(connection, status, body, keep_alive=keep_alive, method=head.method, content_type=content_type)
        return keep_alive

    def _page(self, path: str) -> tuple[int, str, str]:
        plain = "text/html; charset=UTF-8"
        match path:
            case "/" | "/ping" | "/replicas_status":
                return 200, "Ok.\n", plain
            case "/livez":
                return 200, '{"ok":true,"reason":""}\n', "application/json"
            case "/readyz":
                reason = "stopping" if self._stopping.is_set() else self._ailment()
                return (
                    (503 if reason else 200),
                    json.dumps({"ok": not reason, "reason": reason}) + "\n",
                    "application/json",
                )
            case "/metrics":
                return 200, exposition().decode(), CONTENT_TYPE
            case _:
                return 404, UNKNOWN_PATH.format(path=path[:128]), plain

    def _ailment(self) -> str:
        try:
            with self._engine.session() as session:
                session.run("SELECT 1", "Null")
        except (FrontError, RuntimeError):
            return "the engine does not answer"
        return ""

    def _query(self, connection: Connection, head: Head, found: Mapping[str, str], address: str) -> bool:
        began = time.monotonic()
        reply = Reply(connection, head, self._engine.facts)
        outcome, kind, result = "ok", "none", Result()
        query: Query | None = None
        keep_alive = reply.keep_alive
        # Until the body was read to its end, what follows on the connection may be the rest of it.
        reply.keep_alive = not head.has_body and keep_alive
        try:
            account = authenticate(self._accounts, credentials(head.headers, found))
            query = self._begin(connection, found, account, address)
            reply.query_id = query.query_id
            with Body(self._budget) as body:
                body.read(connection, head, self._settings.body_mb * MEBIBYTE, query.check)
                reply.keep_alive = keep_alive
                metrics.RECEIVED.inc(len(body.data))
                exchange = self._exchange(connection, head, found, body.data, query, account, reply)
                kind, result = self._queries.answer(exchange)
        except FrontError as problem:
            outcome = problem.name
            if query is not None:
                self._running.end(query)
            log.info("query_failed", code=problem.code, name=problem.name, reply=problem.status)
            reply.error(problem)
        except BrokenOff as broken:
            outcome = broken.problem.name
            log.info("query_broke_off", code=broken.problem.code, name=broken.problem.name)
        except Gone:
            outcome = "CLIENT_LEFT"
            raise
        except Exception as problem:
            outcome = "STD_EXCEPTION"
            log.exception("query_crashed")
            if reply.streaming:
                raise Gone from None
            reply.error(from_engine(problem))
        finally:
            if query is not None:
                self._running.end(query)
            metrics.finished(kind, outcome, time.monotonic() - began, result.written_rows, reply.sent)
        return reply.keep_alive and not self._stopping.is_set() and not connection.interrupted

    def _begin(self, connection: Connection, found: Mapping[str, str], account: Account, address: str) -> Query:
        if self._stopping.is_set():
            raise FrontError(ABORTED, "The front is stopping", status=503, close=True)
        query = self._running.begin(
            found.get("query_id", "")[:256] or str(uuid.uuid4()),
            account.name,
            address,
            connection.interrupt,
            replace=found.get("replace_running_query", "0") in ("1", "true"),
            wait=min(60.0, _milliseconds(found.get("replace_running_query_max_wait_ms"), 5.0)),
        )
        query.sql = found.get("query", "")[:256]
        return query

    def _exchange(
        self,
        connection: Connection,
        head: Head,
        found: Mapping[str, str],
        body: bytes,
        query: Query,
        account: Account,
        reply: Reply,
    ) -> Exchange:
        request = request_of(head, found, body)
        named = request.parameters.get("default_format") or head.headers.get("x-clickhouse-format") or "TabSeparated"
        format = self._engine.facts.formats.get(named.lower())
        if format is None:
            raise FrontError(UNKNOWN_FORMAT, f"Unknown format {named[:64]}")
        if "database" not in request.parameters and "x-clickhouse-database" in head.headers:
            request = request.with_parameter("database", head.headers["x-clickhouse-database"])
        return Exchange(request, query, account, head, connection, reply, format)

    def _watch(self) -> None:
        """Kills queries whose time is over and that the engine itself did not end."""
        while not self._stopping.wait(WATCH):
            if overdue := self._running.overdue():
                self._running.signal(overdue, FrontError(TIMEOUT_EXCEEDED, "Timeout exceeded: the query ran too long"))

    def _drain(self) -> None:
        until = time.monotonic() + self._settings.stop_seconds
        while time.monotonic() < until and (open_ := self._open()):
            for connection in open_:
                connection.close_if_idle()
            time.sleep(0.02)
        left = self._running.queries()
        if left:
            log.warning("queries_killed_at_stop", count=len(left))
            with contextlib.suppress(FrontError):
                self._running.kill(left, 3.0, FrontError(ABORTED, "The front is stopping", status=503, close=True))
        for connection in self._open():
            connection.interrupt()

    def _open(self) -> list[Connection]:
        with self._lock:
            return list(self._connections)


def _milliseconds(text: str | None, default: float) -> float:
    return int(text) / 1000 if text is not None and text.isdigit() and len(text) < 9 else default


def _drained(connection: Connection, head: Head) -> bool:
    """Reads a body that nobody wants; False when it is too large for that."""
    if head.length is None or head.length > DRAIN or head.expects_continue:
        return not head.has_body
    for _ in connection.body(head):
        pass
    return True


def _send_plain(
    connection: Connection,
    status: int,
    body: str,
    *,
    keep_alive: bool,
    method: str = "GET",
    content_type: str = "text/plain; charset=UTF-8",
) -> None:
    data = body.encode()
    headers = {
        "Content-Type": content_type,
        "Content-Length": str(len(data)),
        "Connection": "Keep-Alive" if keep_alive else "Close",
    }
    connection.send(answer_head(status, headers), b"" if method == "HEAD" else data)
