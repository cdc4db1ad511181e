"""Rows of `recordings` and `heatmap`, month by month (`streams.anonymize.recordings.past`).

A row is inserted again under its name, which is all that the tables order by, and merged with itself: the later one
stays. Nothing is held meanwhile, and two runs at once do the same twice: what comes in between has names of its own,
and what a worker stores a second time under older rules is found by the check, as is a month that was not merged.

Recordings don't say whether consent was given. Where the rules of today ask for it, those that were made under rules
which did not are removed. Heatmaps name nobody, and no rules; of them the addresses and selectors are looked at, all
of the period each time.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass

import msgspec
import pyarrow as pa

from infra.past.scope import Scope, typed, unhexed
from infra.removing import removing
from infra.service.clickhouse import connect, insert_if
from schemas.privacy import Consent
from schemas.recordings import selector
from schemas.sites import SitePolicy
from schemas.tables import HEATMAP, RECORDINGS, sql_columns
from streams.anonymize.recordings.past import point, recording

CHUNKS = 32  # recordings that are changed at once; each may have a megabyte
POINTS = 200_000  # rows of `heatmap` that are changed at once
NAME = ("session", "sequence", "writer", "partition", "seq", "index")  # of a recording of a site
PLACE = ("url_host", "url_path", "selector")
AT = "received_at"
MERGE_SECONDS, TELL_SECONDS = 86_400, 10

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
        needs = f"{self._needs()} AND NOT ({unwanted})"
        months = self._by_month("recordings", needs)  # those too of which only a merge is missing
        if months and not dry_run:
            self._scope.publish()
        for month in months:
            where = f"{needs} AND toYYYYMM({AT}) = {month}"
            if dry_run:
                for rows in self._chunks(where):
                    done.rows += rows.num_rows
                    done.changed += self._masked(rows)[1]
            else:
                self._rewrite(month, where, done)
        if not dry_run:
            done.left = sum(self._by_month("recordings", self._needs()).values())
        return done

    def _needs(self) -> str:
        done = unhexed(self._scope.done(self._scope.versions("recordings", AT), _decides))
        return f"{self._scope.period(AT)} AND policy_version NOT IN ({done})"

    def _unwanted(self) -> tuple[str, dict[int, int]]:
        """The SQL of recordings of which it is not known that consent was given, and how many by month."""
        if self._scope.rules.privacy.consent is not Consent.REQUIRED:
            return "0", {}
        asking = self._scope.done((), _decides)
        for version in self._scope.versions("recordings", AT):
            before = self._scope.before(version)
            if before is not None and before.privacy.consent is Consent.REQUIRED:
                asking.append(version)
        where = f"{self._scope.period(AT)} AND policy_version NOT IN ({unhexed(asking)})"
        return where, self._by_month("recordings FINAL", where)

    def _withdraw(self, month: int, where: str, count: int) -> None:
        self._scope.record(self._run, "removing", "recordings", month, count, count, ())
        for parts in removing(self._client, "recordings", month, where):
            self._scope.tell(f"recordings {month}: {parts} parts to be written anew")
        self._scope.record(self._run, "removed", "recordings", month, count, count, ())

    def _rewrite(self, month: int, where: str, done: Done) -> None:
        count, total, changed = self._by_month("recordings FINAL", where).get(month, 0), 0, 0
        self._scope.record(self._run, "anonymising", "recordings", month, count, count, ())
        for rows in self._chunks(where):
            new, differ = self._masked(rows)
            insert_if(self._client, "recordings", new, "1", query_id=f"past-{secrets.token_hex(8)}")
            total += rows.num_rows
            changed += differ
            self._scope.tell(f"recordings {month}: {total} of {count} rows")
        self._merge("recordings", month)
        self._scope.record(self._run, "anonymised", "recordings", month, total, changed, ())
        done.rows += total
        done.changed += changed

    def _chunks(self, where: str) -> Iterator[pa.Table]:
        """Some at a time, each with a query of its own, as masking may take longer than a server waits for a reader."""
        names, columns, behind = ", ".join(f"`{name}`" for name in NAME), sql_columns(RECORDINGS), "1"
        while True:
            asked = f"SELECT {columns} FROM recordings FINAL WHERE {where} AND {behind} ORDER BY {names} LIMIT {CHUNKS}"
            found = typed([self._client.query_arrow(asked, use_strings=True)], RECORDINGS)
            if not found.num_rows:
                return
            yield found
            last = ", ".join(str(found[name][found.num_rows - 1].as_py()) for name in NAME)
            behind = f"({names}) > ({last})"

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
            where = f"{self._scope.period(AT, hours=True)} AND toYYYYMM({AT}) = {month}"
            if dry_run:
                done.rows += sum(_placed(rows, new).num_rows for rows in self._points(where))
                done.changed = done.rows
            else:
                self._replace(month, where, new, done)
        if not dry_run:
            done.left = sum(len(new) for new in self._places().values())
        return done

    def _points(self, where: str) -> Iterator[pa.Table]:
        return self._scope.read("heatmap FINAL", where, HEATMAP, POINTS)

    def _places(self) -> dict[int, Places]:
        """By month, the places that the rules of today change, and what to."""
        found = self._client.query(
            f"SELECT DISTINCT toYYYYMM({AT}), {', '.join(PLACE)} FROM heatmap "
            f"WHERE {self._scope.period(AT, hours=True)}"
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
        self._scope.record(self._run, "anonymising", "heatmap", month, 0, 0, ())
        with connect(self._scope.settings) as writing:
            for rows in self._points(where):
                new = _placed(rows, places)
                if new.num_rows:
                    insert_if(writing, "heatmap", new, "1", query_id=f"past-{secrets.token_hex(8)}")
                total += new.num_rows
                self._scope.tell(f"heatmap {month}: {total} rows")
        self._merge("heatmap", month)
        self._scope.record(self._run, "anonymised", "heatmap", month, total, total, ())
        done.rows += total
        done.changed += total

    # -- both ------------------------------------------------------------------------------------------------------

    def _by_month(self, table: str, where: str) -> dict[int, int]:
        counted = self._client.query(
            f"SELECT toYYYYMM({AT}) AS month, count() FROM {table} WHERE {where} GROUP BY month ORDER BY month"
        ).result_rows
        return {int(month): int(count) for month, count in counted}

    def _merge(self, table: str, month: int) -> None:
        """One part of the month, with one row of each name; the parts before leave the disk some minutes later."""
        with connect(self._scope.settings, timeout=MERGE_SECONDS) as merging, ThreadPoolExecutor(1) as thread:
            merged = thread.submit(
                merging.command,
                f"OPTIMIZE TABLE {table} PARTITION ID '{month}' FINAL",
                settings={"optimize_throw_if_noop": 1},
            )
            while wait([merged], TELL_SECONDS).not_done:
                self._scope.tell(f"{table} {month}: being merged")
            merged.result()
        self._scope.tell(f"{table} {month}: merged")


def _decides(policy: SitePolicy) -> SitePolicy:
    """What of a policy decides about recordings that are stored."""
    recordings = msgspec.structs.replace(policy.recordings, enabled=True, share=1.0)
    return msgspec.structs.replace(policy, shards=1, repeat_seconds=0, recordings=recordings)


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
