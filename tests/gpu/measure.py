"""`python -m tests.gpu.measure sessions|crossover`: what a GPU decodes in a second, and from which work on it is the
faster engine. What was seen stands in RESULTS.md; the router's table comes from it.

Clips are made by the ffmpeg that is found on PATH: a moving test picture with noise, whose strength sets the bit rate.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from threading import Event, Thread

from gpu_workers.cuda import decoded
from gpu_workers.failures import Failure
from gpu_workers.inputs import Limits
from gpu_workers.nvml import Nvml
from gpu_workers.thumbnails import Task, make
from schemas.videos import DEFAULT_OUTPUTS, Engine

LIMITS = Limits(bytes=1 << 32, pixels=8192 * 4608, seconds=86400.0, streams=64)
SESSIONS = (1, 7, 14)
REPEATS = 2
DECODED = 2_000  # frames of each session


@dataclass(frozen=True)
class Clip:
    """How a clip is made. `key`: frames between keyframes; `noise`: 0 to 100."""

    name: str
    encoder: str
    size: str
    seconds: int
    key: int
    noise: int
    pixels: str = "yuv420p"

    def write(self, folder: Path) -> Path:
        """Makes it at 30 frames a second."""
        path = folder / f"{self.name}.mp4"
        source = f"testsrc2=s={self.size}:r=30:d={self.seconds},noise=alls={self.noise}:allf=t,format={self.pixels}"
        coding = ["-c:v", self.encoder, "-preset", "ultrafast", "-g", str(self.key)]
        coding += ["-x265-params", "log-level=none"] if self.encoder == "libx265" else []
        command = ["ffmpeg", "-v", "error", "-y", "-nostdin", "-f", "lavfi", "-i", source, *coding, str(path)]
        subprocess.run(command, check=True)
        return path


CLIPS = (
    Clip("h264-360p-10s", "libx264", "640x360", 10, 250, 4),
    Clip("h264-1080p-10s", "libx264", "1920x1080", 10, 250, 4),
    Clip("h264-1080p-30s", "libx264", "1920x1080", 30, 250, 4),
    Clip("h264-1080p-30s-high", "libx264", "1920x1080", 30, 250, 16),
    Clip("h264-1080p-60s", "libx264", "1920x1080", 60, 250, 2),
    Clip("h264-2160p-5s", "libx264", "3840x2160", 5, 250, 4),
    Clip("hevc-1080p-10s", "libx265", "1920x1080", 10, 250, 4),
    Clip("hevc10-1080p-10s", "libx265", "1920x1080", 10, 250, 4, "yuv420p10le"),
    Clip("hevc10-2160p-5s", "libx265", "3840x2160", 5, 250, 4, "yuv420p10le"),
)


def crossover(folder: Path) -> Iterator[dict[str, object]]:
    """Seconds of one job (poster and storyboard), the best of some, by every engine, in a process that is warm."""
    for clip in CLIPS:
        path = clip.write(folder)
        row: dict[str, object] = {"clip": clip.name, "frames": 30 * clip.seconds, "bytes": path.stat().st_size}
        for engine in (Engine.CPU, Engine.CUDA, Engine.CUDA_CLI):
            task = Task(str(path), None, DEFAULT_OUTPUTS, str(folder), engine, LIMITS, engine, 0)
            try:
                row[engine] = min(make(task).seconds for _ in range(REPEATS))
            except Failure as failure:
                row[engine] = str(failure)
        yield row
        path.unlink()


def _count(path: str, index: int | None, most: int) -> int:
    return sum(1 for _ in islice(decoded(path, index), most))


def sessions(path: Path) -> Iterator[dict[str, object]]:
    """Frames per second of so many processes that decode one clip each, on the GPU and on the CPU, one thread each."""
    nvml = Nvml()
    for index in (0, None):
        for number in SESSIONS:
            with get_context("spawn").Pool(number) as pool:
                pool.starmap(_count, [(str(path), index, 1)] * number)  # so that contexts are there
                seen: list[float] = []
                done = Event()

                def look(done: Event = done, seen: list[float] = seen) -> None:
                    while not done.wait(0.1):
                        for gpu in nvml.snapshot().gpus[:1]:
                            seen.append(gpu.decoder or 0.0)

                looking = Thread(target=look)
                looking.start()
                began = time.monotonic()
                frames = sum(pool.starmap(_count, [(str(path), index, DECODED)] * number, chunksize=1))
                wall = time.monotonic() - began
                done.set()
                looking.join()
            yield {
                "on": "cpu" if index is None else "gpu",
                "sessions": number,
                "frames_per_second": round(frames / wall),
                "decoder_percent": max(seen, default=0.0),
            }
    nvml.close()


def main() -> None:
    """Arguments: what to measure; for sessions the clip too. Prints a line of JSON for every figure."""
    with tempfile.TemporaryDirectory() as folder:
        rows = crossover(Path(folder)) if sys.argv[1] == "crossover" else sessions(Path(sys.argv[2]))
        for row in rows:
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
