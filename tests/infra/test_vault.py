"""The vault on the real engine: what is stored is wrapped, one maker's secrets are everybody's."""

from __future__ import annotations

import stat
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from infra import migrate
from infra.service.clickhouse import Client, connect
from infra.service.settings import Settings
from infra.service.vault import SecretMissing, Vault, VaultError, master_keys

TODAY = date(2026, 3, 1)
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
THIS = int(NOW.timestamp()) // 3600
KEY, OTHER = [bytes(32)], [bytes(31) + b"\1"]


@pytest.fixture
def client(settings: Settings) -> Client:
    with migrate.open_database(settings) as client:
        migrate.apply(client)
    return connect(settings)


def test_secrets_are_made_once_and_read_by_all(client: Client) -> None:
    maker, reader = Vault(client, KEY), Vault(client, KEY)
    assert maker.make(now=NOW, sites=(7,), hours=2) == 9
    assert maker.make(now=NOW, sites=(7,), hours=2) == 0
    assert maker.make(now=NOW + timedelta(days=1), hours=0) == 2
    reader.refresh()
    days = [TODAY + timedelta(days=n) for n in range(-1, 5)]
    assert [reader.day_secret(day) for day in days] == [maker.day_secret(day) for day in days]
    assert len({reader.day_secret(day) for day in days} | {reader.site_key(7)}) == 7
    with pytest.raises(SecretMissing):
        reader.day_secret(TODAY + timedelta(days=5))


def test_nothing_is_stored_bare(client: Client) -> None:
    vault = Vault(client, KEY)
    vault.make(now=NOW, hours=2)
    rows = client.query("SELECT wrapped FROM vault_keys", column_formats={"wrapped": "bytes"}).result_rows
    secrets = [vault.day_secret(TODAY + timedelta(days=n)) for n in range(-1, 4)]
    secrets += [vault.hour_keys(THIS + n)[0] for n in range(3)]
    assert len(rows) == len(secrets) == 8
    assert not any(secret in bytes(wrapped) for (wrapped,) in rows for secret in secrets)


def test_a_maker_that_lost_its_place_makes_nothing(client: Client) -> None:
    vault = Vault(client, KEY)
    assert vault.make(now=NOW, hours=2, condition="1 = 0") == 0
    with pytest.raises(SecretMissing):
        vault.day_secret(TODAY)


def test_another_master_key_is_named_and_opens_nothing(client: Client) -> None:
    Vault(client, KEY).make(now=NOW, hours=2)
    with pytest.raises(VaultError, match="another master key"):
        Vault(client, OTHER).refresh()


def test_a_secret_moved_to_another_name_does_not_open(client: Client) -> None:
    Vault(client, KEY).make(now=NOW, hours=2)
    client.command(
        "INSERT INTO vault_keys (kind, name, wrapped, master, expires) "
        "SELECT kind, '2030-01-01', wrapped, master, expires FROM vault_keys WHERE kind = 'day' LIMIT 1"
    )
    with pytest.raises(VaultError, match="does not open"):
        Vault(client, KEY).refresh()


def test_master_key_file(tmp_path: Path) -> None:
    path = tmp_path / "state" / "master.key"
    with pytest.raises(VaultError, match=r"master\.key.*migrate"):
        master_keys(path)
    (key,) = master_keys(path, make=True)
    assert (len(key), stat.S_IMODE(path.stat().st_mode)) == (32, 0o600)
    assert master_keys(path, make=True) == [key]
    assert list(path.parent.iterdir()) == [path]
    path.write_text("abc")
    with pytest.raises(VaultError, match="64 hex digits"):
        master_keys(path)
