"""The embedded engine: opened once on a folder, a handle per query, killed by tag, closed so that its lock is free."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from xml.sax.saxutils import escape

from chdb import _chdb

from infra.local.front.errors import FrontError, from_engine
from infra.local.front.lexer import identifier, literal

connect: Any = _chdb.connect  # type: ignore[attr-defined]  # a compiled module without types

NO_DATA_TO_INSERT = 108
INSERT_PIECE = 1 << 20  # bytes handed to the engine at a time
PIPE_SIZE = 1 << 20


class EngineUnavailable(Exception):
    """The engine cannot open its folder, for example because another process holds it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement gave: its output, and the counts of ``X-ClickHouse-Summary``."""

    data: bytes = b""
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the engine says of itself, asked once."""

    version: str
    timezone: str
    settings: frozenset[str]
    formats: dict[str, str]
    table_functions: frozenset[str]


class Engine:
    """The engine on ``folder``. Raises EngineUnavailable when it cannot be opened."""

    def __init__(self, folder: Path, *, server_memory: int, mark_cache: int) -> None:
        data = folder / "data"
        try:
            data.mkdir(parents=True, exist_ok=True)
            config = folder / "engine.xml"
            config.write_text(_configuration(server_memory, mark_cache))
            # This handle keeps the engine open between queries.
            self._root = connect(f"{data}?config-file={config}")
        except (OSError, RuntimeError) as problem:
            raise EngineUnavailable(f"the engine cannot open {data}: {_first_line(problem)}") from None
        self._path = str(data)
        self.facts = self._facts()

    def session(self) -> Session:
        return Session(connect(self._path))

    def canonical(self, sql: str) -> bytes:
        """The statement as the engine would write it; raises FrontError 62 where it cannot be read."""
        with self.session() as session:
            try:
                return session.run(f"SELECT formatQuerySingleLine({literal(sql)})", "TSVRaw").data.removesuffix(b"\n")
            except FrontError as problem:
                reason = re.split(r"[\s.:]*In scope SELECT formatQuery", problem.reason)[0]
                raise FrontError(problem.code, reason, name=problem.name) from None

    def kill(self, tag: str) -> None:
        """Tells the engine to end what runs under this tag, if anything does."""
        with self.session() as session:
            session.run(f"KILL QUERY WHERE Settings['log_comment'] = {literal(tag)} ASYNC", "Null")

    def close(self) -> None:
        self._root.close()

    def _facts(self) -> Facts:
        def column(sql: str) -> list[str]:
            with self.session() as session:
                return session.run(sql, "TSVRaw").data.decode().splitlines()

        version, timezone = column("SELECT arrayJoin([version(), timezone()])")
        return Facts(
            version=version,
            timezone=timezone,
            settings=frozenset(column("SELECT name FROM system.settings")),
            formats={name.lower(): name for name in column("SELECT name FROM system.formats")},
            table_functions=frozenset(column("SELECT name FROM system.table_functions")),
        )


class Session:
    """One handle: what is set here is seen here only, and gone when it is closed. For one thread at a time."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def __enter__(self) -> Session:
        return self

    def __exit__(self, _kind: type | None, _value: BaseException | None, _trace: TracebackType | None) -> None:
        self._handle.close()

    def use(self, database: str) -> None:
        self.run(f"USE {identifier(database)}", "Null")

    def run(self, sql: str, format: str) -> Result:
        """Runs one statement to its end; raises FrontError with the engine's error."""
        try:
            found = self._handle.query(sql, format)
        except RuntimeError as problem:
            raise from_engine(problem) from None
        if found.has_error():
            raise from_engine(found.error_message())
        return _result(found, found.bytes())

    def insert(self, head: str, format: str, pieces: Sequence[bytes | memoryview], check: Callable[[], None]) -> Result:
        """Inserts complete data in an input format; ``head`` is the INSERT without FORMAT.

        ``check`` is called between pieces; what it raises ends the insert.
        """
        inserter = None
        try:
            inserter = self._handle.send_insert(head, format)
            for piece in pieces:
                for start in range(0, len(piece), INSERT_PIECE):
                    check()
                    self._handle.insert_append(inserter, bytes(piece[start : start + INSERT_PIECE]))
            check()
            return _result(self._handle.insert_done(inserter), b"")
        except (RuntimeError, FrontError) as problem:
            error = problem if isinstance(problem, FrontError) else from_engine(problem)
            if inserter is not None:
                with contextlib.suppress(RuntimeError):
                    self._handle.insert_cancel(inserter)
        if error.code == NO_DATA_TO_INSERT:
            return Result()
        raise error

    def classify(self, sql: str) -> tuple[str, int]:
        """The class of a statement (READ_ONLY, MUTATING, CONTROL, …, UNKNOWN) and how many statements there are."""
        found = self._handle.classify_query(sql)
        return found["query_class"].name, int(found["statement_count"])


