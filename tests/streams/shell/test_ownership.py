"""Two workers, one partition: whatever they do at the same moment, one writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from infra.service.clickhouse import ClickHouseError, Client, connect
from infra.service.settings import Settings
from streams.batch import Record
from streams.ownership import Claim, Ownership
from streams.partitions import Life
from streams.pipeline import Turn
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import books, count, events, packets, total


def records(partition: int, amount: int = 60) -> list[Record]:
    found = events(amount, seed=partition)
    return [Record(partition, n, 1, found[0].received_ms, value) for n, value in enumerate(packets(found))]


def together(*works: Callable[[], object]) -> list[object]:
    """The answers of works that begin at the same moment."""
    barrier, answers = threading.Barrier(len(works)), [None for _ in works]

    def do(n: int, work: Callable[[], object]) -> None:
        barrier.wait()
        answers[n] = work()  # type: ignore[call-overload]

    threads = [threading.Thread(target=do, args=(n, work)) for n, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(answers)


def test_two_that_claim_at_the_same_moment(client: Client, make_pipeline: MakePipeline) -> None:
    batch = records(0)
    for round_ in range(5):
        for table in ("events", "packets", "rejects", "ownership"):
            client.command(f"TRUNCATE TABLE {table}")
        one, two = make_pipeline(), make_pipeline()
        together(partial(one.assign, {0: 0}), partial(two.assign, {0: 0}))
        turns = together(partial(one.run, batch), partial(two.run, batch))
        done = [turn.done for turn in turns if isinstance(turn, Turn) and turn.done]
        assert done == [{0: len(batch)}], f"round {round_}"
        lives = sorted(pipeline.partitions[0].life for pipeline in (one, two))
        assert lives == [Life.LOST, Life.RUNNING]
        total(client, 60)


def test_who_lost_the_partition_stores_and_acknowledges_nothing(client: Client, make_pipeline: MakePipeline) -> None:
    batch = records(0)
    stale, owner = make_pipeline(), make_pipeline()
    assert stale.assign({0: 0}) == {0: 0}
    assert owner.assign({0: 0}) == {0: 0}
    assert stale.run(batch).done == {}
    assert stale.partitions[0].life is Life.LOST
    assert books(client)["events"] == books(client)["packets"] == 0
    assert owner.run(batch).done == {0: len(batch)}
    total(client, 60)


def test_only_the_lost_partition_of_a_batch_is_dropped(client: Client, make_pipeline: MakePipeline) -> None:
    one, two = make_pipeline(), make_pipeline()
    one.assign({0: 0, 1: 0})
    two.assign({1: 0})
    first, second = records(0), records(1)
    assert one.run([*first, *second]).done == {0: len(first)}
    assert count(client, "SELECT uniqExact(`partition`) FROM packets") == 1
    assert two.run(second).done == {1: len(second)}
    total(client, 120)


def test_a_partition_that_comes_back_keeps_its_state_unless_it_was_lost(make_pipeline: MakePipeline) -> None:
    one, two = make_pipeline(), make_pipeline()
    batch = records(0)
    one.assign({0: 0})
    one.run(batch[:5])
    state, claim = one.partitions[0].state, one.partitions[0].claim
    assert one.assign({0: 0}) == {0: 5}
    assert one.partitions[0].state is state
    assert one.partitions[0].claim == claim
    two.assign({0: 0})
    two.run(batch[5:9])
    assert one.assign({0: 0}) == {0: 9}
    assert one.partitions[0].state is not state
    assert one.partitions[0].state == two.partitions[0].state


def test_the_highest_pair_owns(client: Client) -> None:
    ownership = Ownership(client, "topic")
    low, high, tied = Claim(3, 1, 9), Claim(3, 2, 1), Claim(3, 2, 2)
    for claims, holder in (([low], low), ([high], high), ([tied], tied)):
        ownership.add(claims)
        for claim in (low, high, tied):
            held = ownership.held([claim]) == {3: claim}
            assert held == (claim == holder)
            assert held == bool(count(client, f"SELECT {ownership.condition([claim])}"))
    other = Claim(4, 1, 1)
    ownership.add([other])
    assert count(client, f"SELECT {ownership.condition([tied, other])}")
    assert not count(client, f"SELECT {ownership.condition([high, other])}")


def test_a_claim_ends_the_inserts_of_lower_pairs_and_waits(client: Client, world: Settings) -> None:
    ownership = Ownership(client, "topic")
    old, beside = ownership.claim([1])[1], ownership.claim([11])[11]
    ended: dict[int, float] = {}

    def insert(claim: Claim) -> None:
        with connect(world) as own:
            query_id = ownership.query_id([Claim(0, 1, 1), claim])
            with pytest.raises(ClickHouseError):
                own.command(
                    "INSERT INTO ownership (`partition`, epoch, owner) SELECT 99, number, sleepEachRow(0.2) "
                    "FROM numbers(500) SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0",
                    settings={"query_id": query_id},
                )
            ended[claim.partition] = time.monotonic()

    threads = [threading.Thread(target=insert, args=(claim,)) for claim in (old, beside)]
    for thread in threads:
        thread.start()
    running = "SELECT count() FROM system.processes WHERE query_id LIKE 'sink-topic-%'"
    while count(client, running) < 2:
        time.sleep(0.05)
    fresh = ownership.claim([1])
    assert fresh[1].epoch == old.epoch + 1
    assert count(client, running) == 1, "only the insert into the claimed partition is ended"
    ownership.claim([11])
    for thread in threads:
        thread.join()
    assert ended.keys() == {1, 11}
