"""The vault: secrets that make personal data unlinkable and unreadable once they are gone.

A secret is 32 random bytes: of a calendar date, of a site, or the private key of an hour, to whose public key the
collectors seal (`schemas.sealing`). It lies in table `vault_keys`, wrapped by the master key with AES-256-GCM and
bound to its kind and name; the master key is never in ClickHouse. Secrets travel as data, never in the text of SQL.

There is one maker: `veilstream migrate` makes the first secrets, then the owner of partition 0 makes those of
the time ahead, under its epoch. All others read, ahead of need, so that ClickHouse may be away for a while.
How secrets end is told in `infra.service.destruction`, how the master key changes in `infra.service.rotation`.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from infra.service.clickhouse import Client, insert_if, quote
from schemas.sealing import new_private_key, public_key
from schemas.tables import LOW, MOMENT, TEXT

KEY_BYTES = 32
NONCE_BYTES = 12
DAY, SITE, HOUR = "day", "site", "hour"
NEVER = datetime(2100, 1, 1, tzinfo=UTC)
# A date begins at UTC+14 and ends at UTC-12; workers fetch well ahead of that.
DAYS_BEHIND, DAYS_AHEAD = 1, 3
HOURS_AHEAD = 27  # ClickHouse may be away for a day and nobody runs out of keys; `ingest.hours` says what comes then
FIRST_HOURS = 2  # of those, made before any worker runs
KEPT = timedelta(days=10)  # the hard limit of a secret unless settings say otherwise: that of raw data, and a margin
INSERTED = 50  # rows at once

ROWS = pa.schema(
    [
        ("kind", LOW),
        ("name", TEXT),
        ("wrapped", pa.binary()),
        ("master", pa.binary(8)),
        ("expires", MOMENT),
        ("made_at", MOMENT),
    ]
)
_HOURS = pa.schema([("hour", pa.uint32()), ("public", pa.binary(KEY_BYTES))])

Name = tuple[str, str]  # kind, name
Masters = Sequence[bytes] | Callable[[], Sequence[bytes]]


class VaultError(RuntimeError):
    """The master key is missing or not the one that wrapped the secrets."""


class SecretMissing(LookupError):
    """No secret of this kind and name is known here (yet)."""


class SecretDestroyed(LookupError):
    """The secret of this kind and name was destroyed; there will be none again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A secret's row as it lies in the vault; never its value."""

    kind: str
    name: str
    wrapped: bytes
    master: bytes
    expires: datetime
    made_at: datetime


def master_keys(path: Path, *, make: bool = False) -> list[bytes]:
    """The master keys of a file of 64 hex digits a line: the first wraps, the others still unwrap.

    Made (0600) where `make` says so; raises VaultError.
    """
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
        lines = path.read_text().split()
    except OSError as error:
        raise VaultError(f"master key file {path}: {error.strerror}; `veilstream migrate` makes one") from None
    try:
        keys = [bytes.fromhex(line) for line in lines]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise VaultError(f"master key file {path} must hold {2 * KEY_BYTES} hex digits a line")
    return keys


def master_id(master: bytes) -> bytes:
    """What names a master key in the vault: a hash, which tells nothing of it."""
    return hashlib.blake2b(master, digest_size=8, person=b"vault-master").digest()


def hour_start(hour: int) -> datetime:
    """When an hour, counted from 1970, begins."""
    return datetime.fromtimestamp(hour * 3600, UTC)


