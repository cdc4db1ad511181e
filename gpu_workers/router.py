"""Which engine makes a video's pictures: the one that is estimated to take the least time.

The estimate is wall time of one job: what it costs to begin, and for every megapixel that is decoded. A few frames cost
the CPU less than the GPU's first answer; every frame of a longer or larger video costs the GPU less. The figures were
measured (tests/gpu/RESULTS.md) and are kept here as a table; what is not in it, keyframes alone included, is the CPU's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_workers.pictures import colour_of
from gpu_workers.video import Video
from schemas.videos import Engine


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds to begin, pictures included, and per megapixel decoded."""

    begin: float
    megapixel: float


@dataclass(frozen=True, slots=True)
class Work:
    """What is decoded of a video: megapixels in all; `every`: every frame, not keyframes alone."""

    codec: str
    deep: bool
    every: bool
    megapixels: float


# By codec and whether it has more than 8 bits: of the CPU (two threads) and of a GPU (NVIDIA H200).
MEASURED: dict[tuple[str, bool], tuple[Cost, Cost]] = {
    ("h264", False): (Cost(0.051, 0.00120), Cost(0.158, 0.00081)),
    ("hevc", False): (Cost(0.051, 0.00159), Cost(0.158, 0.00032)),
    ("hevc", True): (Cost(0.051, 0.00231), Cost(0.158, 0.00039)),
}


def work(video: Video, moments: Sequence[float]) -> Work:
    """What the frames at these moments cost to decode. Reads nothing: keyframes alone, or all frames, by the same rule
    as `Video.frames`."""
    width, height = video.coded
    frames = video.duration * video.rate if video.exact else float(len(moments))
    deep = colour_of(video.first.frame).bits > 8
    return Work(video.source.codec, deep, video.exact, max(frames, len(moments)) * width * height / 1e6)


def seconds(wanted: Work, cost: Cost) -> float:
    """The estimate."""
    return cost.begin + wanted.megapixels * cost.megapixel


def cheapest(wanted: Work) -> Engine:
    """The engine for it."""
    costs = MEASURED.get((wanted.codec, wanted.deep))
    if costs is None or not wanted.every:
        return Engine.CPU
    on_cpu, on_gpu = (seconds(wanted, cost) for cost in costs)
    return Engine.CUDA if on_gpu < on_cpu else Engine.CPU
