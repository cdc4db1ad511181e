"""What every process shares: logs, metrics, health, signals."""

from __future__ import annotations

import io
import json
import logging
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.local.kafka import TOP
from infra.service import logs, metrics
from infra.service.health import AdminServer, Health, Progress

SECRET = "203.0.113.77"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("test", "info", stream)
    yield stream
    root.handlers[:], root.level = before[0], before[1]
    logging.captureWarnings(False)


def test_an_event_is_one_json_object_on_one_line(lines: io.StringIO) -> None:
    logs.logger("streams.sink").info("rows_inserted", rows=3, text="a\nb")
    (line,) = lines.getvalue().splitlines()
    entry = json.loads(line)
    assert entry["event"] == "rows_inserted"
    assert entry["process"] == "test"
    assert entry["level"] == "info"
    assert (entry["rows"], entry["text"]) == (3, "a\nb")


def test_the_level_holds(lines: io.StringIO) -> None:
    logs.logger("streams.sink").debug("not_this")
    logging.getLogger("faust").info("nor this")
    logging.getLogger("faust").warning("but this")
    (line,) = lines.getvalue().splitlines()
    assert json.loads(line)["event"] == "but this"


def test_the_message_of_a_foreign_exception_never_reaches_the_log(lines: io.StringIO) -> None:
    def quote(value: str) -> None:
        raise ValueError(f"cannot read {value}")

    try:
        quote(SECRET)
    except ValueError:
        logs.logger("streams.sink").exception("batch_failed")
        logging.getLogger("faust").exception("crashed")
    text = lines.getvalue()
    assert SECRET not in text
    for line in text.splitlines():
        entry = json.loads(line)
        assert entry["error"] == "builtins.ValueError"
        assert entry["trace"][-1].endswith("quote")


def test_the_message_of_the_system_and_of_our_own_is_kept(lines: io.StringIO) -> None:
    from infra.service.settings import SettingsError

    for error in (OSError(28, "No space left on device"), SettingsError("VEILSTREAM_HOST: wrong")):
        logs.logger("streams.sink").error("failed", exc_info=error)
    messages = [json.loads(line)["message"] for line in lines.getvalue().splitlines()]
    assert messages == ["No space left on device", "VEILSTREAM_HOST: wrong"]


def test_metric_names_follow_the_rule() -> None:
    counter = metrics.counter("rule_of_names", "events", "A test.", ["reason"])
    counter.labels("x").inc(2)
    assert 'veilstream_rule_of_names_events_total{reason="x"} 2.0' in metrics.exposition().decode()
    for name, unit in (("Rule", "events"), ("rule", "Events"), ("a__b", "s"), ("", "s"), ("a-b", "s")):
        with pytest.raises(ValueError, match="underscores"):
            metrics.metric_name(name, unit)


def test_every_metric_of_the_process_is_readable() -> None:
    names = {family.name for family in text_string_to_metric_families(metrics.exposition().decode())}
    assert "process_resident_memory_bytes" in names


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_health_tells_alive_from_ready() -> None:
    reasons = {"live": "", "ready": "no assignment yet"}
    health = Health(lambda: reasons["live"], lambda: reasons["ready"])
    with AdminServer("127.0.0.1", 0, health) as server:
        assert ask(server.port, "/livez")[0] == 200
        status, body = ask(server.port, "/readyz")
        assert status == 503
        assert json.loads(body) == {"ok": False, "reason": "no assignment yet"}
        reasons["ready"] = ""
        assert ask(server.port, "/readyz")[0] == 200
        health.stopping()
        assert ask(server.port, "/livez")[0] == 200
        assert ask(server.port, "/readyz")[0] == 503
        reasons["live"] = "stuck"
        assert ask(server.port, "/livez")[0] == 503
        assert ask(server.port, "/metrics")[0] == 200
        assert ask(server.port, "/")[0] == 404


def test_a_check_that_fails_is_unwell_and_says_nothing_private() -> None:
    def check() -> str:
        raise RuntimeError(SECRET)

    with AdminServer("127.0.0.1", 0, Health(check)) as server:
        status, body = ask(server.port, "/livez")
    assert status == 503
    assert "RuntimeError" in body
    assert SECRET not in body


def test_an_admin_port_that_is_taken_is_named() -> None:
    with (
        AdminServer("127.0.0.1", 0, Health()) as server,
        pytest.raises(OSError, match=f"admin port 127.0.0.1:{server.port}"),
    ):
        AdminServer("127.0.0.1", server.port, Health())


def test_progress_is_the_age_of_the_last_mark() -> None:
    progress = Progress("the loop", limit=1000)
    assert progress.check() == ""
    progress.limit = -1.0
    assert "the loop" in progress.check()
    progress.limit = 1000
    progress.mark()
    assert progress.check() == ""


def test_progress_tells_where_a_thread_stands() -> None:
    progress, begun, over = Progress("the loop", 1000), threading.Event(), threading.Event()
    assert progress.where() == []

    def waits_for_the_test() -> None:
        progress.mark()
        begun.set()
        over.wait()

    thread = threading.Thread(target=waits_for_the_test)
    thread.start()
    begun.wait()
    while not (found := progress.where())[0].startswith("threading.py:"):
        pass  # on its way from one event to the other
    over.set()
    thread.join()
    assert any(re.fullmatch(r"test_service\.py:\d+ waits_for_the_test", line) for line in found)
    assert progress.where() == []


PROCESS = """
import asyncio, sys, threading, time
from infra.service.logs import logger
from infra.service.signals import on_stop
log = logger("busy")
kind, deadline = sys.argv[1], float(sys.argv[2])
if kind == "thread":
    stop = threading.Event()
    on_stop(stop.set, deadline=deadline)
    print("up", flush=True)
    while not stop.is_set():
        log.info("busy")
elif kind == "quiet":
    stop = threading.Event()
    on_stop(stop.set, deadline=deadline)
    print("up", flush=True)
    stop.wait()
else:
    import uvloop
    async def main():
        stop = asyncio.Event()
        on_stop(stop.set, deadline=deadline, loop=asyncio.get_running_loop())
        print("up", flush=True)
        await stop.wait()
        if kind == "stuck":
            time.sleep(600)
    uvloop.run(main())
print("stopped gracefully", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["thread", "quiet", "loop"])
def test_a_signal_stops_gracefully(kind: str, number: signal.Signals) -> None:
    status, output = stopped(kind, 60, number)
    assert status == 0
    assert "stopped gracefully" in output


def test_past_the_deadline_the_process_is_gone() -> None:
    status, output = stopped("stuck", 0.2, signal.SIGTERM)
    assert status == 70
    assert "gracefully" not in output


def stopped(kind: str, deadline: float, number: signal.Signals) -> tuple[int, str]:
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS, kind, str(deadline)], cwd=TOP, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        process.send_signal(number)  # again: changes nothing
        output, _ = process.communicate(timeout=60)
    return process.returncode, output
