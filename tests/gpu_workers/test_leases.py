"""The job loop on a real broker, with real processes that are killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient

from gpu_workers.leases import LOST
from infra import topics
from infra.service.settings import Settings
from infra.service.storage import storage
from schemas.topics import VIDEO_DEAD, VIDEO_GROUP, VIDEO_JOBS
from schemas.videos import (
    RECORD,
    SITE_HEADER,
    DeadLetter,
    Engine,
    InFolder,
    Job,
    NvmlState,
    Poster,
    Reason,
    State,
    Storyboard,
    Uploaded,
    Wanted,
    WorkerState,
    deleted_key,
    encode,
    new_id,
    output_key,
    upload_key,
)
from tests.clips import cues, load, small
from tests.services import Service
from tests.video_services import LIMIT, Told, ask, media_worker, put, told

# Takes a few seconds, so that there is a middle.
MUCH: tuple[Wanted, ...] = tuple(Storyboard(width=width) for width in range(316, 321))

SOON = "0.3,0.6,0.9"  # seconds before another attempt


@pytest.fixture
def settings(make_settings: Any) -> Settings:
    made: Settings = make_settings(
        video_partitions=1, video_attempts=2, video_drain_seconds=20.0, video_retry_seconds=SOON
    )
    made.videos.mkdir()
    topics.ensure(made)
    return made


@pytest.fixture
def clip(settings: Settings) -> Path:
    return small(settings.videos / "clip.mp4", "-g", "25", seconds=100, size="640x360", rate=5)


@pytest.fixture
def results(settings: Settings) -> Iterator[Told]:
    with told(settings) as reader:
        yield reader


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Service]:
    service = media_worker(settings, tmp_path)
    yield service
    service.kill()


def decoder(worker: Service) -> psutil.Process:
    """The decoder's process of a worker."""
    return next(p for p in psutil.Process(worker.pid).children() if "gpu_workers.decoder" in p.cmdline())


def in_the_middle(worker: Service, results: Told, job: str, attempt: int) -> None:
    """Returns when the job is under way, the decoder stopped so that it stays so."""
    results.wait(lambda told: f"running {attempt}" in told.of(job))
    decoder(worker).suspend()
    assert f"done {attempt}" not in results.of(job)


def offsets(settings: Settings) -> dict[int, int]:
    """What the group has committed of the interactive lane."""
    admin: Any = KafkaAdminClient(bootstrap_servers=settings.kafka.split(","))
    topic = settings.topic(VIDEO_JOBS)
    try:
        found = admin.list_group_offsets(settings.topic(VIDEO_GROUP))
        if settings.topic(VIDEO_GROUP) in found:
            found = found[settings.topic(VIDEO_GROUP)]
        return {tp.partition: committed.offset for tp, committed in found.items() if tp.topic == topic}
    finally:
        admin.close()


def test_jobs_are_done_or_fail_with_a_reason(
    settings: Settings, clip: Path, worker: Service, results: Told, tmp_path: Path
) -> None:
    (settings.videos / "bad.mp4").write_bytes(clip.read_bytes()[:10_000])
    good = ask(settings, clip)
    bad = ask(settings, settings.videos / "bad.mp4")
    outside = ask(settings, small(tmp_path / "outside.mp4"))
    put(settings, b'{"not": "a job"}', None)
    put(settings, b"\xff", (odd := "019ab4ce-2480-7fc4-bd38-40d0652508f2").encode(), headers=[(SITE_HEADER, b"7")])
    last = ask(settings, clip, Poster(width=320))
    worker.start()
    results.wait(lambda told: "done 1" in told.of(last))
    assert results.of(good) == ["running 1", "done 1"]
    done = results.last(good)
    assert done.engine is Engine.CPU
    assert done.source is not None
    assert (done.source.width, done.source.height, done.source.duration) == (640, 360, 100.0)
    for output in done.outputs:
        assert (settings.thumbnails / output.path).is_file()
    assert load(settings.thumbnails / done.outputs[0].path).shape == (360, 640, 3)
    assert cues(settings.thumbnails / done.outputs[2].path)[-1].end == 100.0
    # What is a property of the input is not tried again.
    assert results.of(bad) == ["running 1", "failed 1"]
    assert results.last(bad).reason is Reason.DAMAGED
    assert results.last(outside).reason is Reason.NOT_ALLOWED
    assert results.last(odd).reason is Reason.BAD_JOB
    assert [results.last(job).site for job in (good, bad, odd)] == [1, 1, 7]
    results.wait(lambda told: any(status.done == 2 for status in told.statuses))
    status = results.statuses[-1]
    assert (status.failed, status.state) == (4, WorkerState.IDLE)
    assert status.nvml in set(NvmlState)
    assert worker.stop() == 0
    assert offsets(settings) == {0: 6}
    results.wait(lambda told: told.statuses[-1].state is WorkerState.STOPPED)
    # Nothing of the input's name is in the log.
    assert "clip.mp4" not in worker.log.read_text()
    assert "outside.mp4" not in worker.log.read_text()


