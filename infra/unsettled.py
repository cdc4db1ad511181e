"""Rows of packets that are not settled, taken back while inserts are held.

A packet is settled by its row in `packets`, after its events and rejects. What was cut off before is run again by the
partition's next owner, who inserts what does not stand yet; that comes to the same as long as the rows before it are
the same. Where these are about to be changed, what the packet comes to may change too: a ping whose visit is not
found any more, say. So its rows are taken back first, and the packet is stored anew, whole.
"""

from __future__ import annotations

from collections.abc import Iterable

from infra.removing import removing
from infra.service.clickhouse import Client, quote
from streams.stored import islands
from streams.topic_generations import Topic

TABLES = {"events": "time", "rejects": "received_at"}  # with the column that their months go by

Place = tuple[int, int, int]  # partition, generation, offset


def take_back(client: Client, topic: Topic, partitions: Iterable[int], copy: str, month: int) -> int:
    """Remove these rows from `events`, `rejects` and the `copy` of a month of `events`; inserts must be held.

    Returns the number of packets. What has left the log cannot come again and stays. Raises KafkaError, RemovingError
    and errors of ClickHouse.
    """
    topic_id = topic.id()
    if topic_id is None:
        return 0  # nothing is in a log, so nothing can come again
    known = client.query(
        f"SELECT min(generation) FROM topic_generations WHERE topic_id = {quote(str(topic_id))} HAVING count() > 0"
    ).result_rows
    if not known:
        return 0
    generation, found = int(known[0][0]), set[Place]()
    for partition, start in sorted(topic.starts(partitions).items()):
        place = f"`partition` = {partition} AND generation = {generation}"
        settled = islands(client, f"{place} AND `offset` >= {start}")
        first = settled[0][1] if settled and settled[0][0] == start else start
        place += f" AND `offset` >= {first}"
        for table, time in TABLES.items():
            rows = client.query(
                f"SELECT toYYYYMM({time}) AS month, groupUniqArray(`offset`) FROM {table} WHERE {place} "
                f"AND `offset` NOT IN (SELECT `offset` FROM packets WHERE {place}) GROUP BY month"
            ).result_rows
            for of, offsets in rows:
                places = {(partition, generation, int(offset)) for offset in offsets}
                found |= places
                _remove(client, table, int(of), places)
    _remove(client, copy, month, found)
    return len(found)


def _remove(client: Client, table: str, month: int, places: set[Place]) -> None:
    if places:
        listed = ", ".join(map(str, sorted(places)))
        where = f"(`partition`, generation, `offset`) IN ({listed})"
        list(removing(client, table, month, where))  # until it is done
