"""The sites in force: published before they are named, reloaded, and kept when a file is broken."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import uvloop

from ingest.policies import stamp_of
from schemas.packets import header
from schemas.sites import PolicySet
from schemas.topics import SITE_POLICIES
from tests.ingest.memory import Running, running, until, write_sites

OK = b"GET /matomo.php?idsite=%d&rec=1 HTTP/1.1\r\n\r\n"


def published(collector: Running) -> list[tuple[bytes | None, PolicySet]]:
    records = [record for record in collector.delivery.records if record.topic.endswith(SITE_POLICIES)]
    return [(record.key, PolicySet.load(record.value)) for record in records]


def test_the_first_packet_comes_after_the_policies_that_it_names(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as collector:
            await collector.ask(OK % 1)
            (key, policies), *_ = published(collector)
            assert collector.delivery.records[0].topic.endswith(SITE_POLICIES)
            assert key == policies.version.hex().encode()
            assert set(policies.sites) == {1, 2, 3}
            assert header(collector.delivery.packets()[0].value).policy == policies.version

    uvloop.run(test())


def test_a_change_is_in_force_after_it_is_published(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as collector:
            assert (await collector.ask(OK % 4)).status == 400
            write_sites(tmp_path / "sites.d", 4)
            collector.delivery.held = True
            await collector.collector.policies.look()
            assert (await collector.ask(OK % 4)).status == 400
            collector.delivery.held = False
            collector.delivery.release()
            assert (await collector.ask(OK % 4)).status == 200
            first, *others = published(collector)  # its own look may have come beside the test's
            second = others[-1]
            assert set(second[1].sites) == {1, 2, 3, 4}
            assert {key for key, _ in others} == {second[0]} != {first[0]}
            assert header(collector.delivery.packets()[-1].value).policy == second[1].version
            await collector.collector.policies.look()
            assert len(published(collector)) == 1 + len(others)

    uvloop.run(test())


def test_a_broken_file_keeps_the_sites_in_force_and_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as collector:
            folder = tmp_path / "sites.d"
            (folder / "5.toml").write_text("shards = 0\n")
            await collector.collector.policies.look()
            assert "5.toml" in collector.collector.policies.problem
            assert "shards" in collector.collector.policies.problem
            assert (await collector.ask(OK % 1)).status == 200
            (folder / "5.toml").write_text("shards = 1\n")
            os.utime(folder / "5.toml", ns=(1, 1))
            await collector.collector.policies.look()
            assert collector.collector.policies.problem == ""
            await until(lambda: len(published(collector)) == 2)
            assert (await collector.ask(OK % 5)).status == 200

    uvloop.run(test())


def test_a_new_token_is_in_force_without_a_new_version(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as collector:
            file = tmp_path / "sites.d" / "2.toml"
            file.write_text(
                'name = "other"\n' + file.read_text().partition("\n")[2] + f'[tokens]\n{"a" * 64} = "view"\n'
            )
            await collector.collector.policies.look()
            await asyncio.sleep(0)
            place = collector.collector.tracking.directory.find(2)
            assert place is not None
            assert list(place.tokens) == ["a" * 64]
            assert len(published(collector)) == 1

    uvloop.run(test())


def test_a_new_token_does_not_put_a_version_in_force_that_kafka_has_not_acknowledged(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as collector:
            folder, policies = tmp_path / "sites.d", collector.collector.policies
            write_sites(folder, 4)
            collector.delivery.held = True
            await policies.look()
            (folder / "4.toml").write_text('name = "other"\n')
            await policies.look()
            assert (await collector.ask(OK % 4)).status == 400
            collector.delivery.held = False
            collector.delivery.release()
            assert (await collector.ask(OK % 4)).status == 200

    uvloop.run(test())


def test_what_was_broken_and_is_as_before_again_is_no_problem(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as collector:
            folder, policies = tmp_path / "sites.d", collector.collector.policies
            (folder / "5.toml").write_text("x")
            await policies.look()
            assert policies.broken == 1
            (folder / "5.toml").unlink()
            await policies.look()
            assert (policies.problem, policies.broken) == ("", 0)
            folder.rename(tmp_path / "away")
            await policies.look()
            assert "sites.d" in policies.problem
            assert (await collector.ask(OK % 1)).status == 200
            (tmp_path / "away").rename(folder)
            await policies.look()
            assert policies.problem == ""

    uvloop.run(test())


def test_stamp_tells_names_times_and_sizes(tmp_path: Path) -> None:
    write_sites(tmp_path, 1, 2)
    (tmp_path / "note.txt").write_text("x")
    (tmp_path / ".#1.toml").symlink_to("somebody@somewhere")  # an editor's lock
    before = stamp_of(tmp_path)
    assert [name for name, *_ in before] == ["1.toml", "2.toml"]
    os.utime(tmp_path / "1.toml", ns=(5, 5))
    assert stamp_of(tmp_path) != before
