"""Runs one service of the stack as a process of a test, against the broker and the engine of the test run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from infra.local.kafka import TOP
from infra.local.parts import Part, parts
from infra.service.settings import PREFIX, Settings

POLL = 0.05  # seconds
LOG_LINES = 30


class Service:
    """A collector or worker process. It dies with the test run, however that ends."""

    def __init__(self, part: Part, settings: Settings, log: Path) -> None:
        self.part = part
        self.settings = settings
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> Service:
        """Starts the process and, with `wait`, returns when it is ready."""
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError(f"{self.part.name} runs already")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environment |= self.settings.environment() | self.part.environment
        setpriv = [setpriv, "--pdeathsig", "KILL", "--"] if (setpriv := shutil.which("setpriv")) else []
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*setpriv, *self.part.command],
                cwd=TOP,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        if wait:
            self.wait_ready()
        return self

    @property
    def pid(self) -> int:
        """The pid of the process, which must have been started."""
        assert self._process is not None, f"{self.part.name} was not started"
        return self._process.pid

    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def wait_ready(self, limit: float | None = None) -> None:
        """Returns when the process says that it is ready; fails with the end of its log when it ends or is late."""
        assert self._process is not None, f"{self.part.name} was not started"
        deadline = time.monotonic() + (self.part.start_limit if limit is None else limit)
        while reason := self.part.ready():
            if self._process.poll() is not None:
                raise AssertionError(f"{self.part.name} ended with status {self._process.returncode}\n{self.tail()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.part.name} is not ready: {reason}\n{self.tail()}")
            time.sleep(POLL)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal; after SIGKILL returns when the process is gone."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
            if number == signal.SIGKILL:
                self._process.wait()
        elif self._process.returncode:
            with self.log.open("a") as output:
                print(f"had ended with status {self._process.returncode} before it was killed", file=output)

    def stop(self, limit: float | None = None) -> int:
        """SIGTERM, then waits for the end; returns the exit status. Past its limit it is killed and the test fails."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(self.part.stop_limit if limit is None else limit)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"{self.part.name} did not stop in time\n{self.tail()}") from None
        return self._process.returncode

    def tail(self) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_LINES:])


class Services:
    """Starts services and ends all of them with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[Service] = []

    def start(self, role: str, settings: Settings, *, wait: bool = True) -> Service:
        """Starts the first process of a role (collector, worker)."""
        return self.run(parts(settings, [role])[0], settings, wait=wait)

    def run(self, part: Part, settings: Settings, *, wait: bool = True) -> Service:
        """Starts one process of several of a role."""
        log = self._folder / f"{part.name}-{len(self._started)}.log"
        service = Service(part, settings, log)
        self._started.append(service)
        return service.start(wait=wait)

    def end(self) -> None:
        """Kills what is left, without grace: the test has seen what it wanted."""
        for service in self._started:
            with contextlib.suppress(ProcessLookupError):
                service.kill()
