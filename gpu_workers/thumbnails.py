"""One video to all its outputs in one pass over its frames, by the engine that is asked for or is the cheapest."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import av.error
import msgspec
import numpy as np
import numpy.typing as npt

from gpu_workers import choice, router, storyboard
from gpu_workers.command import Chain
from gpu_workers.cuda import NoDevice, open_on_device
from gpu_workers.cuda_cli import CommandFailed, CommandVideo
from gpu_workers.failures import Failure
from gpu_workers.geometry import Size, fit
from gpu_workers.inputs import Limits, regular_file
from gpu_workers.pictures import jpeg, picture
from gpu_workers.storage import Folder
from gpu_workers.video import Shot, Video, open_video
from schemas.videos import Engine, Kind, Output, Poster, Reason, Source, Storyboard, Wanted


class Task(msgspec.Struct, frozen=True):
    """What to make. `folder` is where the input must lie (None: anywhere); outputs go to `root`/`name`.

    `engine` None: whichever is the cheapest, and another one where that fails; the GPU only if `device` says which.
    """

    path: str
    folder: str | None
    outputs: tuple[Wanted, ...]
    root: str
    name: str
    limits: Limits
    engine: Engine | None = None
    device: int | None = None  # number of an admitted CUDA device


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
            for engine in _engines(task, video):
                takers = [_taker(wanted, video) for wanted in task.outputs]
                try:
                    with source_of(engine, task, file, video) as source:
                        complete = _one_pass(source, video, takers)
                except (Failure, NoDevice, CommandFailed, av.error.FFmpegError) as error:
                    if engine is Engine.CPU:
                        raise
                    if task.engine is not None:
                        raise _failure(error) from error
                    continue  # what the GPU cannot do, or the file does to it, the CPU decides upon
                if not complete and task.engine is None and engine is not Engine.CPU:
                    continue  # a file with holes, or a decoder with errors
                folder = Folder(Path(task.root), task.name)
                outputs = tuple(output for taker in takers for output in taker.write(folder, video))
                return Made(video.source, outputs, round(time.monotonic() - began, 3), engine)
    except MemoryError as error:
        raise Failure(Reason.MEMORY_LIMIT, "there is not enough memory for it") from error
    raise AssertionError("the last engine either makes the outputs or raises")


def _engines(task: Task, video: Video) -> Sequence[Engine]:
    """The engines to try, in this order."""
    if task.engine is not None:
        return [task.engine]
    if task.device is None or not task.outputs:
        return [Engine.CPU]
    moments = sorted({moment for wanted in task.outputs for moment in _taker(wanted, video).times})
    first = router.cheapest(router.work(video, moments))
    return [first] if first is Engine.CPU else [first, Engine.CPU]


class _Frames(Protocol):
    """Where an engine's frames come from."""

    def frames(self, wanted: Sequence[float], small: Mapping[float, Size]) -> Iterator[tuple[float, Shot]]: ...


@contextmanager
def source_of(engine: Engine, task: Task, file: int, video: Video) -> Iterator[_Frames]:
    device = task.device or 0
    if engine is Engine.CUDA:
        with open_on_device(file, task.limits, device) as on_device:
            yield on_device
    elif engine is Engine.CPU:
        yield video
    else:
        yield CommandVideo(video, file, Chain.DECODE if engine is Engine.CUDA_CLI else Chain.SOFTWARE, device)


def _failure(error: Exception) -> Failure:
    """Of an engine that is not in this process, or not on this processor."""
    if isinstance(error, NoDevice | CommandFailed):
        return Failure(Reason.CRASHED, str(error))
    return (
        error if isinstance(error, Failure) else Failure(Reason.CRASHED, f"the engine failed: {type(error).__name__}")
    )


class _Taker(Protocol):
    """Takes the shots near its times as they go by, then writes its files."""

    times: Sequence[float]
    small: Size | None  # frames may come reduced, but not below this size
    served: bool

    def take(self, shot: Shot, video: Video) -> None: ...

    def write(self, folder: Folder, video: Video) -> Iterable[Output]: ...


def _taker(wanted: Wanted, video: Video) -> _Taker:
    return _BestFrame(wanted, video) if isinstance(wanted, Poster) else _Board(wanted, video)


def _one_pass(source: _Frames, video: Video, takers: Sequence[_Taker]) -> bool:
    """Hands every taker its shots; whether there was one for every moment."""
    at: dict[float, list[_Taker]] = {}
    for taker in takers:
        for moment in taker.times:
            at.setdefault(moment, []).append(taker)
    small = {}
    for moment, served in at.items():
        sizes = [taker.small for taker in served if taker.small is not None]
        if len(sizes) == len(served):
            small[moment] = max(width for width, _ in sizes), max(height for _, height in sizes)
    found = 0
    for moment, shot in source.frames(sorted(at), small):
        found += 1
        for taker in at[moment]:
            taker.take(shot, video)
    for taker in takers:
        if not taker.served:  # nothing where it was looked for, but a truncated file still has its first frame
            taker.take(video.first, video)
    return found == len(at)


class _BestFrame:
    """The best frame so far; it is brought to the poster's size at the end."""

    def __init__(self, wanted: Poster, video: Video) -> None:
        self._name = wanted.name
        self._size = fit(video.shown, wanted.width)
        self._small = fit(video.shown, choice.WIDTH)
        self._best: tuple[choice.Score, Shot] | None = None
        self.times: Sequence[float] = choice.times(video.duration)
        self.small: Size | None = None  # the same samples on every engine, so the same choice
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
        self.small: Size | None = self._tile
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
