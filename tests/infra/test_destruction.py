"""How secrets die: by which rule, with which record, what is left on the disk; and how the master key is changed."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra import migrate
from infra.local.stack import Stack
from infra.service import destruction, rotation
from infra.service.clickhouse import Client, DatabaseError, connect
from infra.service.destruction import Death, destroy, due
from infra.service.rotation import rotate
from infra.service.settings import Settings
from infra.service.vault import (
    HOUR,
    Entry,
    Name,
    SecretDestroyed,
    Vault,
    VaultError,
    entries,
    master_id,
    master_keys,
)

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
THIS = int(NOW.timestamp()) // 3600
KEY = [bytes(32)]
HOURS = timedelta(hours=1)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with migrate.open_database(settings) as client:
        migrate.apply(client)
    with connect(settings) as opened:
        yield opened


@pytest.fixture
def vault(client: Client) -> Vault:
    vault = Vault(client, KEY)
    vault.make(now=NOW, hours=2)
    return vault


def spool(client: Client, name: str, hour: int, done: int = 0) -> None:
    client.insert("vault_spools", [[name, hour, done]], column_names=["spool", "hour", "done"])


def dying(client: Client, at: datetime, passed: bool = True) -> list[tuple[str, str, str]]:
    return [(death.kind, death.name, death.rule) for death in due(client, at, lambda _: passed)]


def files(client: Client) -> set[str]:
    """The names of all folders of parts that the table of secrets has on the disk."""
    ask = "SELECT data_paths FROM system.tables WHERE database = currentDatabase() AND name = 'vault_keys'"
    ((paths,),) = client.query(ask).result_rows
    return {found.name for path in paths for found in Path(path).iterdir()}


def test_an_hour_dies_when_all_spools_have_reported_and_the_log_has_let_go(client: Client, vault: Vault) -> None:
    end = NOW + 2 * HOURS
    spool(client, "one", THIS)
    spool(client, "other", THIS)
    spool(client, "one", THIS, done=1)
    assert dying(client, end) == []
    spool(client, "other", THIS, done=1)
    assert dying(client, end, passed=False) == []
    assert dying(client, NOW) == []  # it is not over
    assert dying(client, end) == [("hour", str(THIS), "no_packet_left")]


def test_an_hour_dies_at_its_hard_limit_and_the_silent_spools_are_named(client: Client, vault: Vault) -> None:
    spool(client, "lost", THIS)
    at = NOW + timedelta(days=9)
    hours = [found for found in dying(client, at) if found[0] == "hour"]
    assert hours == [("hour", str(THIS + n), "no_packet_left") for n in (1, 2)]
    (death,) = [death for death in due(client, NOW + timedelta(days=10), lambda _: True) if death.name == str(THIS)]
    assert (death.rule, death.spools) == ("hard_limit", ("lost",))


def test_a_day_dies_after_the_hours_in_which_its_events_can_come(client: Client, vault: Vault) -> None:
    late = datetime(2026, 3, 5, 13, tzinfo=UTC)
    spool(client, "one", THIS)
    found = dying(client, late)
    # The hour of March 1 lives: events of that day and the day before may still be in the log.
    assert [name for kind, name, _ in found if kind == "day"] == []
    spool(client, "one", THIS, done=1)
    days = [name for kind, name, _ in dying(client, late) if kind == "day"]
    assert days == ["2026-02-28", "2026-03-01", "2026-03-02", "2026-03-03"]  # and not 2026-03-04


def test_what_is_destroyed_is_gone_from_table_and_disk_and_recorded(client: Client, vault: Vault) -> None:
    at = NOW + 2 * HOURS
    before = files(client)
    deaths = due(client, at, lambda _: True)
    assert destroy(client, deaths, "1 = 0") == 0
    assert ("hour", str(THIS)) in entries(client)
    assert destroy(client, deaths) == 1
    assert ("hour", str(THIS)) not in entries(client)
    rows = client.query("SELECT kind, name, rule, gone, parts FROM vault_destroyed ORDER BY gone").result_rows
    assert [row[:4] for row in rows] == [("hour", str(THIS), "no_packet_left", gone) for gone in (0, 1)]
    (part,) = rows[0][4]
    assert part in before
    assert part not in files(client)
    # Who held it forgets it, nobody makes it again, and a second time changes nothing.
    vault.refresh()
    with pytest.raises(SecretDestroyed):
        vault.hour_keys(THIS)[0]
    assert vault.make(now=NOW, hours=2) == 0
    assert destroy(client, due(client, at, lambda _: True)) == 0


def test_a_destruction_that_was_cut_off_is_gone_on_with(
    client: Client, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    death = Death("hour", str(THIS), "no_packet_left")
    with monkeypatch.context() as cut:
        cut.setattr(destruction, "_partitions", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            destroy(client, [death])
    assert ("hour", str(THIS)) in entries(client)
    assert destroy(client, []) == 1
    assert ("hour", str(THIS)) not in entries(client)


def test_what_an_insert_under_way_brings_back_is_destroyed_again(client: Client, vault: Vault) -> None:
    name = HOUR, str(THIS)
    client.command(f"CREATE TABLE brought ENGINE = Memory AS SELECT * FROM vault_keys WHERE name = '{THIS}'")
    (row,) = entries(client)[name]
    assert destroy(client, [Death(*name, "no_packet_left")]) == 1
    assert vault.insert([row], "1") == 0
    client.command("INSERT INTO vault_keys SELECT * FROM brought")
    assert name in entries(client)
    assert destroy(client, []) == 1
    assert name not in entries(client)
    assert destroy(client, []) == 0


def test_what_dies_amid_a_rotation_stays_dead(
    client: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    master_keys(settings.master_key, make=True)
    vault = Vault(client, lambda: master_keys(settings.master_key))
    vault.make(now=NOW, hours=2)
    known, dying = vault.hour_keys(THIS + 1), [Death(HOUR, str(THIS), "no_packet_left")]

    def read(client: Client) -> Mapping[Name, list[Entry]]:
        found = entries(client)
        if dying:
            assert destroy(client, [dying.pop()]) == 1
        return found

    monkeypatch.setattr(rotation, "entries", read)
    assert rotate(client, settings.master_key).retired == 1
    assert (HOUR, str(THIS)) not in entries(client)
    after = Vault(client, master_keys(settings.master_key))
    after.refresh()
    assert after.hour_keys(THIS + 1) == known


def test_the_master_key_is_rotated_and_the_old_one_opens_nothing(client: Client, settings: Settings) -> None:
    path = settings.master_key
    before = master_keys(path, make=True)
    reader = Vault(client, lambda: master_keys(path))
    reader.make(now=NOW, hours=2, sites=(3, 4))
    known = reader.hour_keys(THIS)[0], reader.site_key(3)
    done = rotate(client, path)
    assert (done.secrets, done.retired) == (10, 1)
    (key,) = master_keys(path)
    assert key not in before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(VaultError, match="another master key"):
        Vault(client, before).refresh()
    # A maker that has not heard of it writes nothing; others go on, with the same secrets.
    stale = Vault(client, before)
    assert stale.insert([stale.wrap(("hour", "1"), bytes(32), NOW, NOW)], "1") == 0
    fresh = Vault(client, lambda: master_keys(path))
    fresh.refresh()
    assert (fresh.hour_keys(THIS)[0], fresh.site_key(3)) == known
    assert reader.make(now=NOW + HOURS, hours=2) == 1


def test_a_rotation_that_was_cut_off_is_gone_on_with(client: Client, settings: Settings) -> None:
    path = settings.master_key
    master_keys(path, make=True)
    vault = Vault(client, lambda: master_keys(path))
    vault.make(now=NOW, hours=1)
    known = vault.hour_keys(THIS)
    for at in range(6):
        steps: list[str] = []

        def cut(step: str, steps: list[str] = steps, at: int = at) -> None:
            steps.append(step)
            if len(steps) == at + 1:
                raise InterruptedError

        with pytest.raises(InterruptedError):
            rotate(client, path, cut)
        after = Vault(client, lambda: master_keys(path))
        after.refresh()
        assert after.hour_keys(THIS) == known
        rotate(client, path)
        last = Vault(client, master_keys(path))
        last.refresh()
        assert last.hour_keys(THIS) == known
        found = {row.master for rows in entries(client).values() for row in rows}
        assert found == {master_id(key) for key in master_keys(path)}
        assert len(found) == 1


def test_the_dashboard_user_reads_nothing_of_use(client: Client, vault: Vault, settings: Settings) -> None:
    tables = [name for (name,) in client.query("SHOW TABLES LIKE 'vault%'").result_rows]
    assert {"vault_keys", "vault_hours", "vault_spools", "vault_destroyed", "vault_secrets"} <= set(tables)
    with connect(settings, user="dashboard") as dashboard:
        asked = [f"SELECT * FROM {table}" for table in tables]
        asked += ["SELECT * FROM merge(currentDatabase(), 'vault')", "SELECT * FROM system.query_log"]
        asked += ["SELECT count() FROM file('../**', 'RawBLOB')", "SELECT * FROM system.mutations"]
        for statement in asked:
            with pytest.raises(DatabaseError):
                dashboard.query(statement)


def test_no_key_stands_in_a_statement_or_a_log(client: Client, settings: Settings, stack: Stack) -> None:
    path = settings.master_key
    master_keys(path, make=True)
    vault = Vault(client, lambda: master_keys(path))
    vault.make(now=NOW, hours=1, sites=(3,))
    rotate(client, path)
    values = [vault.hour_keys(THIS)[0], vault.site_key(3), vault.day_secret(NOW.date()), *master_keys(path)]
    values += [row.wrapped for rows in entries(client).values() for row in rows]
    seen = [found.read_bytes() for found in (stack.settings.state / "logs").glob("*") if found.is_file()]
    assert seen
    for value in values:
        for form in (value, value.hex().encode(), value.hex().upper().encode()):
            assert not any(form in text for text in seen)
