"""How long a video job takes, by what this fleet has measured: seconds of decode work, retries and waiting left out.

Jobs that make the same kinds of outputs are one class. Of a class that was measured often enough, a line is laid
through seconds over bytes of the source (least squares); it counts where it rises and the size is known, else the mean
of the class, else that of all jobs, else ASSUMED.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.service.clickhouse import Client
from schemas.outputs import At, Frames, Kind, Poster, Preview, Scenes, Storyboard, Wanted
from schemas.videos import Job, State

ASSUMED = 10.0  # seconds of a job, before any was measured
DAYS, JOBS = 7, 2000  # how far back, and how many of the last jobs count
ENOUGH = 5  # jobs of a class
MADE: Mapping[type[Wanted], Kind] = {
    Poster: Kind.POSTER,
    Frames: Kind.FRAME,
    At: Kind.FRAME,
    Scenes: Kind.SCENE,
    Storyboard: Kind.STORYBOARD,
    Preview: Kind.PREVIEW,
}
# Of each class its kinds, number, mean and least seconds, and the line through those whose size is known.
MEASURED = f"""
SELECT kinds, count(), avg(seconds), min(seconds), tupleElement(line, 1), tupleElement(line, 2),
    simpleLinearRegressionIf(bytes, seconds, bytes > 0) AS line
FROM (
    SELECT arraySort(arrayFilter(kind -> has({{kinds:Array(String)}}, kind), arrayDistinct(output_kind))) AS kinds,
        seconds, toFloat64(source_bytes) AS bytes
    FROM video_jobs FINAL
    WHERE state = '{State.DONE}' AND at > now() - INTERVAL {DAYS} DAY
    ORDER BY at DESC LIMIT {JOBS}
)
GROUP BY kinds
"""

Kinds = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Class:
    """Jobs that make the same kinds of outputs: how many, their mean and least seconds, and a line over bytes."""

    jobs: int
    mean: float
    least: float
    slope: float = 0.0  # seconds per byte
    begin: float = 0.0  # seconds

    def seconds(self, size: int) -> float:
        """Of a job whose source has so many bytes; 0 where that is not known."""
        if size and math.isfinite(self.begin) and math.isfinite(self.slope) and self.slope > 0:
            return max(self.begin + self.slope * size, self.least)
        return self.mean


@dataclass(frozen=True, slots=True)
class Pace:
    """What was measured, by kinds of outputs."""

    classes: Mapping[Kinds, Class] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        """How many jobs it is drawn from."""
        return sum(found.jobs for found in self.classes.values())

    @property
    def mean(self) -> float:
        """Seconds of any job."""
        return sum(found.mean * found.jobs for found in self.classes.values()) / self.jobs if self.jobs else ASSUMED

    def seconds(self, job: Job) -> float:
        """What a job is expected to take."""
        found = self.classes.get(kinds_of(job.outputs))
        return found.seconds(job.bytes) if found is not None and found.jobs >= ENOUGH else self.mean


def kinds_of(outputs: Iterable[Wanted]) -> Kinds:
    """The class of what is wanted."""
    return tuple(sorted({MADE[type(output)].value for output in outputs}))


def measured(client: Client) -> Pace:
    """As the table has it now; raises what the client raises."""
    kinds = sorted({kind.value for kind in MADE.values()})
    rows: Sequence[Sequence[Any]] = client.query(MEASURED, parameters={"kinds": kinds}).result_rows
    return Pace(
        {
            tuple(kinds): Class(int(jobs), float(mean), float(least), float(slope), float(begin))
            for kinds, jobs, mean, least, slope, begin, _ in rows
        }
    )
