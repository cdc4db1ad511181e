"""What the stages that look at an event alone make of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from streams.repeats import Doubts, Identities

U64 = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Description:
    """What is known of some rows without looking at visits.

    `rows`: their numbers in the batch; `verdict`: one number of `verdicts.VERDICTS` each; the rest has one entry
    per kept row, `kept` being its number in the batch. `columns` lacks name, place, visit and identity.
    """

    rows: Codes
    verdict: npt.NDArray[np.uint8]
    kept: Codes
    columns: dict[str, pa.Array] = field(default_factory=dict)
    time: list[int] = field(default_factory=list)
    user: list[int] = field(default_factory=list)
    visitor: list[int] = field(default_factory=list)
    config: list[int] = field(default_factory=list)
    visit_name: list[int] = field(default_factory=list)
    action: list[int] = field(default_factory=list)
    new_visit: list[bool] = field(default_factory=list)
    campaign: list[str] = field(default_factory=list)
    repeats: Identities = field(default_factory=lambda: Identities.none(0))
    doubts: Doubts = field(default_factory=Doubts)
