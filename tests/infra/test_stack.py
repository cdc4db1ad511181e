"""The local stack on real processes. A sequence that needs the whole stack is one test: bringing it up takes time."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from pydantic import SecretStr

from infra.local import kafka, scaling
from infra.local.kafka import TOP
from infra.local.parts import Part
from infra.local.plugin import LONGEST_WAIT, Interface
from infra.local.ports import free, taken
from infra.local.stack import Stack, StackError, isolated
from infra.local.supervision import Supervision
from infra.service.clickhouse import connect
from infra.service.settings import PASSWORDS, SECRETS, Settings, load_settings

PATIENCE = 150  # seconds until something that should have happened counts as never
PIXEL = "/matomo.php?idsite=1&rec=1&url=http%3A%2F%2Fexample.org%2F&_id=0123456789abcdef&action_name={}"


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Settings]:
    """Settings of a stack of its own; whatever is left of it at the end is killed."""
    settings = isolated(tmp_path / "state", events_partitions=2)
    yield settings
    for process in left(settings):
        process.kill()


def environment(settings: Settings) -> dict[str, str]:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("VEILSTREAM_")}
    # Passwords are those that `up` makes.
    inner = {name: value for name, value in settings.environment().items() if not name.lower().endswith(SECRETS)}
    return {**outer, **inner}


def veilstream(settings: Settings, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "infra.cli", *arguments],
        cwd=TOP,
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    process = veilstream(settings, *arguments)
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


def left(settings: Settings) -> list[psutil.Process]:
    """All processes that belong to a state folder."""
    supervision = Supervision(settings.state.resolve())
    daemon = supervision.daemon()
    return [*supervision.orphans(), *([daemon] if daemon else [])]


def wait(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


def nothing_left(settings: Settings) -> None:
    assert left(settings) == []
    assert not (settings.state / "run").exists()
    assert taken(port for part in Stack(settings).parts for port in part.ports) == []


def send(settings: Settings, name: str) -> None:
    url = f"http://{settings.host}:{settings.collector_port}{PIXEL.format(name)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.status < 300


def metric(host: str, port: int, name: str) -> float:
    """A number of a process's /metrics; -1 where it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return -1
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), -1)


def stored(settings: Settings) -> set[str]:
    with_password = Stack(settings).settings
    with connect(with_password) as client:
        return {row[0] for row in client.query("SELECT title FROM events").result_rows}


@pytest.mark.long
def test_up_kill_all_up_down(beside: Settings) -> None:
    """Everything is killed with -9, supervisor included; the data is there again after `up`."""
    status, output, errors = run(beside, "up")
    assert status == 0, errors
    assert f":{beside.collector_port}/matomo.php" in output
    assert f":{beside.video_port}/v1/videos" in output
    send(beside, "aaaaaa")
    wait("the event is a row", lambda: stored(beside) == {"aaaaaa"})

    status, output, _ = run(beside, "status", "--json")
    shown = json.loads(output.splitlines()[-1])
    assert status == 0
    assert [(part["name"], part["state"], part["ready"]) for part in shown["parts"]] == [
        (name, "running", True) for name in ("kafka", "front", "collector", "worker", "videos", "media")
    ]
    assert Path(shown["dashboard_password_file"]).read_text().strip()

    for process in left(beside):
        process.kill()
    wait("all are dead", lambda: left(beside) == [])
    assert run(beside, "status")[0] == 1

    status, _, errors = run(beside, "up")
    assert status == 0, errors
    send(beside, "bbbbbb")
    wait("both events are rows", lambda: stored(beside) == {"aaaaaa", "bbbbbb"})

    # Doing it again changes nothing.
    pids = Stack.of(beside).pids()
    assert run(beside, "up")[0] == 0
    assert Stack.of(beside).pids() == pids

    # Only the supervisor is killed: its processes do not outlive it, and `up` recovers.
    daemon = Supervision(beside.state.resolve()).daemon()
    assert daemon is not None
    daemon.kill()
    status, _, errors = run(beside, "up")
    assert status == 0, errors
    assert stored(beside) == {"aaaaaa", "bbbbbb"}

    status, _, errors = run(beside, "down")
    assert status == 0, errors
    nothing_left(beside)
    assert run(beside, "down")[1] == "nothing was running\n"


