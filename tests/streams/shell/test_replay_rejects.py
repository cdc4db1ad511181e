"""Rejects are replayed under their names, once, whatever cuts a replay off."""

from __future__ import annotations

import pyarrow as pa
import pytest

from infra.service.clickhouse import Client, connect, insert_if
from infra.service.settings import Settings
from infra.service.vault import Vault, master_keys
from schemas import moments
from schemas.packets import encode
from schemas.routing import ROUTING_VERSION
from schemas.topics import EVENTS_RAW, SITE_POLICIES
from streams import replay
from streams.batch import Record
from streams.lookups import Shelf
from streams.policies import Policies
from streams.replay import Replay, Replayed
from streams.topic_generations import Topic
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import POLICIES, count, events, publish


def cut_off(client: Client, table: str, rows: pa.Table, condition: str, *, query_id: str) -> int:
    """An insert that never comes to the corrections."""
    if table == "rejects_replayed":
        raise ConnectionError
    return insert_if(client, table, rows, condition, query_id=query_id)


def test_rejects_are_replayed_under_their_names(
    world: Settings, client: Client, make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = events(40)
    for n in (3, 14):
        found[n].query += "&cdt=2015-01-01"
    values = [encode(7, n, ROUTING_VERSION, POLICIES.version, found[n * 10 : n * 10 + 10]) for n in range(4)]
    publish(world, 0, values)
    worker = make_pipeline()
    worker.assign({0: 0})
    batch = [Record(0, n, 1, found[-1].received_ms, value) for n, value in enumerate(values)]
    worker.run(batch)
    rejected = "SELECT seq, `index` FROM rejects WHERE field = 'cdt' ORDER BY seq"
    assert client.query(rejected).result_rows == [(0, 3), (1, 4)]
    before = count(client, "SELECT count() FROM events")

    vault = Vault(client, master_keys(world.master_key))
    topic = world.topic(EVENTS_RAW)
    with connect(world) as opened:
        shelf = Shelf(Policies(world.kafka, world.topic(SITE_POLICIES)), vault, topic)
        again = Replay(opened, world.kafka, topic, 1, shelf)
        assert again.run(reason="bad_parameter") == Replayed(again=2)

        # The parser is mended.
        monkeypatch.setattr(moments, "said", lambda _cdt, _cdo, now_ms: now_ms)
        assert again.run(reason="bad_parameter", store=False) == Replayed(stored=2)
        assert count(client, "SELECT count() FROM events") == before
        Topic(world.kafka, topic).delete_below({0: 1})
        with monkeypatch.context() as cut:
            cut.setattr(replay, "insert_if", cut_off)
            with pytest.raises(ConnectionError):
                again.run(reason="bad_parameter")
        assert again.run(reason="bad_parameter") == Replayed(stored=1, gone=1)
        assert again.run(reason="bad_parameter") == Replayed(gone=1)
    rows = client.query("SELECT writer, seq, `index`, count() FROM events WHERE seq = 1 AND `index` = 4 GROUP BY ALL")
    assert rows.result_rows == [(7, 1, 4, 1)]
    assert count(client, "SELECT count() FROM events") == before + 1
    assert count(client, "SELECT count() FROM rejects_replayed") == 1
    # The worker has lost the partition, and goes on where it was.
    assert worker.assign({0: 1}) == {0: 4}
