"""Jobs that wait for another attempt, on a real broker, with a worker that is killed meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import topics
from infra.service.settings import Settings
from schemas.attempts import Attempts, carrying
from schemas.topics import VIDEO_JOBS, VIDEO_JOBS_BATCH
from schemas.videos import InFolder, Job, Poster, Priority, Reason, State, encode, new_id
from tests.clips import small
from tests.gpu_workers.test_leases import dead_letters
from tests.services import Service
from tests.video_services import Told, ask, media_worker, put, told

Asked = Callable[[], Job]


@pytest.fixture
def settings(make_settings: Any) -> Settings:
    made: Settings = make_settings(video_partitions=1, video_attempts=2, video_retry_seconds="5,5,5")
    made.videos.mkdir()
    topics.ensure(made)
    return made


@pytest.fixture
def clip(settings: Settings) -> Path:
    return small(settings.videos / "clip.mp4", seconds=2.0, size="320x180", rate=5)


@pytest.fixture
def results(settings: Settings) -> Iterator[Told]:
    with told(settings) as reader:
        yield reader


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Service]:
    service = media_worker(settings, tmp_path)
    yield service
    service.kill()


@pytest.fixture
def batch(clip: Path) -> Asked:
    """Makes jobs of the second lane, one poster each."""

    def make() -> Job:
        now = int(time.time() * 1000)
        return Job(new_id(now), 1, InFolder(str(clip)), now, (Poster(width=64),), Priority.BATCH)

    return make


def queue(settings: Settings, job: Job, attempts: Attempts | None = None) -> None:
    headers = carrying([], attempts) if attempts is not None else []
    put(settings, encode(job), job.id.encode(), headers=headers, topic=VIDEO_JOBS_BATCH)


def test_a_job_waits_beside_the_others_and_whatever_is_killed(
    settings: Settings, clip: Path, worker: Service, results: Told, batch: Asked
) -> None:
    mended, broken = batch(), batch()
    for job in (mended, broken):  # a file where the folder of the outputs would be
        settings.thumbnails.mkdir(exist_ok=True)
        (settings.thumbnails / job.id).write_bytes(b"")
        queue(settings, job)
    worker.start(wait=False)
    results.wait(lambda told: all("waiting 1" in told.of(job.id) for job in (mended, broken)))
    waiting = results.last(mended.id)
    assert (waiting.reason, waiting.priority) == (Reason.STORAGE, Priority.BATCH)
    other = ask(settings, clip, Poster(width=64))
    results.wait(lambda told: "done 1" in told.of(other))
    worker.kill()
    (settings.thumbnails / mended.id).unlink()
    worker.start(wait=False)
    results.wait(lambda told: "done 2" in told.of(mended.id) and "failed 2" in told.of(broken.id))
    assert results.of(mended.id) == ["running 1", "waiting 1", "running 2", "done 2"]
    assert results.of(broken.id) == ["running 1", "waiting 1", "running 2", "failed 2"]
    again = next(one for one in results.results if one.job == mended.id and one.attempt == 2)
    assert again.at_ms >= waiting.due_ms > waiting.at_ms
    assert again.priority is Priority.BATCH
    (letter,) = dead_letters(settings)
    assert (letter.job.id, letter.result.reason, letter.result.attempt) == (broken.id, Reason.STORAGE, 2)

    # What was handed on twice is done once, by the record that is taken first.
    twice, last = batch(), batch()
    for job, attempts in ((twice, Attempts(1, 1)), (twice, Attempts(1, 1)), (last, None)):
        queue(settings, job, attempts)
    results.wait(lambda told: "done 1" in told.of(last.id))
    assert results.of(twice.id) == ["running 2", "done 2"]
    assert worker.stop() == 0


def test_interactive_jobs_come_first_and_batch_has_its_share(
    settings: Settings, make_settings: Any, clip: Path, results: Told, tmp_path: Path
) -> None:
    third = make_settings(video_partitions=1, video_batch_every=3, state=settings.state)
    lanes = [Priority.BATCH] * 3 + [Priority.INTERACTIVE] * 5
    jobs = {ask(settings, clip, Poster(width=64), priority=lane): lane for lane in lanes}
    worker = media_worker(third, tmp_path, "third")
    try:
        worker.start(wait=False)
        results.wait(lambda told: sum(result.state is State.DONE for result in told.results) == len(jobs))
    finally:
        worker.kill()
    order = [str(jobs[result.job])[0] for result in results.results if result.state is State.RUNNING]
    assert "".join(order) == "iibiibib"


def test_a_job_of_the_time_before_is_interactive(
    settings: Settings, clip: Path, worker: Service, results: Told
) -> None:
    job = new_id(int(time.time() * 1000))
    record = (
        f'{{"id":"{job}","site":1,"origin":{{"from":"folder","path":"{clip}"}},"queued_ms":1,'
        '"outputs":[{"kind":"poster","width":64}]}'
    )
    put(settings, record.encode(), job.encode(), topic=VIDEO_JOBS)
    worker.start(wait=False)
    results.wait(lambda told: "done 1" in told.of(job))
    assert results.last(job).priority is Priority.INTERACTIVE
