"""Videos through a running stack: placed, asked for at the API, and what came of them, looked at from outside.

The checks share no code with what they check: the state comes from the API, the rows by plain SQL, and the files are
read by other libraries than those that wrote them. One video is damaged on purpose: it must fail, with a reason, and
hurt no other.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
from PIL import Image

from infra.load.sql import Sql, SqlError
from infra.local.ports import reachable
from infra.service.settings import Settings

POLL = 0.2  # seconds between two looks at a job
ROWS_SECONDS = 20.0  # until all rows of a job that has ended must be there
ANSWER_SECONDS = 30.0
DAMAGED = "damaged.mp4"
RECORD = "result.json"  # beside the outputs
# One with square pixels, one upright, one whose pixels are not square; three codecs, three containers.
MADE: dict[str, tuple[str, dict[str, object]]] = {
    "landscape.mp4": (
        "testsrc2=s=1280x720:r=25:d=8",
        {"vcodec": "libx264", "preset": "ultrafast", "pix_fmt": "yuv420p", "g": 50},
    ),
    "upright.webm": (
        "mandelbrot=s=270x480:r=25:end_scale=0.01:maxiter=200,trim=duration=6",
        {"vcodec": "libvpx", "deadline": "realtime", "cpu-used": 8, "b:v": "1M", "g": 50},
    ),
    "pal.mkv": ("testsrc=s=720x576:r=25:d=8,setsar=64/45", {"vcodec": "mpeg4", "g": 25}),
}


class VideoError(RuntimeError):
    """The videos cannot be placed; the message says why."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A file that was made; `width` and `height` are pixels, of one tile for WebVTT."""

    kind: str
    path: Path
    bytes: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class VideoJob:
    """What came of one video. `answer`: of the API, at the end. `problems`: what is not as it must be."""

    name: str
    id: str
    answer: Mapping[str, Any]
    files: tuple[Thumbnail, ...]
    problems: tuple[str, ...]

    @property
    def state(self) -> str:
        """The last state that the API told."""
        return str(self.answer.get("state", "unknown"))


@dataclass(frozen=True, slots=True)
class VideoFigures:
    """All jobs of a run; `damaged` is the one that had to fail."""

    jobs: tuple[VideoJob, ...]
    damaged: VideoJob
    seconds: float

    @property
    def done(self) -> int:
        return sum(job.state == "done" for job in self.jobs)

    @property
    def failed(self) -> int:
        return sum(job.state == "failed" for job in self.jobs)

    @property
    def right(self) -> bool:
        """Every video is done, the damaged one is reported as such, and files, rows and answers agree."""
        return self.done == len(self.jobs) and not any(job.problems for job in (*self.jobs, self.damaged))

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "jobs": len(self.jobs),
            "done": self.done,
            "failed": self.failed,
            "files": sum(len(job.files) for job in self.jobs),
            "damaged": {"state": self.damaged.state, "reason": self.damaged.answer.get("reason", "")},
            "problems": [problem for job in (*self.jobs, self.damaged) for problem in job.problems],
            "seconds": self.seconds,
        }


