"""The hours' public keys, to which this process seals: fetched ahead, kept in a file, and let go of in order.

    <spool>/.keys/
        keeper                  flock'ed by the one process of this spool that asks ClickHouse
        keys.json               the spool's id, public keys by hour, and hours that are over but not reported yet
        <writer>.lock           flock'ed by a living process
        <writer>.<hour>         the process seals, or has sealed, to this hour's key

One process of a spool is the keeper. It fetches the public keys of the hours ahead; before a key may be used, it
registers the spool for that hour in `vault_spools`. An hour that is over leaves the keys, and once no process has a
mark of it, the spool is reported as done with it, upon which the hour's key may die. A process puts down its mark
before it looks whether the key may still be used, and the keeper takes the key away before it looks for marks: so one
of them sees the other. A process takes its mark away when all its packets of that hour are acknowledged; the marks of
one that was killed go when its folder in the spool is drained.

All of this is kept on the disk, so a collector begins and goes on while ClickHouse is away. When no newer key comes,
the newest is used on, for `STALE_HOURS`: its hour is not over for this spool and the key lives on.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from infra.service.files import locked, replace, sync
from infra.service.logs import logger
from infra.service.plain_sql import PlainSql, SqlError
from schemas.sealing import HOUR_MS, Sealer, hour_of

log = logger(__name__)

FOLDER, KEYS, KEEPER = ".keys", "keys.json", "keeper"
LOOK_SECONDS, AGAIN_SECONDS = 60.0, 5.0  # between looks of the keeper; after one that failed, or without a key
AGAIN_MS = 1000  # until a process looks again for a newer key
STALE_HOURS = 96  # that the newest key is used on; the hard limit of an hour's key is later than that and a spool's age
_mark = re.compile(r"([0-9a-f]{16})\.(\d+)").fullmatch


class NoKey(RuntimeError):
    """There is no public key to seal to."""


class Hours:
    """For one collector process. `sealer` is asked in the loop, for every packet; `look` blocks."""

    def __init__(
        self,
        spool: Path,
        writer: int,
        topic: str,
        sql: PlainSql,
        *,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Raises OSError: no usable folder."""
        self.problem = ""  # why keys cannot be fetched now
        self._spool = spool
        self._folder = spool / FOLDER
        self._writer = f"{writer:016x}"
        self._topic = topic
        self._sql = sql
        self._now_ms = now_ms
        self._sealer: Sealer | None = None
        self._until = 0  # ms; the sealer in use need not be looked at before
        self._open: dict[int, int] = {}  # packets that are not acknowledged, by hour
        self._keeper: int | None = None
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = locked(self._folder / f"{self._writer}.lock")

    # In the loop

    def sealer(self) -> Sealer:
        """What the next packet is sealed with; raises NoKey only before there has ever been a key."""
        now = self._now_ms()
        if self._sealer is None or now >= self._until or now < self._until - 2 * HOUR_MS:
            self._renew(now)
        if self._sealer is None:
            raise NoKey("no key to seal with was fetched yet")
        return self._sealer

    def refusal(self) -> str:
        """Why nothing may be taken; "" when there is a key to seal with."""
        try:
            stale = hour_of(self._now_ms()) - self.sealer().hour
        except NoKey as error:
            return f"{error}{f': {self.problem}' if self.problem else ''}"
        return f"the newest key to seal with is {stale} hours old: {self.problem}" if stale > STALE_HOURS else ""

    def packed(self, hour: int) -> None:
        """A packet was sealed to this hour's key."""
        self._open[hour] = self._open.get(hour, 0) + 1

    def acknowledged(self, hour: int) -> None:
        """Kafka has it."""
        left = self._open[hour] = self._open.get(hour, 0) - 1
        if not left and (self._sealer is None or self._sealer.hour != hour):
            self._unmark(hour)

    def close(self) -> None:
        """Takes away the marks of what is all acknowledged; others are for whoever drains this process's spool."""
        for hour in {*self._open, *([self._sealer.hour] if self._sealer else [])}:
            if not self._open.get(hour):
                self._unmark(hour)
        for file in (self._lock, self._keeper):
            if file is not None:
                os.close(file)
        self._lock = self._keeper = None

    def _renew(self, now: int) -> None:
        hour = hour_of(now)
        keys = _read(self._folder).keys
        chosen = max((h for h in keys if h <= hour), default=min(keys, default=None))
        if chosen is not None and (self._sealer is None or chosen != self._sealer.hour):
            mark = self._folder / f"{self._writer}.{chosen}"
            try:
                mark.touch(mode=0o600)
                sync(self._folder)
            except OSError as error:  # such as a full disk: the key in use is good for longer
                self._failed(f"{self._folder} cannot be written: {error.strerror}")
                self._until = now + AGAIN_MS
                return
            public = _read(self._folder).keys.get(chosen)
            if public is None:
                mark.unlink(missing_ok=True)  # it was taken away meanwhile; the next packet looks again
                return
            before, self._sealer = self._sealer, Sealer(self._topic, chosen, public)
            if before is not None and not self._open.get(before.hour):
                self._unmark(before.hour)
        # Without the hour's own key it is looked for again soon.
        self._until = (hour + 1) * HOUR_MS if chosen == hour else now + AGAIN_MS

    def _unmark(self, hour: int) -> None:
        self._open.pop(hour, None)
        (self._folder / f"{self._writer}.{hour}").unlink(missing_ok=True)

    # In a thread

    def look(self) -> float:
        """Does what a keeper has to do, if this process is or can become it; returns seconds until the next look."""
        try:
            if self._keeper is None:
                self._keeper = locked(self._folder / KEEPER)
            if self._keeper is None:
                return AGAIN_SECONDS
            self._clear_dead()
            self._fetch()
            self._report()
        except SqlError as error:
            self._failed(str(error))
            return AGAIN_SECONDS
        except OSError as error:
            self._failed(error.strerror or type(error).__name__)
            return AGAIN_SECONDS
        self.problem = ""
        return LOOK_SECONDS if hour_of(self._now_ms()) in _read(self._folder).keys else AGAIN_SECONDS

    def _failed(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            log.warning("keys_not_fetched", problem=problem)

    def _fetch(self) -> None:
        """Takes in the keys of this hour and of those to come, each after its registration."""
        state = _read(self._folder)
        this = hour_of(self._now_ms())
        if not state.spool:
            state.spool = secrets.token_hex(16)
            _write(self._folder, state)
        ask = f"SELECT hour, hex(argMin(public, made_at)) FROM vault_hours WHERE hour >= {this} GROUP BY hour"
        found = {int(hour): public.lower() for hour, public in self._sql.rows(ask)}
        new = sorted(set(found) - set(state.keys) - set(state.over))
        if not new:
            return
        self._sql.insert("vault_spools", ("spool", "hour", "done"), [(state.spool, hour, 0) for hour in new])
        state.keys |= {hour: bytes.fromhex(found[hour]) for hour in new}
        _write(self._folder, state)

    def _report(self) -> None:
        """Takes away the keys of hours that are over, and reports those of which nobody has a mark."""
        state = _read(self._folder)
        current = max((hour for hour in state.keys if hour <= hour_of(self._now_ms())), default=None)
        if current is not None and (over := [hour for hour in state.keys if hour < current]):
            state.over = sorted({*state.over, *over})
            for hour in over:
                del state.keys[hour]
            _write(self._folder, state)
        marked = {int(match[2]) for path in self._folder.iterdir() if (match := _mark(path.name))}
        if done := [hour for hour in state.over if hour not in marked]:
            self._sql.insert("vault_spools", ("spool", "hour", "done"), [(state.spool, hour, 1) for hour in done])
            state.over = [hour for hour in state.over if hour in marked]
            _write(self._folder, state)

    def _clear_dead(self) -> None:
        """Takes away the marks of processes that are gone and whose folder in the spool is drained."""
        for path in self._folder.glob("*.lock"):
            writer = path.stem
            if writer == self._writer or any(self._spool.glob(f"*-{writer}")):
                continue
            lock = locked(path)
            if lock is None:
                continue
            # Again: it may have made its folder between the first look and the lock.
            if not any(self._spool.glob(f"*-{writer}")):
                for mark in self._folder.glob(f"{writer}.*"):
                    mark.unlink(missing_ok=True)
            os.close(lock)


@dataclass(slots=True)
class _State:
    """What keys.json says. over: hours that nobody here seals to any more, and that are not reported yet."""

    spool: str = ""
    keys: dict[int, bytes] = field(default_factory=dict)
    over: list[int] = field(default_factory=list)


def _read(folder: Path) -> _State:
    try:
        found = json.loads((folder / KEYS).read_bytes())
        keys = {int(hour): bytes.fromhex(public) for hour, public in found["keys"].items()}
        return _State(str(found["spool"]), keys, [int(hour) for hour in found["over"]])
    except FileNotFoundError:
        return _State()
    except (ValueError, KeyError, TypeError, AttributeError):
        # It is replaced as a whole, so only the disk can have done that; the old id's hours live to their hard limit.
        log.error("keys_unreadable", file=str(folder / KEYS))
        return _State()


def _write(folder: Path, state: _State) -> None:
    keys = {str(hour): public.hex() for hour, public in sorted(state.keys.items())}
    replace(folder / KEYS, json.dumps({"spool": state.spool, "keys": keys, "over": state.over}).encode(), 0o600)
