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


OPERATIONS: tuple[Operation, ...] = (DYING, Rotation())
