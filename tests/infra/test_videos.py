"""The video path end to end: API, Kafka, media worker, stream worker, tables; and the demonstration's look at it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.load.sql import Sql
from infra.service.settings import Settings
from infra.videos import DAMAGED, MADE, RECORD, VideoError, VideoRun, place, unlike
from tests.clips import small
from tests.services import Service, Services
from tests.video_services import Api

LIMIT = 60.0  # seconds that a test waits for what must come
# Takes a few seconds, so that there is a middle.
MUCH = [{"kind": "storyboard", "width": width} for width in range(316, 321)]


class Flow:
    """All processes of the video path, and what can be asked of them."""

    def __init__(self, settings: Settings, services: Services) -> None:
        self.settings = settings
        self.api = Api(settings)
        self.worker: Service = services.start("worker", settings, wait=False)
        self.videos: Service = services.start("videos", settings, wait=False)
        self.media: Service = services.start("media", settings, wait=False)
        for service in (self.worker, self.videos, self.media):
            service.wait_ready()
        self.sql = self.new_sql()

    def new_sql(self) -> Sql:
        s = self.settings
        return Sql(s.clickhouse, s.clickhouse_user, s.clickhouse_password.get_secret_value(), s.clickhouse_database)

    def ask(self, **asked: Any) -> str:
        """The id of a job that was accepted."""
        answer = self.api.post(**asked)
        assert answer.status == 202, answer
        return str(answer.body["id"])

    def get(self, job: str) -> Any:
        """What the API knows of a job."""
        answer = self.api.get(job)
        assert answer.status == 200, answer
        return answer.body

    def wait(self, job: str, state: str) -> None:
        """Returns when the API tells this state."""
        eventually(lambda: self.get(job)["state"] == state, lambda: self.rows(job))

    def rows(self, job: str) -> list[str]:
        """A job's states, as "running 1"."""
        found = self.sql.rows(
            f"SELECT attempt, state FROM video_jobs FINAL WHERE job = '{job}'"
            " ORDER BY attempt, indexOf(['queued', 'running', 'failed', 'done'], toString(state))"
        )
        return [f"{state} {attempt}" for attempt, state in found]


@pytest.fixture
def flow(installation: Settings, services: Services) -> Flow:
    installation.videos.mkdir(exist_ok=True)
    return Flow(installation, services)


