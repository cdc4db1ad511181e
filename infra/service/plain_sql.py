"""Statements over ClickHouse's HTTP interface without a client library, for processes that must stay small."""

from __future__ import annotations

import http.client
from urllib.parse import urlencode, urlsplit

from infra.service.settings import Settings

TIMEOUT = 10.0  # seconds


class SqlError(OSError):
    """ClickHouse does not answer, or refuses; the message is its first line."""


class PlainSql:
    """Opens a connection for each statement; any thread may ask."""

    def __init__(self, settings: Settings) -> None:
        address = urlsplit(settings.clickhouse)
        self._kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        self._place = address.hostname or "127.0.0.1", address.port
        self._target = "/?" + urlencode({"database": settings.clickhouse_database, "async_insert": 0})
        self._headers = {
            "X-ClickHouse-User": settings.clickhouse_user,
            "X-ClickHouse-Key": settings.clickhouse_password.get_secret_value(),
        }

    def rows(self, statement: str) -> list[list[str]]:
        """The rows of a SELECT, as texts without escapes; raises SqlError."""
        text = self._ask(statement + " FORMAT TabSeparated").decode("utf-8", "replace")
        return [line.split("\t") for line in text.splitlines()]

    def insert(self, table: str, columns: tuple[str, ...], rows: list[tuple[str | int, ...]]) -> None:
        """Adds rows of numbers and texts without tabs and line ends; raises SqlError, when what became of it is
        unknown."""
        data = "\n".join("\t".join(map(str, row)) for row in rows)
        self._ask(f"INSERT INTO {table} ({', '.join(columns)}) FORMAT TabSeparated\n{data}\n")

    def _ask(self, statement: str) -> bytes:
        connection = self._kind(*self._place, timeout=TIMEOUT)
        try:
            connection.request("POST", self._target, statement.encode(), self._headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise SqlError(f"ClickHouse does not answer ({type(error).__name__})") from None
        finally:
            connection.close()
        if answer.status != 200 or answer.headers.get("X-ClickHouse-Exception-Code"):
            raise SqlError(body.decode("utf-8", "replace").partition("\n")[0][:300])
        return body
