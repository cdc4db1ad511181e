"""One video to all its outputs in one pass over its frames, in process on the CPU."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from gpu_workers import choice, storyboard
from gpu_workers.failures import Failure
from gpu_workers.geometry import fit
from gpu_workers.inputs import Limits, regular_file
from gpu_workers.pictures import jpeg, picture
from gpu_workers.storage import Folder
from gpu_workers.video import Shot, Video, open_video
from schemas.videos import Engine, Kind, Output, Poster, Reason, Source, Storyboard, Wanted


class Task(msgspec.Struct, frozen=True):
    """What to make. `folder` is where the input must lie (None: anywhere); outputs go to `root`/`name`."""

    path: str
    folder: str | None
    outputs: tuple[Wanted, ...]
    root: str
    name: str
    limits: Limits


class Made(msgspec.Struct, frozen=True):
    """What was made, from what, in how many seconds."""

    source: Source
    outputs: tuple[Output, ...]
    seconds: float
    engine: Engine = Engine.CPU


def make(task: Task) -> Made:
    """Makes all outputs of a task; raises Failure. Doing it again writes the same files with the same content."""
    began = time.monotonic()
    try:
        with regular_file(task.path, task.folder, task.limits) as file, open_video(file, task.limits) as video:
            takers = [_taker(wanted, video) for wanted in task.outputs]
            _one_pass(video, takers)
            folder = Folder(Path(task.root), task.name)
            outputs = tuple(output for taker in takers for output in taker.write(folder, video))
            return Made(video.source, outputs, round(time.monotonic() - began, 3))
    except MemoryError as error:
        raise Failure(Reason.MEMORY_LIMIT, "there is not enough memory for it") from error


class _Taker(Protocol):
    """Takes the shots near its times as they go by, then writes its files."""

    times: Sequence[float]
    served: bool

    def take(self, shot: Shot, video: Video) -> None: ...

    def write(self, folder: Folder, video: Video) -> Iterable[Output]: ...


def _taker(wanted: Wanted, video: Video) -> _Taker:
    return _BestFrame(wanted, video) if isinstance(wanted, Poster) else _Board(wanted, video)


def _one_pass(video: Video, takers: Sequence[_Taker]) -> None:
    at: dict[float, list[_Taker]] = {}
    for taker in takers:
        for moment in taker.times:
            at.setdefault(moment, []).append(taker)
    for moment, shot in video.frames(sorted(at)):
        for taker in at[moment]:
            taker.take(shot, video)
    for taker in takers:
        if not taker.served:  # nothing where it was looked for, but a truncated file still has its first frame
            taker.take(video.first, video)


class _BestFrame:
    """The best frame so far; it is brought to the poster's size at the end."""

    def __init__(self, wanted: Poster, video: Video) -> None:
        self._name = wanted.name
        self._size = fit(video.shown, wanted.width)
        self._small = fit(video.shown, choice.WIDTH)
        self._best: tuple[choice.Score, Shot] | None = None
        self.times: Sequence[float] = choice.times(video.duration)
        self.served = False

    def take(self, shot: Shot, video: Video) -> None:
        score = choice.score(picture(shot.frame, self._small, video.turn))
        if self._best is None or score.order > self._best[0].order:
            self._best, self.served = (score, shot), True

    def write(self, folder: Folder, video: Video) -> Iterable[Output]:
        assert self._best is not None
        _, shot = self._best
        path = folder.write(f"{self._name}.jpg", jpeg(picture(shot.frame, self._size, video.turn)))
        yield Output(Kind.POSTER, path, *self._size, round(max(shot.time, 0.0), 3))


class _Board:
    """Tiles of different frames, by rising time."""

    def __init__(self, wanted: Storyboard, video: Video) -> None:
        self._name = wanted.name
        self._tile = fit(video.shown, wanted.width)
        self._starts: list[float] = []
        self._tiles: list[npt.NDArray[np.uint8]] = []
        self.times: Sequence[float] = storyboard.times(video.duration, wanted.tiles)
        self.served = False

    def take(self, shot: Shot, video: Video) -> None:
        if not self._starts or shot.time > self._starts[-1]:
            self._starts.append(shot.time)
            self._tiles.append(picture(shot.frame, self._tile, video.turn))
            self.served = True

    def write(self, folder: Folder, video: Video) -> Iterable[Output]:
        sheet = storyboard.sheet(self._tiles)
        first = round(max(self._starts[0], 0.0), 3)
        image = folder.write(f"{self._name}.jpg", jpeg(sheet))
        cues = storyboard.webvtt(self._starts, video.duration, self._tile, f"{self._name}.jpg")
        text = folder.write(f"{self._name}.vtt", cues.encode())
        yield Output(Kind.STORYBOARD, image, sheet.shape[1], sheet.shape[0], first)
        yield Output(Kind.WEBVTT, text, *self._tile, first)
