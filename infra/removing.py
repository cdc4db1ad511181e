"""Rows taken out of a table for good: a mutation writes the parts of the month anew, projections too.

Not a lightweight delete, which only marks rows: what is to be gone shall not stay in a file. The parts as they were
leave the disk when the engine clears them, some minutes later.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from infra.service.clickhouse import Client

POLL = 0.1  # seconds


class RemovingError(RuntimeError):
    """The engine could not write a part anew; it says why."""


def removing(client: Client, table: str, month: int, where: str) -> Iterator[int]:
    """Remove a month's rows; gives how many parts are left to be written, until there are none. Raises RemovingError.

    `where` is SQL and names no personal data: it stays readable in files of the engine. What was begun goes on in the
    engine when this process ends.
    """
    client.command(
        f"ALTER TABLE {table} DELETE IN PARTITION ID '{month}' WHERE {where}",
        settings={"mutations_sync": 0, "max_query_size": 1 << 24},
    )
    while True:
        rows = client.query(
            "SELECT sum(parts_to_do), countIf(NOT is_done), anyIf(latest_fail_reason, NOT is_done) "
            f"FROM system.mutations WHERE database = currentDatabase() AND table = '{table}'"
        ).result_rows
        parts, left, reason = rows[0]
        if reason:
            raise RemovingError(f"rows of {table} of month {month} could not be removed: {str(reason)[:500]}")
        if not left:
            return
        yield int(parts)
        time.sleep(POLL)
