"""One video to all its outputs in one pass over its frames, by the engine that is asked for or is the cheapest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import av.error
import msgspec

from gpu_workers import router
from gpu_workers.command import Chain
from gpu_workers.cuda import NoDevice, open_on_device
from gpu_workers.cuda_cli import CommandFailed, CommandVideo
from gpu_workers.failures import Failure
from gpu_workers.geometry import Size
from gpu_workers.inputs import Limits, regular_file
from gpu_workers.parts import Fetch, Parts
from gpu_workers.progress import Tell, Teller, nobody
from gpu_workers.storage import Folder
from gpu_workers.takers import Taker, takers
from gpu_workers.video import Shot, Video, open_video
from schemas.outputs import Output, Wanted
from schemas.videos import Engine, Reason, Source


class Task(msgspec.Struct, frozen=True):
    """What to make. `folder` is where the input must lie (None: anywhere); outputs go to `root`/`name`.

    `engine` None: whichever is the cheapest, and another one where that fails; the GPU only if `device` says which.
    `in_parts`: the file has holes, and what is read is to be fetched first.
    """

    path: str
    folder: str | None
    outputs: tuple[Wanted, ...]
    root: str
    name: str
    limits: Limits
    engine: Engine | None = None
    device: int | None = None  # number of an admitted CUDA device
    costs: router.Table = router.DEFAULT
    in_parts: bool = False


class Made(msgspec.Struct, frozen=True):
    """What was made, from what, in how many seconds."""

    source: Source
    outputs: tuple[Output, ...]
    seconds: float
    engine: Engine = Engine.CPU


def make(task: Task, tell: Tell = nobody, fetch: Fetch | None = None) -> Made:
    """Makes all outputs of a task, and tells how far it is; raises Failure. Doing it again writes the same files with
    the same content. `fetch`: for a file in parts."""
    began = time.monotonic()
    teller = Teller(tell)
    try:
        with (
            regular_file(task.path, task.folder, task.limits) as file,
            open_video(file, task.limits, parts=(parts := _parts(task, file, fetch))) as video,
        ):
            for engine in _engines(task, video):
                wanted = takers(task.outputs, video)
                try:
                    with source_of(engine, task, file, video, parts) as source:
                        complete = _one_pass(source, video, wanted, [kind(output) for output in task.outputs], teller)
                except (Failure, NoDevice, CommandFailed, av.error.FFmpegError) as error:
                    if engine is Engine.CPU:
                        raise
                    if task.engine is not None:
                        raise _failure(error) from error
                    continue  # what the GPU cannot do, or the file does to it, the CPU decides upon
                if not complete and task.engine is None and engine is not Engine.CPU:
                    continue  # a file with holes, or a decoder with errors
                folder = Folder(Path(task.root), task.name)
                outputs: list[Output] = []
                for output, taker in zip(task.outputs, wanted, strict=True):
                    teller.at(video.duration, video.duration, kind(output))
                    outputs += taker.write(folder, video)
                found = msgspec.structs.replace(video.source, bytes=os.fstat(file).st_size)
                return Made(found, tuple(outputs), round(time.monotonic() - began, 3), engine)
    except MemoryError as error:
        raise Failure(Reason.MEMORY_LIMIT, "there is not enough memory for it") from error
    raise AssertionError("the last engine either makes the outputs or raises")


def _parts(task: Task, file: int, fetch: Fetch | None) -> Parts | None:
    return None if fetch is None or not task.in_parts else Parts(file, fetch)


def _engines(task: Task, video: Video) -> Sequence[Engine]:
    """The engines to try, in this order."""
    if task.engine is not None:
        return [task.engine]
    if task.device is None or not task.outputs:
        return [Engine.CPU]
    moments = sorted({moment for taker in takers(task.outputs, video) for moment in taker.times})
    first = router.cheapest(router.work(video, moments), task.costs)
    return [first] if first is Engine.CPU else [first, Engine.CPU]


class _Frames(Protocol):
    """Where an engine's frames come from."""

    def frames(
        self, wanted: Sequence[float], small: Mapping[float, Size], exact: AbstractSet[float] = frozenset()
    ) -> Iterator[tuple[float, Shot]]: ...


@contextmanager
def source_of(engine: Engine, task: Task, file: int, video: Video, parts: Parts | None = None) -> Iterator[_Frames]:
    device = task.device or 0
    if engine is Engine.CUDA:
        with open_on_device(file, task.limits, device, parts) as on_device:
            yield on_device
    elif engine is Engine.CPU:
        yield video
    else:
        if parts is not None:
            parts.whole()
        yield CommandVideo(video, file, Chain.DECODE if engine is Engine.CUDA_CLI else Chain.SOFTWARE, device)


def _failure(error: Exception) -> Failure:
    """Of an engine that is not in this process, or not on this processor."""
    if isinstance(error, NoDevice | CommandFailed):
        return Failure(Reason.CRASHED, str(error), getattr(error, "tail", ""))
    return (
        error if isinstance(error, Failure) else Failure(Reason.CRASHED, f"the engine failed: {type(error).__name__}")
    )


def kind(output: Wanted) -> str:
    """The kind of an output, as it is asked for."""
    return str(output.__struct_config__.tag)


def _one_pass(source: _Frames, video: Video, wanted: Sequence[Taker], kinds: Sequence[str], teller: Teller) -> bool:
    """Hands every taker its shots; whether there was one for every moment. `kinds`: of the takers' outputs."""
    at: dict[float, list[Taker]] = {}
    making: dict[float, str] = {}
    for taker, kind in zip(wanted, kinds, strict=True):
        for moment in taker.times:
            at.setdefault(moment, []).append(taker)
            making[moment] = kind
    exact = {moment for moment, served in at.items() if any(taker.exact for taker in served)}
    small = {}
    for moment, served in at.items():
        sizes = [taker.small for taker in served if taker.small is not None]
        if len(sizes) == len(served):
            small[moment] = max(width for width, _ in sizes), max(height for _, height in sizes)
    found = 0
    for moment, shot in source.frames(sorted(at), small, exact):
        found += 1
        teller.at(moment, video.duration, making[moment])
        for taker in at[moment]:
            taker.take(moment, shot, video)
    for taker in wanted:
        if not taker.served:  # nothing where it was looked for, but a truncated file still has its first frame
            taker.take(taker.times[0], video.first, video)
    return found == len(at)
