"""The reporting API as the log importer calls it, and the tracker's script."""

from __future__ import annotations

import asyncio
import json
import stat
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import uvloop

from infra import sites, users
from ingest.reporting import host_of
from schemas.packets import Role
from schemas.sites import Read, SitesError, load_sites, token_hash
from tests.ingest.memory import SUPERUSER, WRITER, Running, running

OK = b"GET /matomo.php?idsite=%d&rec=1 HTTP/1.1\r\n\r\n"


async def call(collector: Running, method: str, token: str = SUPERUSER, path: str = "/", **more: str) -> Any:
    """A call in the shape that import_logs.py sends."""
    form = {"module": "API", "format": "json", "method": method, "filter_limit": "-1", "token_auth": token, **more}
    body = urlencode(form).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"User-Agent: Matomo/LogImport\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = await collector.ask(head.encode() + body)
    assert answer.status == 200
    return json.loads(answer.body)


def refused(answer: Any) -> bool:
    return isinstance(answer, dict) and answer["result"] == "error" and bool(answer["message"])


def test_a_new_site_takes_events_at_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as collector:
            new = {"siteName": "New", "urls[0]": "http://New.example"}
            assert refused(await call(collector, "SitesManager.addSite", WRITER, **new))
            assert refused(await call(collector, "SitesManager.addSite", **{"siteName": "x", "timezone": "Mars/X"}))
            assert await call(collector, "SitesManager.addSite", **new) == {"value": 4}
            assert (await collector.ask(OK % 4)).status == 200
            assert collector.delivery.events()[-1].site == 4
            assert (tmp_path / "sites.d" / "4.toml").is_file()
            site = await call(collector, "SitesManager.getSiteFromId", idSite="4", path="/index.php")
            assert (site["idsite"], site["main_url"]) == (4, "http://New.example")
            for url in ("new.example", "https://new.example/x", "www.new.example"):
                assert await call(collector, "SitesManager.getSitesIdFromSiteUrl", url=url) == [{"idsite": 4}]
            assert await call(collector, "SitesManager.getSitesIdFromSiteUrl", url="other.example") == []
            every = await call(collector, "SitesManager.getAllSites")
            assert list(every) == ["1", "2", "3", "4"]

    uvloop.run(test())


def test_tokens_decide(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as collector:
            assert (await call(collector, "SitesManager.getSiteFromId", WRITER, idSite="1"))["idsite"] == 1
            for token, site in ((WRITER, "2"), ("", "1"), ("wrong", "1"), (SUPERUSER, "9")):
                assert refused(await call(collector, "SitesManager.getSiteFromId", token, idSite=site))
            assert refused(await call(collector, "SitesManager.getAllSites", WRITER))
            assert refused(await call(collector, "No.such"))
            assert refused(await call(collector, "API.getMatomoVersion", format="xml"))
            head = (
                b"GET /?module=API&format=json&method=API.getPiwikVersion HTTP/1.1\r\nAuthorization: Bearer %s\r\n\r\n"
            )
            assert "value" in json.loads((await collector.ask(head % SUPERUSER.encode())).body)

    uvloop.run(test())


def test_a_user_gets_a_token_that_ends(tmp_path: Path) -> None:
    async def test() -> None:
        path = tmp_path / "users.json"
        users.add(path, "ann", "secret")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "secret" not in path.read_text()
        form = {"userLogin": "ann", "description": 'Log "importer"', "expireHours": "24"}
        method = "UsersManager.createAppSpecificTokenAuth"
        async with running(tmp_path, users_file=path) as collector:
            assert refused(await call(collector, method, "", passwordConfirmation="wrong", **form))
            assert refused(await call(collector, method, "", passwordConfirmation="x", userLogin="bob"))
            token = (await call(collector, method, "", passwordConfirmation="secret", **form))["value"]
            assert "3" in await call(collector, "SitesManager.getAllSites", token)
            folder = tmp_path / "sites.d"
            assert token not in (folder / "superusers.toml").read_text()
            sites.revoke_token(folder, None, token_hash(token)[:8])
            await collector.collector.policies.look()
            assert refused(await call(collector, "SitesManager.getAllSites", token))

    uvloop.run(test())


def test_an_expired_token_counts_no_more_and_comments_stay(tmp_path: Path) -> None:
    sites.add(tmp_path, name="A")
    path = tmp_path / "1.toml"
    path.write_text(path.read_text() + "# ours\n[tokens] # all\n\n[privacy]\nmask_bytes = 3\n")
    now = datetime.now(UTC)
    old = sites.add_token(tmp_path, 1, Role.WRITE, expires=now - timedelta(hours=1))
    new = sites.add_token(tmp_path, 1, Role.WRITE, expires=now + timedelta(hours=1))
    site = load_sites(tmp_path).by_id[1]
    assert (site.role(old), site.role(new)) == (Role.NONE, Role.WRITE)
    assert "# ours" in path.read_text() and site.policy.mask_bytes == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(SitesError, match="must be one"):
        sites.revoke_token(tmp_path, 1, "")


def _add(folder: Path) -> list[int]:
    return [sites.add(folder, name="S").id for _ in range(20)]


def test_two_processes_never_get_the_same_id(tmp_path: Path) -> None:
    with get_context("spawn").Pool(2) as pool:
        first, second = pool.map(_add, [tmp_path, tmp_path])
    assert sorted(first + second) == list(range(1, 41))


def test_only_changed_files_are_read_again(tmp_path: Path) -> None:
    for number in (1, 2):
        sites.add(tmp_path, name="S", number=number)
    read: Read = {}
    before = load_sites(tmp_path, read)
    (tmp_path / "2.toml").write_text('name = "Other"\n')
    after = load_sites(tmp_path, read)
    assert after.by_id[1] is before.by_id[1] and after.by_id[2].name == "Other"


def test_one_broken_file_of_many_keeps_the_sites_in_force(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path) as collector:
            folder = tmp_path / "sites.d"
            for number in range(4, 2001):
                (folder / f"{number}.toml").write_text('name = "S"\n')
            broken = folder / "77.toml"
            broken.write_text("shards = 0\n")
            looking = asyncio.create_task(collector.collector.policies.look())
            while not looking.done():
                assert (await collector.ask(OK % 3)).status == 200
            assert (await collector.ask(OK % 78)).status == 400
            assert "77.toml: shards" in collector.collector.policies.problem
            broken.write_text("shards = 1\n")
            await collector.collector.policies.look()
            assert (await collector.ask(OK % 78)).status == 200

    uvloop.run(test())


def test_the_script_is_served_where_it_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with running(tmp_path / "a") as collector:
            answer = await collector.ask(b"GET /matomo.js HTTP/1.1\r\n\r\n")
            assert answer.status == 404 and b"VEILSTREAM_COLLECTOR_MATOMO_JS" in answer.body
        script = tmp_path / "matomo.js"
        script.write_text("var x;")
        async with running(tmp_path / "b", collector_matomo_js=script) as collector:
            answer = await collector.ask(b"GET /piwik.js?v=1 HTTP/1.1\r\n\r\n")
            assert (answer.status, answer.body) == (200, b"var x;")

    uvloop.run(test())


def test_hosts() -> None:
    assert [host_of(u) for u in ("A.example", "https://a.example/x", "//[", "u:p@b.example")] == [
        "a.example", "a.example", "", "b.example",
    ]  # fmt: skip