def place(folder: Path, given: Sequence[Path] = ()) -> list[str]:
    """Puts the given videos, or three that ffmpeg makes, into the folder that videos are taken from, and a damaged
    one; returns the names of all but that. Raises VideoError."""
    folder.mkdir(parents=True, exist_ok=True)
    first = next(iter(MADE))
    try:
        for name in [first] if given else MADE:
            _make(folder / name, *MADE[name])
        whole = (folder / first).read_bytes()
        (folder / DAMAGED).write_bytes(whole[: len(whole) // 3])  # its index, at the end, is missing
        if not given:
            return list(MADE)
        (folder / first).unlink()
        return [_take(folder, number, path) for number, path in enumerate(given, 1)]
    except OSError as error:
        raise VideoError(f"{error.filename or folder}: {error.strerror}") from None


def _make(path: Path, source: str, options: Mapping[str, object]) -> None:
    command = ffmpeg.input(source, f="lavfi").output(str(path), **options).global_args("-v", "error", "-nostdin", "-y")
    try:
        command.run(capture_stdout=True, capture_stderr=True)
    except FileNotFoundError:
        raise VideoError("ffmpeg is not installed; it makes the videos") from None
    except ffmpeg.Error as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        raise VideoError(f"ffmpeg cannot make {path.name}: {said[-1] if said else 'it says nothing'}") from None


def _take(folder: Path, number: int, path: Path) -> str:
    name = f"{number}-{path.name}"
    real = path.resolve()
    try:
        os.link(real, folder / name)
    except OSError:  # another file system
        shutil.copyfile(real, folder / name)
    return name


class VideoRun:
    """Asks for all videos at once and waits for each, in a thread; `result` returns what came of them."""

    def __init__(self, settings: Settings, sql: Sql, names: Sequence[str]) -> None:
        """`sql`: for this object's own use."""
        self._settings = settings
        self._sql = sql
        self._names = names
        self._headers = {
            "Authorization": f"Bearer {settings.api_token.read_text().strip()}",
            "Content-Type": "application/json",
        }
        self._ending = threading.Event()
        self._figures: VideoFigures | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="videos", daemon=True)
        self.ended = 0  # jobs that have come to an end

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def result(self) -> VideoFigures:
        """Waits until every job has ended or is overdue; raises what went wrong here."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._figures is not None
        return self._figures

    def stop(self) -> None:
        """Waits for nothing any more."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            began = time.monotonic()
            ids = {name: self._ask(name) for name in (*self._names, DAMAGED)}
            answers = self._answers(ids)
            jobs = [self.look(name, ids[name], answers[name]) for name in ids]
            self._figures = VideoFigures(tuple(jobs[:-1]), jobs[-1], round(time.monotonic() - began, 1))
        except BaseException as error:
            self._error = error

    def _request(self, method: str, path: str, body: str | None = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(
            reachable(self._settings.host), self._settings.video_port, timeout=ANSWER_SECONDS
        )
        try:
            connection.request(method, path, body, self._headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def _ask(self, name: str) -> str:
        status, answer = self._request("POST", "/v1/videos", json.dumps({"path": name}))
        if status != 202:
            raise VideoError(f"the video API answers {status} for {name}: {answer.get('detail')}")
        return str(answer["id"])

    def _answers(self, ids: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """The API's last word on each job."""
        answers: dict[str, dict[str, Any]] = {name: {} for name in ids}
        until = time.monotonic() + self._settings.video_job_seconds
        open_ = list(ids)
        while open_ and time.monotonic() < until and not self._ending.wait(POLL):
            for name in open_:
                status, answer = self._request("GET", f"/v1/videos/{ids[name]}")
                answers[name] = answer if status == 200 else {"state": f"unknown, the API answers {status}"}
            open_ = [name for name in open_ if answers[name]["state"] not in ("done", "failed")]
            self.ended = len(ids) - len(open_)
        return answers

    def look(self, name: str, job: str, answer: Mapping[str, Any]) -> VideoJob:
        """A job that has ended, held against its files and its rows; `answer` is the API's."""
        damaged = name == DAMAGED
        wanted = ("failed", "damaged") if damaged else ("done", "")
        found = (answer.get("state", "unknown"), answer.get("reason", ""))
        problems = []
        if found != wanted:
            problems.append(f"it is {' '.join(filter(None, found))} ({answer.get('detail', 'no reason is told')})")
        else:
            problems += self._rows(job, answer)
        folder = self._settings.thumbnails
        files = []
        for output in answer.get("outputs", ()):
            path = folder / output["path"]
            problems += unlike(path, output)
            if path.is_file():
                files.append(Thumbnail(output["kind"], path, path.stat().st_size, output["width"], output["height"]))
        present = {path.name for path in (folder / job).glob("*")} | {path.name for path in (folder / job).glob(".*")}
        if odd := present - {file.path.name for file in files} - {RECORD}:
            problems.append(f"files that nobody was told of: {', '.join(sorted(odd))}")
        if found == ("done", "") and not files:
            problems.append("nothing was made of it")
        return VideoJob(name, job, answer, tuple(files), tuple(f"{name}: {problem}" for problem in problems))

    def _rows(self, job: str, answer: Mapping[str, Any]) -> list[str]:
        """Where the table tells something else than the API."""
        statement = (
            "SELECT state, reason, output_kind AS kind, output_path AS path, output_width AS width,"
            f" output_height AS height, output_time AS time FROM video_jobs FINAL WHERE job = '{job}'"
            " FORMAT JSONEachRow"
        )
        wanted = sorted(["queued", "running", answer["state"]])
        until = time.monotonic() + ROWS_SECONDS
        rows: list[dict[str, Any]] = []
        while time.monotonic() < until and not self._ending.is_set():
            with suppress(SqlError):
                rows = [json.loads(line) for line in self._sql.raw(statement).splitlines()]
            if sorted(row["state"] for row in rows) == wanted:
                break
            time.sleep(POLL)
        else:
            return [f"rows tell {[row['state'] for row in rows]}, not {wanted}"]
        (last,) = (row for row in rows if row["state"] == answer["state"])
        told = [[output[key] for key in ("kind", "path", "width", "height", "time")] for output in answer["outputs"]]
        in_rows = [
            list(row) for row in zip(*(last[key] for key in ("kind", "path", "width", "height", "time")), strict=True)
        ]
        same = told == in_rows and last["reason"] == answer.get("reason", "")
        return [] if same else ["the API and the table differ on it"]


def unlike(path: Path, output: Mapping[str, Any]) -> list[str]:
    """In what a file is not what was told of it."""
    try:
        if output["kind"] == "webvtt":
            text = path.read_text("utf-8")
            good = text.startswith("WEBVTT\n") and "-->" in text and "#xywh=" in text
            return [] if good else [f"{path.name} is no WebVTT"]
        if output["kind"] == "tiles":
            told = json.loads(path.read_text("utf-8"))
            good = (told["tile_width"], told["tile_height"]) == (output["width"], output["height"]) and told["tiles"]
            return [] if good else [f"{path.name} tells no tiles"]
        with Image.open(path) as image:
            image.load()
            good = (image.format, image.size) == ("JPEG", (output["width"], output["height"]))
        return [] if good else [f"{path.name} has another size or format than was told"]
    except FileNotFoundError:
        return [f"{path.name} is not there"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [f"{path.name} cannot be read: {type(error).__name__}"]