def eventually(found: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT
    while not found():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def test_from_job_to_files_and_rows(flow: Flow) -> None:
    """Good videos and a damaged one, as the demonstration asks for them; then every process is started again."""
    names = place(flow.settings.videos)
    assert names == list(MADE)
    run = VideoRun(flow.settings, flow.new_sql(), names)
    run.start()
    figures = run.result()
    assert figures.right, figures.as_dict()
    assert (len(figures.jobs), figures.done, figures.failed) == (3, 3, 0)
    assert (figures.damaged.state, figures.damaged.answer["reason"]) == ("failed", "damaged")
    sizes = {job.name: (job.files[0].width, job.files[0].height) for job in figures.jobs}
    assert sizes == {"landscape.mp4": (1280, 720), "upright.webm": (270, 480), "pal.mkv": (1024, 576)}
    for job in figures.jobs:
        assert [file.kind for file in job.files] == ["poster", "storyboard", "webvtt", "tiles"]
        assert flow.rows(job.id) == ["queued 0", "running 1", "done 1"]
    assert flow.rows(figures.damaged.id) == ["queued 0", "running 1", "failed 1"]

    samples = (
        "SELECT countIf(state = 'idle'), max(done), max(failed), count() - uniqExact(at) FROM worker_samples FINAL"
    )
    eventually(lambda: flow.sql.numbers(samples)[1:] == [3, 1, 0], lambda: flow.sql.rows(samples))
    assert flow.sql.numbers(samples)[0] > 0

    for service in (flow.videos, flow.media, flow.worker):
        assert service.stop() == 0
        service.start()
    for job in (*figures.jobs, figures.damaged):
        assert flow.get(job.id) == job.answer
    again = flow.ask(path="pal.mkv")
    assert flow.get(again)["state"] in ("queued", "running", "done")
    eventually(lambda: flow.rows(again) == ["queued 0", "running 1", "done 1"], lambda: flow.rows(again))

    # The look at a job sees what is not as it was told.
    job = figures.jobs[0]
    looked_at = run.look(job.name, job.id, job.answer)
    assert looked_at == job
    poster, storyboard, text, tiles = (file.path for file in job.files)
    poster.write_bytes(poster.read_bytes()[:-2000])
    storyboard.unlink()
    text.write_text("WEBVTT\n\n")
    tiles.write_text("{}")
    (text.parent / ".draft").touch()
    wrong = [{**job.answer["outputs"][0], "time": -1.0}, *job.answer["outputs"][1:]]
    problems = run.look(job.name, job.id, {**job.answer, "outputs": wrong}).problems
    assert len(problems) == 6, problems
    assert run.look(job.name, job.id, {**job.answer, "state": "failed", "reason": "crashed"}).problems
    assert run.look(DAMAGED, job.id, job.answer).problems


@pytest.mark.long
def test_a_media_worker_is_killed_in_the_middle(flow: Flow) -> None:
    small(flow.settings.videos / "long.mp4", "-g", "25", seconds=100, size="640x360", rate=5)
    (flow.settings.videos / "bad.mp4").write_bytes(b"no video at all" * 100)
    job = flow.ask(path="long.mp4", outputs=MUCH)
    eventually(lambda: "running 1" in flow.rows(job), lambda: flow.rows(job))
    child = next(p for p in psutil.Process(flow.media.pid).children() if "gpu_workers.decoder" in p.cmdline())
    child.suspend()
    assert flow.get(job)["state"] == "running"
    flow.media.kill()
    psutil.wait_procs([child], LIMIT)
    folder = flow.settings.thumbnails / job
    assert not folder.exists() or not [file for file in folder.iterdir() if not file.name.startswith(".")]

    bad, good = flow.ask(path="bad.mp4"), flow.ask(path="long.mp4", outputs=[{"kind": "poster", "width": 320}])
    flow.media.start(wait=False)
    for asked, wanted in ((job, "done"), (bad, "failed"), (good, "done")):
        flow.wait(asked, wanted)
    assert flow.rows(job) == ["queued 0", "running 1", "running 2", "done 2"]
    assert flow.rows(bad) == ["queued 0", "running 1", "failed 1"]
    assert flow.get(bad)["reason"] == "unsupported_format"
    answer = flow.get(job)
    assert len(answer["outputs"]) == 3 * len(MUCH)  # sheets, WebVTT and JSON
    told = {Path(output["path"]).name for output in answer["outputs"]}
    assert {file.name for file in folder.iterdir()} == told | {RECORD}  # no draft, nothing half
    for output in answer["outputs"]:
        assert unlike(flow.settings.thumbnails / output["path"], output) == []


def test_given_videos_take_the_place_of_those_that_are_made(tmp_path: Path) -> None:
    """Two of the same name from different folders, one of them a link; the originals stay as they are."""
    folder, one, two = (tmp_path / name for name in ("videos", "one", "two"))
    one.mkdir()
    two.mkdir()
    first = small(one / "clip.mp4", seconds=0.2)
    (two / "clip.mp4").symlink_to(first)
    names = place(folder, [first, two / "clip.mp4"])
    assert names == ["1-clip.mp4", "2-clip.mp4"]
    assert {file.name for file in folder.iterdir()} == {*names, DAMAGED}
    for name in names:
        assert (folder / name).is_file()
        assert not (folder / name).is_symlink()
        assert (folder / name).read_bytes() == first.read_bytes()
    with pytest.raises(VideoError, match="gone"):
        place(folder, [tmp_path / "gone.mp4"])
