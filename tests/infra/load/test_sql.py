"""The connection of the checks."""

from __future__ import annotations

import pytest

from infra.load.sql import Sql, SqlError
from tests.web import Handle, answered, served


def test_a_connection_that_the_server_has_closed_meanwhile_is_made_anew() -> None:
    with served(answered(b"7\n")) as server:  # which closes each after its answer, and does not say so
        sql = Sql(f"http://{server.host}:{server.port}", "user", "", "default")
        assert [sql.numbers("SELECT 7") for _ in range(3)] == [[7]] * 3
        assert server.connections == 3
        sql.close()


def test_a_server_that_never_answers_is_asked_once() -> None:
    silent: Handle = lambda _connection, _request: None  # noqa: E731
    with served(silent) as server:
        sql = Sql(f"http://{server.host}:{server.port}", "user", "", "default")
        with pytest.raises(SqlError, match="does not answer"):
            sql.raw("SELECT 1")
        assert server.connections == 1
