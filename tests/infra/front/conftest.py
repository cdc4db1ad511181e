"""One front for all tests of this folder, on a free port, over the real engine in a temporary folder."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import clickhouse_connect
import psutil
import pytest
from clickhouse_connect import common
from clickhouse_connect.driver.client import Client

USER, PASSWORD = "service", "of the service"
DASHBOARD, DASHBOARD_PASSWORD = "grafana", "of the dashboard"
ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 60

common.set_setting("autogenerate_session_id", False)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> int:
        return int(self.headers.get("x-clickhouse-exception-code", 0))

    @property
    def written_rows(self) -> int:
        return int(json.loads(self.headers["x-clickhouse-summary"])["written_rows"])


@dataclass
class RunningFront:
    """A front in a process of its own."""

    path: Path
    port: int
    process: subprocess.Popen[bytes]

    def request(
        self,
        sql: str = "",
        body: bytes | None = None,
        *,
        user: tuple[str, str] | None = (USER, PASSWORD),
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        path: str = "/",
        parameters: Mapping[str, str] | None = None,
        **named: str,
    ) -> Answer:
        """One request on a connection of its own; with a body ``sql`` goes into the URL, else into the body.

        ``parameters`` and ``named`` are those of the URL.
        """
        parameters = {**(parameters or {}), **named}
        sent = dict(headers or {})
        if user is not None:
            sent["Authorization"] = "Basic " + b64encode(":".join(user).encode()).decode()
        if body is not None or method != "POST":
            parameters = {**({"query": sql} if sql else {}), **parameters}
        else:
            body = sql.encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, f"{path}?{urlencode(parameters)}" if parameters else path, body, sent)
            found = connection.getresponse()
            answered = {name.lower(): value for name, value in found.getheaders()}
            return Answer(found.status, answered, found.read())
        finally:
            connection.close()

    def client(self, user: str = USER, password: str = PASSWORD, **options: object) -> Client:
        return clickhouse_connect.get_client(
            host="127.0.0.1",
            port=self.port,
            username=user,
            password=password,
            database="veilstream",
            **options,  # type: ignore[arg-type]
        )

    def memory(self) -> int:
        """Resident bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout: float = 30) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


def start(path: Path, **settings: str) -> RunningFront:
    """Starts a front and waits until it is ready."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VEILSTREAM_")}
    environment |= {
        "VEILSTREAM_CLICKHOUSE_USER": USER,
        "VEILSTREAM_CLICKHOUSE_PASSWORD": PASSWORD,
        "VEILSTREAM_CLICKHOUSE_DASHBOARD_USER": DASHBOARD,
        "VEILSTREAM_CLICKHOUSE_DASHBOARD_PASSWORD": DASHBOARD_PASSWORD,
        **{f"VEILSTREAM_FRONT_{name.upper()}": value for name, value in settings.items()},
    }
    log = path.with_name(path.name + ".log")
    with log.open("ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.front", "--path", str(path), "--port", "0"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_bytes()[begin:].splitlines():
            if b"front_ready" in line:
                return RunningFront(path, json.loads(line)["port"], process)
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"the front did not start: {log.read_text()[begin:][-2000:]}")


def until(what: str, holds: Callable[[], object], seconds: float = 60) -> None:
    """Waits for it; not a measurement, only an end for a test that would hang."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, f"not within {seconds} s: {what}"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFront]:
    """The front of the session: shared, so tests use tables of their own."""
    running = start(tmp_path_factory.mktemp("front") / "engine", body_mb="32", concurrent_queries="8")
    yield running
    running.terminate()


@pytest.fixture(scope="session")
def client(front: RunningFront) -> Iterator[Client]:
    found = front.client()
    yield found
    found.close()


@pytest.fixture
def table() -> str:
    return f"t_{uuid.uuid4().hex}"
