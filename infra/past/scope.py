"""What a run changes, and by which rules: a site, a period of dates there, and the rules that it has today."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
from kafka import KafkaProducer

from infra.service.clickhouse import Client, connect
from infra.service.settings import Settings
from schemas.sites import PolicySet, SitePolicy, SitesError, load_sites
from schemas.tables import sql_columns
from schemas.topics import SITE_POLICIES
from streams.policies import Policies
from streams.rules import Rules

Tell = Callable[[str], None]
EPOCH = date(1970, 1, 1)  # there is nothing from before
HOUR_MS = 3_600_000


class PastError(RuntimeError):
    """What was asked can't be done; the message says why and what to do."""


class Scope:
    """The rows of a site that were made from `first` to `last`, both within, and what is asked of them."""

    def __init__(self, client: Client, settings: Settings, site: int, first: date, last: date, tell: Tell) -> None:
        """Raises PastError and SitesError, and errors of Kafka."""
        self.client, self.settings, self.site, self.tell = client, settings, site, tell
        sites = load_sites(settings.sites)
        found = sites.of(site)
        if found is None:
            raise SitesError(f"{settings.sites}: there is no site {site}; `veilstream sites list` shows them")
        self.policies: PolicySet = sites.policies
        self.policy: SitePolicy = found.policy
        self.rules = Rules.of(site, found.policy, self.policies.folders)
        if last < first:
            raise PastError(f"the period ends on {last}, before it begins on {first}")
        today = datetime.now(self.rules.timezone).date()
        if last >= today:
            latest = today - timedelta(days=1)
            raise PastError(f"the period must be over at the site, where it is {today}: --to {latest} at the latest")
        self.first, self.last = max(first, EPOCH), max(last, EPOCH)
        self.start, self.end = (self._midnight(day) for day in (self.first, self.last + timedelta(days=1)))
        self._known = Policies(settings.kafka, settings.topic(SITE_POLICIES))
        self._known.refresh()

    def _midnight(self, day: date) -> int:
        moment = datetime(day.year, day.month, day.day, tzinfo=self.rules.timezone)
        return round(moment.timestamp() * 1000)

    def period(self, column: str, *, hours: bool = False) -> str:
        """The SQL of the site's rows whose moment in `column` is in the period; with `hours` it is the begin of an
        hour of UTC, of which a part is enough."""
        start = self.start - self.start % HOUR_MS if hours else self.start
        return f"site_id = {self.site} AND {column} >= {_moment(start)} AND {column} < {_moment(self.end)}"

    def versions(self, table: str, column: str) -> list[bytes]:
        """The versions of policies that rows of the period name."""
        rows = self.client.query(
            f"SELECT DISTINCT policy_version FROM {table} WHERE {self.period(column)}",
            column_formats={"policy_version": "bytes"},
        ).result_rows
        return [bytes(version) for (version,) in rows]

    def done(self, versions: Iterable[bytes], decides: Callable[[SitePolicy], SitePolicy]) -> list[bytes]:
        """Those of the versions which say the same of the site as the one of today, and that one. `decides`: what of a
        policy decides, the rest of which is as it is by default."""
        return sorted({*(version for version in versions if self._same(version, decides)), self.policies.version})

    def _same(self, version: bytes, decides: Callable[[SitePolicy], SitePolicy]) -> bool:
        known = self._known.get(version)
        if known is None or known.revision != self.policies.revision or (policy := known.of(self.site)) is None:
            return False
        return decides(policy) == decides(self.policy) and known.folders == self.policies.folders

    def before(self, version: bytes) -> Rules | None:
        """The rules that the site had under a version; None where that is not known any more."""
        known = self._known.get(version)
        policy = known.of(self.site) if known is not None else None
        return Rules.of(self.site, policy, known.folders) if known is not None and policy is not None else None

    def read(
        self, table: str, where: str, schema: pa.Schema, most: int, block: int | None = None
    ) -> Iterator[pa.Table]:
        """Rows of a table as those of `schema`, about `most` at a time, as the table is at the beginning.

        `table`: perhaps with FINAL behind it. `block`: rows that the engine sends at once, where they are large.
        """
        with (
            connect(self.settings) as reading,
            reading.query_arrow_stream(
                f"SELECT {sql_columns(schema)} FROM {table} WHERE {where}",
                use_strings=True,
                settings={"max_block_size": block} if block else {},
            ) as stream,
        ):
            waiting: list[pa.Table] = []
            for found in stream:
                waiting.append(pa.table(found))
                if sum(one.num_rows for one in waiting) >= most:
                    yield typed(waiting, schema)
                    waiting = []
            if sum(one.num_rows for one in waiting):
                yield typed(waiting, schema)

    def publish(self) -> None:
        """The rules that rows will name are on their topic, as a collector puts them there."""
        if self._known.get(self.policies.version) is not None:
            return
        producer = KafkaProducer(bootstrap_servers=self.settings.kafka.split(","))
        try:
            key = self.policies.version.hex().encode()
            topic = self.settings.topic(SITE_POLICIES)
            producer.send(topic, self.policies.dump(), key=key, partition=0).get(30)
        finally:
            producer.close()

    def record(self, run: int, what: str, data: str, month: int, rows: int, changed: int, unset: Sequence[str]) -> None:
        """A row of `past_changes`."""
        rule = f"policy {self.policies.version.hex()}{''.join(' unset ' + name for name in unset)}"
        row = [run, what, self.site, data, month, self.first, self.last, rows, changed, rule]
        names = ["run", "what", "site_id", "data", "month", "first", "last", "rows", "changed", "rule"]
        self.client.insert("past_changes", [row], column_names=names, settings={"async_insert": 0})


def unhexed(versions: Iterable[bytes]) -> str:
    """Versions as a list of SQL."""
    return ", ".join(f"unhex('{version.hex()}')" for version in versions)


def typed(blocks: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """What the engine sent as rows of `schema`."""
    rows = pa.concat_tables(blocks).combine_chunks()
    columns = []
    for wanted in schema:
        column = rows[wanted.name]
        if pa.types.is_dictionary(wanted.type) and not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        columns.append(column.cast(wanted.type).combine_chunks())
    return pa.Table.from_arrays(columns, schema=schema)


def _moment(ms: int) -> str:
    text = datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"toDateTime64('{text}', 3, 'UTC')"
