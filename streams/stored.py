"""What ClickHouse already holds of a partition from an offset on: read back whenever it is not known.

An offset with a row in `packets` is settled: all its rows were stored before, and none is inserted again, even when
one was erased since. At other offsets single rows may stand, left by an insert that was cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from infra.service.clickhouse import Client

# offset -> the indexes that have a row
Names = Mapping[int, frozenset[int]]


@dataclass(frozen=True, slots=True)
class Stored:
    """Of one partition: settled ranges of offsets [first, after), rising, and the rows beside them."""

    settled: tuple[tuple[int, int], ...] = ()
    events: Names = field(default_factory=dict)
    rejects: Names = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The offset from which on nothing is stored; 0 when nothing is stored at all."""
        ends = [after for _, after in self.settled[-1:]]
        ends += [max(names) + 1 for names in (self.events, self.rejects) if names]
        return max(ends, default=0)

    def keep(self, offsets: npt.NDArray[np.uint64], indexes: npt.NDArray[np.uint32] | None, names: Names) -> Mask:
        """Which rows of this partition, by offset and index, are not stored."""
        keep = np.ones(len(offsets), np.bool_)
        for first, after in self.settled:
            keep &= (offsets < first) | (offsets >= after)
        if indexes is not None:
            for offset, stored in names.items():
                at = np.flatnonzero(offsets == offset)
                keep[at[np.isin(indexes[at], np.array(sorted(stored), np.uint32))]] = False
        return keep


Mask = npt.NDArray[np.bool_]


def missing(table: pa.Table, stored: Mapping[int, Stored], kind: str) -> pa.Table:
    """The rows of `table` (for the table named `kind`: events, rejects or packets) that are not stored."""
    if not table.num_rows:
        return table
    partitions = table["partition"].to_numpy()
    keep = np.ones(len(partitions), np.bool_)
    for partition, known in stored.items():
        at = np.flatnonzero(partitions == partition)
        if len(at) and known.end:
            rows = table.take(pa.array(at))
            indexes = None if kind == "packets" else rows["index"].to_numpy()
            names: Names = {} if kind == "packets" else getattr(known, kind)
            keep[at] = known.keep(rows["offset"].to_numpy(), indexes, names)
    return table if keep.all() else table.filter(pa.array(keep))


def read_back(client: Client, partition: int, generation: int, first: int, last: int | None = None) -> Stored:
    """What is stored of the offsets `first` to `last` (to the end where None)."""
    place = f"`partition` = {partition} AND generation = {generation} AND `offset` >= {first}"
    if last is not None:
        place += f" AND `offset` <= {last}"
    settled = islands(client, place)
    beside = f"{place} AND `offset` NOT IN (SELECT `offset` FROM packets WHERE {place})"
    names: dict[str, Names] = {}
    for table in ("events", "rejects"):
        rows = client.query(
            f"SELECT `offset`, groupUniqArray(`index`) FROM {table} WHERE {beside} GROUP BY `offset`"
        ).result_rows
        names[table] = {int(offset): frozenset(indexes) for offset, indexes in rows}
    return Stored(settled, names["events"], names["rejects"])


def islands(client: Client, place: str) -> tuple[tuple[int, int], ...]:
    """The offsets of `packets` rows at `place` (SQL) as rising ranges [first, after)."""
    rows = client.query(
        "SELECT min(`offset`), max(`offset`) + 1 FROM ("
        "SELECT `offset`, `offset` - row_number() OVER (ORDER BY `offset`) AS island FROM ("
        f"SELECT DISTINCT `offset` FROM packets WHERE {place})) GROUP BY island ORDER BY 1"
    ).result_rows
    return tuple((int(first), int(after)) for first, after in rows)
