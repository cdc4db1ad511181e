"""The reporting API as the log importer calls it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from structlog.testing import capture_logs

from infra import sites, users
from ingest.reporting import PROOFS_LIMIT, WRONG_SECONDS, Hosts, host_of
from schemas.packets import Role
from schemas.sites import SUPERUSERS_FILE, load_sites, read_superusers
from schemas.tokens import token_hash
from tests.ingest.memory import SUPERUSER, WRITER, Running, until
from tests.ingest.test_clients import stored
from tests.ingest.test_http import served

OK = b"GET /matomo.php?idsite=%d&rec=1&url=http://new.example/a HTTP/1.1\r\n\r\n"
TOKEN = "UsersManager.createAppSpecificTokenAuth"
BEARER = b"GET /?%s HTTP/1.1\r\nAuthorization: Bearer %s\r\n\r\n"


async def call(collector: Running, method: str, token: str = SUPERUSER, path: str = "/", **more: str) -> Any:
    """A call in the shape that import_logs.py sends."""
    form = {"module": "API", "format": "json", "method": method, "filter_limit": "-1", "token_auth": token, **more}
    body = urlencode(form).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"User-Agent: Matomo/LogImport\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    answer = await collector.ask(head.encode() + body)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/json")
    return json.loads(answer.body)


def refused(answer: Any) -> str:
    """The message of an error in its exact shape."""
    assert set(answer) == {"result", "message"}
    assert answer["result"] == "error"
    return str(answer["message"])


def folder_of(collector: Running) -> Path:
    return collector.collector.settings.sites


@served()
async def test_a_new_site_takes_events_at_once_and_a_worker_stores_them(collector: Running) -> None:
    new = {"siteName": "http://New.example", "urls[0]": "http://New.example"}
    assert await call(collector, "SitesManager.addSite", **new) == {"value": 4}
    assert (await collector.ask(OK % 4)).status == 200
    events, _ = stored(collector)
    assert [(row["site_id"], row["url"]) for row in events] == [(4, "http://new.example/a")]
    assert (folder_of(collector) / "4.toml").read_text().startswith('name = "http://New.example"\n')
    site = await call(collector, "SitesManager.getSiteFromId", idSite="4", path="/index.php")
    assert (site["idsite"], site["main_url"]) == (4, "http://New.example")
    for url in ("new.example", "https://new.example/x", "www.new.example"):
        assert await call(collector, "SitesManager.getSitesIdFromSiteUrl", url=url) == [{"idsite": 4}]
    assert await call(collector, "SitesManager.getSitesIdFromSiteUrl", url="other.example") == []
    every = await call(collector, "SitesManager.getAllSites")
    assert list(every) == ["1", "2", "3", "4"]
    assert every["4"] == site


@served()
async def test_tokens_decide_what_is_answered(collector: Running) -> None:
    get = "SitesManager.getSiteFromId"
    assert (await call(collector, get, WRITER, idSite="1"))["idsite"] == 1
    denied = refused(await call(collector, get, "wrong", idSite="1"))
    for token, site in ((WRITER, "2"), (WRITER, "9"), ("", "1"), ("anonymous", "1")):
        assert refused(await call(collector, get, token, idSite=site)) == denied
    assert "no site 9" in refused(await call(collector, get, idSite="9"))
    assert "idSite" in refused(await call(collector, get, idSite="1 OR 1"))
    for method in ("SitesManager.getAllSites", "SitesManager.addSite"):
        assert refused(await call(collector, method, WRITER, siteName="x")) == denied
    assert refused(await call(collector, "API.getMatomoVersion", "")) == denied
    assert "method" in refused(await call(collector, "No.such"))
    assert "json" in refused(await call(collector, "API.getMatomoVersion", format="xml"))
    assert "url" in refused(await call(collector, "SitesManager.getSitesIdFromSiteUrl"))
    assert "value" in await call(collector, "API.getMatomoVersion", WRITER)
    assert await call(collector, "SitesManager.getSitesIdFromSiteUrl", WRITER, url="new.example") == []


@served()
async def test_a_token_in_a_header_or_the_query(collector: Running) -> None:
    query = urlencode({"module": "API", "format": "json", "method": "API.getPiwikVersion"}).encode()
    for _ in range(2):  # a head that was met before too
        assert "value" in json.loads((await collector.ask(BEARER % (query, SUPERUSER.encode()))).body)
        refused(json.loads((await collector.ask(BEARER % (query, b"wrong"))).body))
    by_query = await collector.ask(b"GET /index.php?%s&token_auth=%s HTTP/1.1\r\n\r\n" % (query, WRITER.encode()))
    assert "value" in json.loads(by_query.body)


@served()
async def test_what_is_no_call_is_answered_as_before(collector: Running) -> None:
    assert (await collector.ask(b"GET / HTTP/1.1\r\n\r\n")).status == 200
    assert (await collector.ask(b"GET /index.php HTTP/1.1\r\n\r\n")).status == 404
    assert (await collector.ask(b"GET /index.php?module=Login HTTP/1.1\r\n\r\n")).status == 404
    opt_out = await collector.ask(b"GET /index.php?module=CoreAdminHome&action=optOut HTTP/1.1\r\n\r\n")
    assert opt_out.headers["content-type"].startswith("text/html")
    body = b"module=API&x=" + b"y" * 70_000
    answer = await collector.ask(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert "bytes" in refused(json.loads(answer.body))
    body = b"module=API" + b"&x=1" * 2_000
    answer = await collector.ask(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert "parameters" in refused(json.loads(answer.body))


@served()
async def test_calls_and_events_share_a_connection_in_order(collector: Running) -> None:
    client = await collector.connect()
    query = urlencode({"module": "API", "method": "SitesManager.getAllSites", "token_auth": SUPERUSER}).encode()
    client.send(b"GET /?%s HTTP/1.1\r\n\r\n" % query + OK % 1 + b"GET /matomo.js HTTP/1.1\r\n\r\n")
    kinds = [(await client.answer()).headers["content-type"].partition(";")[0] for _ in range(3)]
    assert kinds == ["application/json", "image/gif", "text/plain"]


@served()
async def test_a_site_that_would_be_wrong_is_not_added(collector: Running) -> None:
    add = "SitesManager.addSite"
    assert "timezone" in refused(await call(collector, add, siteName="x", timezone="Mars/X"))
    assert "domains" in refused(await call(collector, add, siteName="x", **{"urls[0]": "http://a b/"}))
    assert "siteName" in refused(await call(collector, add, siteName=" "))
    (folder_of(collector) / "2.toml").write_text("shards = 0\n")
    message = refused(await call(collector, add, siteName="x"))
    assert "2.toml: shards" in message
    assert str(folder_of(collector)) not in message
    assert sorted(path.name for path in folder_of(collector).glob("*.toml")) == ["1.toml", "2.toml", "3.toml"]
    assert (await collector.ask(OK % 2)).status == 200


@served()
async def test_a_user_gets_a_token_that_ends(collector: Running) -> None:
    path, folder = collector.collector.settings.users, folder_of(collector)
    users.add(path, "ann", "secret")
    form = {"userLogin": "ann", "description": 'Log "importer" \x7f', "expireHours": "48"}
    wrong = refused(await call(collector, TOKEN, "", passwordConfirmation="wrong", **form))
    assert refused(await call(collector, TOKEN, "", passwordConfirmation="x", userLogin="bob")) == wrong
    assert "expireHours" in refused(await call(collector, TOKEN, "", **{**form, "expireHours": "-1"}))
    sites.add_token(folder, None, Role.SUPERUSER, expires=datetime.now(UTC) - timedelta(hours=1))
    with capture_logs() as logs:
        answer = await call(collector, TOKEN, "", passwordConfirmation="secret", **form)
        (token,) = answer.values()
        assert "3" in await call(collector, "SitesManager.getAllSites", token)
    assert token not in str(logs)
    assert "secret" not in str(logs)
    assert token not in (folder / "superusers.toml").read_text()
    (kept,) = read_superusers(folder / SUPERUSERS_FILE).values()  # the expired one has left
    assert kept.description == form["description"]
    assert kept.expires == pytest.approx((datetime.now(UTC) + timedelta(hours=48)).timestamp(), abs=60)
    path.write_text("{")
    with capture_logs() as logs:
        assert "log" in refused(await call(collector, TOKEN, "", passwordConfirmation="secret", **form))
    assert logs[0]["event"] == "reporting_failed"


@served()
async def test_tokens_end_or_are_revoked_without_a_restart(collector: Running) -> None:
    folder, version = folder_of(collector), "API.getMatomoVersion"
    now = datetime.now(UTC)
    short = sites.add_token(folder, 2, Role.VIEW, expires=now + timedelta(seconds=3))
    long = sites.add_token(folder, 2, Role.VIEW, expires=now + timedelta(hours=1))
    await collector.collector.policies.look()
    assert "value" in await call(collector, version, short)

    async def gone(token: str) -> None:
        while "value" in await call(collector, version, token):
            await asyncio.sleep(0.05)

    await asyncio.wait_for(gone(short), 20)
    assert "value" in await call(collector, version, long)
    sites.revoke_token(folder, 2, token_hash(long)[:8])
    await asyncio.wait_for(gone(long), 20)  # by the watch alone


@served()
async def test_a_superusers_token_counts_for_events_of_every_site(collector: Running) -> None:
    old = f"{datetime.now(UTC) - timedelta(days=40):%Y-%m-%d}"
    body = json.dumps({"requests": [f"?idsite=2&rec=1&cdt={old}"], "token_auth": SUPERUSER})
    answer = await collector.ask(f"POST /matomo.php HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    assert json.loads(answer.body)["tracked"] == 1
    assert collector.delivery.events()[0].role == Role.SUPERUSER


@served()
async def test_many_who_prove_passwords_wait_and_are_bounded(collector: Running) -> None:
    users.add(collector.collector.settings.users, "ann", "secret")
    form = {"userLogin": "ann", "passwordConfirmation": "no"}
    begun = time.monotonic()
    answers = [refused(one) for one in await asyncio.gather(*(call(collector, TOKEN, "", **form) for _ in range(24)))]
    assert sum(answer.startswith("Too many") for answer in answers) == 24 - PROOFS_LIMIT
    assert time.monotonic() - begun > WRONG_SECONDS * PROOFS_LIMIT


@served()
async def test_a_folder_that_cannot_be_written_is_said(collector: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", full)
    assert "Read-only" in refused(await call(collector, "SitesManager.addSite", siteName="x"))
    monkeypatch.undo()
    assert await call(collector, "SitesManager.addSite", siteName="x") == {"value": 4}
    assert {path.name for path in folder_of(collector).glob(".*")} == {".highest", ".lock"}


@served()
async def test_one_broken_file_of_2000_keeps_the_sites_in_force_while_requests_run(collector: Running) -> None:
    folder, policies = folder_of(collector), collector.collector.policies
    for number in range(4, 2001):
        (folder / f"{number}.toml").write_text(f'name = "S"\ndomains = ["s{number}.example"]\n')
    (folder / "77.toml").write_text("shards = 0\n")
    (folder / "78.toml").write_text("x")
    seen: list[tuple[int, int]] = []
    stopping = False

    async def ask() -> None:
        client = await collector.connect()
        while not stopping:
            client.send(OK % 3 + OK % 1999)
            seen.append(((await client.answer()).status, (await client.answer()).status))

    asking = asyncio.create_task(ask())
    await until(lambda: policies.broken == 2)
    assert "77.toml: shards" in policies.problem
    assert set(seen) == {(200, 400)}
    (folder / "77.toml").write_text("shards = 1\n")
    (folder / "78.toml").unlink()
    await until(lambda: not policies.problem)
    await until(lambda: (200, 200) in seen)
    stopping = True
    await asking
    assert set(seen) == {(200, 400), (200, 200)}
    assert seen == sorted(seen, key=lambda pair: pair[1], reverse=True)


def test_hosts_belong_to_sites(tmp_path: Path) -> None:
    (tmp_path / "1.toml").write_text('domains = ["www.a.example", "*.b.example", "c.example/en"]\n')
    (tmp_path / "2.toml").write_text('domains = ["a.example"]\nmain_url = "http://d.example:8080/x"\n')
    hosts = Hosts(load_sites(tmp_path).by_id.values())
    for host, found in {
        "a.example": [1, 2],
        "x.y.b.example": [1],
        "b.example": [],
        "c.example": [1],
        "d.example:8080": [2],
        "": [],
    }.items():
        assert hosts.sites(host) == found, host


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("A.example", "a.example"),
        ("http://my_host", "my_host"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("https://a.example/x", "a.example"),
        ("//[", ""),
        ("u:p@b.example", "b.example"),
        ("b.example:81/y", "b.example:81"),
    ],
)
def test_host_of_a_url(url: str, host: str) -> None:
    assert host_of(url) == host
