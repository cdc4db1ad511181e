"""One query from its request to its answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext

from infra.local.front.access import ReadOnlyRules
from infra.local.front.arrow import check_complete
from infra.local.front.engine import Engine, InMemoryFile, Result, Session
from infra.local.front.errors import (
    BAD_ARGUMENTS,
    NOT_IMPLEMENTED,
    QUERY_IS_TOO_LARGE,
    READONLY,
    SYNTAX_ERROR,
    FrontError,
)
from infra.local.front.exchange import Exchange
from infra.local.front.lexer import identifier, literal, tokens
from infra.local.front.native import HELLO, columns_block, hello_block
from infra.local.front.reply import DISPLAY_NAME
from infra.local.front.request import Request
from infra.local.front.results import Results
from infra.local.front.running import SHOWN_QUERY, Running, processes_table
from infra.local.front.session import (
    CHANGEABLE_IN_READONLY,
    limited,
    query_parameters_of,
    set_statement,
    settings_of,
)
from infra.local.front.settings import MEBIBYTE, FrontSettings
from infra.local.front.statement import Formats, Insert, Kill, insert_of, kill_of, output_of, replace_tables

SQL_BYTES = 4 << 20
KILL_WAIT = 60.0  # seconds that KILL … SYNC waits for the killed to end
GRACE = 5.0  # seconds past max_execution_time after which the front itself kills a query

#: A batch of the sink becomes one block and so one part per partition; a request may say otherwise.
DEFAULTS = {
    "async_insert": "0",
    "max_insert_threads": "1",
    "max_insert_block_size": "1048576",
    "min_insert_block_size_rows": "1048576",
    "min_insert_block_size_bytes": "1073741824",
    "max_query_size": str(SQL_BYTES),
}


class Queries:
    """Runs queries on the engine."""

    def __init__(self, engine: Engine, running: Running, settings: FrontSettings) -> None:
        self._engine = engine
        self._running = running
        self._settings = settings
        self._results = Results(engine, running, settings.hold_mb * MEBIBYTE)
        self._rules = ReadOnlyRules(engine.facts.table_functions)

    def answer(self, exchange: Exchange) -> tuple[str, Result]:
        """Runs the query, sends its answer, and tells what kind it was. Raises FrontError while nothing was sent."""
        text, insert, data = split(exchange.request, self._engine.facts.formats)
        exchange.query.sql = (insert.head if insert is not None else text)[:SHOWN_QUERY].decode(errors="replace")
        if HELLO.fullmatch(text) and exchange.format == "Native":
            facts = self._engine.facts
            block = hello_block(DISPLAY_NAME, facts.version, facts.timezone)
            exchange.reply.whole(block, "Native", Result(result_rows=1))
            return "read", Result()
        with self._engine.session() as session:
            self._prepare(session, exchange)
            if insert is not None:
                return self._finish(exchange, "insert", self._insert(session, insert, data, exchange))
            sql = _one_statement(text)
            if (kill := kill_of(sql, self._engine.facts.formats)) is not None:
                return self._kill(session, kill, exchange)
            return self._other(session, sql, exchange)

    def _prepare(self, session: Session, exchange: Exchange) -> None:
        """Database, external tables, settings; readonly comes last, for then nothing can be set any more."""
        parameters, query, limits = exchange.request.parameters, exchange.query, self._settings
        reads_only = exchange.account.reads_only
        asked = settings_of(parameters, self._engine.facts.settings, reads_only=reads_only)
        seconds = limits.dashboard_seconds if reads_only else limits.query_seconds
        settings = {
            **DEFAULTS,
            **asked,
            "max_memory_usage": limited(asked, "max_memory_usage", limits.query_memory_mb * MEBIBYTE),
            "max_execution_time": limited(asked, "max_execution_time", seconds),
            "log_comment": query.tag,
        }
        query.deadline = time.monotonic() + float(settings["max_execution_time"]) + GRACE
        query.database = parameters.get("database", "") or limits.database
        exchange.reply.timezone = asked.get("session_timezone") or self._engine.facts.timezone
        if reads_only:
            self._rules.database(query.database)
            settings["max_threads"] = str(limits.dashboard_threads)
            settings["readonly"] = "1"
        if exchange.reads_only and exchange.request.external:
            raise FrontError(READONLY, "Cannot create external tables in readonly mode")
        if query.database != "default":
            session.use(query.database)
        for table in exchange.request.external:
            with InMemoryFile([table.data]) as file:
                source = f"file({literal(file.path)}, {literal(table.format)}, {literal(table.structure)})"
                session.run(f"CREATE TEMPORARY TABLE {identifier(table.name)} AS SELECT * FROM {source}", "Null")
        session.run(set_statement(settings, query_parameters_of(parameters)), "Null")

    def _insert(
        self, session: Session, insert: Insert, data: Sequence[bytes | memoryview], exchange: Exchange
    ) -> Result:
        if exchange.reads_only:
            raise _readonly()
        head, query = _decoded(insert.head), exchange.query
        with self._running.execute(query):
            query.check()
            if insert.format is None or (insert.selects and insert.call is None):
                _one_statement(insert.head)
                return session.run(head, "Null")
            check_complete(insert.format, data[0] if len(data) == 1 else b"".join(data))
            if insert.call is None or insert.structure is None:
                return session.insert(head, insert.format, data, query.check)
            # The embedded engine's input() inserts nothing and says nothing; file() reads with the same parser.
            structure = insert.head[slice(*insert.structure)].decode().strip()
            with InMemoryFile(data) as file:
                arguments = ", ".join(filter(None, (literal(file.path), literal(insert.format), structure)))
                before, after = insert.head[: insert.call[0]].decode(), insert.head[insert.call[1] :].decode()
                return session.run(f"{before}file({arguments}){after}", "Null")

    def _kill(self, session: Session, kill: Kill, exchange: Exchange) -> tuple[str, Result]:
        if exchange.reads_only:
            raise _readonly()
        queries = self._running.queries()
        condition = f"SELECT query_id FROM {processes_table(queries)} WHERE ({kill.condition}\n)"
        ids = set(session.run(condition, "TSVRaw").data.decode().splitlines())
        chosen = [query for query in queries if query.query_id in ids and query is not exchange.query]
        if kill.how == "SYNC":
            self._running.kill(chosen, KILL_WAIT)
        elif kill.how == "ASYNC":
            self._running.signal(chosen)
        columns = ("kill_status", "query_id", "user", "query")
        structure = literal(", ".join(f"{name} String" for name in columns))
        status = literal("finished" if kill.how == "SYNC" else "waiting")
        rows = [f"({status}, {literal(one.query_id)}, {literal(one.user)}, {literal(one.sql)})" for one in chosen]
        source = f"values({', '.join([structure, *rows])})" if rows else f"null({structure})"
        format = kill.format or exchange.format
        result = session.run(f"SELECT * FROM {source}", format)
        if not rows and format == "Native":
            result = Result(data=columns_block((name, "String") for name in columns))
        return self._finish(exchange, "kill", result, format)

    def _other(self, session: Session, sql: bytes, exchange: Exchange) -> tuple[str, Result]:
        """Everything the engine answers: a reading is streamed, a command is run to its end."""
        if exchange.account.reads_only:
            sql = self._readable(sql, exchange)
        sql = self._with_own_tables(sql, exchange)
        kind, statements = session.classify(_decoded(sql))
        if kind == "UNKNOWN":
            self._engine.canonical(_decoded(sql))
            raise FrontError(SYNTAX_ERROR, "Syntax error: the query is empty or cannot be read")
        if statements != 1:
            raise _several_statements()
        output = output_of(sql, self._engine.facts.formats)
        if kind == "READ_ONLY":
            turn = self._running.turn(exchange.query) if exchange.account.reads_only else nullcontext()
            with turn, self._running.execute(exchange.query):
                exchange.query.check()
                return "read", self._results.send(session, output, exchange)
        if exchange.reads_only:
            raise _readonly()
        _refuse_for_server(sql)
        with self._running.execute(exchange.query):
            exchange.query.check()
            result = session.run(_decoded(sql), exchange.format)
        return self._finish(exchange, "command", result)

    def _readable(self, sql: bytes, exchange: Exchange) -> bytes:
        """The dashboard's statement, checked in canonical form; that form runs where the front has to change it."""
        canonical = self._engine.canonical(_decoded(sql))
        self._rules.check(canonical, query_parameters_of(exchange.request.parameters))
        return canonical if self._with_own_tables(canonical, exchange) != canonical else sql

    def _with_own_tables(self, sql: bytes, exchange: Exchange) -> bytes:
        """``system.processes`` is the front's list; ``system.settings`` says what the dashboard may change."""
        tables: dict[str, str] = {}
        account = exchange.account
        if b"processes" in sql:
            tables["processes"] = processes_table(self._running.queries(account.name if account.reads_only else None))
        if account.reads_only and b"settings" in sql:
            names = ", ".join(literal(name) for name in sorted(CHANGEABLE_IN_READONLY))
            replaced = f"if(name IN ({names}), 0, readonly) AS readonly"
            tables["settings"] = f"(SELECT * REPLACE ({replaced}) FROM system.settings)"
        return replace_tables(sql, tables) if tables else sql

    def _finish(self, exchange: Exchange, kind: str, result: Result, format: str | None = None) -> tuple[str, Result]:
        """Off the list first: once the client has its answer, no KILL meets the query any more."""
        self._running.end(exchange.query)
        exchange.query.check()
        # A statement without a result has no format: this is how clients tell an INSERT's answer from an empty result.
        silent = kind in ("insert", "command") and not result.data
        exchange.reply.whole(result.data, None if silent else format or exchange.format, result, exchange.encoder())
        return kind, result


