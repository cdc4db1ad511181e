"""Rows into tables that replace a row that comes twice: inserted until it succeeds, and no more asked for."""

from __future__ import annotations

import secrets

import pyarrow as pa

from infra.service.clickhouse import Client, connect, insert_if
from infra.service.settings import Settings
from streams.patience import Patience
from streams.sink import ERRORS


class Store:
    """Inserts, in one thread and with one client, until they succeed."""

    def __init__(self, settings: Settings, patience: Patience) -> None:
        self._settings = settings
        self._patience = patience
        self._client: Client | None = None

    def put(self, name: str, rows: pa.Table) -> None:
        """Returns once all rows are stored; after an error they are sent again, which changes nothing for readers.

        Raises Stopping.
        """
        if rows.num_rows:
            self._patience.insist("clickhouse", lambda: self._insert(name, rows), *ERRORS)

    def _insert(self, name: str, rows: pa.Table) -> None:
        try:
            if self._client is None:
                self._client = connect(self._settings)
            query_id = f"rows-{secrets.token_hex(8)}"
            written = insert_if(self._client, name, rows, "1", query_id=query_id)
        except ERRORS:
            self._client = None
            raise
        if written != rows.num_rows:
            raise OSError(f"{written} of {rows.num_rows} rows were written into {name}")
