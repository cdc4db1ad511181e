"""Which engine makes a video's pictures: the one that is estimated to take the least time.

The estimate is wall time of one job: what it costs to begin, and for every megapixel that is decoded. A few frames cost
the CPU less than the GPU's first answer; every frame of a longer or larger video costs the GPU less. The figures are a
table that `veilstream bench crossover` measures and stores; without one it is DEFAULT. What is not in it, keyframes
alone included, is the CPU's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from gpu_workers.pictures import colour_of
from gpu_workers.video import Video
from schemas.videos import Engine


class Cost(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine takes for a codec, with (`deep`) or without more than 8 bits: seconds to begin, pictures included,
    and per megapixel decoded."""

    codec: str
    deep: bool
    engine: Engine
    begin: float
    megapixel: Annotated[float, msgspec.Meta(gt=0)]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The costs of the engines on one machine. `device`: its GPU and CPU, `measured`: the day."""

    device: str
    measured: str
    costs: tuple[Cost, ...]

    def cost(self, codec: str, deep: bool, engine: Engine) -> Cost | None:
        """None where it was not measured."""
        wanted = codec, deep, engine
        return next((cost for cost in self.costs if (cost.codec, cost.deep, cost.engine) == wanted), None)


class TableError(ValueError):
    """A stored table cannot be used; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is decoded of a video: megapixels in all; `every`: every frame, not keyframes alone."""

    codec: str
    deep: bool
    every: bool
    megapixels: float


DEFAULT = Table(
    "NVIDIA H200, two threads of the CPU",
    "as in tests/gpu/RESULTS.md",
    (
        Cost("h264", False, Engine.CPU, 0.051, 0.00120),
        Cost("h264", False, Engine.CUDA, 0.158, 0.00081),
        Cost("hevc", False, Engine.CPU, 0.051, 0.00159),
        Cost("hevc", False, Engine.CUDA, 0.158, 0.00032),
        Cost("hevc", True, Engine.CPU, 0.051, 0.00231),
        Cost("hevc", True, Engine.CUDA, 0.158, 0.00039),
    ),
)


def load(path: Path) -> Table:
    """A stored table. Raises TableError, or FileNotFoundError where there is none."""
    advice = "measure it again with `veilstream bench crossover`, or remove it"
    try:
        table = msgspec.json.decode(path.read_bytes(), type=Table)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TableError(f"{path}: the router's table cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise TableError(f"{path}: this is no table of the router ({error}); {advice}") from None
    seen = [(cost.codec, cost.deep, cost.engine) for cost in table.costs]
    if len(set(seen)) < len(seen):
        raise TableError(f"{path}: the router's table has two costs for one codec and engine; {advice}")
    if not all(math.isfinite(cost.begin) and math.isfinite(cost.megapixel) for cost in table.costs):
        raise TableError(f"{path}: the router's table has a cost that is no number; {advice}")
    return table


def stored(table: Table) -> bytes:
    """A table as `load` reads it."""
    return msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n"


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


def cheapest(wanted: Work, table: Table = DEFAULT) -> Engine:
    """The engine for it."""
    on_cpu, on_gpu = (table.cost(wanted.codec, wanted.deep, engine) for engine in (Engine.CPU, Engine.CUDA))
    if on_cpu is None or on_gpu is None or not wanted.every:
        return Engine.CPU
    return Engine.CUDA if seconds(wanted, on_gpu) < seconds(wanted, on_cpu) else Engine.CPU