class Vault:
    """Secrets as one process sees them. `refresh` fetches, look-ups never leave memory."""

    def __init__(self, client: Client, masters: Masters, *, kept: timedelta = KEPT) -> None:
        """masters: the master keys, the first of which wraps, or what reads them. kept: hard limit of a secret's life,
        from the beginning of its day or hour."""
        self._client = client
        self._masters = masters
        self._kept = kept
        self._secrets: dict[Name, bytes] = {}
        self._more: dict[Name, list[bytes]] = {}
        self._destroyed: set[Name] = set()
        self._ciphers: dict[bytes, AESGCM] = {}
        self._master = b""
        self._read_masters()

    def day_secret(self, day: date) -> bytes:
        """The secret of a calendar date (32 bytes); raises SecretMissing, SecretDestroyed."""
        return self._secret(DAY, day.isoformat())

    def site_key(self, site: int) -> bytes:
        """The permanent key of a site (32 bytes), for policies that keep ids; raises SecretMissing, SecretDestroyed."""
        return self._secret(SITE, str(site))

    def hour_keys(self, hour: int) -> list[bytes]:
        """The private keys of an hour (32 bytes each); raises SecretMissing, SecretDestroyed.

        It is one, unless two made it at the same moment: then either may be the one that collectors were told.
        """
        return [self._secret(HOUR, str(hour)), *self._more.get((HOUR, str(hour)), ())]

    @property
    def destroyed(self) -> frozenset[Name]:
        """The secrets whose destruction has begun, as of the last `refresh`."""
        return frozenset(self._destroyed)

    def refresh(self) -> None:
        """Fetch all secrets not yet known and forget those that were destroyed.

        Raises VaultError when the master key is another one.
        """
        destroyed = self._client.query("SELECT DISTINCT kind, name FROM vault_destroyed").result_rows
        self._destroyed = {(kind, name) for kind, name in destroyed}
        for gone in self._destroyed & self._secrets.keys():
            del self._secrets[gone]
            self._more.pop(gone, None)
        self._read_masters()
        for (kind, name), rows in entries(self._client).items():
            if (kind, name) in self._secrets or (kind, name) in self._destroyed:
                continue
            found = self.readable(rows)
            if not found:
                raise VaultError(f"the secret {kind} {name} was wrapped by another master key")
            self._secrets[kind, name], *more = [self.unwrap(row) for row in found]
            if kind == HOUR:
                self._more[kind, name] = more

    def make(
        self,
        *,
        condition: str = "1",
        now: datetime | None = None,
        sites: tuple[int, ...] = (),
        hours: int = HOURS_AHEAD,
    ) -> int:
        """As the maker: add the secrets of the days and hours around `now` and of these sites that are missing.

        `condition` is the SQL of still being the maker. Returns how many secrets were made.
        """
        self.refresh()
        now = now or datetime.now(UTC)
        days = [now.date() + timedelta(days=n) for n in range(-DAYS_BEHIND, DAYS_AHEAD + 1)]
        this = int(now.timestamp()) // 3600
        wanted = {(DAY, day.isoformat()): datetime(*day.timetuple()[:3], tzinfo=UTC) + self._kept for day in days}
        wanted |= {(HOUR, str(hour)): hour_start(hour) + self._kept for hour in range(this, this + hours + 1)}
        wanted |= {(SITE, str(site)): NEVER for site in sites}
        missing = [name for name in wanted if name not in self._secrets and name not in self._destroyed]
        made = 0
        if missing:
            values = [new_private_key() if kind == HOUR else secrets.token_bytes(KEY_BYTES) for kind, _ in missing]
            fresh = zip(missing, values, strict=True)
            made = self.insert([self.wrap(name, value, wanted[name], now) for name, value in fresh], condition)
            self.refresh()
        self._publish()
        return made

    def wrap(self, name: Name, secret: bytes, expires: datetime, made_at: datetime) -> Entry:
        """A secret under the first master key."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        wrapped = nonce + self._ciphers[self._master].encrypt(nonce, secret, "/".join(name).encode())
        return Entry(*name, wrapped, self._master, expires, made_at)

    def unwrap(self, row: Entry) -> bytes:
        """The secret of a row; raises VaultError."""
        cipher = self._ciphers.get(row.master)
        try:
            if cipher is None:
                raise InvalidTag
            bound = f"{row.kind}/{row.name}".encode()
            return cipher.decrypt(row.wrapped[:NONCE_BYTES], row.wrapped[NONCE_BYTES:], bound)
        except InvalidTag:
            raise VaultError(f"the secret {row.kind} {row.name} does not open with this master key") from None

    def insert(self, rows: Sequence[Entry], condition: str) -> int:
        """Adds rows while `condition` holds, their master key is not retired, and no secret of so many is destroyed.

        Returns how many were written.
        """
        table = pa.table(
            {
                "kind": pa.array([row.kind for row in rows]).dictionary_encode(),
                "name": [row.name for row in rows],
                "wrapped": pa.array([row.wrapped for row in rows], pa.binary()),
                "master": pa.array([row.master for row in rows], pa.binary(8)),
                "expires": pa.array([row.expires for row in rows], MOMENT),
                "made_at": pa.array([row.made_at for row in rows], MOMENT),
            },
            ROWS,
        )
        retired = (
            "(SELECT count() FROM vault_destroyed WHERE kind = 'master' AND name IN "
            f"({', '.join(repr(master.hex()) for master in {row.master for row in rows})})) = 0"
        )
        written = 0
        for start in range(0, table.num_rows, INSERTED):  # a partition each, of which the engine takes 100 at once
            part = table.slice(start, INSERTED)
            names = ", ".join(f"({quote(row.kind)}, {quote(row.name)})" for row in rows[start : start + INSERTED])
            living = f"(SELECT count() FROM vault_destroyed WHERE (kind, name) IN ({names})) = 0"
            query_id = f"vault-{secrets.token_hex(8)}"
            whole = f"{condition} AND {retired} AND {living}"
            written += insert_if(self._client, "vault_keys", part, whole, query_id=query_id)
        return written

    def _publish(self) -> None:
        """Tells the public keys of hours whose private keys are in the vault; whoever does it, it is right."""
        told = {int(hour) for (hour,) in self._client.query("SELECT DISTINCT hour FROM vault_hours").result_rows}
        hours = sorted(int(name) for kind, name in self._secrets if kind == HOUR and int(name) not in told)
        if hours:
            public = [public_key(self.hour_keys(hour)[0]) for hour in hours]
            rows = pa.table(
                {"hour": pa.array(hours, pa.uint32()), "public": pa.array(public, pa.binary(KEY_BYTES))}, _HOURS
            )
            insert_if(self._client, "vault_hours", rows, "1", query_id=f"vault-{secrets.token_hex(8)}")

    def _read_masters(self) -> None:
        keys = self._masters() if callable(self._masters) else self._masters
        self._ciphers = {master_id(key): AESGCM(key) for key in keys}
        self._master = master_id(keys[0])

    def readable(self, rows: Iterable[Entry]) -> list[Entry]:
        """Those under the newest master key that is known here; the first, which was made first, counts."""
        for master in self._ciphers:
            if of := [row for row in rows if row.master == master]:
                return sorted(of, key=lambda row: (row.made_at, row.wrapped.hex()))
        return []

    def _secret(self, kind: str, name: str) -> bytes:
        found = self._secrets.get((kind, name))
        if found is not None:
            return found
        raise (SecretDestroyed if (kind, name) in self._destroyed else SecretMissing)(f"{kind} {name}")


def entries(client: Client) -> Mapping[Name, list[Entry]]:
    """All rows of the vault by kind and name."""
    result = client.query(
        "SELECT kind, name, wrapped, master, expires, made_at FROM vault_keys",
        column_formats={"wrapped": "bytes", "master": "bytes"},
    )
    found: dict[Name, list[Entry]] = {}
    for kind, name, wrapped, master, expires, made_at in result.result_rows:
        row = Entry(kind, name, bytes(wrapped), bytes(master), _utc(expires), _utc(made_at))
        found.setdefault((kind, name), []).append(row)
    return found


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
