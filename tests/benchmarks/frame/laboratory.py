"""Where benchmarks happen: a broker and an engine of their own, processes under test, and a core for each side.

With two cores or more the processes under test have the first for themselves; broker, engine, load and the benchmark
share the others. Whatever ends the benchmark, no process is left: those started here die with it.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infra import migrate
from infra.load.sites import write_sites
from infra.local.parts import Part, parts
from infra.local.ports import free
from infra.local.stack import Stack, install, isolated
from infra.service.clickhouse import Client
from infra.service.settings import Settings
from schemas import topics as topic_names
from schemas.sites import PolicySet, load_sites
from tests.benchmarks.frame import BenchmarkError, Frame
from tests.benchmarks.frame.processes import Tree

TOP = Path(__file__).parents[3]
START_LIMIT = 60.0  # seconds until a process under test must be ready
STOP_LIMIT = 20.0  # seconds it may take to end before it is killed
LOG_LINES = 8
CORES = sorted(os.sched_getaffinity(0))


def cores() -> tuple[list[int], list[int]]:
    """The cores of the processes under test, and those of all others; the same where there is only one."""
    return (CORES[:1], CORES[1:]) if len(CORES) > 1 else (CORES, CORES)


def many_files() -> int:
    """Raises the limit of open files as far as it goes, for this process and those it starts; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


class Process:
    """A process under test, or one beside it, and what it uses."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self.tree = Tree([process.pid])
        self._process = process
        self._log = log

    def wait_ready(self, ready: Callable[[], str], limit: float = START_LIMIT) -> None:
        """Returns when `ready` answers ""; raises BenchmarkError."""
        deadline = time.monotonic() + limit
        while reason := ready():
            self.must_run()
            if time.monotonic() > deadline:
                raise BenchmarkError(f"{self.name} is not ready after {limit:.0f} s: {reason}.{self.last_words()}")
            time.sleep(0.05)

    def must_run(self) -> None:
        """Raises BenchmarkError when it has ended."""
        if (status := self._process.poll()) is not None:
            raise BenchmarkError(f"{self.name} ended with status {status}.{self.last_words()}")

    def last_words(self) -> str:
        """The end of its log."""
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "".join(f"\n    {line}" for line in lines)

    def stop(self) -> None:
        """Ends it: SIGTERM, and SIGKILL when that does not help."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


def placed(command: Sequence[str], on: Sequence[int]) -> list[str]:
    """The command line that runs `command` on these cores and ends with the benchmark, however that ends."""
    dies = ["setpriv", "--pdeathsig", signal.SIGKILL.name.removeprefix("SIG"), "--"]
    return [*dies, "taskset", "-c", ",".join(map(str, on)), *command]


class Laboratory:
    """The broker and, where asked for, the engine; processes under test are started by `running`."""

    def __init__(self, frame: Frame, stack: Stack, apart: bool) -> None:
        self.frame = frame
        self.stack = stack
        self.settings = stack.settings
        self.under_test, self.others = cores() if apart else (CORES, CORES)

    @contextmanager
    def running(
        self,
        name: str,
        command: Sequence[str],
        ready: Callable[[], str],
        *,
        environment: Mapping[str, str] | None = None,
        limit: float = START_LIMIT,
    ) -> Iterator[Process]:
        """Runs a process under test within the block, from when it is ready."""
        log = self.frame.folder / f"{name}.log"
        with log.open("ab") as output:
            started = subprocess.Popen(
                placed(command, self.under_test),
                cwd=TOP,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        process = Process(name, started, log)
        try:
            process.wait_ready(ready, limit)
            yield process
        finally:
            process.stop()

    @contextmanager
    def part(self, role: str, settings: Settings | None = None) -> Iterator[Process]:
        """Runs a part of the local stack, collector or worker, as a process under test."""
        settings = settings or self.settings
        found = only(parts(settings, [role]))
        environment = settings.environment() | found.environment
        with self.running(role, found.command, found.ready, environment=environment) as process:
            yield process

    def tree(self, role: str) -> Tree:
        """What a part of the stack uses: kafka or front."""
        return Tree([self.stack.pids()[role]])

    def install(self, sites: int) -> None:
        """Makes the laboratory's sites, tables, secrets and topics."""
        write_sites(self.settings.sites, range(1, sites + 1), counted=False)
        install(self.settings)

    def tables(self) -> Client:
        """Makes the tables alone, and returns a client of them."""
        client = migrate.open_database(self.settings)
        migrate.apply(client)
        return client

    def beside(self, name: str, **changes: Any) -> Settings:
        """Settings of a further installation on the same broker and engine: topics, database, state and ports apart.

        Its tables and topics are made, its sites are the laboratory's.
        """
        ports = dict(zip(("collector_port", "collector_admin_port", "worker_admin_port"), free(3), strict=True))
        state = self.settings.state / name
        state.mkdir()
        update = {
            "state": state,
            "sites_dir": self.settings.sites,
            "topic_prefix": f"{name}.",
            "clickhouse_database": f"veilstream_{name}",
            **ports,
            **changes,
        }
        settings = self.settings.model_copy(update=update)
        install(settings)
        return settings


def only(found: Sequence[Part]) -> Part:
    """The one part that was asked for."""
    (part,) = found
    return part


def publish_policies(settings: Settings) -> PolicySet:
    """Publishes the sites' policies, as a collector does before its first packet, and returns them."""
    from kafka import KafkaProducer

    policies = load_sites(settings.sites).policies
    producer = KafkaProducer(bootstrap_servers=settings.kafka.split(","), acks="all")
    try:
        topic = settings.topic(topic_names.SITE_POLICIES)
        producer.send(topic, key=policies.version.hex().encode(), value=policies.dump()).get(30)
    finally:
        producer.close()
    return policies


@contextmanager
def laboratory(frame: Frame, roles: Sequence[str], *, apart: bool = True, **settings: Any) -> Iterator[Laboratory]:
    """A laboratory with these parts of the local stack, in the run's folder; without `apart` all share all cores."""
    many_files()
    before = os.sched_getaffinity(0)
    if apart:
        os.sched_setaffinity(0, cores()[1])  # what is started from here on inherits it
    try:
        frame.say(f"starting {', '.join(roles)}")
        stack = Stack(isolated(frame.folder / "state", **settings), roles, owned=True)
        with stack:
            yield Laboratory(frame, stack, apart)
    finally:
        os.sched_setaffinity(0, before)


def python(*arguments: str) -> list[str]:
    """The command line of a program of ours."""
    return [sys.executable, *arguments]
