"""Rows of `events`, month by month (`streams.anonymize.past`).

A month is copied beside `events`, changed there and swapped (`streams.swaps`): readers see the old rows or the new,
and what arrives meanwhile is copied as it came. A row tells by its `policy_version` that it was done, which names the
policies and the revision of the code that applies them (`schemas.sites.REVISION`), so a run that was cut off is taken
up by the next one, and rows that come late under older rules are done by another pass or run.

Rows without the consent that the rules of today ask for are removed first, while inserts are held.

New ids are hashes under a key of the run, which is in this process's memory and nowhere else. A visitor whose day lies
in two months keeps one id over both only if one process did both.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from infra.past.scope import PastError, Scope, unhexed
from infra.removing import removing
from infra.service.clickhouse import connect, insert_if
from infra.service.vault import SecretDestroyed, SecretMissing, Vault, master_keys
from infra.unsettled import take_back
from schemas.privacy import Consent
from schemas.recordings import Recordings
from schemas.sites import SitePolicy
from schemas.tables import EVENTS, sql_columns
from schemas.topics import EVENTS_RAW
from streams import consent, keyed
from streams.anonymize import past
from streams.anonymize.emptied import UNSET
from streams.ownership import Ownership
from streams.swaps import TERM, State, Swap, SwapLost, Swaps, swapping
from streams.topic_generations import Topic

CHUNK = 200_000  # rows that are changed at once
TRIES = 3  # of a month that changed while it was copied
PASSES = 3  # over a month whose rows keep arriving under older rules


@dataclass(slots=True)
class Month:
    """What was done in a month. `rows`: brought under the rules of today. `removed`: for want of consent. `late`: that
    came meanwhile.
    """

    month: int
    rows: int = 0
    changed: int = 0
    removed: int = 0
    late: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Found:
    """What the rows of the period are after a run. `differing`: rows by column that are still against the rules."""

    late: dict[int, int]
    unwanted: int
    checked: int = 0
    differing: Counter[str] = field(default_factory=Counter)


class Events:
    """The rows of `events` in a scope; one run."""

    def __init__(self, scope: Scope, run: int, unset: Sequence[str]) -> None:
        """`unset`: columns that are emptied besides. Raises errors of ClickHouse and the vault."""
        self._scope, self._client, self._run = scope, scope.client, run
        self.unset = sorted(unset)
        self.keys = past.Keys(secrets.token_bytes(32), self._site_key())
        self.columns: Counter[str] = Counter()  # rows by column that were changed
        self._swaps = Swaps(self._client)
        self._ownership = Ownership(self._client, scope.settings.topic(EVENTS_RAW))

    def _site_key(self) -> bytes | None:
        vault = Vault(self._client, master_keys(self._scope.settings.master_key))
        vault.refresh()
        try:
            return keyed.site_key(vault.site_key(self._scope.site), self._scope.site)
        except (SecretMissing, SecretDestroyed):
            return None

    # -- what is to be done ----------------------------------------------------------------------------------------

    def needs(self, versions: Iterable[bytes]) -> str:
        """The SQL of rows that are not yet under the rules of today, of all versions that occur."""
        done = unhexed(self._scope.done(versions, _decides))
        return " OR ".join([f"policy_version NOT IN ({done})", *(_not_empty(name) for name in self.unset)])

    def open(self) -> tuple[str, dict[int, int]]:
        """The SQL of what needs to be done, and how many rows of each month do."""
        period = self._scope.period("time")
        needs = f"{period} AND ({self.needs(self._scope.versions('events', 'time'))})"
        return needs, self._by_month(needs)

    def unwanted(self) -> tuple[str, dict[int, int]]:
        """The SQL of rows that the rules of today would not have kept for want of consent, and how many by month."""
        if self._scope.rules.privacy.consent is not Consent.REQUIRED:
            return "0", {}
        where = f"{self._scope.period('time')} AND consent != {consent.GIVEN}"
        return where, self._by_month(where)

    def _by_month(self, where: str) -> dict[int, int]:
        counted = self._client.query(
            f"SELECT toYYYYMM(time) AS month, count() FROM events WHERE {where} GROUP BY month ORDER BY month"
        ).result_rows
        return {int(month): int(count) for month, count in counted}

    # -- doing it --------------------------------------------------------------------------------------------------

    def run(self, *, dry_run: bool = False) -> list[Month]:
        """Bring the period under the rules of today; with `dry_run` only tell what would be changed."""
        unwanted, without = self.unwanted()
        needs, months = self.open()
        if dry_run:
            return [self._would(needs, unwanted, month, without) for month in sorted({*months, *without})]
        if months:
            self._scope.publish()
        return [self._month(month, without.get(month, 0)) for month in sorted({*months, *without})]

    def _would(self, needs: str, unwanted: str, month: int, without: Mapping[int, int]) -> Month:
        done, started = Month(month, removed=without.get(month, 0)), time.monotonic()
        for rows in self._read("events", f"{needs} AND NOT ({unwanted}) AND toYYYYMM(time) = {month}"):
            done.changed += self._changed(rows, self._anonymise(rows))
            done.rows += rows.num_rows
            self._scope.tell(f"{month}: {done.rows} rows looked at")
        done.seconds = round(time.monotonic() - started, 3)
        return done

    def _month(self, month: int, without: int) -> Month:
        done, started = Month(month), time.monotonic()
        if without:
            self._withdraw(done)
        for _ in range(PASSES):
            needs, open_ = self.open()
            if not open_.get(month):
                break
            self._insist(needs, done, open_[month])
        done.seconds = round(time.monotonic() - started, 3)
        return done

    def _withdraw(self, done: Month) -> None:
        """Remove what the rules of today would not have kept for want of consent."""
        month = done.month
        self._swaps.wait(self._scope.tell)
        swap = self._swaps.begin(month)
        try:
            with self._held(swap, "events"):
                where, counted = self.unwanted()
                count = counted.get(month, 0)
                self._scope.record(self._run, "removing", "events", month, count, count, ())
                self._remove(swap, "events", where)
            done.removed = count
            self._scope.record(self._run, "removed", "events", month, count, count, ())
        finally:
            self._swaps.end(swap)
        self._scope.tell(f"{month}: {done.removed} rows without consent removed")

    def _insist(self, needs: str, done: Month, count: int) -> None:
        for left in reversed(range(TRIES)):
            self._swaps.wait(self._scope.tell)
            try:
                self._swap(needs, done, count)
            except SwapLost:
                if not left:
                    raise
                self._scope.tell(f"{done.month}: changed meanwhile, once more")
            else:
                return

    def _swap(self, needs: str, done: Month, count: int) -> None:
        month, columns = done.month, Counter(self.columns)
        with swapping(self._swaps, month) as swap:
            self._scope.tell(f"{month}: copied beside")
            places = self._places(swap)
            rows, changed = self._rewrite(swap, needs, count)
            self._remove(swap, swap.table, needs)
            with self._held(swap, swap.table):
                self._follow(swap, places)
                self._scope.tell(f"{month}: swapping")
                self._scope.record(self._run, "anonymising", "events", month, rows, changed, self.unset)
                try:
                    self._swaps.replace(self._swaps.renew(swap, State.HELD))
                except SwapLost:
                    self.columns = columns
                    raise
        done.rows += rows
        done.changed += changed
        self._scope.record(self._run, "anonymised", "events", month, rows, changed, self.unset)
        self._scope.tell(f"{month}: swapped")

    @contextmanager
    def _held(self, swap: Swap, copy: str) -> Iterator[None]:
        """Until the swap ends nobody inserts, and of what was inserted nothing is that is not settled."""
        self._swaps.renew(swap, State.HELD)
        self._scope.tell(f"{swap.month}: inserts held")
        partitions = self._ownership.hold()
        self._swaps.renew(swap, State.HELD)
        settings = self._scope.settings
        with closing(Topic(settings.kafka, settings.topic(EVENTS_RAW))) as topic:
            take_back(self._client, topic, partitions, copy, swap.month)
        self._swaps.renew(swap, State.HELD)
        yield

    def _places(self, swap: Swap) -> list[tuple[int, int, int]]:
        """The last place of each partition that was copied; within a month rows are inserted in order of place."""
        rows = self._client.query(
            f"SELECT `partition`, max((generation, `offset`)) AS place FROM {swap.table} GROUP BY `partition`"
        ).result_rows
        return [(int(partition), int(place[0]), int(place[1])) for partition, place in rows]

    def _rewrite(self, swap: Swap, needs: str, count: int) -> tuple[int, int]:
        total = changed = 0
        renew = self._renewing(swap, State.PREPARING)
        with connect(self._scope.settings) as writing:
            for rows in self._read(swap.table, needs):
                new = self._anonymise(rows)
                changed += self._changed(rows, new)
                written = insert_if(writing, swap.table, new, "1", query_id=f"past-{secrets.token_hex(8)}")
                if written != rows.num_rows:
                    raise SwapLost(f"{written} of {rows.num_rows} rows were written")
                total += rows.num_rows
                self._scope.tell(f"{swap.month}: {total} of {count} rows")
                renew()
        return total, changed

    def _remove(self, swap: Swap, table: str, where: str) -> None:
        """Take rows out of a table, by a mutation whose text names no value."""
        renew = self._renewing(swap, State.PREPARING if table == swap.table else State.HELD)
        for parts in removing(self._client, table, swap.month, where):
            self._scope.tell(f"{swap.month}: {parts} parts to be written anew")
            renew()

    def _renewing(self, swap: Swap, state: State) -> Callable[[], None]:
        """To be called now and then, so that the swap's term doesn't end."""
        renewed = time.monotonic()

        def renew() -> None:
            nonlocal renewed
            if time.monotonic() - renewed > TERM / 4:
                self._swaps.renew(swap, state)
                renewed = time.monotonic()

        return renew

    def _follow(self, swap: Swap, places: Sequence[tuple[int, int, int]]) -> None:
        """Copy what was inserted since; inserts are held."""
        seen = " OR ".join(
            f"(`partition` = {partition} AND (generation, `offset`) <= ({generation}, {offset}))"
            for partition, generation, offset in places
        )
        columns = sql_columns(EVENTS)
        self._client.command(
            f"INSERT INTO {swap.table} ({columns}) SELECT {columns} FROM events "
            f"WHERE toYYYYMM(time) = {swap.month} AND NOT ({seen or '0'})",
            settings={"async_insert": 0, "max_query_size": 1 << 20},
        )

    def _anonymise(self, rows: pa.Table) -> pa.Table:
        scope = self._scope
        versions = rows["policy_version"].combine_chunks()
        parts, order = [], []
        for version in pc.unique(versions).to_pylist():
            at = pc.indices_nonzero(pc.equal(versions, pa.scalar(version, versions.type)))
            before = scope.before(version)
            try:
                parts.append(
                    past.anonymise(rows.take(at), scope.rules, self.keys, scope.policies.version, before, self.unset)
                )
            except past.SiteKeyNeeded:
                raise PastError(
                    f"site {scope.site}: its rules hash values by its permanent key, which is not there yet; the "
                    "worker makes it within minutes once a collector runs with these rules, then run this again"
                ) from None
            order.append(at)
        if len(parts) == 1:
            return parts[0]
        back = pc.sort_indices(pa.concat_arrays(order))
        return pa.concat_tables(parts).unify_dictionaries().combine_chunks().take(back)

    def _changed(self, old: pa.Table, new: pa.Table) -> int:
        any_ = None
        for name in EVENTS.names:
            if name == "policy_version":
                continue
            a, b = (_comparable(table[name]) for table in (old, new))
            differs = pc.not_equal(a, b)
            if count := pc.sum(differs).as_py():
                self.columns[name] += count
                any_ = differs if any_ is None else pc.or_(any_, differs)
        return 0 if any_ is None else int(pc.sum(any_).as_py())

    def _read(self, table: str, where: str) -> Iterator[pa.Table]:
        return self._scope.read(table, where, EVENTS, CHUNK)

    def check(self) -> Found:
        """Look at all rows of the period again."""
        needs, late = self.open()
        found = Found(late, sum(self.unwanted()[1].values()))
        for rows in self._read("events", f"{self._scope.period('time')} AND NOT ({needs})"):
            found.differing.update(past.differing(rows, self._scope.rules, self.keys))
            found.checked += rows.num_rows
            self._scope.tell(f"checked {found.checked} rows")
        return found


def _decides(policy: SitePolicy) -> SitePolicy:
    """What of a policy decides about rows that are stored."""
    return msgspec.structs.replace(policy, shards=1, repeat_seconds=0, recordings=Recordings())


def _comparable(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    if pa.types.is_dictionary(values.type):
        return values.cast(pa.string())
    if pa.types.is_list(values.type):
        return pa.array([str(value) for value in values.to_pylist()], pa.string())
    return values


def _not_empty(name: str) -> str:
    kind = EVENTS.field(name).type
    if pa.types.is_list(kind):
        return f"arrayExists(v -> v != {chr(39) * 2 if kind.value_type == pa.string() else 0}, `{name}`)"
    value = UNSET[name]
    text = pa.types.is_dictionary(kind) or kind == pa.string()
    return f"`{name}` != " + (f"'{value or ''}'" if text else str(value or 0))
