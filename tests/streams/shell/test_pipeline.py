"""What the pipeline does with records that are late, missing, doubled or that miss something around them."""

from __future__ import annotations

import pytest
from kafka import KafkaProducer

from infra.service.clickhouse import Client
from infra.service.settings import Settings
from schemas.packets import encode
from schemas.privacy import Privacy
from schemas.routing import ROUTING_VERSION
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import PacketKind
from schemas.topics import SITE_POLICIES
from streams import metrics
from streams import pipeline as pipeline_module
from streams.batch import Outcome, Record
from streams.partitions import Life
from streams.topic_generations import TopicReplaced
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import books, count, events, packets, total


def records(partition: int, amount: int = 60, generation: int = 1) -> list[Record]:
    found = events(amount, seed=partition)
    return [Record(partition, n, generation, found[0].received_ms, value) for n, value in enumerate(packets(found))]


def test_a_gap_is_set_back_and_a_repeated_record_is_passed_over(client: Client, make_pipeline: MakePipeline) -> None:
    pipeline, batch = make_pipeline(), records(0)
    pipeline.assign({0: 0})
    turn = pipeline.run([*batch[:3], *batch[4:]])
    assert (turn.done, turn.back) == ({0: 3}, {0: 3})
    turn = pipeline.run([*batch[1:5], *batch[2:]])
    assert (turn.done, turn.back) == ({0: len(batch)}, {})
    total(client, 60)


def test_a_partition_that_is_not_owned_is_left_alone(client: Client, make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    turn = pipeline.run(records(1))
    assert (turn.done, turn.back) == ({0: 0}, {})
    assert books(client)["packets"] == 0


def test_a_bad_record_stands_alone(client: Client, make_pipeline: MakePipeline) -> None:
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    batch = [record.value for record in records(0)]
    torn = packets(events(3), writer=8)[0][:-3]
    for at, bad in ((2, b""), (5, b"VSP\x01noise"), (7, torn), (9, batch[0])):
        batch.insert(at, bad)
    stamped = [Record(0, n, 1, events(1)[0].received_ms, value) for n, value in enumerate(batch)]
    assert pipeline.run(stamped).done == {0: len(stamped)}
    kinds = client.query("SELECT `offset`, kind FROM packets WHERE kind != 1 ORDER BY `offset`").result_rows
    assert kinds == [(2, PacketKind.BAD), (5, PacketKind.BAD), (7, PacketKind.BAD), (9, PacketKind.COPY)]
    assert books(client)["received"] == 60
    total(client, 60)


def test_starts_at_the_first_offset_without_a_packets_row(client: Client, make_pipeline: MakePipeline) -> None:
    batch = records(0)
    first = make_pipeline()
    first.assign({0: 0})
    first.run(batch)
    client.command("CREATE TABLE kept AS packets")
    client.command("INSERT INTO kept SELECT * FROM packets WHERE `offset` != 4")
    client.command("TRUNCATE TABLE packets")
    client.command("INSERT INTO packets SELECT * FROM kept")
    second = make_pipeline()
    assert second.assign({0: 0}) == {0: 4}
    assert second.partitions[0].stored.settled == ((5, len(batch)),)
    assert second.run(batch[4:]).done == {0: len(batch)}
    assert second.partitions[0].state == first.partitions[0].state
    assert second.partitions[0].stored.end == 0
    total(client, 60)


def test_what_left_the_log_before_it_was_stored_is_counted(client: Client, make_pipeline: MakePipeline) -> None:
    batch = records(0)
    first = make_pipeline()
    first.assign({0: 0})
    first.run(batch[:3])
    second = make_pipeline()
    assert second.assign({0: 7}) == {0: 7}
    assert metrics.lost.labels("0")._value.get() == 4
    assert second.run(batch[7:]).done == {0: len(batch)}
    assert first.assign({0: 9}) == {0: len(batch)}
    assert metrics.lost.labels("0")._value.get() == 4


def test_places_of_a_new_topic_id_come_after_all_of_the_old_one(client: Client, make_pipeline: MakePipeline) -> None:
    old, new = make_pipeline(), make_pipeline()
    new.generation = new.sink._generation = 2
    old.assign({0: 0})
    old.run(records(0))
    assert new.assign({0: 0}) == {0: 0}
    assert new.partitions[0].state == old.partitions[0].state
    again = [*packets(events(40, seed=5, first=60), writer=8), records(0)[0].value]
    turn = new.run([Record(0, n, 2, events(1)[0].received_ms, value) for n, value in enumerate(again)])
    assert turn.done == {0: len(again)}
    assert count(client, "SELECT count() FROM packets WHERE kind = 2 AND generation = 2") == 1
    total(client, 100)


def test_a_partition_waits_for_its_policy_and_the_others_go_on(
    client: Client, make_pipeline: MakePipeline, world: Settings
) -> None:
    late = PolicySet({1: SitePolicy(), 2: SitePolicy(), 3: SitePolicy(privacy=Privacy(mask_bytes=3))})
    found = events(20, seed=1)
    waiting = [Record(1, 0, 1, found[0].received_ms, encode(5, 0, ROUTING_VERSION, late.version, found))]
    pipeline, batch = make_pipeline(), records(0)
    pipeline.assign({0: 0, 1: 0})
    assert pipeline.run([*waiting, *batch]).done == {0: len(batch)}
    assert pipeline.partitions[1].life is Life.WAITING
    assert late.version.hex() in pipeline.partitions[1].why
    total(client, 60)
    producer = KafkaProducer(bootstrap_servers=world.kafka.split(","))
    producer.send(world.topic(SITE_POLICIES), late.dump(), key=late.version.hex().encode()).get(30)
    producer.close()
    pipeline.resume([1])
    assert pipeline.run(waiting).done == {0: len(batch), 1: 1}
    total(client, 80)


def test_too_many_internal_errors_stop_the_partition(
    client: Client, make_pipeline: MakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, batch = make_pipeline(), [*records(0, 400), *records(1, 200)]
    real = pipeline_module._counts

    def counts(outcome: Outcome) -> dict[int, tuple[int, int]]:
        return {number: (events, 150 if number == 0 else 0) for number, (events, _) in real(outcome).items()}

    monkeypatch.setattr(pipeline_module, "_counts", counts)
    pipeline.assign({0: 0, 1: 0})
    assert pipeline.run(batch).done.keys() == {1}
    assert pipeline.partitions[0].life is Life.STOPPED
    total(client, 200)
    assert pipeline.assign({0: 0, 1: 0}).keys() == {1}


def test_a_topic_that_was_made_again_ends_the_process(client: Client, make_pipeline: MakePipeline) -> None:
    pipeline, batch = make_pipeline(), records(0)
    pipeline.assign({0: 0})

    def replaced() -> None:
        raise TopicReplaced

    pipeline.same_topic = replaced
    with pytest.raises(TopicReplaced):
        pipeline.run(batch)
    assert books(client)["packets"] == 0