def test_a_job_survives_the_death_of_its_worker(settings: Settings, clip: Path, worker: Service, results: Told) -> None:
    job = ask(settings, clip, *MUCH)
    worker.start(wait=False)
    in_the_middle(worker, results, job, 1)
    orphan = decoder(worker)
    worker.kill()
    psutil.wait_procs([orphan], LIMIT)
    assert not orphan.is_running()  # it dies with its parent, stopped or not
    assert not list(settings.thumbnails.rglob("*.jpg"))

    worker.start(wait=False)
    results.wait(lambda told: "done 2" in told.of(job))
    assert results.of(job) == ["running 1", "running 2", "done 2"]
    outputs = results.last(job).outputs
    assert len(outputs) == 3 * len(MUCH)
    files = {path.name for path in (settings.thumbnails / job).iterdir()}
    assert files == {RECORD, *(f"{wanted.name}.{ending}" for wanted in MUCH for ending in ("jpg", "vtt", "json"))}
    for sheet, text in zip(outputs[::3], outputs[1::3], strict=True):
        picture = load(settings.thumbnails / sheet.path)
        assert (picture.shape[1], picture.shape[0]) == (sheet.width, sheet.height)
        assert len(cues(settings.thumbnails / text.path)) == 100
    assert worker.stop() == 0
    assert offsets(settings) == {0: 1}


@pytest.mark.long
def test_a_job_that_kills_every_worker_comes_to_an_end(
    settings: Settings, make_settings: Any, clip: Path, results: Told, tmp_path: Path
) -> None:
    single = make_settings(video_partitions=1, video_attempts=1, state=settings.state)
    worker = media_worker(single, tmp_path, "single")
    deadly, good = ask(settings, clip, *MUCH), ask(settings, clip, Poster())
    try:
        for attempt in range(1, LOST + 1):
            worker.start(wait=False)
            in_the_middle(worker, results, deadly, attempt)
            worker.kill()
        worker.start(wait=False)
        results.wait(lambda told: "done 1" in told.of(good))
        assert results.of(deadly)[-1] == f"failed {LOST}"
        assert results.last(deadly).reason is Reason.WORKER_LOST
    finally:
        worker.kill()


