"""SQL over ClickHouse's HTTP interface by the standard library: checks share nothing with what they check."""

from __future__ import annotations

import http.client
from urllib.parse import urlencode, urlsplit


class SqlError(RuntimeError):
    """The server refused the statement or could not be reached; the message is the server's first line."""


class Sql:
    """One kept-alive connection; not for several threads. Statements are read-only ones by intent."""

    def __init__(self, url: str, user: str, password: str, database: str, timeout: float = 60.0) -> None:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise SqlError(f"{url!r} is not an address of the form http://host:port")
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(address.hostname, address.port, timeout=timeout)
        self._target = "/?" + urlencode({"database": database})
        self._headers = {"X-ClickHouse-User": user, "X-ClickHouse-Key": password}

    def raw(self, statement: str) -> bytes:
        """The answer's bytes, in the format that the statement names."""
        try:
            answer, body = self._asked(statement)
        except (OSError, http.client.HTTPException) as error:
            raise SqlError(f"ClickHouse does not answer ({type(error).__name__})") from None
        if answer.status != 200:
            raise SqlError(body.decode("utf-8", "replace").partition("\n")[0][:500])
        if answer.headers.get("X-ClickHouse-Exception-Code"):
            raise SqlError(f"exception {answer.headers['X-ClickHouse-Exception-Code']} in the middle of the answer")
        return body

    def _asked(self, statement: str) -> tuple[http.client.HTTPResponse, bytes]:
        used = self._connection.sock is not None
        try:
            self._connection.request("POST", self._target, statement.encode(), self._headers)
            answer = self._connection.getresponse()
            return answer, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            # The server has closed a connection that was idle, before it took anything; statements only read.
            if used and isinstance(error, BrokenPipeError | ConnectionResetError | http.client.RemoteDisconnected):
                return self._asked(statement)
            raise

    def rows(self, statement: str) -> list[list[str]]:
        """The rows as texts (TabSeparated, unescaped no further)."""
        text = self.raw(statement + " FORMAT TabSeparated").decode("utf-8", "replace")
        return [line.split("\t") for line in text.splitlines()]

    def numbers(self, statement: str) -> list[int]:
        """The first row as integers."""
        return [int(value) for value in self.rows(statement)[0]]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
