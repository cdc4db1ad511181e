"""A batch of Kafka records becomes rows: the pure core of the worker, as columns.

    process(records, states, lookups) -> Outcome(events, rejects, packets, apply)

Nothing here reads a clock, draws a random number or touches the network; running any part of the log again,
from the state before it and however it is cut into batches, gives the same rows. `Outcome.apply` makes the
changes of state effective and is called after the inserts held; until then the states are as they were, and the
batch may be processed again or dropped. Batches of a partition are processed and applied one after the other,
from one thread (the caches of raw values are shared).

The shell rebuilds a state as `streams.state` says. What is missing around the core is raised as `Surroundings`
(see there), never turned into a rejected event. An exception of a stage is the fault of an event: the rows are
halved until it stands alone, and it alone is rejected with `internal_error`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import pyarrow as pa

from schemas.tables import EVENTS, PACKETS, REJECTS
from streams import describe, gather, repeats, tables, visits
from streams.description import Description
from streams.gather import Gathered
from streams.state import VISIT_STATE_COLUMNS, PartitionState
from streams.surroundings import Lookups, PolicyMissing, PolicyUnusable, SecretMissing, Surroundings

__all__ = [
    "VISIT_STATE_COLUMNS",
    "Lookups",
    "Outcome",
    "PartitionState",
    "PolicyMissing",
    "PolicyUnusable",
    "Record",
    "SecretMissing",
    "StaleOutcome",
    "Surroundings",
    "process",
]


class Record(msgspec.Struct, frozen=True):
    """One Kafka record. `generation`: order of its topic id; `appended_ms`: the broker's LogAppendTime."""

    partition: int
    offset: int
    generation: int
    appended_ms: int
    value: bytes


class Begun(NamedTuple):
    """A batch whose events are described, and not followed to their visits yet."""

    gathered: Gathered
    pieces: list[Description]


class StaleOutcome(RuntimeError):
    """The state has moved on since this batch was processed; process it again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rows for the tables of the same names (schemas.tables), in the order of the records."""

    events: pa.Table
    rejects: pa.Table
    packets: pa.Table
    _commit: Callable[[], None]

    def apply(self) -> None:
        """Make the changes of state effective, once, after the inserts held; raises StaleOutcome."""
        self._commit()


def process(
    records: Sequence[Record],
    states: Mapping[int, PartitionState],
    lookups: Lookups,
    begun: list[Begun] | None = None,
) -> Outcome:
    """The rows of these records, given in rising offset per partition; raises Surroundings.

    `states` holds the state of every partition among the records, as of its first record here. `begun`, an empty list,
    takes what is done before something is found missing: the same call with it again goes on from there.
    """
    begun = [] if begun is None else begun
    if not begun:
        begun.append(_begin(records, states, lookups))
    gathered, pieces = begun[0]
    followed = visits.follow(gathered, pieces, lookups)
    steps = zip(pieces, followed, strict=True)
    repeats.remember(gathered, [(piece.kept[f.stored], piece.repeats.take(f.stored)) for piece, f in steps])
    events = tables.events(gathered, pieces, followed, EVENTS)
    return Outcome(
        events=events,
        rejects=tables.rejects(gathered, pieces, followed, REJECTS),
        packets=tables.packets(gathered, pieces, events, PACKETS),
        _commit=_commit(gathered),
    )


def _begin(records: Sequence[Record], states: Mapping[int, PartitionState], lookups: Lookups) -> Begun:
    gathered = gather.gather(records, states, lookups)
    pieces = describe.describe(gathered.rows, repeats.Earlier(gathered, lookups), lookups) if len(gathered.rows) else []
    if pieces:
        for piece, doubts in zip(pieces, repeats.among(gathered, [(p.kept, p.repeats) for p in pieces]), strict=True):
            piece.doubts = doubts
    return Begun(gathered, pieces)


def _commit(gathered: Gathered) -> Callable[[], None]:
    expected = [(overlay, overlay.state.applied) for overlay in gathered.overlays.values()]

    def commit() -> None:
        if any(overlay.state.applied != applied for overlay, applied in expected):
            raise StaleOutcome("this outcome was applied before, or its state has moved on")
        for overlay, _ in expected:
            overlay.commit()

    return commit
