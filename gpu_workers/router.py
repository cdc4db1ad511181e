"""Which engine makes a video's pictures: the one that is estimated to take the least time.

The estimate is wall time of one job: what it costs to begin, and for every megapixel that is decoded. A few keyframes
cost the CPU less than the GPU's first answer; every frame of a long or large video costs the GPU less. The figures were
measured (tests/gpu/RESULTS.md) and are kept here as a table; a GPU that decodes by no table is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_workers.pictures import colour_of
from gpu_workers.video import Video
from schemas.videos import Engine


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds to begin, per frame that becomes a picture, and per megapixel decoded."""

    begin: float
    picture: float
    megapixel: float


@dataclass(frozen=True, slots=True)
class Work:
    """What is decoded of a video: frames in all, among them those that become pictures; megapixels of each."""

    codec: str
    deep: bool
    frames: float
    pictures: int
    megapixels: float


# (codec, more than 8 bits)
CPU: dict[tuple[str, bool], Cost] = {}
CUDA: dict[tuple[str, bool], Cost] = {}
OTHERS = Cost(0.0, 0.0, 0.002)  # of the CPU


def work(video: Video, moments: Sequence[float]) -> Work:
    """What the frames at these moments cost to decode. Reads nothing: keyframes alone, or all frames, by the same rule
    as `Video.frames`."""
    width, height = video.coded
    exact = video.exact
    frames = video.duration * video.rate if exact else float(len(moments))
    deep = colour_of(video.first.frame).bits > 8
    return Work(video.source.codec, deep, max(frames, len(moments)), len(moments), width * height / 1e6)


def seconds(wanted: Work, cost: Cost) -> float:
    """The estimate."""
    return cost.begin + wanted.pictures * cost.picture + wanted.frames * wanted.megapixels * cost.megapixel


def cheapest(wanted: Work) -> Engine:
    """The engine for it."""
    kind = wanted.codec, wanted.deep
    on_device = CUDA.get(kind)
    if on_device is None:
        return Engine.CPU
    return Engine.CUDA if seconds(wanted, on_device) < seconds(wanted, CPU.get(kind, OTHERS)) else Engine.CPU
