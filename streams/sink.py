"""Rows into ClickHouse, exactly once: conditional inserts, counted, and read back whenever the outcome is unknown."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from urllib3.exceptions import HTTPError

from infra.service.clickhouse import ClickHouseError, Client, insert_if
from infra.service.logs import logger
from streams import metrics
from streams.ownership import Claim, Ownership
from streams.patience import Patience
from streams.stored import Stored, missing, read_back

log = logger(__name__)

# MergeTree partitions (months) that one insert touches at most; the engine refuses more than 100.
MONTHS = 50
# What asking ClickHouse may raise; the outcome of an insert that raised is unknown.
ERRORS = (ClickHouseError, HTTPError, OSError)

Table = Literal["events", "rejects", "packets"]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one batch, in the order in which the tables are written: a packet's row comes after its rows."""

    events: pa.Table
    rejects: pa.Table
    packets: pa.Table

    def tables(self) -> tuple[tuple[Table, pa.Table], ...]:
        """Table names and rows in the order of writing."""
        return ("events", self.events), ("rejects", self.rejects), ("packets", self.packets)

    def of(self, partitions: set[int]) -> Rows:
        """The rows of these partitions."""
        wanted = pa.array(sorted(partitions), pa.uint16())
        return Rows(*(table.filter(pc.is_in(table["partition"], wanted)) for _, table in self.tables()))

    def missing(self, stored: Mapping[int, Stored]) -> Rows:
        """The rows that are not stored."""
        return Rows(*(missing(table, stored, name) for name, table in self.tables()))


class Sink:
    """The only writer of a worker's rows. `store` returns once all rows stand or the partition is another's."""

    def __init__(self, client: Client, ownership: Ownership, generation: int, patience: Patience) -> None:
        self._client = client
        self._ownership = ownership
        self._generation = generation
        self._patience = patience

    def store(
        self, rows: Rows, claims: Mapping[int, Claim], stored: Mapping[int, Stored] | None = None
    ) -> dict[int, Claim]:
        """Store the rows, all of partitions of `claims`; raises Stopping. `stored` is what stands already.

        Returns the claims under which all their rows are stored. They may be newer than those given; a partition that
        is missing was lost to another worker, and its rows may be stored in part.
        """
        held = dict(claims)
        everything, unsure = rows, ""
        if stored:
            rows = rows.missing(stored)
        while held:
            try:
                self._patience.check()
                if unsure:
                    unknown = unsure == "unknown"
                    held = self._ownership.renew(held) if unknown else self._ownership.held(held.values())
                    rows = everything.of(set(held)).missing(self._spans(everything, held))
                unsure = "" if self._insert(rows, held) else "fenced"
            except ERRORS as error:
                unsure = "unknown"
                metrics.unknown.inc()
                self._patience.wait("clickhouse", error)
            else:
                self._patience.over()
                if not unsure:
                    return held
                metrics.fenced.inc()
                log.warning("insert_fenced", partitions=sorted(held))
        return held

    def _insert(self, rows: Rows, claims: Mapping[int, Claim]) -> bool:
        condition = self._ownership.condition(claims.values())
        for name, table in rows.tables():
            for part in by_months(table):
                started = time.monotonic()
                query_id = self._ownership.query_id(claims.values())
                written = insert_if(self._client, name, part, condition, query_id=query_id)
                metrics.insert_seconds.labels(name).observe(time.monotonic() - started)
                if written != part.num_rows:
                    return False
        return True

    def _spans(self, rows: Rows, claims: Mapping[int, Claim]) -> dict[int, Stored]:
        offsets, partitions = rows.packets["offset"].to_numpy(), rows.packets["partition"].to_numpy()
        found = {}
        for partition in claims:
            own = offsets[partitions == partition]
            if len(own):
                found[partition] = read_back(self._client, partition, self._generation, int(own.min()), int(own.max()))
        return found


def by_months(table: pa.Table) -> Iterator[pa.Table]:
    """The rows in tables of at most MONTHS months each; nothing for an empty table."""
    if not table.num_rows:
        return
    column = next(name for name in ("time", "received_at", "appended_at") if name in table.column_names)
    months = table[column].to_numpy().astype("datetime64[M]")
    distinct = np.unique(months)
    if len(distinct) <= MONTHS:
        yield table
        return
    for start in range(0, len(distinct), MONTHS):
        yield table.filter(pa.array(np.isin(months, distinct[start : start + MONTHS])))
