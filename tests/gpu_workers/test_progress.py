"""How far a task is, from the pass over its frames to what the worker tells."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gpu_workers import progress
from gpu_workers.progress import Progress, Teller
from gpu_workers.thumbnails import Task, make
from infra import topics
from infra.service.settings import Settings
from schemas.videos import DEFAULT_OUTPUTS, State
from tests.clips import small
from tests.gpu_workers.conftest import LIMITS
from tests.gpu_workers.test_leases import MUCH, decoder, in_the_middle
from tests.video_services import Told, ask, media_worker, told


def test_shares_rise_to_the_end_of_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    clip = small(tmp_path / "clip.mp4", seconds=20.0, size="320x180", rate=5)
    told: list[Progress] = []
    make(Task(str(clip), None, DEFAULT_OUTPUTS, str(tmp_path), "job", LIMITS), told.append)
    assert all(before.share <= after.share for before, after in pairwise(told))
    assert {one.making for one in told} == {"poster", "storyboard"}
    assert (0.0 <= told[0].share < 0.2, told[-1].share) == (True, 1.0)


def test_what_follows_too_soon_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    told: list[Progress] = []
    teller = Teller(told.append)
    for now[0], moment, duration in [(0.5, 1, 9), (1.0, 3, 9), (1.9, 6, 9), (2.5, 99, 9), (9.0, 1, 0), (9.1, -1, 9)]:
        teller.at(moment, duration, "poster")
    assert [one.share for one in told] == [0.333, 1.0, 0.0]


@pytest.fixture
def settings(make_settings: Any) -> Settings:
    made: Settings = make_settings(video_partitions=1)
    made.videos.mkdir()
    topics.ensure(made)
    return made


@pytest.fixture
def results(settings: Settings) -> Iterator[Told]:
    with told(settings) as reader:
        yield reader


def test_a_worker_tells_how_far_its_job_is(settings: Settings, results: Told, tmp_path: Path) -> None:
    clip = small(settings.videos / "clip.mp4", "-g", "25", seconds=100, size="640x360", rate=5)
    worker = media_worker(settings, tmp_path)
    try:
        job = ask(settings, clip, *MUCH)
        worker.start(wait=False)
        in_the_middle(worker, results, job, 1)
        time.sleep(progress.EVERY)  # so that there is something to tell
        decoder(worker).resume()
        results.wait(lambda told: "done 1" in told.of(job))
    finally:
        worker.kill()
    assert results.of(job) == ["running 1", "done 1"]
    shares = [(one.progress, one.making, one.attempt, one.state) for one in results.results if one.progress]
    assert shares
    assert shares == sorted(set(shares))
    assert {(making, attempt, state) for _, making, attempt, state in shares} == {("storyboard", 1, State.RUNNING)}
    assert results.results[-1].state is State.DONE
