"""Stored rows brought under the rules that their site has today, month by month (`streams.anonymize.past`).

A month is copied beside `events`, changed there and swapped (`streams.swaps`): readers see the old rows or the new,
and what arrives meanwhile is copied as it came. A row tells by its `policy_version` that it was done, which names the
policies and the revision of the code that applies them (`schemas.sites.REVISION`), so a run that was cut off is taken
up by the next one, and rows that come late under older rules are done by another pass or run.

New ids are hashes under a key of the run, which is in this process's memory and nowhere else. A visitor whose day lies
in two months keeps one id over both only if one process did both.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
from kafka import KafkaProducer

from infra.removing import removing
from infra.service.clickhouse import Client, connect, insert_if
from infra.service.settings import Settings
from infra.service.vault import SecretDestroyed, SecretMissing, Vault, master_keys
from infra.unsettled import take_back
from schemas.sites import PolicySet, SitesError, load_sites
from schemas.tables import EVENTS, sql_columns
from schemas.topics import EVENTS_RAW, SITE_POLICIES
from streams import keyed
from streams.anonymize import past
from streams.anonymize.emptied import UNSET
from streams.ownership import Ownership
from streams.policies import Policies
from streams.rules import Rules
from streams.swaps import TERM, State, Swap, SwapLost, Swaps, swapping
from streams.topic_generations import Topic

CHUNK = 200_000  # rows that are changed at once
TRIES = 3  # of a month that changed while it was copied
PASSES = 3  # over a month whose rows keep arriving under older rules
Tell = Callable[[str], None]


class PastError(RuntimeError):
    """What was asked can't be done; the message says why and what to do."""


@dataclass(slots=True)
class Month:
    """What was done in a month. `rows`: brought under the rules of today. `late`: that came meanwhile."""

    month: int
    rows: int = 0
    changed: int = 0
    late: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Report:
    """What a run did. `columns`: rows by column that were changed. `differing`: rows by column that the re-scan found
    still to be against the rules. `unwanted`: rows without the consent that the rules of today ask for.
    """

    site: int
    first: str
    last: str
    policy_version: str
    dry_run: bool
    months: list[Month] = field(default_factory=list)
    columns: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    changed: int = 0
    late: int = 0
    checked: int = 0
    differing: dict[str, int] = field(default_factory=dict)
    unwanted: int = 0

    @property
    def right(self) -> bool:
        """Everything in the period is under the rules of today."""
        return self.dry_run or not (self.late or self.differing)

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"right": self.right}


