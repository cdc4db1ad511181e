"""ClickHouse, by HTTP: a server or the front over the embedded engine, without a difference.

An insert of a worker carries a condition, so that it writes nothing once another worker owns the partition.
It is sent once: a lost answer leaves the outcome unknown, and only the caller can find out what was written.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect import common
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError
from clickhouse_connect.driver.summary import QuerySummary

from infra.service.settings import Settings
from schemas.tables import sql_columns, sql_structure

__all__ = ["ClickHouseError", "Client", "DatabaseError", "OperationalError", "connect", "insert_if", "quote"]

User = Literal["service", "dashboard"]

# One block per insert, so that a MergeTree partition gets one part; newer servers default to async_insert=1.
INSERT_SETTINGS = {
    "async_insert": 0,
    "max_threads": 1,
    "max_insert_threads": 1,
    "max_insert_block_size": 1 << 20,
    "min_insert_block_size_rows": 1 << 20,
    "min_insert_block_size_bytes": 1 << 30,
}


def connect(
    settings: Settings, *, user: User = "service", database: str | None = None, timeout: float | None = None
) -> Client:
    """A client for one thread at a time; raises OperationalError or DatabaseError when there is no answer.

    `database` is the settings' own unless given; "default" exists everywhere.
    """
    common.set_setting("autogenerate_session_id", False)  # a session would serialise a client's queries
    url = urlsplit(settings.clickhouse)
    secure = url.scheme == "https"
    name, password = (
        (settings.clickhouse_user, settings.clickhouse_password)
        if user == "service"
        else (settings.clickhouse_dashboard_user, settings.clickhouse_dashboard_password)
    )
    return clickhouse_connect.get_client(
        host=url.hostname or "127.0.0.1",
        port=url.port or (8443 if secure else 8123),
        secure=secure,
        username=name,
        password=password.get_secret_value(),
        database=database or settings.clickhouse_database,
        connect_timeout=10,
        send_receive_timeout=int(timeout or settings.clickhouse_timeout),
        compress=False,
        query_limit=0,
    )


class _Body(bytes):
    """The body of an insert. The client decodes bodies as text to look for SQL; ours is columns, and large."""

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return ""


def insert_if(client: Client, table: str, rows: pa.Table, condition: str, *, query_id: str) -> int:
    """Insert rows where `condition`, a scalar SQL expression, holds at that moment; returns the rows written.

    0 when it did not hold. On an exception the outcome is unknown: some parts of the insert may be stored.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    columns = sql_columns(rows.schema)
    structure = sql_structure(rows.schema).replace("'", "\\'")
    summary = client.command(
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM input('{structure}') "
        f"WHERE ({condition}) FORMAT ArrowStream",
        data=_Body(sink.getvalue()),
        settings={**INSERT_SETTINGS, "query_id": query_id},
    )
    if not isinstance(summary, QuerySummary):
        raise OperationalError(f"the answer to insert {query_id} has no summary")
    return summary.written_rows


def quote(text: str) -> str:
    """A text as a literal of SQL; for names and ids of our own, never for keys or personal data."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
