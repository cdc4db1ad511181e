"""The process: killed it comes back with all it acknowledged, told to stop it ends what runs and frees the folder."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.infra.front.conftest import ROOT, Answer, RunningFront, start, until
from tests.infra.front.test_conditional_insert import batch, stream


class Writer:
    """Inserts batches until its front is gone; ``acknowledged`` rows were confirmed."""

    ROWS = 500
    SQL = (
        "INSERT INTO t (id, a, s) SELECT id, a, s FROM input('id FixedString(16), a UInt32, s String') "
        "WHERE 1 FORMAT ArrowStream"
    )

    def __init__(self, front: RunningFront, start: int) -> None:
        self.acknowledged = 0
        self._front = front
        self._start = start
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        while True:
            data = stream(batch(self.ROWS, self._start + self.acknowledged))
            try:
                self.acknowledged += self._front.request(self.SQL, data).written_rows
            except (OSError, http.client.HTTPException):
                return

    def join(self) -> None:
        self._thread.join()


def test_kill_9_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    front = start(folder)
    created = front.request(
        "CREATE TABLE t (id FixedString(16), a UInt32, s String) ENGINE = MergeTree ORDER BY a "
        "SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
    )
    assert created.status == 200
    front.request("CREATE DATABASE other ENGINE = Atomic")
    stored = 0
    for turn in range(3):
        writer = Writer(front, turn * 1_000_000)
        until("some inserts are acknowledged", lambda writer=writer: writer.acknowledged >= 2000)  # type: ignore[misc]
        front.kill()
        writer.join()
        front = start(folder)
        rows, unique = map(int, front.request("SELECT count(), uniqExact(a) FROM t").body.split())
        assert rows == unique
        # One insert may have been under way.
        assert rows - stored - writer.acknowledged in (0, Writer.ROWS)
        stored = rows
    assert front.request("SELECT count() FROM system.databases WHERE name IN ('veilstream', 'other')").body == b"2\n"
    assert front.terminate() == 0


def test_sigterm_lets_running_queries_end_and_takes_no_more(tmp_path: Path) -> None:
    front = start(tmp_path / "engine")
    answers: list[Answer] = []
    slow = "SELECT count() FROM numbers(20) WHERE sleepEachRow(0.05) = 0 SETTINGS max_block_size = 1"
    threads = [threading.Thread(target=lambda: answers.append(front.request(slow))) for _ in range(3)]
    for thread in threads:
        thread.start()
    # One more than the three: the question itself.
    running = "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.05)%'"
    until("they run", lambda: int(front.request(running).body) > 3)
    front.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert [answer.body for answer in answers] == [b"20\n"] * 3
    assert front.process.wait(30) == 0
    again = start(tmp_path / "engine")
    assert again.request("SELECT 1").body == b"1\n"
    assert again.terminate() == 0


def test_sigterm_kills_what_does_not_end(tmp_path: Path) -> None:
    front = start(tmp_path / "engine", stop_seconds="0.3")
    endless = "SELECT count() FROM numbers(1000000000) WHERE sleepEachRow(0.01) = 0 SETTINGS max_block_size = 10"
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(front.request(endless)))
    thread.start()
    running = "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(0.01)%'"
    until("it runs", lambda: int(front.request(running).body) > 1)
    assert front.terminate() == 0
    thread.join()
    assert [(answer.status, answer.code) for answer in answers] == [(503, 236)]


def test_a_folder_serves_one_front(tmp_path: Path) -> None:
    front = start(tmp_path / "engine")
    second = _run("--path", str(tmp_path / "engine"), "--port", "0")
    assert second.returncode == 1
    assert b"engine_unavailable" in second.stderr
    taken = _run("--path", str(tmp_path / "other"), "--port", str(front.port))
    assert taken.returncode == 1
    assert b"port_unavailable" in taken.stderr
    assert str(front.port).encode() in taken.stderr
    front.kill()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, b"VEILSTREAM_CLICKHOUSE_PASSWORD"),
        ({"VEILSTREAM_CLICKHOUSE_PASSWORD": ""}, b"VEILSTREAM_CLICKHOUSE_PASSWORD"),
        ({"VEILSTREAM_CLICKHOUSE_PASSWORD": "x", "VEILSTREAM_FRONT_NO_SUCH": "1"}, b"VEILSTREAM_FRONT_NO_SUCH"),
        ({"VEILSTREAM_CLICKHOUSE_PASSWORD": "x", "VEILSTREAM_FRONT_BODY_MB": "many"}, b"VEILSTREAM_FRONT_BODY_MB"),
        ({"VEILSTREAM_CLICKHOUSE_PASSWORD": "x", "VEILSTREAM_CLICKHOUSE_DATABASE": "a b"}, b"DATABASE"),
    ],
)
def test_a_bad_setting_is_named(tmp_path: Path, environment: dict[str, str], named: bytes) -> None:
    found = _run("--path", str(tmp_path), "--port", "0", environment=environment)
    assert found.returncode == 2
    assert named in found.stderr
    assert b"Traceback" not in found.stderr


def test_settings_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "front.toml"
    file.write_text("body_mb = 0\n")
    environment = {"VEILSTREAM_CLICKHOUSE_PASSWORD": "x"}
    found = _run("--path", str(tmp_path), "--config", str(file), environment=environment)
    assert found.returncode == 2
    assert b"body_mb" in found.stderr


def _run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VEILSTREAM_")}
    if environment is None:
        environment = {"VEILSTREAM_CLICKHOUSE_PASSWORD": "x"}
    return subprocess.run(
        [sys.executable, "-m", "infra.local.front", *arguments],
        cwd=ROOT,
        env={**clean, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