def split(request: Request, formats: Formats) -> tuple[bytes, Insert | None, list[bytes | memoryview]]:
    """The statement's text, its INSERT if it is one, and the data inline in the text and in the body."""
    if request.sql and (insert := insert_of(request.sql, formats)) is not None and insert.format is not None:
        inline = request.sql[insert.data :]
        pieces = [inline + b"\n" if request.body else inline] if inline.strip() else []
        return request.sql, insert, [*pieces, *([request.body] if request.body else [])] or [b""]
    text = request.sql + b"\n" + request.body if request.sql and request.body else request.sql or request.body
    if not text.strip():
        raise FrontError(SYNTAX_ERROR, "Empty query")
    insert = insert_of(text, formats)
    if insert is not None:
        return text, insert, [memoryview(text)[insert.data :]]
    if len(text) > SQL_BYTES:
        raise FrontError(QUERY_IS_TOO_LARGE, f"The query is larger than {SQL_BYTES} bytes")
    return text, None, []


def _decoded(sql: bytes) -> str:
    try:
        return sql.decode()
    except UnicodeDecodeError:
        raise FrontError(BAD_ARGUMENTS, "The query's text is not UTF-8") from None


def _one_statement(sql: bytes) -> bytes:
    ended = False
    for token in tokens(sql):
        if ended and not token.is_mark(";"):
            raise _several_statements()
        ended = ended or token.is_mark(";")
    return sql


def _several_statements() -> FrontError:
    return FrontError(SYNTAX_ERROR, "Syntax error (Multi-statements are not allowed)")


def _readonly() -> FrontError:
    return FrontError(READONLY, "Cannot execute query in readonly mode")


def _refuse_for_server(sql: bytes) -> None:
    """What would be forgotten with the handle, or would stop the engine under the front."""
    words = [token.raw.upper() for token, _ in zip(tokens(sql), range(3), strict=False)]
    if words[0] in (b"SET", b"USE") or words[:2] == [b"CREATE", b"TEMPORARY"]:
        raise FrontError(
            NOT_IMPLEMENTED,
            f"{words[0].decode()}: no sessions are kept here; send settings and the database with each request",
        )
    if words[0] == b"SYSTEM" and words[1:2] and words[1] in (b"SHUTDOWN", b"KILL", b"SUSPEND"):
        raise FrontError(NOT_IMPLEMENTED, "SYSTEM SHUTDOWN: stop the front's process instead")
