"""What people ask about the last 30 days of one large site, through the views; and the same of a row-wise table.

The row-wise table is SQLite's: a plain table of the columns that the questions need, with an index on site and time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa

from infra.service.clickhouse import Client
from tests.benchmarks.frame.rows import repeated, with_columns

SITE = 4_000_000_001  # no other row's
DAYS = 30
SPAN_MS = DAYS * 86_400_000
CHUNK = 200_000
PER_VISIT = 5
PAGES = 2_000
COLUMNS = {
    "site_id": "INTEGER",
    "time": "INTEGER",
    "action_type": "INTEGER",
    "url": "TEXT",
    "title": "TEXT",
    "visit_id": "TEXT",
    "visit_position": "INTEGER",
    "visitor_id": "TEXT",
    "referrer_type": "INTEGER",
    "referrer_name": "TEXT",
    "country": "TEXT",
    "browser": "TEXT",
    "device_type": "TEXT",
    "revenue": "REAL",
}
OF_SITE = f"site_id = {SITE}"
# name -> (of the views, of the row-wise table); times there are milliseconds
QUERIES = {
    "visits by day": (
        f"SELECT day, visits, actions, pageviews, revenue FROM days WHERE {OF_SITE} ORDER BY day",
        "SELECT time / 86400000 AS day, sum(visit_position = 1 AND action_type != 8), sum(action_type != 8), "
        f"sum(action_type = 1), sum(revenue) FROM plain WHERE {OF_SITE} GROUP BY day ORDER BY day",
    ),
    "visitors by day": (
        f"SELECT toDate(time) AS day, uniq(visitor_id) FROM events WHERE {OF_SITE} GROUP BY day ORDER BY day",
        f"SELECT time / 86400000 AS day, count(DISTINCT visitor_id) FROM plain WHERE {OF_SITE} GROUP BY day ORDER BY 1",
    ),
    "pages": (
        f"SELECT url, count() AS views, uniq(visit_id) FROM events WHERE {OF_SITE} AND action_type = 1 GROUP BY url "
        "ORDER BY views DESC LIMIT 20",
        f"SELECT url, count(*) AS views, count(DISTINCT visit_id) FROM plain WHERE {OF_SITE} AND action_type = 1 "
        "GROUP BY url ORDER BY views DESC LIMIT 20",
    ),
    "referrers": (
        f"SELECT referrer_type, referrer_name, uniq(visit_id) AS visits FROM events WHERE {OF_SITE} "
        "AND referrer_type != 1 GROUP BY ALL ORDER BY visits DESC LIMIT 20",
        f"SELECT referrer_type, referrer_name, count(DISTINCT visit_id) AS visits FROM plain WHERE {OF_SITE} "
        "AND referrer_type != 1 GROUP BY 1, 2 ORDER BY visits DESC LIMIT 20",
    ),
    "countries and devices": (
        f"SELECT country, device_type, browser, uniq(visit_id) AS visits FROM events WHERE {OF_SITE} GROUP BY ALL "
        "ORDER BY visits DESC LIMIT 50",
        f"SELECT country, device_type, browser, count(DISTINCT visit_id) AS visits FROM plain WHERE {OF_SITE} "
        "GROUP BY 1, 2, 3 ORDER BY visits DESC LIMIT 50",
    ),
}


def chunks(rows: pa.Table, count: int) -> Iterator[pa.Table]:
    """So many rows of the site over the last 30 days, in the order of time."""
    now = time.time_ns() // 1_000_000
    for start in range(0, count, CHUNK):
        number = np.arange(start, min(start + CHUNK, count), dtype=np.int64)
        moment = now - SPAN_MS + (number * (SPAN_MS // 1000) // count) * 1000
        visit = number // PER_VISIT
        yield with_columns(
            repeated(rows, len(number)),
            {
                "site_id": np.full(len(number), SITE),
                "offset": number // 200,
                "index": number % 200,
                "time": moment,
                "received_at": moment,
                "visit_id": (visit + 1) * 2_654_435_761,
                "visit_position": number % PER_VISIT + 1,
                "visitor_id": (visit // 3 + 1) * 2_246_822_519,
                "url": pa.array([f"https://www.shop.example/page/{page}" for page in (number * 7919 % PAGES).tolist()]),
            },
        )


def row_wise(path: Path, tables: Iterator[pa.Table]) -> sqlite3.Connection:
    """The row-wise table of the same rows."""
    found = sqlite3.connect(path)
    found.execute("PRAGMA journal_mode = OFF")
    found.execute("PRAGMA synchronous = OFF")
    found.execute(f"CREATE TABLE plain ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")
    for table in tables:
        columns = []
        for name, kind in COLUMNS.items():
            column = table[name].cast(pa.int64()) if name == "time" else table[name]
            columns.append([str(value) for value in column.to_pylist()] if kind == "TEXT" else column.to_pylist())
        found.executemany(f"INSERT INTO plain VALUES ({', '.join('?' * len(COLUMNS))})", zip(*columns, strict=True))
    found.execute("CREATE INDEX by_time ON plain (site_id, time)")
    found.commit()
    return found


def compare(client: Client, plain: sqlite3.Connection, rounds: int) -> dict[str, dict[str, float]]:
    """Of each question the median time of both, in milliseconds, asked in turns."""
    out = {}
    for name, (ours, reference) in QUERIES.items():
        times: dict[str, list[float]] = {"ours_ms": [], "row_wise_ms": []}
        for _ in range(rounds):
            times["ours_ms"].append(_timed(lambda sql=ours: client.query(sql).result_rows))  # type: ignore[misc]
            times["row_wise_ms"].append(_timed(lambda sql=reference: plain.execute(sql).fetchall()))  # type: ignore[misc]
        out[name] = {side: round(median(found), 1) for side, found in times.items()}
    return out


def _timed(ask: Callable[[], object]) -> float:
    began = time.monotonic()
    ask()
    return (time.monotonic() - began) * 1000
