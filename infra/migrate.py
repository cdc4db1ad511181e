"""Brings an installation's tables and vault to what this version needs; doing it twice does nothing."""

from __future__ import annotations

from dataclasses import dataclass

from infra.service.clickhouse import Client, connect
from infra.service.settings import Settings
from infra.service.vault import FIRST_HOURS, Vault, master_keys
from schemas.migrations import Migration, migrations

LEDGER = """
CREATE TABLE IF NOT EXISTS migrations
(
    number UInt32,
    name String,
    checksum String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY number
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
"""


class MigrationError(RuntimeError):
    """The database does not fit the migrations of this version."""


@dataclass(frozen=True, slots=True)
class Status:
    """A migration and whether it stands in the database."""

    migration: Migration
    applied: bool


def open_database(settings: Settings) -> Client:
    """A client of the settings' database, which is made where it is missing."""
    with connect(settings, database="default") as client:
        client.command(f"CREATE DATABASE IF NOT EXISTS {settings.clickhouse_database} ENGINE = Atomic")
    return connect(settings)


def status(client: Client) -> list[Status]:
    """All migrations by number; raises MigrationError when an applied one is unknown here or was changed."""
    client.command(LEDGER)
    rows = client.query("SELECT number, any(name), any(checksum) FROM migrations GROUP BY number").result_rows
    applied = {number: (name, checksum) for number, name, checksum in rows}
    known = migrations()
    for number, (name, _) in applied.items():
        if number > len(known):
            raise MigrationError(
                f"migration {number:04} {name} was applied by a newer version; this one must not write here"
            )
    for migration in known:
        if migration.number in applied and applied[migration.number][1] != migration.checksum:
            raise MigrationError(f"migration {migration.number:04} {migration.name} was changed after it was applied")
    return [Status(migration, migration.number in applied) for migration in known]


def apply(client: Client) -> list[Migration]:
    """Apply what is missing, in order, and return it.

    A migration that was cut off half-way is taken up again: tables are made only where they are missing.
    """
    done = []
    for state in status(client):
        if state.applied:
            continue
        migration = state.migration
        for statement in migration.statements:
            client.command(statement.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ", 1))
        client.insert(
            "migrations",
            [[migration.number, migration.name, migration.checksum]],
            column_names=["number", "name", "checksum"],
            settings={"async_insert": 0},
        )
        done.append(migration)
    return done


def first_secrets(client: Client, settings: Settings) -> int:
    """Make the vault's first secrets, and the master key where it is missing; returns how many were made."""
    vault = Vault(client, master_keys(settings.master_key, make=True), kept=settings.secrets_kept)
    return vault.make(condition="(SELECT count() FROM vault_keys) = 0", hours=FIRST_HOURS)