@pytest.mark.long
def test_stream_workers_are_scaled_while_the_stack_runs(beside: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """8 partitions: the second worker gets its share, loses it again, and comes back with the stack."""
    settings = beside.model_copy(update={"events_partitions": 8})
    roles = ["kafka", "front", "worker"]

    def owned(stack: Stack) -> dict[str, float]:
        return {
            part.name: metric(settings.host, part.ports[-1].number, "veilstream_worker_owned_partitions")
            for part in stack.parts
            if part.role == "worker"
        }

    with Stack(settings, roles, owned=True) as stack:
        worker = stack.pids()["worker"]
        assert stack.scale(2)
        began = time.monotonic()
        wait("both own half", lambda: owned(stack) == {"worker": 4, "worker-2": 4})
        with capsys.disabled():
            print(f" [8 partitions over two workers {time.monotonic() - began:.1f} s after both are ready]", end="")
        shown = {part.name: part.ready for part in Stack.of(settings).status()}
        assert shown == {"kafka": True, "front": True, "worker": True, "worker-2": True}
        assert stack.pids()["worker"] == worker, "the first one goes on"
        assert stack.scale(1)
        assert "worker-2" not in stack.pids()
        wait("the first owns all", lambda: owned(stack) == {"worker": 8})
        assert stack.scale(2)
    assert Stack(settings, roles).names() == ["kafka", "front", "worker", "worker-2"]
    assert not Stack(settings, roles).scale(1), "it only writes down what `up` is to start"
    assert Stack(settings, roles).names() == ["kafka", "front", "worker"]


def test_what_scale_kept_counts_less_than_a_setting(beside: Settings) -> None:
    assert Stack(beside).scale(3) is False
    assert Stack(beside).settings.worker_processes == 3
    assert Stack(beside.model_copy(update={"worker_processes": 2})).settings.worker_processes == 2
    status, _, errors = run(beside, "scale", "streams", "2")  # the environment of these commands sets everything
    assert status == 2
    assert "VEILSTREAM_WORKER_PROCESSES" in errors
    scaling.path(beside).write_text("{}")
    with pytest.raises(scaling.ScaleError, match="remove it"):
        Stack(beside)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_foreground_leaves_nothing(beside: Settings, number: signal.Signals) -> None:
    process = veilstream(beside, "up", "--foreground")
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("kafka is ready" if number == signal.SIGTERM else "Ctrl-C"):
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in errors, errors
    assert process.returncode == (130 if number == signal.SIGTERM else 0), "".join(seen) + errors
    nothing_left(beside)


def test_an_owned_stack_ends_with_its_owner(beside: Settings) -> None:
    code = (
        "import sys; from pathlib import Path; from infra.local.stack import Stack; "
        "from infra.service.settings import load_settings\n"
        "Stack(load_settings(), ['kafka'], owned=True).start(); print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=TOP,
        env=environment(beside),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        assert len(left(beside)) == 2
        owner.kill()
    wait("all are gone", lambda: left(beside) == [])


def test_a_taken_port_is_named_before_anything_starts(beside: Settings) -> None:
    with socket.create_server((beside.host, beside.collector_port)):
        status, _, errors = run(beside, "up")
    assert status == 1
    assert errors.count("\n") == 1
    assert f"port {beside.collector_port} for the tracking API is taken by pid {os.getpid()}" in errors
    assert "VEILSTREAM_COLLECTOR_PORT" in errors
    assert left(beside) == []


def test_a_killed_part_comes_back_and_is_counted(beside: Settings) -> None:
    with Stack(beside, ["front"], owned=True) as stack:
        old = stack.kill("front")
        stack.wait_ready("front", after=old)
        (status,) = stack.status()
        assert status.restarts == 1
        assert status.pid not in (None, old)
        stack.stop_part("front")
        (status,) = stack.status()
        assert not status.ready
        assert "front" not in stack.pids()
        stack.start()  # brings back what is missing
        assert stack.status()[0].ready
    assert left(beside) == []


def scripted(stack: Stack, script: str, ready: Callable[[], str]) -> Stack:
    # In the place of the engine: no tables are made for it.
    stack.parts = [Part("flaky", "front", ("sh", "-c", script), (), ready, start_limit=60, stop_limit=5)]
    return stack


def test_a_part_that_never_comes_up_is_told_with_its_log(beside: Settings) -> None:
    stack = scripted(Stack(beside, []), "echo the reason; exit 3", lambda: "no answer")
    with pytest.raises(StackError) as caught:
        stack.start()
    assert "flaky" in str(caught.value)
    assert "ended" in str(caught.value)
    assert "the reason" in str(caught.value)
    assert left(beside) == []
    assert not (beside.state / "run").exists()


def test_a_crash_loop_goes_on_and_is_visible(beside: Settings, tmp_path: Path) -> None:
    mended, begun = tmp_path / "mended", tmp_path / "begun"
    script = f"test -e {mended} && touch {begun} && exec sleep 600; exit 3"
    stack = scripted(Stack(beside, [], owned=True), script, lambda: "" if begun.exists() else "not yet")
    mended.touch()
    with stack:
        mended.unlink()
        begun.unlink()
        stack.kill("flaky")
        wait("it failed several times", lambda: stack.status()[0].restarts > 3)
        assert not stack.status()[0].ready
        mended.touch()
        stack.wait_ready("flaky")
        assert stack.status()[0].state in ("starting", "running")


def test_the_wait_between_starts_is_bounded() -> None:
    process = SimpleNamespace(backoff=10_000, delay=0.0, config=SimpleNamespace(name="flaky"))
    before = time.time()
    Interface()._backoff(SimpleNamespace(process=process))
    assert process.backoff == LONGEST_WAIT
    assert before + LONGEST_WAIT <= process.delay <= time.time() + LONGEST_WAIT


def test_a_running_stack_is_not_changed_by_other_settings(beside: Settings) -> None:
    with scripted(Stack(beside, [], owned=True), "exec sleep 600", lambda: ""):
        other = beside.model_copy(update={"events_partitions": 3})
        with pytest.raises(StackError, match="VEILSTREAM_EVENTS_PARTITIONS is '2', asked for '3'"):
            scripted(Stack(other, []), "exec sleep 600", lambda: "").start()


def test_a_server_elsewhere_takes_the_place_of_a_local_one(beside: Settings) -> None:
    values = {"clickhouse_url": "http://192.0.2.1:8123", "kafka": "192.0.2.2:9092"}
    assert Stack(beside.model_copy(update=values)).names() == ["collector", "worker", "videos", "media"]
    many = beside.model_copy(update={"collector_processes": 3})
    names = Stack(many).names()
    assert names == ["kafka", "front", "collector-1", "collector-2", "collector-3", "worker", "videos", "media"]
    ports = [port.number for part in Stack(many).parts for port in part.ports]
    assert len(ports) == len(set(ports))


def test_an_absent_server_elsewhere_is_named(beside: Settings) -> None:
    (port,) = free(1)
    elsewhere = beside.model_copy(update={"kafka": f"127.0.0.1:{port}"})
    with pytest.raises(StackError, match=f"Kafka at 127.0.0.1:{port}"):
        Stack(elsewhere, ["collector"]).start()
    assert left(beside) == []


def test_a_state_folder_with_a_long_and_odd_name_works(tmp_path: Path) -> None:
    settings = isolated(tmp_path / ("a folder, 100% " + "long " * 20))
    with scripted(Stack(settings, [], owned=True), "exec sleep 600", lambda: "") as stack:
        assert list(stack.pids()) == ["flaky"]
        folder = stack.supervision.socket.parent
    assert left(settings) == []
    assert not folder.exists()


def test_storage_is_formatted_once_and_whole(beside: Settings) -> None:
    folder = beside.state / "kafka"
    (folder / "data.new").mkdir(parents=True)  # an earlier attempt was interrupted
    (folder / "data.new" / "rest").touch()
    for _ in range(2):
        kafka.prepare(folder, port=beside.kafka_port, controller_port=beside.kafka_controller_port)
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["data", "server.properties"]
        text = (folder / "data" / "meta.properties").read_text()
        identity = next(line for line in text.splitlines() if line.startswith("cluster.id"))
    assert not (folder / "data" / "rest").exists()
    assert identity


def test_passwords_are_made_once_private_and_found_by_every_command(
    beside: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Stack(beside).settings
    for name in PASSWORDS:
        path = beside.password_file(name)
        assert path.stat().st_mode & 0o777 == 0o600
        assert getattr(first, name).get_secret_value() == path.read_text().strip()
        assert len(path.read_text().strip()) >= 24
        assert getattr(first, name) == getattr(Stack(beside).settings, name)
        monkeypatch.setenv("VEILSTREAM_STATE", str(beside.state))
        assert getattr(load_settings(), name) == getattr(first, name)
    assert first.clickhouse_password != first.clickhouse_dashboard_password


def test_no_secret_is_written_into_the_supervisor_s_files(beside: Settings) -> None:
    beside = beside.model_copy(update={"s3_secret_access_key": SecretStr("a-key-for-a-bucket")})
    with scripted(Stack(beside, [], owned=True), "exec sleep 600", lambda: "") as stack:
        secrets = [getattr(stack.settings, name).get_secret_value() for name in SECRETS]
        assert all(secrets)
        for path in [*(beside.state / "run").iterdir(), *(beside.state / "logs").iterdir()]:
            if path.is_file():
                text = path.read_text()
                assert not [secret for secret in secrets if secret in text], path
