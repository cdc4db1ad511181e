"""Inserts whose outcome is unknown, and rows that are spread over many months."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from infra.service.clickhouse import Client, connect
from infra.service.settings import Settings
from schemas.tables import EVENTS, PACKETS, REJECTS
from streams import metrics
from streams.batch import Record
from streams.ownership import Ownership
from streams.patience import Patience
from streams.pipeline import Pipeline
from streams.sink import MONTHS, Rows, Sink, by_months
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.cutting import Cut, proxy
from tests.streams.shell.stream import count, dump, events, packets, total


@pytest.mark.parametrize("table", ["events", "rejects", "packets"])
@pytest.mark.parametrize("cut", list(Cut), ids=lambda cut: cut.name)
def test_a_cut_insert_is_read_back(
    world: Settings, client: Client, make_pipeline: MakePipeline, table: str, cut: Cut
) -> None:
    found = events(400)
    batch = [Record(0, n, 1, found[0].received_ms, value) for n, value in enumerate(packets(found))]
    port = urlsplit(world.clickhouse).port
    assert port
    with proxy(port, b"INSERT+INTO+" + table.encode()) as between:
        through = connect(world.model_copy(update={"clickhouse_url": f"http://127.0.0.1:{between.port}"}))
        direct = make_pipeline()
        pipeline = Pipeline(through, direct.topic, 1, direct.lookups, Patience())
        pipeline.assign({0: 0})
        before = metrics.unknown._value.get()
        between.cuts = [cut]
        assert pipeline.run(batch).done == {0: len(batch)}
        assert not between.cuts
        assert metrics.unknown._value.get() - before == 1
        through.close()
    total(client, 400)


def rejects(months: int) -> pa.Table:
    """Reject rows, two a month."""
    first = datetime(2015, 1, 15, tzinfo=UTC)
    moments = [first + timedelta(days=30.5 * (n // 2)) for n in range(2 * months)]
    numbers = list(range(len(moments)))
    columns = {
        "index": numbers,
        "received_at": moments,
        "reason": ["internal_error"] * len(moments),
        "field": [""] * len(moments),
    }
    return pa.table(
        [
            pa.array(columns.get(field.name, [1] * len(moments)), _plain(field.type)).cast(field.type)
            for field in REJECTS
        ],
        schema=REJECTS,
    )


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def test_no_insert_touches_too_many_months(client: Client, world: Settings) -> None:
    rows = rejects(130)
    parts = list(by_months(rows))
    assert [len(set(part["received_at"].to_numpy().astype("datetime64[M]"))) for part in parts] == [MONTHS, MONTHS, 30]
    assert list(by_months(rows.slice(0, 0))) == []
    ownership = Ownership(client, "topic")
    claims = ownership.claim([1])
    sink = Sink(client, ownership, 1, Patience())
    rest = Rows(EVENTS.empty_table(), rows, PACKETS.empty_table())
    assert sink.store(rest, claims) == claims
    assert count(client, "SELECT count() FROM rejects") == 260
    assert count(client, "SELECT uniqExact(`index`) FROM rejects") == 260


def test_what_is_erased_below_the_floor_does_not_come_back(client: Client, make_pipeline: MakePipeline) -> None:
    found = events(60)
    batch = [Record(0, n, 1, found[0].received_ms, value) for n, value in enumerate(packets(found))]
    first = make_pipeline()
    first.assign({0: 0})
    first.run(batch)
    whole = dump(client)["events"]
    client.command("CREATE TABLE kept AS packets")
    client.command("INSERT INTO kept SELECT * FROM packets WHERE `offset` != 3")
    client.command("TRUNCATE TABLE packets")
    client.command("INSERT INTO packets SELECT * FROM kept")
    client.command("DELETE FROM events WHERE `offset` IN (2, 3, 5)", settings={"mutations_sync": 2})
    second = make_pipeline()
    second.assign({0: 0})
    second.run(batch[3:])
    offsets = whole["offset"].to_pylist()
    expected = [offset for offset in offsets if offset not in (2, 5)]  # 3 has no row in packets: it is not settled
    assert dump(client)["events"]["offset"].to_pylist() == expected