@pytest.mark.long
@pytest.mark.parametrize("busy", [0, 1])
def test_a_second_worker_takes_its_share_while_the_first_is_at_a_job(
    busy: int, settings: Settings, make_settings: Any, clip: Path, results: Told, tmp_path: Path
) -> None:
    two = [make_settings(video_partitions=2, video_attempts=3, state=settings.state) for _ in range(2)]
    admin: Any = KafkaAdminClient(bootstrap_servers=settings.kafka.split(","))
    admin.create_partitions({settings.topic(VIDEO_JOBS): 2})
    admin.close()
    first, second = (media_worker(one, tmp_path, f"worker-{n}") for n, one in enumerate(two))
    try:
        first.start()
        held = ask(settings, clip, *MUCH, partition=busy)
        results.wait(lambda told: "running 1" in told.of(held))
        decoder(first).suspend()
        waiting = ask(settings, clip, *MUCH, partition=1 - busy)
        second.start()
        # Whichever partition moves, its job is done by the new owner while the first worker hangs.
        results.wait(lambda told: any(result.state is State.DONE for result in told.results))
        (moved,) = (result for result in results.results if result.state is State.DONE)
        if moved.job == held:
            assert results.of(held) == ["running 1", "running 2", "done 2"]
            assert '"why": "lost"' in first.log.read_text()
        else:
            decoder(first).resume()
        results.wait(lambda told: all(any("done" in state for state in told.of(job)) for job in (held, waiting)))
        assert len([result for result in results.results if result.state is State.DONE]) == 2
        assert (first.stop(), second.stop()) == (0, 0)
        assert offsets(settings) == {0: 1, 1: 1}
    finally:
        first.kill()
        second.kill()


def test_a_worker_that_stops_finishes_its_job_or_returns_it(
    settings: Settings, make_settings: Any, clip: Path, worker: Service, results: Told, tmp_path: Path
) -> None:
    first = ask(settings, clip, *MUCH)
    worker.start(wait=False)
    results.wait(lambda told: "running 1" in told.of(first))
    assert worker.stop() == 0
    results.wait(lambda told: "done 1" in told.of(first))

    impatient = make_settings(video_partitions=1, video_attempts=1, video_drain_seconds=0.0, state=settings.state)
    hasty = media_worker(impatient, tmp_path, "hasty")
    second = ask(settings, clip, *MUCH)
    try:
        hasty.start(wait=False)
        in_the_middle(hasty, results, second, 1)
        assert hasty.stop() == 0
        # The only attempt was not spent.
        assert not (settings.thumbnails / second / RECORD).exists()
        hasty.start(wait=False)
        results.wait(lambda told: "done 1" in told.of(second))
        assert results.of(second) == ["running 1", "running 1", "done 1"]
    finally:
        hasty.kill()


def test_deleted_jobs_leave_nothing(settings: Settings, clip: Path, worker: Service, results: Told) -> None:
    """One is deleted before it begins, one in the middle; one of them was uploaded, the other is a file in the folder,
    which stays."""
    kept = storage(settings)
    now = int(time.time() * 1000)
    early = Job(new_id(now), 1, Uploaded(), now)
    kept.private.put(upload_key(early.id), clip.read_bytes())
    kept.private.put(deleted_key(early.id), b"{}")
    put(settings, encode(early), early.id.encode())
    late = ask(settings, clip, *MUCH)
    worker.start(wait=False)
    results.wait(lambda told: "deleted 0" in told.of(early.id))
    in_the_middle(worker, results, late, 1)
    kept.outputs.put(output_key(late, "storyboard-316.jpg"), b"as if the decoder had written it just now")
    kept.private.put(deleted_key(late), b"{}")
    results.wait(lambda told: "deleted 0" in told.of(late))
    assert results.of(early.id) == ["deleted 0"]
    assert results.of(late) == ["running 1", "deleted 0"]
    assert [path.name for path in settings.thumbnails.iterdir()] == []
    assert kept.private.read(upload_key(early.id)) is None
    assert clip.exists()
    last = ask(settings, clip, Poster(width=320))
    results.wait(lambda told: "done 1" in told.of(last))
    assert worker.stop() == 0
    assert offsets(settings) == {0: 3}


def test_an_upload_is_done_as_any_file(settings: Settings, clip: Path, worker: Service, results: Told) -> None:
    now = int(time.time() * 1000)
    job, missing = (Job(new_id(now), 1, Uploaded(), now, (Poster(width=320),)) for _ in range(2))
    storage(settings).private.put(upload_key(job.id), clip.read_bytes())
    for asked in (job, missing):
        put(settings, encode(asked), asked.id.encode())
    worker.start(wait=False)
    results.wait(lambda told: "failed 1" in told.of(missing.id))
    assert results.last(missing.id).reason is Reason.NOT_FOUND
    assert results.of(job.id) == ["running 1", "done 1"]
    assert storage(settings).private.read(upload_key(job.id)) is None  # the source is deleted with the job's end
    results.wait(lambda told: any(status.done == 1 for status in told.statuses))
    assert storage(settings).outputs.read(results.last(job.id).outputs[0].path)


