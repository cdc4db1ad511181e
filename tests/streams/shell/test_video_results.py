"""What the video path tells becomes rows, whatever happens to the worker; and neither path hurts the other."""

from __future__ import annotations

import asyncio
import operator
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from kafka import KafkaProducer
from mode.threads import WorkerThread

from infra.local.parts import http_ready
from infra.service.clickhouse import Client
from infra.service.settings import Settings
from schemas.outputs import Score
from schemas.topics import VIDEO_RESULTS, WORKER_STATUS
from schemas.videos import (
    Engine,
    Gpu,
    Kind,
    NvmlState,
    Output,
    Reason,
    Result,
    Source,
    State,
    WorkerState,
    WorkerStatus,
    encode,
    new_id,
)
from streams import video_results
from streams.storing import Store
from streams.video_results import VideoResults
from tests.conftest import Starter
from tests.streams.shell.stream import count, events, eventually, packets, publish, total

START = 1_790_000_000_000  # ms
SCORE = Score(2.5, "", 7.0, 0.9, 0.4, 0.8)
ROWS = "SELECT count() FROM video_jobs FINAL"


def results(jobs: int, first: int = 0) -> list[Result]:
    """Every state of some jobs; every fifth one fails."""
    found = []
    for n in range(first, first + jobs):
        job, at = new_id(START + n), START + n
        found.append(Result(job, State.QUEUED, at, at))
        found.append(Result(job, State.RUNNING, at + 5, at, 1, worker="w"))
        if n % 5:
            output = Output(Kind.POSTER, f"{job}/poster-1280.jpg", 1280, 720, 1.5, score=SCORE, colour="#102030")
            source = Source(1920, 1080, 60.0, 90, "h264", "yuv420p")
            found.append(
                Result(job, State.DONE, at + 9, at, 1, "w", Engine.CPU, 0.25, source=source, outputs=(output,))
            )
        else:
            found.append(Result(job, State.FAILED, at + 9, at, 1, "w", reason=Reason.DAMAGED, detail="why"))
    return found


def status(n: int) -> WorkerStatus:
    gpus = (
        Gpu(0, "GPU-1", "a GPU", utilisation=50.0, memory_used=1 << 30, video_clock=1980, remap_pending=True),
        Gpu(1, "GPU-2", "a GPU"),
    )
    return WorkerStatus("w", START + n, START, WorkerState.IDLE, done=n, nvml=NvmlState.OK, driver="1.2", gpus=gpus)


