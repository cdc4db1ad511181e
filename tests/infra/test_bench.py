"""The frame of the benchmarks: what is counted, in which order, and how the figures come out."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import cast

import pytest

from infra.local.kafka import TOP
from infra.service.settings import Settings
from schemas import packets
from schemas.routing import partition_of
from tests import benchmarks
from tests.benchmarks.frame import BenchmarkError, wrk
from tests.benchmarks.frame.events import Events, model_sites
from tests.benchmarks.frame.http import Books, bulk, get
from tests.benchmarks.frame.kafka import Topic
from tests.benchmarks.frame.machine import Noise
from tests.benchmarks.frame.packing import Collectors
from tests.benchmarks.frame.processes import Tree
from tests.benchmarks.frame.result import Result, Setting
from tests.benchmarks.frame.rounds import Sample, Series, interleaved, order
from tests.benchmarks.frame.show import show
from tests.benchmarks.frame.stages import Clock

KEYS = {"name", "unit", "ours", "reference", "reference_name", "ratio", "cpu_us_per_item", "peak_rss_mb", "repeats"}
QUIET = Noise(0.0, 0.0)
BURN = "import time\nwhile time.process_time() < 0.4: pass\n"


def series(*values: float, cpu: float = 0.0, noise: Noise = QUIET) -> Series:
    samples = tuple(Sample(value, items=100.0 if cpu else 0.0, cpu=cpu, memory=3_000_000) for value in values)
    return Series(samples, tuple(noise for _ in values))


def result(*settings: Setting, unit: str = "events per CPU second") -> Result:
    return Result("collector", unit, "event", "something else", settings)


# Benchmarks


def test_all_benchmarks_are_there() -> None:
    wanted = {
        "collector",
        "bulk",
        "pipeline",
        "sink",
        "latency",
        "rebuild",
        "memory",
        "queries",
        "privacy",
        "detect",
        "seal",
    }
    assert wanted <= set(benchmarks.names())
    for name in benchmarks.names():
        assert benchmarks.load(name).rounds >= 1
    with pytest.raises(KeyError):
        benchmarks.load("frame")


# CPU time and memory


@contextmanager
def running(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has come to its `print`, ended after the block."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_tree_counts_children_that_have_ended() -> None:
    code = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {BURN!r}])\n"
    with running(code + "print('ready', flush=True)\ntime.sleep(60)") as process:
        assert 0.4 <= Tree([process.pid]).usage().cpu < 5


def test_a_tree_counts_grandchildren_that_run() -> None:
    inner = BURN + "print('ready', flush=True)\ntime.sleep(60)"
    middle = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {inner!r}])"
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {middle!r}])"
    with running(code) as process:
        tree = Tree([process.pid])
        usage = tree.usage()
        assert 0.4 <= usage.cpu < 5
        assert usage.peak >= usage.memory > 10_000_000
        alone = Tree([os.getpid()]).usage()
        assert alone.cpu >= usage.cpu


def test_a_tree_counts_a_child_once_that_it_saw_and_that_has_ended() -> None:
    inner = BURN + "print('ready', flush=True)\ninput()"
    code = f"import subprocess, sys, time\nsubprocess.run([sys.executable, '-c', {inner!r}])\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code + "print('ended', flush=True)\ntime.sleep(60)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline().strip() == "ready"
        tree = Tree([process.pid])
        before = tree.usage().cpu
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == "ended"
        assert before <= tree.usage().cpu < before + 0.3
    finally:
        process.kill()
        process.wait()


def test_a_tree_keeps_a_process_whose_parent_has_ended() -> None:
    inner = f"print('ready', flush=True)\n{BURN}time.sleep(20)"
    code = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {inner!r}])\nsys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline().strip() == "ready"
    tree = Tree([process.pid])
    tree.usage()
    children = [pid for pid, _ in tree._known if pid != process.pid]
    assert len(children) == 1
    try:
        process.stdin.close()
        process.wait()
        while (used := tree.usage().cpu) < 0.4:
            os.kill(children[0], 0)  # raises when it has ended before it used what it should
        assert used < 5
    finally:
        os.kill(children[0], 9)


def test_what_a_tree_used_never_falls() -> None:
    process = subprocess.Popen([sys.executable, "-c", BURN])
    tree = Tree([process.pid])
    last = 0.0
    while process.poll() is None:
        now = tree.usage().cpu
        assert now >= last
        last = now
        time.sleep(0.01)
    assert last > 0
    assert tree.usage().cpu >= last


# Rounds and figures


def test_rounds_go_there_and_back() -> None:
    assert order(["reference", "ours"], 3) == [["reference", "ours"], ["ours", "reference"], ["reference", "ours"]]
    asked = []
    values = iter(range(6))

    def measure(name: str) -> Sample:
        asked.append(name)
        return Sample(float(next(values)))

    said: list[str] = []
    lanes = {name: lambda name=name: measure(name) for name in ("reference", "ours")}
    found = interleaved(lanes, 3, said.append)
    assert asked == ["reference", "ours", "ours", "reference", "reference", "ours"]
    assert found["reference"].values == [0, 3, 4]
    assert found["ours"].values == [1, 2, 5]
    assert len(said) == 6


def test_ratios_are_of_each_round_and_more_is_better() -> None:
    fast = Setting("s", series(200, 100, 300), series(100, 100, 100))
    assert fast.ratios() == [2, 1, 3]
    quick = Setting("s", series(5, 10, 20), series(10, 10, 10), "less")
    assert quick.ratios() == [2, 1, 0.5]


def test_one_setting_gives_all_keys_and_medians_with_their_spread() -> None:
    answer = result(Setting("s", series(100, 300, 200, cpu=0.5), series(50, 50, 100))).as_dict()
    assert answer.keys() >= KEYS
    assert "settings" not in answer
    assert answer["ours"] == 200
    assert answer["ours_spread"] == [100, 300]
    assert answer["ratio"] == 2
    assert answer["ratio_spread"] == [2, 6]
    assert answer["cpu_us_per_item"] == 5_000
    assert answer["peak_rss_mb"] == 3
    assert answer["repeats"] == 3
    json.dumps(answer, allow_nan=False)


def test_of_several_settings_the_worst_is_told() -> None:
    slow = Setting("slow", series(100), series(50))
    close = Setting("close", series(200), series(180))
    answer = result(slow, close).as_dict()
    assert answer["ours"] == 100
    assert answer["ratio"] == pytest.approx(200 / 180, rel=1e-3)
    assert answer["reference"] == 180
    assert [part["setting"] for part in answer["settings"]] == ["slow", "close"]
    late = result(Setting("a", series(10), None, "less"), Setting("b", series(30), None, "less")).as_dict()
    assert late["ours"] == 30
    assert late["ratio"] is None


@pytest.mark.parametrize(
    ("noise", "quiet"), [(Noise(0.1, 0.05), True), (Noise(0.5, 0.0), False), (Noise(0, 0.4), False)]
)
def test_a_disturbed_run_says_so(noise: Noise, quiet: bool) -> None:
    answer = result(Setting("s", series(1, 2, noise=noise), series(1, 2))).as_dict()
    assert answer["machine"]["disturbed_samples"] == (0 if quiet else 2)
    text = io.StringIO()
    show(answer, text)
    assert ("DISTURBED" in text.getvalue()) == (not quiet)


def test_figures_are_shown_as_plain_lines_off_a_terminal() -> None:
    answer = result(Setting("512 connections", series(1234567), series(1000000))).as_dict()
    text = io.StringIO()
    show(answer | {"books": {"surplus": 7}}, text)
    lines = text.getvalue().splitlines()
    assert lines[1].split()[:4] == ["collector", "ours", "1,234,567", "1,234,567"]
    assert any(line.split() == ["surplus", "7"] for line in lines)
    assert "\x1b" not in text.getvalue()


def test_a_clock_gives_each_stage_its_own_time_only() -> None:
    class Stages:
        def inner(self) -> None:
            _burn(0.2)

        def outer(self) -> None:
            _burn(0.1)
            self.inner()

    clock = Clock()
    for name in ("inner", "outer"):
        clock.watch(Stages, name, name)
    began = time.process_time()
    Stages().outer()
    whole = time.process_time() - began
    assert clock.seconds["inner"] >= 0.2
    assert clock.seconds["outer"] >= 0.1
    assert sum(clock.seconds.values()) <= whole


def _burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


# Events and packets


def test_events_are_the_same_for_the_same_seed_and_of_a_population_where_asked() -> None:
    sites = model_sites(3)
    some = list(islice(Events(1, sites), 500))
    assert some == list(islice(Events(1, sites), 500))
    assert some != list(islice(Events(2, sites), 500))
    ids = {event.visitor.id for event in islice(Events(1, sites, population=20), 5_000)}
    assert 10 < len(ids) <= 20


def test_collectors_pack_every_event_once_under_names_without_gaps() -> None:
    sites = model_sites(12)
    settings = Settings(events_partitions=8)
    made = list(Collectors(3, settings, bytes(16), seed=1).packets(islice(Events(1, sites), 5_000), 1_700_000_000_000))
    names: dict[tuple[int, int], list[int]] = {}
    queries: Counter[str] = Counter()
    for partition, value in made:
        header, columns = packets.decode(value)
        names.setdefault((header.writer, partition), []).append(header.seq)
        queries.update(columns.query.split("\n"))
        assert {partition_of(int(site), 0, 8) for site in columns.site} == {partition}
    assert all(seqs == list(range(len(seqs))) for seqs in names.values())
    assert len({writer for writer, _ in names}) == 3
    wanted = Counter(event.query.replace("&send_image=0", "", 1) for event in islice(Events(1, sites), 5_000))
    assert queries == wanted


def test_many_collectors_make_small_packets() -> None:
    sites = model_sites(60)

    def mean(collectors: int, partitions: int) -> float:
        settings = Settings(events_partitions=partitions)
        events = islice(Events(1, sites), 20_000)
        return 20_000 / len(list(Collectors(collectors, settings, bytes(16), seed=1).packets(events, 0)))

    assert mean(1, 8) > 150
    assert mean(8, 32) < 50


# Load


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, status: int) -> None:
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length).decode()
                with server.lock:
                    server.seen[f"{self.command} {self.path} {body}"] += 1
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@contextmanager
def serving(status: int) -> Iterator[_Server]:
    server = _Server(status)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


REQUESTS = [
    b"GET /a?x=1 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n\n\x7fz",
]
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is installed by `./run bench`")


@needs_wrk
def test_wrk_sends_the_requests_of_the_file_in_turns(tmp_path: Path) -> None:
    file = wrk.write_requests(tmp_path / "requests", REQUESTS)
    with serving(204) as server:
        load = wrk.send(server.server_port, file, connections=2, seconds=1, on=sorted(os.sched_getaffinity(0))[:1])
        seen = dict(server.seen)
    assert set(seen) == {"GET /a?x=1 ", "POST /b \n\x7fz"}
    assert load.answered > 10
    assert 0 <= sum(seen.values()) - load.answered <= 2
    assert abs(seen["GET /a?x=1 "] - seen["POST /b \n\x7fz"]) <= 4
    assert 0 < load.p50_ms <= load.p99_ms


@needs_wrk
def test_a_load_that_is_refused_is_no_measurement(tmp_path: Path) -> None:
    file = wrk.write_requests(tmp_path / "requests", REQUESTS)
    with serving(503) as server, pytest.raises(BenchmarkError, match="refused"):
        wrk.send(server.server_port, file, connections=1, seconds=1, on=sorted(os.sched_getaffinity(0))[:1])


def test_requests_are_whole() -> None:
    events = list(islice(Events(1, model_sites(2)), 3))
    for event in events:
        head, _, body = get(event).partition(b"\r\n\r\n")
        assert head.startswith(b"GET /matomo.php?")
        assert body == b""
    head, _, body = bulk(events).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert len(json.loads(body)["requests"]) == 3


class _Counts:
    def __init__(self, *counts: tuple[int, int]) -> None:
        self.new = iter(counts).__next__


def books(*counts: tuple[int, int]) -> Books:
    return Books(cast(Topic, _Counts(*counts)))


def test_the_books_allow_what_was_cut_off_and_nothing_else() -> None:
    kept = books((4, 105), (4, 95))
    assert kept.settle(100, 10, 1) == pytest.approx(105 / 4)
    kept.settle(99, 10, 1)
    assert (kept.acknowledged, kept.stored) == (199, 200)
    with pytest.raises(BenchmarkError, match="1 acknowledged events are not in the topic"):
        books((1, 99)).settle(100, 10, 1)
    with pytest.raises(BenchmarkError, match="were not acknowledged"):
        books((1, 111)).settle(100, 10, 1)


# The command


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.cli", "bench", *arguments]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=240)


def test_the_command_lists_and_names_benchmarks() -> None:
    assert bench().stdout.split() == benchmarks.names()
    wrong = bench("colector")
    assert wrong.returncode == 2
    assert "collector" in wrong.stderr


def test_a_benchmark_runs_and_prints_one_object() -> None:
    done = bench("sink", "--quick", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer.keys() >= KEYS
    assert answer["name"] == "sink"
    assert answer["repeats"] == 1
    assert answer["ours"] > 0
    assert answer["reference"] > 0
    assert 0 < answer["ratio"] < 10
    assert "insert_arrow" in answer["reference_name"]
    assert "ours" in done.stderr


def test_the_detectors_are_scored_by_kind() -> None:
    done = bench("detect", "--quick", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    kinds = {"email", "phone", "iban", "card", "national_id", "token", "ip", "mac", "name"}
    assert answer["recall"].keys() == answer["precision"].keys() == kinds
    assert answer["ours"] == min(*answer["recall"].values(), *answer["precision"].values())
    assert 0.9 <= answer["ours"] <= 1
    assert len(answer["settings"]) == 2 * len(kinds)