def test_a_job_that_kills_two_engines_is_quarantined_and_leaves_a_dead_letter(
    settings: Settings, make_settings: Any, clip: Path, results: Told, tmp_path: Path
) -> None:
    patient = make_settings(video_partitions=1, video_attempts=5, video_retry_seconds=SOON, state=settings.state)
    worker = media_worker(patient, tmp_path, "patient")
    poison = ask(settings, clip, *MUCH)
    try:
        worker.start(wait=False)
        for attempt in (1, 2):
            results.wait(lambda told, attempt=attempt: f"running {attempt}" in told.of(poison))  # type: ignore[misc]
            kill_decoder(worker)
        results.wait(lambda told: "failed 2" in told.of(poison))
        assert results.last(poison).reason is Reason.QUARANTINED
        once = ask(settings, clip, Poster(width=320))
        results.wait(lambda told: "running 1" in told.of(once))
        kill_decoder(worker)
        results.wait(lambda told: "done 2" in told.of(once))
        assert results.last(once).engine is Engine.CPU_CLI
        assert worker.stop() == 0
    finally:
        worker.kill()
    (letter,) = dead_letters(settings)
    assert (letter.job.id, letter.job.outputs) == (poison, MUCH)
    assert letter.result.reason is Reason.QUARANTINED
    assert letter.engine is Engine.CPU_CLI


def kill_decoder(worker: Service) -> None:
    """Kills it once there is one."""
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        try:
            decoder(worker).kill()
            return
        except (StopIteration, psutil.Error):
            time.sleep(0.05)
    raise AssertionError("no decoder was started")


def dead_letters(settings: Settings) -> list[DeadLetter]:
    """All that there are."""
    consumer: Any = KafkaConsumer(bootstrap_servers=settings.kafka.split(","), group_id=None)
    try:
        place = TopicPartition(settings.topic(VIDEO_DEAD), 0)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        end, found = consumer.end_offsets([place])[place], []
        while consumer.position(place) < end:
            for records in consumer.poll(timeout_ms=200).values():
                found += [msgspec.json.decode(record.value, type=DeadLetter) for record in records]
        return found
    finally:
        consumer.close()


def test_a_hanging_job_costs_an_attempt_and_not_the_lease(
    settings: Settings, make_settings: Any, clip: Path, results: Told, tmp_path: Path
) -> None:
    patient = make_settings(
        video_partitions=1, video_attempts=2, video_retry_seconds=SOON, video_job_seconds=9.0, state=settings.state
    )  # longer than the group waits for a member that says nothing
    worker = media_worker(patient, tmp_path, "patient")
    try:
        worker.start()
        job = ask(settings, clip, Storyboard())
        decoder(worker).suspend()
        results.wait(lambda told: "done 2" in told.of(job))
        assert results.of(job) == ["running 1", "waiting 1", "running 2", "done 2"]
        assert len({result.worker for result in results.results}) == 1
        assert "lost" not in worker.log.read_text()
        assert worker.stop() == 0
    finally:
        worker.kill()


def test_a_job_that_comes_twice_is_told_twice_and_done_once(
    settings: Settings, clip: Path, worker: Service, results: Told
) -> None:
    now = int(time.time() * 1000)
    job = Job(new_id(now), 1, InFolder(str(clip)), now, (Poster(width=320),))
    put(settings, encode(job), job.id.encode())
    worker.start()
    results.wait(lambda told: "done 1" in told.of(job.id))
    poster = settings.thumbnails / results.last(job.id).outputs[0].path
    before = os.stat(poster)
    put(settings, encode(job), job.id.encode())
    results.wait(lambda told: told.of(job.id) == ["running 1", "done 1", "done 1"])
    assert results.results[-1] == results.results[-2]
    after = os.stat(poster)
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
