"""The local stack as a whole: start in order with readiness, stop in reverse, look, restart, kill.

    with Stack(isolated(folder), owned=True) as stack:
        stack.kill("worker")
        stack.wait_ready("worker")

Everything it keeps lies in the settings' state folder; only one command changes a state folder's stack at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local import kafka
from infra.local.parts import Part, kafka_ready, local_broker, parts
from infra.local.passwords import ensure_token, with_passwords
from infra.local.ports import free, taken
from infra.local.scaling import COUNT, keep, scaled
from infra.local.supervision import Process, Supervision, SupervisionError
from infra.service.settings import PREFIX, SECRETS, Settings

POLL = 0.1  # seconds between looks at a process that is getting ready
FAILED_STARTS = 3  # while starting the stack, a part that fails so often is not waited for any longer
LOG_LINES = 12  # shown of a part that did not get ready
BEFORE_MIGRATION = ("kafka", "front")  # roles


class StackError(Exception):
    """The stack could not do what was asked; the message says which part and why."""


@dataclass(frozen=True, slots=True)
class PartStatus:
    """What is known of one part. `state` is supervisord's word; `reason` says why it is not ready."""

    name: str
    state: str
    pid: int | None
    uptime_seconds: float
    restarts: int
    ports: tuple[int, ...]
    ready: bool
    reason: str
    log: Path


def silent(_line: str) -> None:
    """Shows nothing."""


def new_ports() -> dict[str, int]:
    """A free port for every setting that is one."""
    names = [name for name in Settings.model_fields if name.endswith("_port")]
    return dict(zip(names, free(len(names)), strict=True))


def isolated(state: Path, **overrides: Any) -> Settings:
    """Settings of a stack that disturbs no other: a state folder of its own, free ports, loopback."""
    return Settings(state=state, **{**new_ports(), **overrides})


def install(settings: Settings) -> None:
    """Tables, first secrets, topics, a first site and a token for it; what is there already stays as it is."""
    from infra import migrate, sites, topics

    with migrate.open_database(settings) as client:
        migrate.apply(client)
        migrate.first_secrets(client, settings)
    topics.ensure(settings)
    sites.ensure_default(settings.sites)
    ensure_token(settings)


