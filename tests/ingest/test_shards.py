"""A giant site's visitors are dealt over partitions, each of them to one, whatever way a request takes."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import uvloop

from ingest import bulk, requests
from ingest.directory import Directory
from ingest.permissions import Refused
from schemas.packets import MAPPED_IPV4, decode
from schemas.routing import partition_of, shard_of
from schemas.sites import load_sites
from tests.ingest.memory import WRITER, running, write_sites

PARTITIONS = 64
MIDNIGHT = round(datetime(2027, 1, 2, tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1000)
AGENTS = [f"Agent {number}" for number in range(40)]
GOOD = "idsite=1&rec=1&url=http%3A%2F%2Fa%2F&_id=0123456789abcdef"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    return Directory(load_sites(folder_of(tmp_path_factory.mktemp("sites"))), PARTITIONS)


def folder_of(folder: Path) -> Path:
    write_sites(folder, 1, 2)
    with (folder / "1.toml").open("r+") as file:
        text = file.read()
        file.seek(0)
        file.write(f'timezone = "Europe/Berlin"\nshards = {{2027-01-02 = 8, 2027-02-01 = 16}}\n{text}')
    return folder


def address(number: int) -> bytes:
    return MAPPED_IPV4 + bytes((198, 51, number, 7))


def alone(directory: Directory, agent: str, at: int, query: str = GOOD, host: int = 100) -> int:
    outcome = requests.single(query.encode(), {"user-agent": agent.encode()}, address(host), at, directory)
    assert not isinstance(outcome, Refused)
    return outcome[0]


def in_bulk(directory: Directory, agent: str, at: int, token: str = "", query: str = GOOD) -> set[int]:
    body = json.dumps({"requests": [f"?{query}&n={n}" for n in range(3)], "token_auth": token}).encode()
    read = bulk.read(body, {"user-agent": agent.encode()}, address(9), at, directory)
    assert len(read.events) == 3
    return {partition for partition, _ in read.events}


def test_from_its_midnight_on_a_site_has_its_shards(directory: Directory) -> None:
    one = partition_of(1, 0, PARTITIONS)
    assert {alone(directory, agent, MIDNIGHT - 1) for agent in AGENTS} == {one}
    first = {partition_of(1, shard, PARTITIONS) for shard in range(8)}
    assert {alone(directory, agent, MIDNIGHT) for agent in AGENTS} == first
    later = {alone(directory, agent, MIDNIGHT + 31 * 86_400_000) for agent in AGENTS}
    assert later - first
    assert later <= {partition_of(1, shard, PARTITIONS) for shard in range(16)}
    two = {alone(directory, agent, MIDNIGHT, GOOD.replace("idsite=1", "idsite=2")) for agent in AGENTS}
    assert two == {partition_of(2, 0, PARTITIONS)}


def test_a_visitor_lies_on_one_partition_whatever_way_its_requests_take(directory: Directory) -> None:
    for agent in AGENTS:
        ways = {
            alone(directory, agent, MIDNIGHT),
            alone(directory, agent, MIDNIGHT, host=3),
            alone(directory, agent, MIDNIGHT, GOOD + "&uid=jo"),
            *in_bulk(directory, agent, MIDNIGHT),
            *in_bulk(directory, agent, MIDNIGHT, WRITER),
            *in_bulk(directory, agent, MIDNIGHT, WRITER, GOOD + "&cip=198.51.7.7"),
        }
        assert len(ways) == 1
    elsewhere = {alone(directory, agent, MIDNIGHT, f"{GOOD}&token_auth={WRITER}&cip=8.8.8.8") for agent in AGENTS}
    assert len(elsewhere) > 4


def test_what_came_by_any_way_lies_where_it_should(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "sites.d").mkdir()
        (tmp_path / "sites.d" / "default.toml").write_text("shards = 8\n")
        async with running(tmp_path, events_partitions=PARTITIONS) as collector:
            for agent in AGENTS[:12]:
                client = await collector.connect()
                for query in (
                    GOOD,
                    GOOD,
                    f"{GOOD}&token_auth=x",
                    f"{GOOD}&a=1",
                ):  # once known, a head takes a short cut
                    client.send(f"GET /matomo.php?{query} HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n".encode())
                    assert (await client.answer()).status == 200
                client.close()
            assert collector.collector.server.heads
            found: dict[str, set[int]] = {}
            for record in collector.delivery.packets():
                _, columns = decode(record.value)
                for index in range(len(columns.site)):
                    found.setdefault(columns.event(index).agent, set()).add(record.partition or 0)
            assert len(found) == 12
            shard = {agent: shard_of(1, MAPPED_IPV4 + bytes((127, 0, 0, 1)), agent, "", 8) for agent in found}
            assert found == {agent: {partition_of(1, number, PARTITIONS)} for agent, number in shard.items()}
            assert len(set(shard.values())) > 3

    uvloop.run(test())
