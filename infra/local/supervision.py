"""supervisord for one state folder: its configuration, its start, its XML-RPC interface, its end.

Every child is started through setpriv so that it dies with supervisord, whatever that dies of.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from infra.local.kafka import TOP
from infra.local.parts import Part
from infra.local.plugin import NEVER_GIVE_UP

SOCKET_PATH_LIMIT = 100  # of 108 in sockaddr_un; supervisord appends a suffix while it opens the socket
RPC_TIMEOUT = 5.0  # seconds; calls that wait for a process get its limit on top
EXPANSIONS = {"stdout_logfile": 4}  # what a % must become: supervisord expands this option twice, others once
START_SECONDS = 2  # a process that ends sooner counts as a failed start
ALREADY_STARTED = 60  # supervisor.xmlrpc.Faults
NOT_RUNNING = 70


class SupervisionError(Exception):
    """supervisord cannot be started or does not answer."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process as the supervisor sees it. `started` is Unix time; `starts` counts from the supervisor's start.

    `problem` says why it could not be started.
    """

    name: str
    state: str
    pid: int
    started: float
    starts: int
    problem: str


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__()
        self._path = path
        self._timeout = timeout

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _Connection(self._path, self._timeout)


class Supervision:
    """The supervisord of a state folder, whether it runs or not."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.folder = state / "run"
        self.configuration = self.folder / "supervisord.conf"
        self._pid_file = self.folder / "supervisord.pid"
        self.socket = self.folder / "supervisor.sock"
        if len(str(self.socket)) > SOCKET_PATH_LIMIT:
            name = hashlib.sha256(str(state).encode()).hexdigest()[:16]
            self.socket = Path(tempfile.gettempdir()) / f"veilstream-{os.getuid()}-{name}" / "supervisor.sock"

    # Starting and ending

    def configure(self, parts: Sequence[Part]) -> None:
        """Writes the configuration. Secrets are not in it: they travel in the environment."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.socket.parent.stat().st_uid != os.getuid():
            raise SupervisionError(f"{self.socket.parent} belongs to another user")
        logs = self.state / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        sections: dict[str, dict[str, str | Path]] = {
            "unix_http_server": {"file": self.socket, "chmod": "0600"},
            "supervisord": {
                "nodaemon": "true",
                "silent": "true",
                "directory": TOP,
                "pidfile": self._pid_file,
                "logfile": logs / "supervisor.log",
                "logfile_maxbytes": "5MB",
                "logfile_backups": "2",
                "childlogdir": logs,
                "strip_ansi": "true",
            },
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            "rpcinterface:veilstream": {"supervisor.rpcinterface_factory": "infra.local.plugin:interface"},
        }
        for number, part in enumerate(parts, start=1):
            environment = ",".join(f'{key}="{value}"' for key, value in part.environment.items())
            sections[f"program:{part.name}"] = {
                "command": shlex.join([*_dies_with_parent(signal.SIGKILL), *part.command]),
                "environment": environment,
                "priority": str(number),
                "autostart": "false",
                "autorestart": "true",
                "startsecs": str(START_SECONDS),
                "startretries": str(NEVER_GIVE_UP),
                "stopsignal": "TERM",
                "stopwaitsecs": str(int(part.stop_limit)),
                "killasgroup": "true",
                "redirect_stderr": "true",
                "stdout_logfile": self.log(part.name),
                "stdout_logfile_maxbytes": "10MB",
                "stdout_logfile_backups": "5",
            }
        lines = []
        for section, options in sections.items():
            lines.append(f"[{section}]")
            for key, value in options.items():
                lines.append(f"{key} = {str(value).replace('%', '%' * EXPANSIONS.get(key, 2))}")
        self.configuration.write_text("\n".join(lines) + "\n")

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return self.state / "logs" / f"{name}.log"

    def launch(self, environment: Mapping[str, str], *, owned: bool) -> None:
        """Starts supervisord; with `owned` it stops everything when the thread that calls this ends."""
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self.configuration)]
        output = (self.state / "logs" / "supervisord.out").open("ab")
        with output:
            process = subprocess.Popen(
                [*(_dies_with_parent(signal.SIGTERM) if owned else ()), *command],
                cwd=TOP,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + 20
        while not self.answers():
            if process.poll() is not None:
                raise SupervisionError(f"supervisord ended with status {process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                process.kill()
                raise SupervisionError(f"supervisord does not answer on {self.socket}: {self._last_words()}")
            time.sleep(0.05)

    def _last_words(self) -> str:
        text = (self.state / "logs" / "supervisord.out").read_text(errors="replace")
        return " ".join(text.split()[-40:]) or "it said nothing"

    def end(self, limit: float = 15.0) -> None:
        """Ends supervisord, whose processes have been stopped, and removes what it leaves."""
        daemon = self.daemon()
        if daemon is not None:
            try:
                self.call("supervisor.shutdown")
            except (OSError, xmlrpc.client.Error, http.client.HTTPException):
                daemon.terminate()
            if not gone([daemon], limit):
                _signal(daemon, signal.SIGKILL)
                gone([daemon], limit)
        self.end_orphans(limit)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.socket.parent != self.folder:
            shutil.rmtree(self.socket.parent, ignore_errors=True)

    def daemon(self) -> psutil.Process | None:
        """The running supervisord of this folder, told by its command line."""
        wanted = str(self.configuration)
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if wanted in line and "supervisor.supervisord" in line and not line[0].endswith("setpriv"):
                return process
        return None

    def orphans(self) -> list[psutil.Process]:
        """Processes of this stack, told by their environment: what supervisord gave them and the state folder."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except psutil.Error:
                continue
            if environment.get("SUPERVISOR_SERVER_URL") == f"unix://{self.socket}":
                found.append(process)
        return found

    def end_orphans(self, limit: float = 15.0) -> list[int]:
        """Ends what a killed supervisord left: SIGTERM, then SIGKILL. Returns the pids."""
        left = self.orphans()
        for process in left:
            _signal(process, signal.SIGTERM)
        if not gone(left, limit):
            for process in left:
                _signal(process, signal.SIGKILL)
            gone(left, limit)
        return [process.pid for process in left]

    # Talking to it

    def call(self, method: str, *arguments: Any, timeout: float = RPC_TIMEOUT) -> Any:
        """One XML-RPC call; raises OSError when nobody answers and xmlrpc.client.Fault for a refusal."""
        with xmlrpc.client.ServerProxy("http://localhost", _Transport(self.socket, timeout)) as server:
            return getattr(server, method)(*arguments)

    def answers(self) -> bool:
        """Whether supervisord is there and answers."""
        try:
            self.call("supervisor.getState")
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            return False
        return True

    def processes(self) -> dict[str, Process]:
        """All processes by name; raises OSError when supervisord is not there."""
        starts = self.call("veilstream.starts")
        return {
            info["name"]: Process(
                name=info["name"],
                state=info["statename"].lower(),
                pid=info["pid"],
                started=info["start"],
                starts=starts.get(info["name"], 0),
                problem=info["spawnerr"],
            )
            for info in self.call("supervisor.getAllProcessInfo")
        }

    def start(self, name: str) -> None:
        """Starts a process and does not wait; one that runs already is left alone."""
        self._allowing(ALREADY_STARTED, "supervisor.startProcess", name, False)

    def reload(self, names: Sequence[str]) -> None:
        """Takes up what `configure` has written: processes that are new, none of which is started, and loses those
        that are gone, which must be stopped."""
        self.call("supervisor.reloadConfig")
        known = self.processes()
        for name in known.keys() - set(names):
            self.call("supervisor.removeProcessGroup", name)
        for name in names:
            if name not in known:
                self.call("supervisor.addProcessGroup", name)

    def stop(self, name: str, limit: float, *, wait: bool = True) -> None:
        """Stops a process: SIGTERM, after its limit SIGKILL. With `wait` it returns when it is gone."""
        self._allowing(NOT_RUNNING, "supervisor.stopProcess", name, wait, timeout=limit + RPC_TIMEOUT)

    def _allowing(self, fault: int, method: str, *arguments: Any, timeout: float = RPC_TIMEOUT) -> None:
        try:
            self.call(method, *arguments, timeout=timeout)
        except xmlrpc.client.Fault as error:
            if error.faultCode != fault:
                raise SupervisionError(f"{method} {arguments[0]}: {error.faultString}") from None


def gone(processes: Sequence[psutil.Process], limit: float) -> bool:
    """Waits until none of the processes runs, `limit` seconds at most; one that only waits to be reaped is gone."""
    deadline = time.monotonic() + limit
    while any(_alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _dies_with_parent(number: signal.Signals) -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", number.name.removeprefix("SIG"), "--"] if setpriv else []


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
