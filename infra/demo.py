"""The demonstration: a whole stack in a folder of its own, traffic through it, and what the tables say afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from infra.books import Books, settle
from infra.load.lag import Lag
from infra.load.process import LoadProcess
from infra.load.progress import Progress
from infra.load.sites import write_sites
from infra.load.sql import Sql, SqlError
from infra.load.visible import Visibility
from infra.local.stack import Stack, isolated
from infra.videos import VideoFigures, VideoRun
from schemas.topics import EVENTS_RAW

SITES = range(1, 6)
STEADY_EVENTS, STEADY_RATE = 5_000, 500  # the last part of the run: what a site in use looks like
PROBES_PER_SECOND = 10.0
CONNECTIONS = 1_000
REPEATS = 0.02  # of the requests are sent again


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run showed. Latencies are milliseconds from request to visible row, as `infra.load.visible` has them."""

    books: Books
    videos: VideoFigures
    steady_ms: dict[str, float | int]
    burst_ms: dict[str, float | int]
    odd_answers: int
    events_per_second: float
    stored_per_second: float
    seconds: float
    pages: int
    visits: int
    visitors: int
    referrers: list[tuple[str, int]]
    devices: list[tuple[str, int]]

    @property
    def right(self) -> bool:
        """Nothing lost, doubled, unexplained or answered against the rules, and every video as it must be."""
        return self.books.right and not self.odd_answers and self.videos.right


def database(stack: Stack) -> Sql:
    """A connection to the stack's database."""
    s = stack.settings
    password = s.clickhouse_password.get_secret_value()
    return Sql(s.clickhouse, s.clickhouse_user, password, s.clickhouse_database)


def prepare(state: Path, *, owned: bool, say: Callable[[str], None]) -> Stack:
    """A stack that is not started yet, with the model sites in place."""
    settings = isolated(state)
    write_sites(settings.sites, SITES)
    return Stack(settings, owned=owned, say=say)


class _Run:
    """Sends through a running stack and looks on."""

    def __init__(self, stack: Stack, folder: Path, seed: int, progress: Progress) -> None:
        self.sql = database(stack)
        self._stack, self._folder, self._seed, self._progress = stack, folder, seed, progress
        self.url = f"http://{stack.settings.host}:{stack.settings.collector_port}"
        self.journals: list[Path] = []
        self._sent = 0

    def send(self, name: str, events: int, rate: float) -> tuple[dict[str, float | int], dict[str, float | int]]:
        """Send events with probes beside them; the load's report and the latencies."""
        journals = [self._folder / f"{name}.journal", self._folder / f"{name}-probes.journal"]
        self.journals += journals
        start = self._sent
        visibility = Visibility(
            self.url,
            list(SITES),
            database(self._stack),
            interval=1 / PROBES_PER_SECOND,
            journal=journals[1],
            start=start,
            seed=self._seed,
        )
        sites = f"{SITES[0]}-{SITES[-1]}"
        load = LoadProcess(
            self.url,
            journals[0],
            sites=sites,
            events=events,
            rate=rate,
            seed=self._seed + start,
            start=start,
            connections=CONNECTIONS,
            repeats=REPEATS,
        )
        self._sent += events
        visibility.start()
        try:
            while load.running():
                self._show(name, load, events)
                time.sleep(0.2)
            self._show(name, load, events)
            report = load.result()
        finally:
            load.stop()
            visibility.stop()
        return report, visibility.report()

    def _show(self, name: str, load: LoadProcess, events: int) -> None:
        seen = load.watch.look()
        rows = 0
        with suppress(SqlError):
            (rows,) = self.sql.numbers("SELECT count() FROM events")
        self._progress.show(
            f"{name}: sent {seen.sent:,} of {events:,}  acknowledged {seen.acknowledged:,}  rows in the table {rows:,}"
        )


def run(stack: Stack, folder: Path, *, events: int, seed: int, videos: Sequence[str], progress: Progress) -> Figures:
    """Send `events` through a running stack, most of them as fast as it goes, wait for the last row, and count.

    `videos` are names in the stack's folder of videos; they are asked for at the start, so thumbnails are made while
    traffic runs. The time from event to query is measured in the last part, at STEADY_RATE events a second, and during
    the burst.
    """
    began = time.monotonic()
    run_ = _Run(stack, folder, seed, progress)
    steady = min(STEADY_EVENTS, events // 2)
    thumbnails = VideoRun(stack.settings, database(stack), videos)
    thumbnails.start()
    try:
        burst, burst_ms = run_.send("burst", events - steady, 0)
        rest, steady_ms = run_.send("steady", steady, STEADY_RATE)
        progress.show(
            f"waiting until the tables stand still; {thumbnails.ended} of {len(videos) + 1} videos have ended"
        )
        of_videos = thumbnails.result()
    finally:
        thumbnails.stop()
    sql = run_.sql
    books = settle(run_.journals, sql, lag=Lag(stack.settings.kafka, stack.settings.topic(EVENTS_RAW), sql))
    pages, visits, visitors = sql.numbers(
        "SELECT countIf(action_type = 1), uniqExact(visit_id), uniqExact(visit_visitor_id) FROM events"
    )
    first, last = sql.numbers(
        "SELECT toUnixTimestamp64Milli(min(received_at)), toUnixTimestamp64Milli(max(received_at)) FROM events"
    )
    referrers = sql.rows(
        "SELECT referrer_name, uniqExact(visit_id) AS visits FROM events WHERE referrer_name != ''"
        " GROUP BY referrer_name ORDER BY visits DESC, referrer_name LIMIT 8"
    )
    devices = sql.rows(
        "SELECT if(device_type = '', 'unknown', device_type), uniqExact(visit_id) AS visits FROM events"
        " GROUP BY device_type ORDER BY visits DESC LIMIT 8"
    )
    return Figures(
        books=books,
        videos=of_videos,
        steady_ms=steady_ms,
        burst_ms=burst_ms,
        odd_answers=int(burst["odd_answers"] + rest["odd_answers"]),
        events_per_second=burst["events_per_second"],
        stored_per_second=round(books.stored / max((last - first) / 1000, 0.001), 1),
        seconds=round(time.monotonic() - began, 1),
        pages=pages,
        visits=visits,
        visitors=visitors,
        referrers=[(name, int(count)) for name, count in referrers],
        devices=[(name, int(count)) for name, count in devices],
    )
