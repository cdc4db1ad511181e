"""Rows of `recordings` and `heatmap`, month by month (`streams.anonymize.recordings.past`).

A row is inserted again under its name, which is all that the tables order by, and merged with itself: the later one
stays. Nothing is held meanwhile: what comes in between has names of its own, and what a worker stores a second time
under older rules is found by the check.

Recordings don't say whether consent was given. Where the rules of today ask for it, those that were made under rules
which did not are removed. Heatmaps name nobody, and no rules; of them the addresses and selectors are looked at, all
of the period each time.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from infra.past.scope import Scope, unhexed
from infra.removing import removing
from infra.service.clickhouse import connect, insert_if
from schemas.privacy import Consent
from schemas.recordings import selector
from schemas.tables import HEATMAP, RECORDINGS
from streams.anonymize.recordings.past import point, recording
from streams.swaps import TERM, State, Swap, Swaps

CHUNKS = 256  # recordings that are changed at once; each may have a megabyte
POINTS = 200_000  # rows of `heatmap` that are changed at once
PLACE = ("url_host", "url_path", "selector")
AT = "received_at"

Place = tuple[str, str, str]
Places = dict[Place, Place]


@dataclass(slots=True)
class Done:
    """What was done to a table. `rows`: brought under the rules of today. `left`: that still need to be."""

    rows: int = 0
    changed: int = 0
    removed: int = 0
    left: int = 0


class Recordings:
    """The rows of both tables in a scope; one run."""

    def __init__(self, scope: Scope, run: int) -> None:
        self._scope, self._client, self._run = scope, scope.client, run
        self._swaps = Swaps(self._client)
        self._unmask = tuple(map(selector, scope.policy.recordings.unmask))

    # -- recordings ------------------------------------------------------------------------------------------------

    def recordings(self, *, dry_run: bool = False) -> Done:
        """Bring those of the period under the rules of today, or only tell what would be changed."""
        done = Done()
        unwanted, without = self._unwanted()
        for month, count in without.items():
            done.removed += count
            if not dry_run:
                self._withdraw(month, unwanted, count)
        needs = self._needs()
        months = self._by_month("recordings FINAL", f"{needs} AND NOT ({unwanted})")
        if months and not dry_run:
            self._scope.publish()
        for month in months:
            where = f"{needs} AND NOT ({unwanted}) AND toYYYYMM({AT}) = {month}"
            if dry_run:
                for rows in self._scope.read("recordings FINAL", where, RECORDINGS, CHUNKS, CHUNKS):
                    done.rows += rows.num_rows
                    done.changed += self._masked(rows)[1]
            else:
                self._rewrite(month, where, done)
        if not dry_run:
            done.left = sum(self._by_month("recordings", self._needs()).values())
        return done

    def _needs(self) -> str:
        done = unhexed(self._scope.done(self._scope.versions("recordings", AT)))
        return f"{self._scope.period(AT)} AND policy_version NOT IN ({done})"

    def _unwanted(self) -> tuple[str, dict[int, int]]:
        """The SQL of recordings of which it is not known that consent was given, and how many by month."""
        if self._scope.rules.privacy.consent is not Consent.REQUIRED:
            return "0", {}
        asking = self._scope.done(())
        for version in self._scope.versions("recordings", AT):
            before = self._scope.before(version)
            if before is not None and before.privacy.consent is Consent.REQUIRED:
                asking.append(version)
        where = f"{self._scope.period(AT)} AND policy_version NOT IN ({unhexed(asking)})"
        return where, self._by_month("recordings FINAL", where)

    def _withdraw(self, month: int, where: str, count: int) -> None:
        with self._alone(month) as swap:
            for parts in removing(self._client, "recordings", month, where):
                self._scope.tell(f"recordings {month}: {parts} parts to be written anew")
                self._renew(swap)
            self._scope.record(self._run, "removed", "recordings", month, count, count, ())

    def _rewrite(self, month: int, where: str, done: Done) -> None:
        total = changed = 0
        with self._alone(month) as swap, connect(self._scope.settings) as writing:
            for rows in self._scope.read("recordings FINAL", where, RECORDINGS, CHUNKS, CHUNKS):
                new, differ = self._masked(rows)
                insert_if(writing, "recordings", new, "1", query_id=f"past-{secrets.token_hex(8)}")
                total += rows.num_rows
                changed += differ
                self._scope.tell(f"recordings {month}: {total} rows")
                self._renew(swap)
            self._merge("recordings", month, swap)
            self._scope.record(self._run, "anonymised", "recordings", month, total, changed, ())
        done.rows += total
        done.changed += changed

    def _masked(self, rows: pa.Table) -> tuple[pa.Table, int]:
        """The rows as the rules of today allow them, and how many differ."""
        old = rows.to_pylist()
        new = [row | recording(row, self._scope.rules, self._unmask) for row in old]
        changed = sum(a != b for a, b in zip(old, new, strict=True))
        for row in new:
            row["policy_version"] = self._scope.policies.version
        return pa.Table.from_pylist(new, RECORDINGS), changed

    # -- heatmap ---------------------------------------------------------------------------------------------------

    def heatmap(self, *, dry_run: bool = False) -> Done:
        """Bring its rows of the period under the rules of today, or only tell what would be changed."""
        done = Done()
        for month, new in self._places().items():
            where = f"{self._scope.period(AT)} AND toYYYYMM({AT}) = {month}"
            if dry_run:
                for rows in self._scope.read("heatmap FINAL", where, HEATMAP, POINTS):
                    changed = _placed(rows, new).num_rows
                    done.rows += changed
                    done.changed += changed
            else:
                self._replace(month, where, new, done)
        if not dry_run:
            done.left = sum(len(new) for new in self._places().values())
        return done

    def _places(self) -> dict[int, Places]:
        """By month, the places that the rules of today change, and what to."""
        found = self._client.query(
            f"SELECT DISTINCT toYYYYMM({AT}), {', '.join(PLACE)} FROM heatmap WHERE {self._scope.period(AT)}"
        ).result_rows
        out: dict[int, Places] = {}
        for month, *place in found:
            host, path, where = map(str, place)
            new = point(host, path, where, self._scope.rules)
            if new != (host, path, where):
                out.setdefault(int(month), {})[host, path, where] = new
        return dict(sorted(out.items()))

    def _replace(self, month: int, where: str, places: Places, done: Done) -> None:
        total = 0
        with self._alone(month) as swap, connect(self._scope.settings) as writing:
            for rows in self._scope.read("heatmap FINAL", where, HEATMAP, POINTS):
                new = _placed(rows, places)
                if new.num_rows:
                    insert_if(writing, "heatmap", new, "1", query_id=f"past-{secrets.token_hex(8)}")
                total += new.num_rows
                self._renew(swap)
            self._merge("heatmap", month, swap)
            self._scope.record(self._run, "anonymised", "heatmap", month, total, total, ())
        done.rows += total
        done.changed += total

    # -- both ------------------------------------------------------------------------------------------------------

    def _by_month(self, table: str, where: str) -> dict[int, int]:
        counted = self._client.query(
            f"SELECT toYYYYMM({AT}) AS month, count() FROM {table} WHERE {where} GROUP BY month ORDER BY month"
        ).result_rows
        return {int(month): int(count) for month, count in counted}

    @contextmanager
    def _alone(self, month: int) -> Iterator[Swap]:
        """No other run changes stored rows meanwhile."""
        self._swaps.wait(self._scope.tell)
        swap = self._swaps.begin(month)
        self._renewed = time.monotonic()
        try:
            yield swap
        finally:
            self._swaps.end(swap)

    def _renew(self, swap: Swap) -> None:
        if time.monotonic() - self._renewed > TERM / 4:
            self._swaps.renew(swap, State.PREPARING)
            self._renewed = time.monotonic()

    def _merge(self, table: str, month: int, swap: Swap) -> None:
        """One part of the month, with one row of each name; the parts before leave the disk some minutes later."""
        self._scope.tell(f"{table} {month}: merged")
        self._client.command(
            f"OPTIMIZE TABLE {table} PARTITION ID '{month}' FINAL", settings={"optimize_throw_if_noop": 1}
        )
        self._renew(swap)


def _placed(rows: pa.Table, places: Places) -> pa.Table:
    """The rows whose place is changed, with the new one."""
    old = zip(*(rows[name].to_pylist() for name in PLACE), strict=True)
    found = [places.get(place) for place in old]
    out = rows.filter(pa.array([place is not None for place in found], pa.bool_()))
    for name, values in zip(PLACE, zip(*(place for place in found if place), strict=True), strict=False):
        kind = HEATMAP.field(name).type
        column = pa.array(values, pa.string())
        column = column.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else column
        out = out.set_column(out.schema.get_field_index(name), HEATMAP.field(name), column)
    return out