def tell(settings: Settings, *records: Result | WorkerStatus | bytes | None, topic: str = VIDEO_RESULTS) -> None:
    """Puts records, or bytes that are none, on a topic."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka.split(","))
    try:
        for record in records:
            value = record if isinstance(record, bytes | None) else encode(record)
            producer.send(settings.topic(topic), value, key=b"k")
        producer.flush()
    finally:
        producer.close()


def exact(client: Client, told: list[Result]) -> None:
    """Each result is one row for readers, with what it told."""
    eventually(lambda: count(client, ROWS), lambda rows: rows >= len(told))
    columns = "job, attempt, toString(state), toUnixTimestamp64Milli(at), reason, output_path"
    rows = client.query(f"SELECT {columns} FROM video_jobs FINAL").result_rows
    wanted = [
        (r.job, r.attempt, r.state.value, r.at_ms, r.reason.value if r.reason else "", [o.path for o in r.outputs])
        for r in told
    ]
    assert sorted(map(tuple, rows)) == sorted(wanted)


def ready(settings: Settings) -> str:
    """What /readyz says, "" when it is well."""
    return http_ready(settings.host, settings.worker_admin_port, "/readyz")


def alive(settings: Settings) -> str:
    """What /livez says, "" when it is well."""
    return http_ready(settings.host, settings.worker_admin_port, "/livez")


def test_from_record_to_row(world: Settings, client: Client, start_worker: Starter) -> None:
    worker = start_worker(world)
    told = results(10)
    bad = (b"", b"{}", b'{"job": 1}', None, b"\xff", encode(told[0])[:-5])
    tell(world, *told[:7], *bad, *told[7:])
    tell(world, status(1), b"noise", status(2), topic=WORKER_STATUS)
    exact(client, told)
    row = client.query(
        "SELECT worker, toString(engine), seconds, source_width, source_rotation, source_codec, output_kind,"
        " output_width, output_height, output_time, JSONExtractFloat(output_about[1], 'score', 'value'),"
        " JSONExtractString(output_about[1], 'colour') FROM video_jobs FINAL WHERE state = 'done' LIMIT 1"
    ).result_rows[0]
    assert row == ("w", "cpu", 0.25, 1920, 90, "h264", ["poster"], [1280], [720], [1.5], 2.5, "#102030")
    eventually(lambda: count(client, "SELECT count() FROM worker_samples"), lambda rows: rows >= 2)
    row = client.query(
        "SELECT done, gpu_uuid, gpu_utilisation[1], isNaN(gpu_utilisation[2]), gpu_memory_used[1],"
        " gpu_video_clock[1], gpu_remap_pending[1], isNaN(gpu_ecc_uncorrected[1])"
        " FROM worker_samples ORDER BY at DESC LIMIT 1"
    ).result_rows[0]
    assert row == (2, ["GPU-1", "GPU-2"], 50.0, True, float(1 << 30), 1980.0, 1.0, True)
    assert "poster" not in worker.log.read_text()
    assert worker.stop() == 0
    # What is stored is not read again.
    before = count(client, "SELECT count() FROM video_jobs")
    more = results(1, first=10)
    worker.start()
    tell(world, *more)
    exact(client, told + more)
    assert count(client, "SELECT count() FROM video_jobs") == before + len(more)


@pytest.mark.long
def test_killed_in_mid_stream(world: Settings, client: Client, start_worker: Starter) -> None:
    """A kill and an orderly stop while results flow: every one is a row, and one row."""
    worker = start_worker(world)
    told: list[Result] = []
    done = threading.Event()

    def flow() -> None:
        while not done.is_set():
            more = results(20, first=len(told))
            tell(world, *more)
            told.extend(more)
            done.wait(0.05)

    thread = threading.Thread(target=flow)
    thread.start()
    try:
        for end in (signal.SIGKILL, signal.SIGTERM):
            enough = count(client, ROWS) + 100
            eventually(partial(count, client, ROWS), partial(operator.le, enough))
            if end == signal.SIGKILL:
                worker.kill()
            else:
                assert worker.stop() == 0
            worker.start()
    finally:
        done.set()
        thread.join()
    exact(client, told)


@pytest.mark.long
def test_neither_path_waits_for_the_other(world: Settings, client: Client, start_worker: Starter) -> None:
    worker = start_worker(world)
    # The table of the jobs is away: the worker says so, and the events go on.
    client.command("RENAME TABLE video_jobs TO away")
    told = results(3)
    tell(world, *told)
    eventually(lambda: ready(world), lambda reason: "video results: waiting for clickhouse" in reason)
    assert alive(world) == ""
    publish(world, 0, packets(events(200)))
    total(client, 200)
    client.command("RENAME TABLE away TO video_jobs")
    exact(client, told)
    eventually(lambda: ready(world), lambda reason: not reason)

    # The table of the events is away: the results go on.
    client.command("RENAME TABLE events TO away")
    publish(world, 0, packets(events(200, first=200), first=1000))
    eventually(lambda: ready(world), lambda reason: "waiting for clickhouse" in reason)
    more = results(3, first=3)
    tell(world, *more)
    exact(client, told + more)
    client.command("RENAME TABLE away TO events")
    total(client, 400)
    assert worker.running()


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[VideoResults]:
    """The part alone, in this process."""
    part = VideoResults(settings)
    assert part.ready() != ""
    part.start()
    try:
        yield part
    finally:
        await part.stop(10.0)
        # Faust's threads tell the loop that they end, so it must not end before them.
        await until(lambda: not any(isinstance(thread, WorkerThread) for thread in threading.enumerate()))


async def until(holds: Callable[[], bool], what: Callable[[], object] = lambda: "") -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, what()
        await asyncio.sleep(0.05)


def test_faust_crashes_and_is_made_anew(world: Settings, client: Client) -> None:
    told = results(2)

    async def run() -> None:
        async with reading(world) as part:
            await until(lambda: part.ready() == "", part.ready)
            first = part._reading
            assert first is not None
            await first.app.crash(RuntimeError("a defect"))
            await until(lambda: part._reading is not first)
            await until(lambda: part.ready() == "", part.ready)
            assert part.alive() == ""
            await asyncio.to_thread(tell, world, *told)
            await asyncio.to_thread(exact, client, told)

    asyncio.run(run())


@pytest.mark.parametrize("hangs", [True, False])
def test_a_batch_that_hangs_or_fails_is_done_by_the_next(
    hangs: bool, world: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = results(2)
    insert, wake, tries = Store._insert, threading.Event(), []

    def once(self: Store, name: str, rows: pa.Table) -> None:
        tries.append(name)
        if len(tries) > 1:
            insert(self, name, rows)
        elif hangs:
            wake.wait()
        else:
            raise RuntimeError("a defect")

    monkeypatch.setattr(Store, "_insert", once)
    monkeypatch.setattr(video_results, "STUCK", 1.0)

    async def run() -> None:
        async with reading(world) as part:
            await until(lambda: part.ready() == "", part.ready)
            await asyncio.to_thread(tell, world, *told)
            await asyncio.to_thread(exact, client, told)
            assert part.alive() == ""

    try:
        asyncio.run(run())
    finally:
        wake.set()


def test_what_fails_again_and_again_is_said(world: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Store, name: str, rows: pa.Table) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Store, "_insert", never)
    monkeypatch.setattr(video_results, "AGAIN_LAST", 0.1)
    monkeypatch.setattr(video_results, "AGAIN_FIRST", 0.1)
    monkeypatch.setattr(video_results, "IN_VAIN", 2)
    tell(world, *results(1))

    async def run() -> None:
        async with reading(world) as part:
            await until(lambda: "failed 2 times in a row" in part.alive(), part.alive)
            assert part.ready() != ""

    asyncio.run(run())
