"""What happens right now, from the tables and the log: rates, lag, the busiest sites and pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from infra.load.lag import Behind
from infra.service.clickhouse import Client

SHOWN = 10  # sites and pages


@dataclass(frozen=True, slots=True)
class Site:
    """A site in the span. `rate`: events per second; visits: with an event in it."""

    site_id: int
    name: str
    events: int
    rate: float
    pageviews: int
    visits: int
    bots: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page in the span."""

    site_id: int
    url: str
    views: int
    visits: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What came in during the last `seconds`. lag_packets: in the log and not in the tables, None where the broker is
    silent. lag_seconds: since the oldest of them was appended, None where that is not known. age_seconds: since the
    newest row was received, None where there is none.
    """

    seconds: int
    events: int
    rate: float
    rejected: int
    excluded: int
    repeated: int
    lag_packets: int | None
    lag_seconds: float | None
    age_seconds: float | None
    sites: list[Site]
    pages: list[Page]

    def as_dict(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return asdict(self)


def snapshot(client: Client, seconds: int, names: dict[int, str], lag: Callable[[], Behind | None]) -> Snapshot:
    """Ask for the last `seconds`; `names` of sites by id."""
    since = f"now64(3, 'UTC') - INTERVAL {seconds} SECOND"
    came = f"received_at > {since}"
    sites = [
        Site(int(number), names.get(int(number), ""), int(events), events / seconds, int(views), int(visits), int(bots))
        for number, events, views, visits, bots in client.query(
            "SELECT site_id, count() AS events, countIf(action_type = 1), uniq(visit_id), countIf(bot_score >= 50) "
            f"FROM events WHERE {came} GROUP BY site_id ORDER BY events DESC, site_id LIMIT {SHOWN}"
        ).result_rows
    ]
    pages = [
        Page(int(number), str(url), int(views), int(visits))
        for number, url, views, visits in client.query(
            f"SELECT site_id, url, count() AS views, uniq(visit_id) FROM events WHERE {came} AND action_type = 1 "
            f"GROUP BY site_id, url ORDER BY views DESC, site_id, url LIMIT {SHOWN}"
        ).result_rows
    ]
    events = int(client.query(f"SELECT count() FROM events WHERE {came}").result_rows[0][0])
    ((rejected, excluded, repeated),) = client.query(
        "SELECT sum(rejected), sum(excluded), sum(repeats_key) + sum(repeats_random) + sum(repeats_body) FROM packets "
        f"WHERE appended_at > {since}"
    ).result_rows
    newest = client.query(
        "SELECT (toUnixTimestamp64Milli(now64(3, 'UTC')) - toUnixTimestamp64Milli(max(received_at))) / 1000, count() "
        "FROM events"
    ).result_rows[0]
    behind = lag()
    return Snapshot(
        seconds,
        events,
        events / seconds,
        int(rejected),
        int(excluded),
        int(repeated),
        behind.packets if behind else None,
        behind.seconds if behind else None,
        float(newest[0]) if newest[1] else None,
        sites,
        pages,
    )
