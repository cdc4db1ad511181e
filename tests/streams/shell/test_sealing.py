"""What is sealed is stored; what is stored leaves the log; and once the hour's key is gone nobody reads the rest."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.structs import OffsetAndMetadata

from infra.local.stack import Stack
from infra.service.clickhouse import Client
from infra.service.plain_sql import PlainSql
from infra.service.settings import Settings
from infra.service.vault import DAY, HOUR, Vault, entries, master_keys
from ingest.hours import Hours
from ingest.spool.log import Entry, Log
from schemas import packets as codec
from schemas.packets import MAGIC, BadPacket, KeyDestroyed, encode
from schemas.routing import ROUTING_VERSION
from schemas.sealing import HOUR_MS
from schemas.topics import EVENTS_RAW
from streams.batch import Record
from streams.lookups import Shelf
from streams.policies import Policies
from streams.surroundings import HourKeyMissing
from streams.topic_generations import Topic
from streams.upkeep import Upkeep
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import POLICIES, count, events, publish, total, written_since

AMOUNT = 60


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def sealed(hours: Hours, partition: int) -> list[bytes]:
    """Packets as a collector makes them."""
    found = events(AMOUNT, seed=partition)
    sealer = hours.sealer()
    return [
        encode(7, seq, ROUTING_VERSION, POLICIES.version, found[seq * 10 : seq * 10 + 10], sealer, partition)
        for seq in range(AMOUNT // 10)
    ]


def in_log(settings: Settings, partition: int) -> list[Record]:
    """What the topic holds of a partition, as the worker gets it."""
    place = TopicPartition(settings.topic(EVENTS_RAW), partition)
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka, enable_auto_commit=False)
    try:
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        (end,) = consumer.end_offsets([place]).values()
        found = []
        while consumer.position(place) < end:
            for batch in consumer.poll(timeout_ms=500).values():
                found += [Record(partition, r.offset, 1, r.timestamp, r.value) for r in batch]
        return found
    finally:
        consumer.close()


def readable(settings: Settings, client: Client, files: Iterable[Path]) -> int:
    """How many packets in these files open with anything that is left: each key of the vault for each packet."""
    vault = Vault(client, master_keys(settings.master_key))
    vault.refresh()
    shelf = Shelf(Policies(settings.kafka, ""), vault, settings.topic(EVENTS_RAW))
    hours = [int(name) for kind, name in entries(client) if kind == HOUR]
    opened = 0
    for path in files:
        data = path.read_bytes()
        at = data.find(MAGIC)
        while at >= 0:
            opened += _opens(shelf, hours, data[at:])
            at = data.find(MAGIC, at + 1)
    return opened


def _opens(shelf: Shelf, hours: list[int], data: bytes) -> bool:
    try:
        head = codec.header(data)
    except BadPacket:
        return False
    for hour in {*hours, head.key_id}:
        for partition in range(4):
            for end in _ends(data):
                try:
                    shelf.open(data[:end], msgspec.structs.replace(head, key_id=hour), partition)
                    return True
                except (BadPacket, HourKeyMissing):
                    continue
    return False


def _ends(data: bytes) -> Iterator[int]:
    """Where a packet may end: at the next record, or a few bytes before, for what the log puts around it."""
    following = data.find(MAGIC, 1)
    end = following if following >= 0 else len(data)
    yield from range(end, max(end - 120, 0), -1)


def kafka_files(folder: Path, settings: Settings) -> list[Path]:
    return [path for path in folder.rglob("*.log") if settings.topic(EVENTS_RAW) in str(path)]


def test_sealed_packets_are_stored_trimmed_and_die(
    world: Settings, client: Client, make_pipeline: MakePipeline, stack: Stack, tmp_path: Path
) -> None:
    began, clock = time.time(), [now_ms()]
    hours = Hours(world.spool, 7, world.topic(EVENTS_RAW), PlainSql(world), now_ms=lambda: clock[0])
    hours.look()
    hour = hours.sealer().hour
    values = sealed(hours, 0)
    hours.packed(hour)
    publish(world, 0, values)
    spool = Log.create(world.spool, 7, clock[0])
    spool.append([Entry(0, value, 0) for value in values], clock[0], 1 << 20)
    wrapped = entries(client)[HOUR, str(hour)][0].wrapped

    # The worker opens and stores them.
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    batch = in_log(world, 0)
    assert pipeline.run(batch).done == {0: len(values)}
    total(client, AMOUNT)

    later = [datetime.fromtimestamp(clock[0] / 1000, UTC)]
    topic = Topic(world.kafka, world.topic(EVENTS_RAW))
    upkeep = Upkeep(client, topic, 1, partitions=4, margin=timedelta(hours=6), readers=["backup"], now=lambda: later[0])
    pipeline.upkeep = upkeep
    pipeline.tidy()
    assert topic.starts([0]) == {0: 0}  # the margin is not over
    later[0] += timedelta(hours=7)
    pipeline.tidy()
    assert topic.starts([0]) == {0: 0}  # the other reader has read nothing
    commit(world, "backup", 0, 4)
    pipeline.tidy()
    assert topic.starts([0]) == {0: 4}
    commit(world, "backup", 0, len(values))
    pipeline.tidy()
    assert topic.starts([0]) == {0: len(values)}
    # A worker that begins anew finds nothing lost.
    other = make_pipeline()
    assert other.assign(topic.starts([0])) == {0: len(values)}
    other.upkeep = upkeep

    # The spool has not reported: the key lives, and what was copied from the disks opens.
    copy = tmp_path / "copy"
    for file in kafka_files(stack.settings.state / "kafka", world):
        target = copy / file.parent.name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    files = [*kafka_files(copy, world), *world.spool.glob("*/*.segment")]
    assert (HOUR, str(hour)) in entries(client)
    assert readable(world, client, files) == 2 * len(values)

    hours.acknowledged(hour)
    clock[0] += 2 * HOUR_MS
    assert hours.sealer().hour == hour + 2
    hours.look()
    other.tidy()
    assert (HOUR, str(hour)) not in entries(client)
    assert readable(world, client, files) == 0
    store = stack.settings.state / "clickhouse"
    written = list(written_since(store, began))
    assert any(POLICIES.version in content for content in written)
    assert not any(wrapped in content for content in written)
    # A copy that still comes is told by its name, and what is new is refused in the open.
    late = encode(8, 0, ROUTING_VERSION, POLICIES.version, events(3), None)
    stranger = values[0].replace(values[0][8:16], (9).to_bytes(8, "little"), 1)
    end = len(values)
    for_worker = [Record(0, end, 1, clock[0], values[0]), Record(0, end + 1, 1, clock[0], stranger)]
    for_worker.append(Record(0, end + 2, 1, clock[0], late))
    other.lookups.prepare(None)
    assert other.run(for_worker).done == {0: end + 3}
    kinds = client.query(f"SELECT kind FROM packets WHERE `offset` >= {end} ORDER BY `offset`").result_rows
    assert kinds == [(2,), (3,), (1,)]
    assert count(client, "SELECT count() FROM rejects WHERE reason = 'key_destroyed'") == 1


def test_clickhouse_may_be_away_for_three_days(world: Settings, client: Client, make_pipeline: MakePipeline) -> None:
    """Clocks are moved: the outage began three days ago, an hour after keys were made for three hours ahead."""
    now = datetime.now(UTC)
    start = now - timedelta(days=3)
    Vault(client, master_keys(world.master_key)).make(now=start, hours=3)
    clock = [int(start.timestamp() * 1000)]
    first_hour = clock[0] // HOUR_MS
    away = PlainSql(world.model_copy(update={"clickhouse_url": "http://127.0.0.1:9"}))

    def collector(writer: int, sql: PlainSql) -> Hours:
        hours = Hours(world.spool, writer, world.topic(EVENTS_RAW), sql, now_ms=lambda: clock[0])
        hours.look()
        return hours

    records: list[Record] = []

    def accept(hours: Hours, writer: int, seq: int) -> int:
        """A packet that the broker acknowledges; returns the hour of its key."""
        sealer = hours.sealer()
        hours.packed(sealer.hour)
        found = events(10, seed=seq, start_ms=clock[0], first=10 * len(records))
        value = encode(writer, seq, ROUTING_VERSION, POLICIES.version, found, sealer, 0)
        publish(world, 0, [value])
        records.append(Record(0, len(records), 1, found[-1].received_ms, value))
        hours.acknowledged(sealer.hour)
        return sealer.hour - first_hour

    before = collector(7, PlainSql(world))
    used = [accept(before, 7, 0)]
    before.close()
    during = collector(8, away)  # one that begins anew while nothing answers
    for seq in range(11):
        clock[0] += 6 * HOUR_MS
        assert during.refusal() == ""
        during.look()
        used.append(accept(during, 8, seq))
    assert used == [0, *[3] * 11]
    during.close()

    # It is back: all is stored, by the day on which it was received.
    clock[0] = int(now.timestamp() * 1000)
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    pipeline.prepare()
    assert pipeline.run(records).done == {0: len(records)}
    total(client, 10 * len(records))
    days = client.query("SELECT uniqExact(toDate(received_at)) FROM events").result_rows
    assert days[0][0] >= 3
    # The keys of then are over once this spool has said so, the log has let go, and nothing else needs them.
    dead = {(HOUR, str(first_hour + n)) for n in range(4)} | {(DAY, start.date().isoformat())}
    assert dead <= set(entries(client))
    topic = Topic(world.kafka, world.topic(EVENTS_RAW))
    pipeline.upkeep = Upkeep(
        client, topic, 1, partitions=4, margin=timedelta(hours=6), now=lambda: datetime.now(UTC) + timedelta(hours=7)
    )
    pipeline.tidy()
    assert topic.starts([0]) == {0: len(records)}
    assert dead <= set(entries(client))
    after = collector(9, PlainSql(world))
    assert after.sealer().hour == clock[0] // HOUR_MS
    after.look()
    pipeline.tidy()
    assert not dead & set(entries(client))
    assert (DAY, now.date().isoformat()) in entries(client)
    pipeline.lookups.prepare(None)
    for record in records:
        with pytest.raises(KeyDestroyed):
            pipeline.lookups.open(record.value, codec.header(record.value), 0)


def commit(settings: Settings, group: str, partition: int, offset: int) -> None:
    """As another reader of the topic does."""
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        place = TopicPartition(settings.topic(EVENTS_RAW), partition)
        admin.alter_group_offsets(group, {place: OffsetAndMetadata(offset, "", -1)})
    finally:
        admin.close()
