"""The vault: secrets that make personal data unlinkable once they are gone.

A secret is 32 random bytes. It lies in table `vault_secrets`, wrapped by the master key with AES-256-GCM and
bound to its kind and name; the master key is never in ClickHouse. Secrets travel as data, never in the text
of SQL.

There is one maker: `veilstream migrate` makes the first secrets, then the owner of partition 0 makes those of
the days ahead, under its epoch. All others read, ahead of need, so that ClickHouse may be away for a while.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from infra.service.clickhouse import Client, insert_if
from schemas.tables import LOW, TEXT

KEY_BYTES = 32
NONCE_BYTES = 12
DAY, SITE = "day", "site"
NEVER = date(2100, 1, 1)
# A date begins at UTC+14 and ends at UTC-12; workers fetch well ahead of that.
DAYS_BEHIND, DAYS_AHEAD = 1, 3
DAY_KEPT = timedelta(days=10)  # the hard limit of raw data, and a margin

ROWS = pa.schema(
    [
        ("kind", LOW),
        ("name", TEXT),
        ("wrapped", pa.binary()),
        ("master", pa.binary(8)),
        ("expires", pa.date32()),
    ]
)


class VaultError(RuntimeError):
    """The master key is missing or not the one that wrapped the secrets."""


class SecretMissing(LookupError):
    """No secret of this kind and name is known here (yet)."""


def master_key(path: Path, *, make: bool = False) -> bytes:
    """The master key of a file of 64 hex digits, made (0600) where `make` says so; raises VaultError."""
    if make and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(KEY_BYTES) + "\n")
        try:
            os.link(draft, path)  # fails where another process was faster, whose key then holds
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise VaultError(f"master key file {path}: {error.strerror}; `veilstream migrate` makes one") from None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise VaultError(f"master key file {path} must hold {2 * KEY_BYTES} hex digits")
    return key


class Vault:
    """Secrets as one process sees them. `refresh` fetches, look-ups never leave memory."""

    def __init__(self, client: Client, master: bytes) -> None:
        self._client = client
        self._cipher = AESGCM(master)
        self._master = hashlib.blake2b(master, digest_size=8, person=b"vault-master").digest()
        self._secrets: dict[tuple[str, str], bytes] = {}

    def day_secret(self, day: date) -> bytes:
        """The secret of a calendar date (32 bytes); raises SecretMissing."""
        return self._secret(DAY, day.isoformat())

    def site_key(self, site: int) -> bytes:
        """The permanent key of a site (32 bytes), for policies that keep ids; raises SecretMissing."""
        return self._secret(SITE, str(site))

    def refresh(self) -> None:
        """Fetch all secrets not yet known; raises VaultError when the master key is another one."""
        result = self._client.query(
            "SELECT kind, name, argMin(wrapped, (made_at, hex(wrapped))) AS wrapped, any(master) AS master "
            "FROM vault_secrets GROUP BY kind, name",
            column_formats={"wrapped": "bytes", "master": "bytes"},
        )
        for kind, name, wrapped, master in result.result_rows:
            if (kind, name) in self._secrets:
                continue
            if bytes(master) != self._master:
                raise VaultError(f"the secret {kind} {name} was wrapped by another master key")
            self._secrets[kind, name] = self._unwrap(kind, name, bytes(wrapped))

    def make(self, *, condition: str = "1", today: date | None = None, sites: tuple[int, ...] = ()) -> int:
        """As the maker: add the secrets of the days around `today` (UTC) and of these sites that are missing.

        `condition` is the SQL of still being the maker. Returns how many secrets were made.
        """
        self.refresh()
        today = today or datetime.now(UTC).date()
        days = [today + timedelta(days=n) for n in range(-DAYS_BEHIND, DAYS_AHEAD + 1)]
        wanted = [(DAY, day.isoformat(), day + DAY_KEPT) for day in days]
        wanted += [(SITE, str(site), NEVER) for site in sites]
        missing = [row for row in wanted if row[:2] not in self._secrets]
        if not missing:
            return 0
        wrapped = [self._wrap(kind, name, secrets.token_bytes(KEY_BYTES)) for kind, name, _ in missing]
        rows = pa.table(
            {
                "kind": pa.array([kind for kind, _, _ in missing]).dictionary_encode(),
                "name": [name for _, name, _ in missing],
                "wrapped": pa.array(wrapped, pa.binary()),
                "master": pa.array([self._master] * len(missing), pa.binary(8)),
                "expires": pa.array([expires for _, _, expires in missing], pa.date32()),
            },
            ROWS,
        )
        made = insert_if(self._client, "vault_secrets", rows, condition, query_id=f"vault-{secrets.token_hex(8)}")
        self.refresh()
        return made

    def _secret(self, kind: str, name: str) -> bytes:
        try:
            return self._secrets[kind, name]
        except KeyError:
            raise SecretMissing(f"{kind} {name}") from None

    def _wrap(self, kind: str, name: str, secret: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, f"{kind}/{name}".encode())

    def _unwrap(self, kind: str, name: str, wrapped: bytes) -> bytes:
        try:
            return self._cipher.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], f"{kind}/{name}".encode())
        except InvalidTag:
            raise VaultError(f"the secret {kind} {name} does not open with this master key") from None
