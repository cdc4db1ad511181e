"""Rows removed when their time is over, by site and kind of data (`schemas.retention`).

Rows of a site whose file is gone are kept as long as `default.toml` says. A month goes as a whole, as a partition,
where no site may have a row in it any more; otherwise the rows of each site are removed from it. Table `past_changes`
has a row before (`removing`) and one after (`removed`); doing it again, after a kill too, removes what is left.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from infra.removing import removing
from infra.service.clickhouse import Client
from schemas.retention import KINDS
from schemas.sites import Sites
from streams.swaps import TERM, State, Swap, Swaps

# By kind, which is the table's name too.
COLUMNS = {"events": "time", "rejects": "received_at", "recordings": "received_at", "heatmap": "received_at"}
RECORD = ("run", "what", "site_id", "data", "month", "first", "last", "rows", "changed", "rule")
EPOCH = date(1970, 1, 1)
LONG = {"max_query_size": 1 << 24}  # of queries that name every site
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Removed:
    """Rows of a site that were removed from a month. `before`: the first day, at the site, that is kept."""

    site: int
    data: str
    month: int
    rows: int
    days: int
    before: str
    how: str  # "partition" or "rows"

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Term:
    """What is kept of one kind at one site: rows from `start` (ms since 1970) on, which is midnight of `day` there."""

    site: int
    days: int
    day: date
    start: int


def terms(sites: Sites, kind: str, now: datetime) -> dict[int, Term]:
    """The terms of a kind by site; sites that keep it for ever have none."""
    found = {}
    for site in sites.by_id.values():
        days = getattr(site.retention, kind)
        if days:
            found[site.id] = _term(site.id, days, now, ZoneInfo(site.policy.timezone))
    return found


def _gone(client: Client, sites: Sites, kind: str, now: datetime) -> dict[int, Term]:
    """The terms of sites that have rows and no file any more; their days are those of UTC."""
    days = getattr(sites.retention, kind)
    if not days:
        return {}
    rows = client.query(
        f"SELECT DISTINCT site_id FROM {kind} WHERE site_id NOT IN ({', '.join(map(str, sites.by_id)) or '0'})",
        settings=LONG,
    ).result_rows
    return {int(site): _term(int(site), days, now, UTC) for (site,) in rows}


def _term(site: int, days: int, now: datetime, zone: tzinfo) -> Term:
    day = now.astimezone(zone).date() - timedelta(days=days)
    start = datetime(day.year, day.month, day.day, tzinfo=zone)
    return Term(site, days, day, round(start.timestamp() * 1000))


def run(
    client: Client,
    sites: Sites,
    *,
    dry_run: bool = False,
    now: datetime | None = None,
    tell: Tell = lambda _text: None,
) -> list[Removed]:
    """Remove what is over, or with `dry_run` only say what; raises SwapBusy where stored rows are changed for long."""
    now = now or datetime.now(UTC)
    out: list[Removed] = []
    for kind in KINDS:
        found = terms(sites, kind, now) | _gone(client, sites, kind, now)
        for month, over in _over(client, kind, found):
            whole = _whole(client, sites, kind, month, found)
            how = "partition" if whole else "rows"
            removed = [
                Removed(site, kind, month, rows, found[site].days, found[site].day.isoformat(), how)
                for site, rows in over.items()
            ]
            if not dry_run:
                _remove(client, kind, month, whole, [found[site] for site in over], removed, tell)
            tell(f"{kind} {month}: {sum(over.values())} rows of {len(over)} sites, {how}")
            out += removed
    return out


def _over(client: Client, kind: str, found: dict[int, Term]) -> Iterator[tuple[int, dict[int, int]]]:
    """The months that have rows whose time is over, and how many by site."""
    if not found:
        return
    rows = client.query(
        f"SELECT toYYYYMM({COLUMNS[kind]}) AS month, site_id, count() FROM {kind} WHERE {_where(kind, found.values())} "
        "GROUP BY month, site_id ORDER BY month, site_id",
        settings=LONG,
    ).result_rows
    months: dict[int, dict[int, int]] = {}
    for month, site, count in rows:
        months.setdefault(int(month), {})[int(site)] = int(count)
    yield from months.items()


def ends_before(month: int, found: Mapping[int, Term], sites: Set[int]) -> bool:
    """Whether every site's time is over for all of a month (YYYYMM), so that a row that arrives late is over too."""
    year, number = divmod(month, 100)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000
    return sites <= found.keys() and all(term.start >= end for term in found.values())


def _whole(client: Client, sites: Sites, kind: str, month: int, found: Mapping[int, Term]) -> bool:
    """Whether a month may go as a partition: it is over for every site, and nobody else has a row in it."""
    if not ends_before(month, found, sites.by_id.keys()):
        return False
    known = ", ".join(map(str, sorted(found)))
    others = client.query(
        f"SELECT count() FROM {kind} WHERE toYYYYMM({COLUMNS[kind]}) = {month} AND site_id NOT IN ({known})",
        settings=LONG,
    ).result_rows
    return not others[0][0]


def _remove(
    client: Client, kind: str, month: int, whole: bool, over: Sequence[Term], removed: Sequence[Removed], tell: Tell
) -> None:
    swaps = Swaps(client)
    swaps.wait(tell)
    swap = swaps.begin(month)
    number = secrets.randbits(64)
    try:
        _record(client, number, "removing", removed)
        if whole:
            client.command(f"ALTER TABLE {kind} DROP PARTITION ID '{month}'")
        else:
            renewed = time.monotonic()
            for parts in removing(client, kind, month, _where(kind, over)):
                tell(f"{kind} {month}: {parts} parts to be written anew")
                renewed = _renewed(swaps, swap, renewed)
        _record(client, number, "removed", removed)
    finally:
        swaps.end(swap)


def _renewed(swaps: Swaps, swap: Swap, at: float) -> float:
    if time.monotonic() - at < TERM / 4:
        return at
    swaps.renew(swap, State.PREPARING)
    return time.monotonic()


def _where(kind: str, over: Iterable[Term]) -> str:
    """Sites whose time is over at the same moment share a term: of thousands the engine would refuse a term each."""
    starts: dict[int, list[int]] = {}
    for term in over:
        starts.setdefault(term.start, []).append(term.site)
    return " OR ".join(
        f"(site_id IN ({', '.join(map(str, sites))}) AND {COLUMNS[kind]} < fromUnixTimestamp64Milli({start}, 'UTC'))"
        for start, sites in starts.items()
    )


def _record(client: Client, number: int, what: str, removed: Sequence[Removed]) -> None:
    rows = [
        [
            *(number, what, one.site, one.data, one.month, EPOCH),
            *(date.fromisoformat(one.before) - timedelta(days=1), one.rows, one.rows),
            f"retention.{one.data} = {one.days}",
        ]
        for one in removed
    ]
    client.insert("past_changes", rows, column_names=RECORD, settings={"async_insert": 0})


def record(client: Client, limit: int = 1000) -> list[dict[str, object]]:
    """What was removed and made anonymous, the latest first."""
    names = ("at", *RECORD)
    rows = client.query(f"SELECT {', '.join(names)} FROM past_changes ORDER BY at DESC LIMIT {limit}").result_rows
    return [
        {name: value.isoformat() if isinstance(value, date) else value for name, value in zip(names, row, strict=True)}
        for row in rows
    ]