class Stack:
    """The stack of one state folder. `names`: the roles to run (see `parts.ROLES`), default all.

    With `owned` the stack also stops when the thread that started it ends, however it ends. `listeners`: further ports
    of the local broker.
    """

    def __init__(
        self,
        settings: Settings,
        names: Sequence[str] | None = None,
        *,
        owned: bool = False,
        listeners: Sequence[kafka.Listener] = (),
        say: Callable[[str], None] = silent,
    ) -> None:
        state = settings.state.absolute()
        state.mkdir(parents=True, exist_ok=True)
        self.settings = with_passwords(scaled(settings.model_copy(update={"state": state.resolve()})))
        self.supervision = Supervision(self.settings.state)
        self.parts = parts(self.settings, names)
        self._roles = names
        self._owned = owned
        self._listeners = listeners
        self._say = say
        self._record = self.supervision.folder / "stack.json"

    @classmethod
    def of(cls, settings: Settings, *, say: Callable[[str], None] = silent) -> Stack:
        """The stack of the settings' state folder as it was started, whatever the other settings are now."""
        record = settings.state.absolute() / "run" / "stack.json"
        try:
            recorded = json.loads(record.read_text())
        except (OSError, ValueError):
            return cls(settings, say=say)
        values = {name.removeprefix(PREFIX).lower(): value for name, value in recorded["settings"].items()}
        return cls(Settings(**values), recorded["roles"], say=say)

    # The whole

    def start(self) -> None:
        """Brings everything up and returns when all parts are ready; does what is missing of a running stack.

        Raises StackError, having stopped what it started itself.
        """
        with self._alone():
            running = self.supervision.answers()
            if running:
                self._same_settings()
            else:
                self._prepare()
            try:
                if not running:
                    self.supervision.launch(self._environment(), owned=self._owned)
                self._bring_up()
            except BaseException as error:
                if not running:
                    with uninterrupted():
                        self._stop()
                if isinstance(error, SupervisionError):
                    raise StackError(str(error)) from None
                raise

    def stop(self) -> bool:
        """Takes everything down in reverse order and returns when no process is left; whether there was any."""
        with self._alone(), uninterrupted():
            return self._stop()

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def running(self) -> bool:
        """Whether there is a supervisor."""
        return self.supervision.answers()

    def status(self) -> list[PartStatus]:
        """All parts, in the order of starting."""
        try:
            processes = self.supervision.processes()
        except OSError:
            processes = {}
        found = []
        for part in self.parts:
            process = processes.get(part.name)
            reason = part.ready() if process and process.pid else "not running"
            found.append(self._status(part, process, reason))
        return found

    # One part

    def names(self) -> list[str]:
        """The names of the parts, in the order of starting."""
        return [part.name for part in self.parts]

    def pids(self) -> dict[str, int]:
        """The pids of the parts that run."""
        return {name: process.pid for name, process in self.supervision.processes().items() if process.pid}

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Sends a signal to a part's process and returns its pid; the supervisor starts it again when it ends."""
        pid = self.pids().get(self._part(name).name)
        if pid is None:
            raise StackError(f"{name} is not running")
        os.kill(pid, number)
        return pid

    def stop_part(self, name: str) -> None:
        """Stops one part; it stays down until `start_part`."""
        self.supervision.stop(name, self._part(name).stop_limit)

    def start_part(self, name: str, *, wait: bool = True) -> None:
        """Starts one part that was stopped and, with `wait`, returns when it is ready."""
        part = self._part(name)
        self.supervision.start(name)
        if wait:
            self._wait(part)

    def restart(self, name: str) -> None:
        """Stops and starts one part and returns when it is ready."""
        self.stop_part(name)
        self.start_part(name)

    def wait_ready(self, name: str, *, after: int | None = None, limit: float | None = None) -> None:
        """Returns when a part is ready; `after`: and runs under another pid than this one."""
        self._wait(self._part(name), after=after, limit=limit, give_up=False)

    def scale(self, workers: int) -> bool:
        """Has so many stream workers from now on, and returns when they are ready; whether the stack runs.

        Raises StackError.
        """
        with self._alone():
            settings = self.settings.model_copy(update={COUNT: workers})
            wanted = parts(settings, self._roles)
            if not self.running():
                keep(settings, workers)
                return False
            have, names = self.names(), [part.name for part in wanted]
            new = [part for part in wanted if part.name not in have]
            if problems := taken(port for part in new for port in part.ports):
                raise StackError("; ".join(problems))
            for name in [name for name in reversed(have) if name not in names]:
                self.supervision.stop(name, self._part(name).stop_limit)
                self._say(f"{name} is stopped")
            keep(settings, workers)
            self.settings, self.parts = settings, wanted
            self.supervision.configure(self.parts)
            self._write_record()
            self.supervision.reload(names)
            for part in new:
                self.supervision.start(part.name)
            for part in wanted:
                if part.role == "worker":
                    self._wait(part)
            return True

    # How it is done

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.settings.state.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.settings.state, os.O_RDONLY)  # a folder can be locked; no lock file is left behind
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._say(f"another command is changing the stack in {self.settings.state}, waiting for it")
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _environment(self) -> dict[str, str]:
        return self.settings.environment()

    def _shown(self) -> dict[str, str]:
        secret = {PREFIX + name.upper() for name in SECRETS}
        return {name: value for name, value in self._environment().items() if name not in secret}

    def _same_settings(self) -> None:
        recorded = json.loads(self._record.read_text())
        wanted = self._shown()
        changed = sorted(
            f"{name} is {recorded['settings'].get(name)!r}, asked for {wanted.get(name)!r}"
            for name in recorded["settings"].keys() | wanted.keys()
            if recorded["settings"].get(name) != wanted.get(name)
        )
        if recorded["parts"] != self.names():
            changed.append(f"it runs {', '.join(recorded['parts'])}, asked for {', '.join(self.names())}")
        if changed:
            raise StackError(f"the stack runs with other settings, take it down first: {'; '.join(changed)}")

    def _prepare(self) -> None:
        if daemon := self.supervision.daemon():
            self._say(f"supervisord (pid {daemon.pid}) of an earlier stack does not answer, ending it")
            self.supervision.end()
        if left := self.supervision.end_orphans():
            self._say(f"ended what an earlier stack left behind: pid {', '.join(map(str, left))}")
        if problems := taken(port for part in self.parts for port in part.ports):
            raise StackError("; ".join(problems))
        if any(part.role == "kafka" for part in self.parts):
            try:
                kafka.prepare(
                    self.settings.state / "kafka",
                    port=self.settings.kafka_port,
                    controller_port=self.settings.kafka_controller_port,
                    listeners=self._listeners,
                )
            except kafka.KafkaError as error:
                raise StackError(str(error)) from None
        try:
            self.supervision.configure(self.parts)
        except SupervisionError as error:
            raise StackError(str(error)) from None
        self._write_record()

    def _write_record(self) -> None:
        roles = sorted({part.role for part in self.parts})
        self._record.write_text(json.dumps({"settings": self._shown(), "parts": self.names(), "roles": roles}))

    def _bring_up(self) -> None:
        base = [part for part in self.parts if part.role in BEFORE_MIGRATION]
        services = [part for part in self.parts if part.role not in BEFORE_MIGRATION]
        for part in base:
            self.supervision.start(part.name)
        for part in base:
            self._wait(part)
        if not services:
            return
        self._outside()
        began = time.monotonic()
        install(self.settings)
        self._say(f"tables, secrets, topics and sites are there ({time.monotonic() - began:.1f} s)")
        for role in dict.fromkeys(part.role for part in services):
            group = [part for part in services if part.role == role]
            for part in group:
                self.supervision.start(part.name)
            for part in group:
                self._wait(part)

    def _outside(self) -> None:
        """What the settings place elsewhere must answer before it is used."""
        if not local_broker(self.settings) and (reason := kafka_ready(self.settings.kafka)):
            raise StackError(f"Kafka at {self.settings.kafka} ({PREFIX}KAFKA) does not answer: {reason}")
        if url := self.settings.clickhouse_url:
            from infra.service.clickhouse import connect

            try:
                connect(self.settings, database="default").close()
            except Exception as error:
                raise StackError(f"ClickHouse at {url} ({PREFIX}CLICKHOUSE_URL) does not answer: {error}") from None

    def _wait(self, part: Part, *, after: int | None = None, limit: float | None = None, give_up: bool = True) -> None:
        began = time.monotonic()
        limit = part.start_limit if limit is None else limit
        before = self.supervision.processes()[part.name].starts
        while True:
            process = self.supervision.processes()[part.name]
            renewed = process.pid and process.pid != after
            reason = part.ready() if renewed else f"the process is {process.state}"
            if not reason:
                # An answer may have come from a process that ended meanwhile.
                if self.supervision.processes()[part.name].pid == process.pid:
                    self._say(f"{part.name} is ready ({time.monotonic() - began:.1f} s)")
                    return
                continue
            if give_up and process.starts - before >= FAILED_STARTS:
                reason = f"it ended {process.starts - before} times: {process.problem}"
                limit = 0
            if time.monotonic() - began > limit:
                raise StackError(
                    f"{part.name} is not ready after {time.monotonic() - began:.0f} s: {reason}.{self._tail(part)}"
                )
            time.sleep(POLL)

    def _tail(self, part: Part) -> str:
        log = self.supervision.log(part.name)
        try:
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        except OSError:
            lines = []
        return f" Its log {log} ends with:\n" + "\n".join(f"    {line}" for line in lines) if lines else ""

    def _stop(self) -> bool:
        there = self.supervision.daemon() is not None
        if self.supervision.answers():
            names = list(self.supervision.processes())
            known = [part.name for part in self.parts]
            limits = {part.name: part.stop_limit for part in self.parts}
            order = [name for name in names if name not in known] + [name for name in reversed(known) if name in names]
            for name in order:
                began = time.monotonic()
                try:
                    self.supervision.stop(name, limits.get(name, 30.0))
                except (OSError, SupervisionError) as error:
                    self._say(f"{name} does not stop: {error}")
                else:
                    self._say(f"{name} is stopped ({time.monotonic() - began:.1f} s)")
        there = bool(self.supervision.orphans()) or there
        self.supervision.end()
        return there

    def _part(self, name: str) -> Part:
        for part in self.parts:
            if part.name == name:
                return part
        raise StackError(f"there is no part {name!r}, only {', '.join(self.names())}")

    def _status(self, part: Part, process: Process | None, reason: str) -> PartStatus:
        up = process is not None and process.pid != 0
        return PartStatus(
            name=part.name,
            state=process.state if process else "stopped",
            pid=process.pid if process and up else None,
            uptime_seconds=round(time.time() - process.started, 1) if process and up else 0.0,
            restarts=max(process.starts - 1, 0) if process else 0,
            ports=tuple(port.number for port in part.ports),
            ready=not reason,
            reason=reason,
            log=self.supervision.log(part.name),
        )


@contextmanager
def uninterrupted() -> Iterator[None]:
    """SIGINT and SIGTERM wait until the block is done, so that stopping is not left half-way."""
    blocked = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
