"""`crossover`: from which work on another engine than the CPU is the faster one, as the router decides by.

A job of poster and storyboard on clips that take ever more decoding, by the CPU in process and by the engine it is
compared with: CUDA in process where a GPU is, else ffmpeg's command line on the CPU, which shows the frame and decides
nothing. `costs` has, for each codec, the seconds to begin and per megapixel of both engines: the table by which the
router decides (`gpu_workers.router`), which is written to `frame.table`, where there is one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

from gpu_workers.cuda import NoDevice, retain
from gpu_workers.inputs import Limits
from gpu_workers.nvml import Nvml
from gpu_workers.router import Cost, Table, Work, load, stored, work
from gpu_workers.thumbnails import Task, make
from gpu_workers.video import open_video
from infra.service.files import replace
from schemas.outputs import DEFAULT_OUTPUTS
from schemas.videos import Engine, plain
from tests.benchmarks.frame import Frame
from tests.benchmarks.frame.result import Result, Setting
from tests.benchmarks.frame.rounds import Sample, Series, interleaved
from tests.gpu.measure import CLIPS, Clip

ROUNDS = 3
LIMITS = Limits(bytes=1 << 32, pixels=8192 * 4608, seconds=86400.0, streams=64)
QUICK = 2  # clips


def run(frame: Frame) -> Result:
    """Every clip in turns by both engines."""
    other = _other()
    frame.say(f"compared with {other}")
    settings, points = [], []
    for clip in CLIPS[: frame.pick(len(CLIPS), QUICK)]:
        frame.say(f"making {clip.name}")
        path = clip.write(frame.folder)
        lanes = {engine: partial(_job, path, frame.folder, engine) for engine in (Engine.CPU, other)}
        series = interleaved({str(engine): lane for engine, lane in lanes.items()}, frame.rounds, frame.say)
        settings.append(Setting(clip.name, series[other], series[Engine.CPU], "less"))
        points.append((clip, _work(path), series))
        path.unlink()
    table = Table(_machine(other), datetime.now(UTC).date().isoformat(), _costs(points, other))
    if frame.table is not None:
        replace(frame.table, stored(table), 0o644)
        load(frame.table)
        frame.say(f"written to {frame.table}")
    details = {"engine": other, "costs": plain(table)["costs"], "table": frame.table and str(frame.table)}
    return Result("crossover", "seconds of a job", "job", "the CPU engine in process", settings, details)


def _other() -> Engine:
    try:
        retain(0)
    except NoDevice:
        return Engine.CPU_CLI
    return Engine.CUDA


def _job(path: Path, folder: Path, engine: Engine) -> Sample:
    task = Task(str(path), None, DEFAULT_OUTPUTS, str(folder), engine, LIMITS, engine, 0)
    return Sample(make(task).seconds, 1)


def _work(path: Path) -> Work:
    with path.open("rb") as file, open_video(file.fileno(), LIMITS) as video:
        return work(video, [])


def _machine(other: Engine) -> str:
    gpus = Nvml().snapshot().gpus
    gpu = gpus[0].name if gpus and other is Engine.CUDA else "no GPU"
    return f"{gpu}, {os.cpu_count()} CPUs"


def _costs(points: Sequence[tuple[Clip, Work, dict[str, Series]]], other: Engine) -> tuple[Cost, ...]:
    """By codec and depth, and by engine: seconds to begin and per megapixel, by least squares over its clips."""
    found = []
    for codec, deep in dict.fromkeys((point.codec, point.deep) for _, point, _ in points):
        mine = [(point.megapixels, series) for _, point, series in points if (point.codec, point.deep) == (codec, deep)]
        if len({pixels for pixels, _ in mine}) < 2:
            continue
        for engine in (Engine.CPU, other):
            pixels = [one for one, _ in mine]
            seconds = [median(series[engine].values) for _, series in mine]
            middle, mean = sum(pixels) / len(pixels), sum(seconds) / len(seconds)
            slope = sum((x - middle) * (y - mean) for x, y in zip(pixels, seconds, strict=True)) / sum(
                (x - middle) ** 2 for x in pixels
            )
            if slope > 0:  # else the clips were too few to tell
                found.append(Cost(codec, deep, engine, round(mean - slope * middle, 4), round(slope, 7)))
    return tuple(cost for cost in found if cost.megapixel > 0)
