"""`thumbnails`: one job of the media worker's decoder, against ffmpeg's own command for the same picture.

Storyboard: `-skip_frame nokey`, scale and tile, JPEG. Poster: `-ss` into the video, the thumbnail filter, one frame.
Values are wall time of one job, so less is better; CPU time stands beside. Two at once: the same storyboards by two
decoders, against one, which shows how jobs scale with cores. The clip is 6 minutes of 1080p with a keyframe every
eight seconds: the one of VEILSTREAM_TEST_MEDIA where it is set, else one that is made.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil

from gpu_workers.inputs import Limits
from gpu_workers.supervisor import Decoder
from gpu_workers.thumbnails import Task
from schemas.outputs import Poster, Storyboard, Wanted
from tests.benchmarks.frame import BenchmarkError, Frame
from tests.benchmarks.frame.processes import Tree
from tests.benchmarks.frame.result import Result, Setting
from tests.benchmarks.frame.rounds import Sample, interleaved

CLIP = "long_1080p_lowbitrate.mp4"
LIMITS = Limits(bytes=1 << 32, pixels=8192 * 4608, seconds=86400.0, streams=64)
MEMORY = 4 << 30
SECONDS = 600.0  # at most, for one job
POSTER, BOARD = Poster(width=1280), Storyboard(width=160, tiles=49)
AT_ONCE = 2


def run(frame: Frame) -> Result:
    """Each job in turns with ffmpeg's command for it."""
    clip = _clip(frame)
    out = frame.folder / "theirs.jpg"
    board = ["-skip_frame", "nokey", "-i", str(clip), "-vf", "scale=160:-2,tile=7x7"]
    poster = ["-ss", "30", "-i", str(clip), "-vf", "thumbnail,scale=1280:-2"]
    with ExitStack() as stack:
        decoders = [Decoder(MEMORY) for _ in range(AT_ONCE)]
        for decoder in decoders:
            stack.callback(decoder.stop)
            _job(decoder, clip, frame.folder, (POSTER,))  # warm, as a worker's is
        lanes: dict[str, Callable[[], Sample]] = {
            "storyboard": partial(_ours, decoders[:1], clip, frame.folder, (BOARD,)),
            "ffmpeg storyboard": partial(_theirs, [*board, "-frames:v", "1", "-update", "1", str(out)]),
            "poster": partial(_ours, decoders[:1], clip, frame.folder, (POSTER,)),
            "ffmpeg poster": partial(_theirs, [*poster, "-frames:v", "1", "-update", "1", str(out)]),
            "all at once": partial(_ours, decoders, clip, frame.folder, (BOARD,)),
        }
        series = interleaved(lanes, frame.rounds, frame.say)
    settings = [
        Setting("storyboard", series["storyboard"], series["ffmpeg storyboard"], "less"),
        Setting("poster", series["poster"], series["ffmpeg poster"], "less"),
        Setting(f"storyboard, {AT_ONCE} at once", series["all at once"], series["storyboard"], "less"),
    ]
    name = "ffmpeg's command for the same; for several at once, one of ours alone"
    return Result("thumbnails", "seconds of wall time per job", "job", name, settings, {"clip": clip.name})


def _clip(frame: Frame) -> Path:
    folder = os.environ.get("VEILSTREAM_TEST_MEDIA")
    if folder and (path := Path(folder) / CLIP).is_file():
        return path
    made = frame.folder / "clip.mp4"
    source = f"testsrc2=s=1920x1080:r=30:d={frame.pick(360, 30)}"
    encode = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "250", "-pix_fmt", "yuv420p", str(made)]
    frame.say("making a clip")
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", source, *encode], check=True)
    return made


def _job(decoder: Decoder, clip: Path, folder: Path, outputs: tuple[Wanted, ...]) -> None:
    if not decoder.run(Task(str(clip), None, outputs, str(folder), "ours", LIMITS), SECONDS).outputs:
        raise BenchmarkError("the decoder made nothing")


def _ours(decoders: Sequence[Decoder], clip: Path, folder: Path, outputs: tuple[Wanted, ...]) -> Sample:
    """A job each, of decoders that work at once; wall time is that per job."""
    pids = [decoder.pid for decoder in decoders if decoder.pid is not None]
    trees = [Tree([pid]) for pid in pids]
    before = sum(tree.usage().cpu for tree in trees)
    with ThreadPoolExecutor(len(decoders)) as pool:
        began = time.monotonic()
        for done in [pool.submit(_job, decoder, clip, folder / str(n), outputs) for n, decoder in enumerate(decoders)]:
            done.result()
        wall = time.monotonic() - began
    usage = [tree.usage() for tree in trees]
    count = len(decoders)
    return Sample(wall / count, count, sum(one.cpu for one in usage) - before, max(one.peak for one in usage))


def _theirs(arguments: Sequence[str]) -> Sample:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = psutil.Popen(["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments])
    if status := process.wait(SECONDS):
        raise BenchmarkError(f"ffmpeg ended with status {status}")
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Sample(wall, 1, cpu, after.ru_maxrss << 10)
