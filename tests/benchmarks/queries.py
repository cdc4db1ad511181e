"""`queries`: what inserts keep of their rate while four dashboards ask about all rows without a pause.

Rates are rows per second of the wall clock, with all cores for all: what is measured is how they share the machine.
Then, beside inserts and queries that go on, a query is made to pass its memory limit; it must fail alone. At last,
nothing else going on, the questions of `frame.month` are asked about 30 days of a site with 10 million events, of the
tables and of a row-wise one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import pyarrow as pa

from infra.service.clickhouse import Client, DatabaseError, connect, insert_if
from infra.service.settings import Settings
from tests.benchmarks.frame import BenchmarkError, Frame, month
from tests.benchmarks.frame.laboratory import Laboratory, laboratory
from tests.benchmarks.frame.result import Result, Setting
from tests.benchmarks.frame.rounds import Sample, interleaved
from tests.benchmarks.frame.rows import real_rows, repeated, with_columns

BATCH = 30_000  # rows of an insert, as the worker's under load
SPAN_MS = 14 * 86_400_000  # the rows lie in the two weeks before now
MEMORY_LIMIT_EXCEEDED = 241
QUERIES = {
    "pages": "SELECT site_id, url_path, count() AS views, uniq(visit_id) FROM events WHERE action_type = 1"
    " GROUP BY site_id, url_path ORDER BY views DESC LIMIT 20",
    "traffic": "SELECT toStartOfHour(time) AS hour, count(), uniq(visitor_id), uniq(visit_id), avg(visit_pageviews)"
    " FROM events GROUP BY hour ORDER BY hour",
    "sources": "SELECT referrer_type, referrer_name, campaign_name, uniq(visit_id) AS visits, sum(revenue) FROM events"
    " GROUP BY ALL ORDER BY visits DESC LIMIT 50",
    "devices": "SELECT browser, os, device_type, language, uniq(visitor_id) AS visitors, quantile(0.9)(timing_server)"
    " FROM events GROUP BY ALL ORDER BY visitors DESC LIMIT 50",
}
TOO_MUCH = "SELECT length(groupArray(number)) FROM numbers(1000000000)"


def run(frame: Frame) -> Result:
    """Inserts alone and inserts beside four dashboards, in turns."""
    stored, seconds = frame.pick(3_000_000, 200_000), frame.pick(15, 4)
    large = frame.pick(10_000_000, 100_000)
    frame.say("making rows")
    rows = real_rows(30_000)
    with laboratory(frame, ["front"], apart=False) as lab, lab.tables() as client:
        for start in range(0, stored, 100_000):
            _insert(client, _spread(rows, min(100_000, stored - start), start))
        frame.say(f"{stored:,} rows are stored")
        load = _Load(lab, client, rows, seconds)
        series = interleaved(
            {"inserts alone": load.alone, "inserts beside queries": load.beside}, frame.rounds, frame.say
        )
        frame.say("a query passes its memory limit")
        limit = load.over_the_limit()
        frame.say(f"making {large:,} events of one site")
        for part in month.chunks(rows, large):
            _insert(client, part)
        plain = month.row_wise(frame.folder / "plain.sqlite", month.chunks(rows, large))
        asked = month.compare(client, plain, frame.rounds)
        plain.close()
    setting = Setting(f"{stored:,} rows", series["inserts beside queries"], series["inserts alone"])
    thirty_days = {"events": large, "slowest_ms": max(found["ours_ms"] for found in asked.values()), "queries": asked}
    details = {"thirty_days": thirty_days, "query_over_its_limit": limit, "queries_median_ms": load.times()}
    return Result("queries", "rows per second, wall", "row", "the same inserts without queries", [setting], details)


def _insert(client: Client, rows: pa.Table) -> None:
    written = insert_if(client, "events", rows, "1", query_id=f"bench-{time.monotonic_ns()}")
    if written != rows.num_rows:
        raise BenchmarkError(f"{written} of {rows.num_rows} rows were written")


def _spread(rows: pa.Table, count: int, first: int) -> pa.Table:
    """Rows over the span, each with a place of its own, of as many visits as real ones are."""
    number = np.arange(first, first + count, dtype=np.int64)
    now = time.time_ns() // 1_000_000
    moment = now - SPAN_MS + (number * 7919) % SPAN_MS
    return with_columns(
        repeated(rows, count),
        {
            "offset": number // 200,
            "index": number % 200,
            "time": moment,
            "received_at": moment,
            "visit_id": (number // 3 + 1) * 2_654_435_761,
            "visitor_id": (number // 5 + 1) * 2_246_822_519,
        },
    )


class _Load:
    """Inserts in the main thread, dashboards in threads of their own."""

    def __init__(self, lab: Laboratory, client: Client, rows: pa.Table, seconds: int) -> None:
        self._lab, self._client = lab, client
        self._seconds = seconds
        self._engine = lab.tree("front")
        self._batch = repeated(rows, BATCH)
        self._durations: dict[str, list[float]] = {name: [] for name in QUERIES}
        self._failures: list[str] = []

    def alone(self) -> Sample:
        """Inserts, and nothing else."""
        return self._inserts()

    def beside(self) -> Sample:
        """Inserts while the dashboards ask."""
        with self._dashboards():
            sample = self._inserts()
        if self._failures:
            raise BenchmarkError(f"a dashboard's query failed: {self._failures[0]}")
        return sample

    def over_the_limit(self) -> dict[str, object]:
        """Makes a query pass its limit beside all others; raises BenchmarkError when it does not fail alone."""
        pid = self._lab.stack.pids()["front"]
        code = 0
        done: list[int] = []

        def fail() -> None:
            with _dashboard(self._lab.settings) as client:
                try:
                    client.query(TOO_MUCH)
                except DatabaseError as error:
                    done.append(MEMORY_LIMIT_EXCEEDED if f"code: {MEMORY_LIMIT_EXCEEDED}" in str(error) else -1)

        answered = sum(map(len, self._durations.values()))
        with self._dashboards():
            thread = threading.Thread(target=fail, daemon=True)
            thread.start()
            inserted = self._inserts().items
            thread.join(120)
        code = done[0] if done else 0
        answered = sum(map(len, self._durations.values())) - answered
        if code != MEMORY_LIMIT_EXCEEDED:
            raise BenchmarkError(f"the query over its memory limit ended with code {code}, not {MEMORY_LIMIT_EXCEEDED}")
        if self._failures or self._lab.stack.pids()["front"] != pid:
            raise BenchmarkError(f"the query over its memory limit did not die alone: {self._failures or 'the front'}")
        return {"code": code, "died_alone": True, "rows_inserted_meanwhile": inserted, "queries_meanwhile": answered}

    def times(self) -> dict[str, float]:
        """Milliseconds of each query, the median."""
        return {name: round(float(np.median(times)) * 1000) for name, times in self._durations.items() if times}

    def _inserts(self) -> Sample:
        before, began, rows = self._engine.usage().cpu, time.monotonic(), 0
        while (now := time.monotonic()) - began < self._seconds:
            _insert(self._client, self._batch)
            rows += BATCH
        usage = self._engine.usage()
        seconds = now - began
        details = {"engine_cores": (usage.cpu - before) / seconds}
        return Sample(rows / seconds, rows, 0.0, usage.peak, details)

    @contextmanager
    def _dashboards(self) -> Iterator[None]:
        ended = threading.Event()

        def ask(name: str) -> None:
            with _dashboard(self._lab.settings) as client:
                while not ended.is_set():
                    began = time.monotonic()
                    try:
                        client.query(QUERIES[name])
                    except Exception as error:  # whatever it is, the benchmark must hear of it
                        self._failures.append(f"{name}: {error}")
                        return
                    self._durations[name].append(time.monotonic() - began)

        threads = [threading.Thread(target=partial(ask, name), daemon=True) for name in QUERIES]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join(120)


def _dashboard(settings: Settings) -> Client:
    return connect(settings, user="dashboard", timeout=120)