def _result(found: Any, data: bytes) -> Result:
    return Result(
        data=data,
        read_rows=found.storage_rows_read(),
        read_bytes=found.storage_bytes_read(),
        written_rows=found.rows_written(),
        written_bytes=found.bytes_written(),
        result_rows=found.rows_read(),
    )


class Stream:
    """A statement whose output is read while it runs: the engine writes into a pipe, in a thread of its own.

    ``statement`` makes the SQL from the path that the engine shall write to. ``fileno`` is readable when there is
    output; at its end ``outcome`` tells how the statement ended.
    """

    def __init__(self, session: Session, statement: Callable[[str], str]) -> None:
        self._reading, writing = os.pipe()
        sql = statement(f"/dev/fd/{writing}")
        self._result: Result | None = None
        self._error: FrontError | None = None

        def work() -> None:
            try:
                # Not Null: the engine rewrites SHOW to a SELECT and would take this format for its output.
                self._result = session.run(sql, "TSV")
            except FrontError as problem:
                self._error = problem
            except BaseException as problem:  # an answer in any case: the reader waits for the pipe to close
                self._error = from_engine(problem)
            finally:
                os.close(writing)

        self._thread = threading.Thread(target=work, name="query", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._reading

    def read(self) -> bytes:
        """What is there, waiting for the first of it; empty at the end."""
        return os.read(self._reading, PIPE_SIZE)

    def outcome(self) -> Result:
        """Waits for the end; raises FrontError when the statement failed."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result or Result()

    def close(self, kill: Callable[[], None]) -> None:
        """Takes no more output: a statement that still writes fails, and one that computes is killed.

        Returns when it has ended.
        """
        os.close(self._reading)
        while self._thread.is_alive():
            self._thread.join(0.02)
            if self._thread.is_alive():
                kill()


class InMemoryFile:
    """Bytes that the engine reads by path without their touching a disk."""

    def __init__(self, pieces: Sequence[bytes | memoryview]) -> None:
        self._file = os.memfd_create("veilstream-input", os.MFD_CLOEXEC)
        try:
            for piece in pieces:
                left = memoryview(piece)
                while left:
                    left = left[os.write(self._file, left) :]
        except BaseException:
            os.close(self._file)
            raise

    @property
    def path(self) -> str:
        return f"/dev/fd/{self._file}"

    def __enter__(self) -> InMemoryFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)


def _first_line(problem: BaseException) -> str:
    return str(problem).strip().splitlines()[0][:500] if str(problem).strip() else type(problem).__name__


def _configuration(server_memory: int, mark_cache: int) -> str:
    values = {
        "max_server_memory_usage": server_memory,
        "mark_cache_size": mark_cache,
        "index_mark_cache_size": mark_cache // 2,
        "primary_index_cache_size": mark_cache,
        "uncompressed_cache_size": 0,
        "query_cache": "<max_size_in_bytes>16777216</max_size_in_bytes>",
        "display_name": escape("veilstream"),
    }
    lines = "".join(f"  <{name}>{value}</{name}>\n" for name, value in values.items())
    return f"<clickhouse>\n{lines}</clickhouse>\n"
