"""Rows of `events` as the worker's core makes them of generated events, and more of the same kind from a few."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from infra.load.sites import ModelSite
from infra.service.settings import Settings
from schemas.packets import Header
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import EVENTS
from streams.batch import PartitionState, Record, process
from streams.surroundings import Asked, AskedVisits
from streams.window import Run
from tests.benchmarks.frame.events import Events, model_sites
from tests.benchmarks.frame.packing import RATE, Collectors

SITES = 200


class Lookups:
    """What the core asks for: one set of policies, and a secret for every date."""

    def __init__(self, policies: PolicySet) -> None:
        self._policies = policies

    def policies(self, version: bytes) -> PolicySet:
        """The set, whatever the version."""
        return self._policies

    def open(self, value: bytes, head: Header, partition: int) -> bytes:
        """No packet of these benchmarks is sealed."""
        raise AssertionError("no packet here is sealed")

    def identities(self, asked: Sequence[Asked]) -> Sequence[Run]:
        """No row of these benchmarks is late."""
        raise AssertionError("an event is late")

    def visits(self, asked: Sequence[AskedVisits]) -> Sequence[Sequence[tuple[object, ...]]]:
        """No row of these benchmarks is late."""
        raise AssertionError("an event is late")

    def day_secret(self, date: date) -> bytes:
        """32 bytes that depend on the date."""
        return b"%032d" % date.toordinal()

    def site_key(self, site: int) -> bytes:
        """32 bytes that depend on the site."""
        return b"%032d" % site


def policies_of(sites: list[ModelSite]) -> PolicySet:
    """The policies of model sites."""
    return PolicySet({site.id: SitePolicy(timezone=site.timezone, domains=(site.domain,)) for site in sites})


def real_rows(count: int, seed: int = 5) -> pa.Table:
    """The rows of so many events that come in now (some have none); all of one batch."""
    sites = model_sites(SITES)
    policies = policies_of(sites)
    now = time.time_ns() // 1_000_000
    collectors = Collectors(1, Settings(), policies.version, seed=seed)
    packets = collectors.packets(islice(Events(seed, sites), count), now - int(count / RATE * 1000))
    offsets: dict[int, int] = {}
    records = []
    for partition, value in packets:
        offset = offsets[partition] = offsets.get(partition, -1) + 1
        records.append(Record(partition, offset, 1, now, value))
    states = {partition: PartitionState() for partition in offsets}
    return process(records, states, Lookups(policies)).events


def with_columns(rows: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    """The rows with some columns replaced by arrays, which are cast to the table's types."""
    for name, values in columns.items():
        kind = EVENTS.field(name).type
        array = pa.array(values)
        if pa.types.is_timestamp(kind):
            array = array.cast(pa.int64()).view(kind)
        rows = rows.set_column(EVENTS.get_field_index(name), EVENTS.field(name), array.cast(kind))
    return rows


def repeated(rows: pa.Table, count: int) -> pa.Table:
    """So many rows, by repeating these."""
    return rows.take(pa.array(np.arange(count) % rows.num_rows))
