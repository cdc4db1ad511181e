"""Kills in the middle of what keeps a promise about data: each is done or repeated, and nothing lives too long.

An operation (`Operation`) prepares what it needs, goes on for some seconds while it may be cut off anywhere, is
repeated until it is over, and tells what does not hold. A new one is a class and a place in OPERATIONS.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Protocol, TypeVar

from urllib3.exceptions import HTTPError

from infra.service.clickhouse import ClickHouseError, Client, connect
from infra.service.settings import PREFIX
from infra.service.vault import DAY, HOUR, Vault, entries, hour_start, master_id, master_keys
from tests.fault.field import BACK_SECONDS, POLL, FaultError, Field

T = TypeVar("T")
SITE = 1  # of the load's, whose rows are anonymised and removed
COPIES = 2_000  # rows
LATER = 60_000  # a generation that no topic has
KEPT_DAYS = 30
_MOMENTS = ("time", "received_at", "day", "visit_start", "visit_last")
LONGEST = 3.0  # seconds from the beginning of an operation to the kill
OLD = timedelta(days=35)  # of keys that are due, so that no other is like them; what spools report is kept for 40


class Operation(Protocol):
    """name: as strikes are dealt. victims: what may be killed meanwhile: roles, or "command" for its own process."""

    @property
    def name(self) -> str: ...
    @property
    def victims(self) -> tuple[str, ...]: ...

    def prepare(self, field: Field, random: Random) -> None:
        """What there must be before."""

    def begin(self, field: Field) -> subprocess.Popen[bytes] | None:
        """The command that does it; None where a part of the stack does it by itself."""

    def check(self, field: Field) -> None:
        """Returns when it is over and all holds; raises FaultError."""


class PrivacyKill:
    """A share of the strikes for every operation."""

    name = "privacy"
    outage = False
    workers = 1
    settings: Mapping[str, object] = {"upkeep_seconds": 1.0}

    def __init__(self) -> None:
        self.kinds = tuple(operation.name for operation in OPERATIONS)

    def strike(self, field: Field, kind: str, random: Random) -> Mapping[str, int]:
        """See `faults.Fault`."""
        operation = next(one for one in OPERATIONS if one.name == kind)
        operation.prepare(field, random)
        victim = random.choice(operation.victims)
        command = operation.begin(field)
        time.sleep(random.uniform(0.0, LONGEST))
        ended = command is not None and command.poll() is not None
        if victim == "command" and command is not None:
            command.kill()
            command.wait()
        else:
            name = field.pick(victim, random)
            pid = field.stack.kill(name)
            if command is not None:
                command.wait()  # it fails, or has been faster
            field.back(name, after=pid)
        field.whole()
        if command is not None:
            again = operation.begin(field)
            assert again is not None
            if status := again.wait():
                raise FaultError(f"{kind} ended with status {status} when it was repeated")
        operation.check(field)
        return {f"{kind}_cut_off": int(not ended)}


class Destruction:
    """Keys that are due die; keys whose spool has not reported, and those in use, live."""

    name = "destruction"
    victims = ("worker", "front", "kafka")

    def __init__(self) -> None:
        self._made = 0
        self._due: set[tuple[str, str]] = set()
        self._kept: set[tuple[str, str]] = set()

    def prepare(self, field: Field, random: Random) -> None:
        """See `Operation`."""
        hour = int((datetime.now(UTC) - OLD).timestamp()) // 3600 + self._made
        self._made += 10  # what is destroyed is never made again
        self._due = {(HOUR, str(hour + n)) for n in range(3)}
        self._kept = {(HOUR, str(hour + n)) for n in range(3, 5)}
        later = datetime.now(UTC) + timedelta(days=5)

        def make(client: Client) -> None:
            client.insert(
                "vault_spools",
                [["a spool that is silent", int(name), 0, hour_start(int(name))] for _, name in self._kept],
                column_names=["spool", "hour", "done", "at"],
            )
            vault = Vault(client, master_keys(field.stack.settings.master_key))
            names = sorted(self._due | self._kept)
            vault.insert([vault.wrap(name, os.urandom(32), later, datetime.now(UTC)) for name in names], "1")

        asked(field, make)

    def begin(self, field: Field) -> None:
        """See `Operation`; the worker does it."""

    def check(self, field: Field) -> None:
        """See `Operation`."""

        def gone(client: Client) -> bool:
            names = ", ".join(f"'{name}'" for _, name in self._due)
            rows = client.query(
                f"SELECT name FROM vault_destroyed WHERE kind = 'hour' AND name IN ({names}) AND gone = 1"
            ).result_rows
            parts = client.query(
                "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'vault_keys' "
                f"AND rows > 0 AND hasAny(splitByString('\\'', `partition`), [{names}])"
            ).result_rows[0][0]
            return (
                {(HOUR, name) for (name,) in rows} == self._due and not parts and not self._due & entries(client).keys()
            )

        field.until("the keys that are due are gone", lambda: asked(field, gone))
        living = asked(field, entries).keys()
        today = datetime.now(UTC)
        must = self._kept | {(DAY, today.date().isoformat()), (HOUR, str(int(today.timestamp()) // 3600))}
        if early := must - living:
            raise FaultError(f"keys died early: {sorted(early)}")
        # The spool reports at last, and these die, too.
        hours = [int(name) for _, name in self._kept]

        def report(client: Client) -> None:
            # Long ago, as what was appended until then must have left the log.
            rows = [["a spool that is silent", hour, 1, hour_start(hour + 1)] for hour in hours]
            client.insert("vault_spools", rows, column_names=["spool", "hour", "done", "at"])

        asked(field, report)
        field.until("keys die once their spool has reported", lambda: not self._kept & asked(field, entries).keys())


DYING = Destruction()


class Rotation:
    """The master key is changed while keys die; every secret is then under one key, and it is the one that it was."""

    name = "rotation"
    victims = ("command", "front", "worker")

    def __init__(self) -> None:
        self._before: dict[tuple[str, str], bytes] = {}
        self._dying = DYING

    def prepare(self, field: Field, random: Random) -> None:
        """See `Operation`."""
        self._dying.prepare(field, random)
        self._before = asked(field, lambda client: values(field, client))

    def begin(self, field: Field) -> subprocess.Popen[bytes]:
        """See `Operation`."""
        return veilstream(field, "vault", "rotate")

    def check(self, field: Field) -> None:
        """See `Operation`."""

        def whole(client: Client) -> bool:
            keys = [master_id(key) for key in master_keys(field.stack.settings.master_key)]
            masters = {row.master for rows in entries(client).values() for row in rows}
            return len(keys) == 1 and masters == set(keys)

        field.until("every secret is under the new key alone", lambda: asked(field, whole))
        after = asked(field, lambda client: values(field, client))
        if any(after.get(name, value) != value for name, value in self._before.items()):
            raise FaultError("a secret is another one after a rotation")
        if lost := [name for name in self._before if name not in after and name[0] != HOUR]:
            raise FaultError(f"secrets were lost in a rotation: {lost}")
        self._dying.check(field)


class Copies:
    """Rows of another day, made of the load's own under names that no other row has; gone when the test of them is.

    They are of no packet, and of a topic that comes after all others, so no worker takes them for its own.
    """

    def __init__(self, writer: int, days: int) -> None:
        self._writer, self._days = writer, days

    def make(self, field: Field) -> int:
        """Makes them anew; returns how many there are."""
        back = ", ".join(f"{name} - INTERVAL {self._days} DAY AS {name}" for name in _MOMENTS)

        own = f"site_id = {SITE} AND generation < {LATER}"

        def insert(client: Client) -> int:
            self._remove(client)
            client.command(
                f"INSERT INTO events SELECT * REPLACE ({back}, {self._writer} AS writer, {LATER} AS generation, "
                "0 AS `offset`, 0 AS `index`, rowNumberInAllBlocks() AS seq, '' AS page_view_id, "
                "unhex(repeat('00', 16)) AS policy_version) "
                f"FROM (SELECT * FROM events WHERE {own} LIMIT {COPIES})",
                settings={"async_insert": 0},
            )
            return self._count(client, "1")

        some = f"SELECT count() > 100 FROM events WHERE {own}"
        field.until("the load's rows", lambda: asked(field, lambda client: client.query(some).result_rows) == [(1,)])
        made = asked(field, insert)
        if not made:
            raise FaultError("no copies of rows were made")
        return made

    def count(self, field: Field, where: str = "1") -> int:
        """How many of them there are."""
        return asked(field, lambda client: self._count(client, where))

    def remove(self, field: Field) -> None:
        """Takes them away."""
        asked(field, self._remove)

    def _count(self, client: Client, where: str) -> int:
        sql = f"SELECT count() FROM events WHERE writer = {self._writer} AND ({where})"
        return int(client.query(sql).result_rows[0][0])

    def _remove(self, client: Client) -> None:
        client.command(f"ALTER TABLE events DELETE WHERE writer = {self._writer}", settings={"mutations_sync": 2})


class Anonymisation:
    """Stored rows are brought under the rules of today: each once, and none is lost or doubled."""

    name = "anonymisation"
    victims = ("command", "front", "worker")

    def __init__(self) -> None:
        self._copies, self._made = Copies(writer=2, days=3), 0

    def prepare(self, field: Field, random: Random) -> None:
        """See `Operation`."""
        self._made = self._copies.make(field)

    def begin(self, field: Field) -> subprocess.Popen[bytes]:
        """See `Operation`."""
        today = datetime.now(UTC).date()
        first, last = (str(today - timedelta(days=days)) for days in (5, 2))
        return veilstream(field, "anonymize-past", "--site", str(SITE), "--from", first, "--to", last)

    def check(self, field: Field) -> None:
        """See `Operation`."""
        rows = self._copies.count(field), self._copies.count(field, "policy_version != unhex(repeat('00', 16))")
        names = asked(
            field, lambda client: client.query("SELECT uniqExact(seq) FROM events WHERE writer = 2").result_rows
        )
        if rows != (self._made, self._made) or names != [(self._made,)]:
            raise FaultError(f"of {self._made} rows there are {rows[0]}, {rows[1]} under the rules")
        left = "SELECT name FROM system.tables WHERE database = currentDatabase() AND startsWith(name, 'swap_')"
        field.until(
            "no copy of a month is left", lambda: not asked(field, lambda client: client.query(left).result_rows)
        )
        self._copies.remove(field)


class Removal:
    """Rows whose time is over are removed, all of them, and no others."""

    name = "retention"
    victims = ("command", "front", "worker")

    def __init__(self) -> None:
        self._over, self._young, self._made = (
            Copies(writer=3, days=KEPT_DAYS + 5),
            Copies(writer=4, days=KEPT_DAYS - 5),
            0,
        )

    def prepare(self, field: Field, random: Random) -> None:
        """See `Operation`."""
        file = field.stack.settings.sites / f"{SITE}.toml"
        if "[retention]" not in (text := file.read_text()):
            file.write_text(f"{text}\n[retention]\nevents = {KEPT_DAYS}\n")
        self._over.make(field)
        self._made = self._young.make(field)

    def begin(self, field: Field) -> subprocess.Popen[bytes]:
        """See `Operation`."""
        return veilstream(field, "retention", "run")

    def check(self, field: Field) -> None:
        """See `Operation`."""
        over, young = self._over.count(field), self._young.count(field)
        if over or young != self._made:
            raise FaultError(f"{over} rows outlived their time, and of {self._made} younger ones there are {young}")
        self._young.remove(field)


def veilstream(field: Field, *arguments: str) -> subprocess.Popen[bytes]:
    """A command of the `veilstream` program on the field's stack."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return subprocess.Popen(
        [sys.executable, "-m", "infra.cli", *arguments],
        env=others | field.stack.settings.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def asked(field: Field, question: Callable[[Client], T]) -> T:
    """What a question to ClickHouse answers, asked again while it is away."""
    end = time.monotonic() + BACK_SECONDS
    while True:
        try:
            with connect(field.stack.settings) as client:
                return question(client)
        except (ClickHouseError, HTTPError, OSError) as error:
            if time.monotonic() > end:
                raise FaultError(f"ClickHouse does not answer: {error}") from None
            time.sleep(POLL)


def values(field: Field, client: Client) -> dict[tuple[str, str], bytes]:
    """The vault's secrets as they are, by kind and name."""
    vault = Vault(client, master_keys(field.stack.settings.master_key))
    readable = {name: vault.readable(rows) for name, rows in entries(client).items()}
    return {name: vault.unwrap(rows[0]) for name, rows in readable.items() if rows}


OPERATIONS: tuple[Operation, ...] = (DYING, Rotation(), Anonymisation(), Removal())
