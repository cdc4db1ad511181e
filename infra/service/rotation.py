"""Changing the master key: every secret is wrapped anew, and what the old key wrapped leaves the disk.

The file of master keys says how far a rotation is, so one that was cut off is gone on with by calling it again:
 1. The new key is put before the old one in the file: new secrets are wrapped by it, old ones still open.
 2. What lies under another key is wrapped by the first one, in rows of its own.
 3. The old key is retired by a row in `vault_destroyed`: nothing is written under it any more.
 4. Inserts under way are waited for, what they added is wrapped too, and all partitions of old keys are dropped.
 5. The old keys leave the file.
Running processes read the file again at every fetch. Where it is mounted on several machines, put the new key before
the old one on all of them first, then rotate, then take the old one out.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.service.clickhouse import Client, quote
from infra.service.files import replace
from infra.service.vault import KEY_BYTES, Entry, Vault, VaultError, entries, master_id, master_keys

ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Rotated:
    """secrets: how many are under the new key. retired: old keys that are gone from the file."""

    secrets: int
    retired: int


def rotate(client: Client, path: Path, step: Callable[[str], None] = lambda _step: None) -> Rotated:
    """Rotates, or goes on with a rotation that was begun; raises VaultError, OSError. `step` is told what is next."""
    keys = master_keys(path)
    if len(keys) == 1:
        step("file")
        keys = [secrets.token_bytes(KEY_BYTES), *keys]
        _write(path, keys)
    new, old = master_id(keys[0]), [master_id(key) for key in keys[1:]]
    vault = Vault(client, keys)
    step("wrap")
    _wrap(client, vault, new)
    step("retire")
    for master in old:
        _retire(client, master)
    client.command("KILL QUERY WHERE query_id LIKE 'vault-%' SYNC")
    for _ in range(ROUNDS):
        step("wrap what came meanwhile")
        _wrap(client, vault, new)
        if not (left := _others(client, new)):
            break
        for partition in left:
            step("drop")
            client.command(f"ALTER TABLE vault_keys DROP PARTITION ID {quote(partition)}")
    else:
        raise VaultError("secrets are still wrapped by an old master key; rotate again")
    step("forget")
    _write(path, keys[:1])
    return Rotated(len(entries(client)), len(old))


def _wrap(client: Client, vault: Vault, new: bytes) -> None:
    """Wraps by the new key what is not yet; a secret keeps its name, its limit and when it was made.

    What is being destroyed is left alone: it goes with the partitions of the old key.
    """
    for _ in range(ROUNDS):
        vault.refresh()
        missing: list[Entry] = []
        for name, rows in entries(client).items():
            if name in vault.destroyed or any(row.master == new for row in rows):
                continue
            readable = vault.readable(rows)
            if not readable:
                raise VaultError(f"the secret {' '.join(name)} was wrapped by a master key that is not in the file")
            missing += [vault.wrap(name, vault.unwrap(row), row.expires, row.made_at) for row in readable]
        if not missing or vault.insert(missing, "1") == len(missing):
            return
    raise VaultError("secrets are not wrapped by the new master key, as others die meanwhile; rotate again")


def _retire(client: Client, master: bytes) -> None:
    known = client.query(f"SELECT count() FROM vault_destroyed WHERE name = {quote(master.hex())}").result_rows[0][0]
    if not known:
        client.insert(
            "vault_destroyed",
            [["master", master.hex(), "rotated", 1, [], []]],
            column_names=["kind", "name", "rule", "gone", "parts", "spools"],
            settings={"async_insert": 0},
        )


def _others(client: Client, new: bytes) -> list[str]:
    """The partitions of secrets under other keys."""
    other = f"hex(master) != {quote(new.hex().upper())}"
    rows = client.query(f"SELECT DISTINCT _partition_id FROM vault_keys WHERE {other}").result_rows
    return [str(partition) for (partition,) in rows]


def _write(path: Path, keys: list[bytes]) -> None:
    replace(path, "".join(key.hex() + "\n" for key in keys).encode(), 0o600)