class Past:
    """One run over the stored rows of a site."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        site: int,
        first: date,
        last: date,
        *,
        unset: Sequence[str] = (),
        tell: Tell = lambda _text: None,
    ) -> None:
        """`first` and `last`: dates at the site, both within the period. `unset`: columns that are emptied besides.

        Raises PastError and SitesError, and errors of ClickHouse, Kafka and the vault.
        """
        self.client, self.settings, self.site, self.unset, self.tell = client, settings, site, sorted(unset), tell
        sites = load_sites(settings.sites)
        found = sites.of(site)
        if found is None:
            raise SitesError(f"{settings.sites}: there is no site {site}; `veilstream sites list` shows them")
        self.policies: PolicySet = sites.policies
        self.policy = found.policy
        self.rules = Rules.of(site, found.policy, self.policies.folders)
        if last < first:
            raise PastError(f"the period ends on {last}, before it begins on {first}")
        today = datetime.now(self.rules.timezone).date()
        if last >= today:
            latest = today - timedelta(days=1)
            raise PastError(f"the period must be over at the site, where it is {today}: --to {latest} at the latest")
        self.first, self.last = first, last
        self.start, self.end = (self._midnight(day) for day in (first, last + timedelta(days=1)))
        self.known = Policies(settings.kafka, settings.topic(SITE_POLICIES))
        self.known.refresh()
        self.keys = past.Keys(secrets.token_bytes(32), self._site_key())
        self.run_id = secrets.randbits(64)
        self.swaps = Swaps(client)
        self.ownership = Ownership(client, settings.topic(EVENTS_RAW))
        self.columns: Counter[str] = Counter()

    def _midnight(self, day: date) -> int:
        moment = datetime(day.year, day.month, day.day, tzinfo=self.rules.timezone)
        return round(moment.timestamp() * 1000)

    def _site_key(self) -> bytes | None:
        vault = Vault(self.client, master_keys(self.settings.master_key))
        vault.refresh()
        try:
            return keyed.site_key(vault.site_key(self.site), self.site)
        except (SecretMissing, SecretDestroyed):
            return None

    # -- what is to be done ----------------------------------------------------------------------------------------

    def period(self) -> str:
        """The SQL of the site's rows of the period."""
        return f"site_id = {self.site} AND time >= {_moment(self.start)} AND time < {_moment(self.end)}"

    def needs(self, versions: Sequence[bytes]) -> str:
        """The SQL of rows that are not yet under the rules of today, of all versions that occur."""
        done = [version for version in versions if self._same(version)] + [self.policies.version]
        listed = ", ".join(f"unhex('{version.hex()}')" for version in sorted(set(done)))
        return " OR ".join([f"policy_version NOT IN ({listed})", *(_not_empty(name) for name in self.unset)])

    def _same(self, version: bytes) -> bool:
        known = self.known.get(version)
        if known is None or known.revision != self.policies.revision:
            return False
        return known.of(self.site) == self.policy and known.folders == self.policies.folders

    def _before(self, version: bytes) -> Rules | None:
        known = self.known.get(version)
        policy = known.of(self.site) if known is not None else None
        return Rules.of(self.site, policy, known.folders) if known is not None and policy is not None else None

    def open(self) -> tuple[str, dict[int, int]]:
        """The SQL of what needs to be done, and how many rows of each month do."""
        rows = self.client.query(
            f"SELECT DISTINCT policy_version FROM events WHERE {self.period()}",
            column_formats={"policy_version": "bytes"},
        ).result_rows
        needs = f"{self.period()} AND ({self.needs([bytes(version) for (version,) in rows])})"
        counted = self.client.query(
            f"SELECT toYYYYMM(time) AS month, count() FROM events WHERE {needs} GROUP BY month ORDER BY month"
        ).result_rows
        return needs, {int(month): int(count) for month, count in counted}

    # -- doing it --------------------------------------------------------------------------------------------------

    def run(self, *, dry_run: bool = False) -> Report:
        """Bring the period under the rules of today; with `dry_run` only tell what would be changed."""
        report = Report(self.site, self.first.isoformat(), self.last.isoformat(), self.policies.version.hex(), dry_run)
        needs, months = self.open()
        if dry_run:
            for month, count in months.items():
                report.months.append(self._would(needs, month, count))
        elif months:
            self._publish()
            for month in months:
                report.months.append(self._month(month))
        report.rows = sum(month.rows for month in report.months)
        report.changed = sum(month.changed for month in report.months)
        report.columns = dict(sorted(self.columns.items()))
        if not dry_run:
            self._check(report)
        return report

    def _would(self, needs: str, month: int, count: int) -> Month:
        done, started = Month(month), time.monotonic()
        for rows in self._read("events", f"{needs} AND toYYYYMM(time) = {month}"):
            done.changed += self._changed(rows, self._anonymise(rows))
            done.rows += rows.num_rows
            self.tell(f"{month}: {done.rows} of {count} rows looked at")
        done.seconds = round(time.monotonic() - started, 3)
        return done

    def _month(self, month: int) -> Month:
        done, started = Month(month), time.monotonic()
        for _ in range(PASSES):
            needs, open_ = self.open()
            if not open_.get(month):
                break
            self._insist(needs, done, open_[month])
        _, open_ = self.open()
        done.late = open_.get(month, 0)
        done.seconds = round(time.monotonic() - started, 3)
        return done

    def _insist(self, needs: str, done: Month, count: int) -> None:
        for left in reversed(range(TRIES)):
            self.swaps.wait(self.tell)
            try:
                self._swap(needs, done, count)
            except SwapLost:
                if not left:
                    raise
                self.tell(f"{done.month}: changed meanwhile, once more")
            else:
                return

    def _swap(self, needs: str, done: Month, count: int) -> None:
        month, columns = done.month, Counter(self.columns)
        with swapping(self.swaps, month) as swap:
            self.tell(f"{month}: copied beside")
            places = self._places(swap)
            rows, changed = self._rewrite(swap, needs, count)
            self._remove(swap, needs)
            self.swaps.renew(swap, State.HELD)
            self.tell(f"{month}: inserts held")
            partitions = self.ownership.hold()
            self.swaps.renew(swap, State.HELD)
            with closing(Topic(self.settings.kafka, self.settings.topic(EVENTS_RAW))) as topic:
                take_back(self.client, topic, partitions, swap.table, month)
            self.swaps.renew(swap, State.HELD)
            self._follow(swap, places)
            self.tell(f"{month}: swapping")
            try:
                self.swaps.replace(self.swaps.renew(swap, State.HELD))
            except SwapLost:
                self.columns = columns
                raise
        done.rows += rows
        done.changed += changed
        self._record(done.month, rows, changed)
        self.tell(f"{month}: swapped")

    def _places(self, swap: Swap) -> list[tuple[int, int, int]]:
        """The last place of each partition that was copied; within a month rows are inserted in order of place."""
        rows = self.client.query(
            f"SELECT `partition`, max((generation, `offset`)) AS place FROM {swap.table} GROUP BY `partition`"
        ).result_rows
        return [(int(partition), int(place[0]), int(place[1])) for partition, place in rows]

    def _rewrite(self, swap: Swap, needs: str, count: int) -> tuple[int, int]:
        total = changed = 0
        renewed = time.monotonic()
        with connect(self.settings) as writing:
            for rows in self._read(swap.table, needs):
                new = self._anonymise(rows)
                changed += self._changed(rows, new)
                written = insert_if(writing, swap.table, new, "1", query_id=f"past-{secrets.token_hex(8)}")
                if written != rows.num_rows:
                    raise SwapLost(f"{written} of {rows.num_rows} rows were written")
                total += rows.num_rows
                self.tell(f"{swap.month}: {total} of {count} rows")
                if time.monotonic() - renewed > TERM / 4:
                    self.swaps.renew(swap, State.PREPARING)
                    renewed = time.monotonic()
        return total, changed

    def _remove(self, swap: Swap, needs: str) -> None:
        """Take the old rows out of the copy, by a mutation whose text names no value."""
        renewed = time.monotonic()
        for parts in removing(self.client, swap.table, swap.month, needs):
            self.tell(f"{swap.month}: {parts} parts to be written anew")
            if time.monotonic() - renewed > TERM / 4:
                self.swaps.renew(swap, State.PREPARING)
                renewed = time.monotonic()

    def _follow(self, swap: Swap, places: Sequence[tuple[int, int, int]]) -> None:
        """Copy what was inserted since; inserts are held."""
        seen = " OR ".join(
            f"(`partition` = {partition} AND (generation, `offset`) <= ({generation}, {offset}))"
            for partition, generation, offset in places
        )
        columns = sql_columns(EVENTS)
        self.client.command(
            f"INSERT INTO {swap.table} ({columns}) SELECT {columns} FROM events "
            f"WHERE toYYYYMM(time) = {swap.month} AND NOT ({seen or '0'})",
            settings={"async_insert": 0, "max_query_size": 1 << 20},
        )

    def _anonymise(self, rows: pa.Table) -> pa.Table:
        versions = rows["policy_version"].combine_chunks()
        parts, order = [], []
        for version in pc.unique(versions).to_pylist():
            at = pc.indices_nonzero(pc.equal(versions, pa.scalar(version, versions.type)))
            before = self._before(version)
            try:
                parts.append(
                    past.anonymise(rows.take(at), self.rules, self.keys, self.policies.version, before, self.unset)
                )
            except past.SiteKeyNeeded:
                raise PastError(
                    f"site {self.site}: its rules hash values by its permanent key, which is not there yet; the worker "
                    "makes it within minutes once a collector runs with these rules, then run this again"
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
        """Rows as those of `EVENTS`, some at a time, as the table is at the beginning."""
        with (
            connect(self.settings) as reading,
            reading.query_arrow_stream(
                f"SELECT {sql_columns(EVENTS)} FROM {table} WHERE {where}", use_strings=True
            ) as stream,
        ):
            waiting: list[pa.Table] = []
            for block in stream:
                waiting.append(pa.table(block))
                if sum(one.num_rows for one in waiting) >= CHUNK:
                    yield _typed(waiting)
                    waiting = []
            if sum(one.num_rows for one in waiting):
                yield _typed(waiting)

    def _check(self, report: Report) -> None:
        """Look at all rows of the period again."""
        needs, open_ = self.open()
        report.late = sum(open_.values())
        for month in report.months:
            month.late = open_.get(month.month, 0)
        found: Counter[str] = Counter()
        for rows in self._read("events", f"{self.period()} AND NOT ({needs})"):
            found.update(past.differing(rows, self.rules, self.keys))
            report.checked += rows.num_rows
            self.tell(f"checked {report.checked} rows")
        report.differing = dict(sorted(found.items()))
        if self.rules.privacy.consent == "required":
            counted = self.client.query(f"SELECT count() FROM events WHERE {self.period()} AND consent != 1")
            report.unwanted = int(counted.result_rows[0][0])

    def _publish(self) -> None:
        """The rules that rows will name are on their topic, as a collector puts them there."""
        if self.known.get(self.policies.version) is not None:
            return
        producer = KafkaProducer(bootstrap_servers=self.settings.kafka.split(","))
        try:
            key = self.policies.version.hex().encode()
            topic = self.settings.topic(SITE_POLICIES)
            producer.send(topic, self.policies.dump(), key=key, partition=0).get(30)
        finally:
            producer.close()

    def _record(self, month: int, rows: int, changed: int) -> None:
        row = [self.run_id, "anonymised", self.site, "events", month, self.first, self.last, rows, changed]
        self.client.insert(
            "past_changes",
            [[*row, f"policy {self.policies.version.hex()}{''.join(' unset ' + name for name in self.unset)}"]],
            column_names=["run", "what", "site_id", "data", "month", "first", "last", "rows", "changed", "rule"],
            settings={"async_insert": 0},
        )


def _typed(blocks: Sequence[pa.Table]) -> pa.Table:
    rows = pa.concat_tables(blocks).combine_chunks()
    columns = []
    for wanted in EVENTS:
        column = rows[wanted.name]
        if pa.types.is_dictionary(wanted.type) and not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        columns.append(column.cast(wanted.type).combine_chunks())
    return pa.Table.from_arrays(columns, schema=EVENTS)


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


def _moment(ms: int) -> str:
    text = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"toDateTime64('{text}', 3, 'UTC')"
