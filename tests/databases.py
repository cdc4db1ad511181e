"""Installations of tests. The first of a test process is migrated as any is; as that takes seconds, the databases of
the others are made of its definitions. `test_migrate` is about migrations themselves."""

from __future__ import annotations

from typing import NamedTuple

from infra.local import stack
from infra.migrate import open_database
from infra.service.clickhouse import ClickHouseError, Client
from infra.service.settings import Settings

NAME = "{database}"


class Definition(NamedTuple):
    """What makes a database like one that was migrated; its name is left open in the statements."""

    statements: list[str]
    migrations: list[tuple[int, str, str]]


_known: dict[str, Definition] = {}  # by the engine's address


def install(settings: Settings) -> None:
    """As `infra.local.stack.install`."""
    known = _known.get(settings.clickhouse)
    if known is not None:
        with open_database(settings) as client:
            _make(client, known, settings.clickhouse_database)
    stack.install(settings)
    if known is None:
        with open_database(settings) as client:
            _known[settings.clickhouse] = _definition(client, settings.clickhouse_database)


def _definition(client: Client, database: str) -> Definition:
    made = client.query(
        f"SELECT create_table_query FROM system.tables WHERE database = '{database}' ORDER BY engine LIKE '%View'"
    ).result_rows
    applied = client.query("SELECT number, name, checksum FROM migrations ORDER BY number").result_rows
    return Definition(
        [text.replace(database, NAME) for (text,) in made], [(n, name, check) for n, name, check in applied]
    )


def _make(client: Client, definition: Definition, database: str) -> None:
    if client.query(f"SELECT count() FROM system.tables WHERE database = '{database}'").result_rows != [(0,)]:
        return
    waiting = [text.replace(NAME, database) for text in definition.statements]
    while waiting:
        later = []
        for text in waiting:
            try:
                client.command(text)
            except ClickHouseError:  # a view of a view that is not there yet
                later.append(text)
        assert len(later) < len(waiting), later[0]
        waiting = later
    client.insert("migrations", definition.migrations, column_names=["number", "name", "checksum"])
