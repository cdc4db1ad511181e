"""A site that the reporting API adds, on the real broker and engine: it counts in every process and is stored."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from infra import sites
from infra.local.parts import parts
from infra.migrate import open_database
from infra.service.settings import Settings
from schemas.packets import Role
from schemas.sites import PolicySet
from schemas.topics import SITE_POLICIES
from tests.conftest import Starter
from tests.ingest.process import admin, ask, records, wait
from tests.services import Services

THOUSANDS = 9_000  # of which the policies would not fit into a record as they are


@pytest.mark.long
def test_it_counts_at_once_in_both_processes_among_thousands(
    installation: Settings, services: Services, start_worker: Starter
) -> None:
    settings = installation.model_copy(update={"collector_processes": 2})
    for number in range(2, THOUSANDS + 1):
        (settings.sites / f"{number}.toml").write_text(f'domains = ["s{number}.example"]\n')
    token = sites.add_token(settings.sites, None, Role.SUPERUSER)
    for part in parts(settings, ["collector"]):
        services.run(part, settings)
    form = {"module": "API", "format": "json", "method": "SitesManager.addSite", "token_auth": token}
    form |= {"siteName": "http://new.example", "urls[0]": "http://new.example"}
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    site = THOUSANDS + 1
    for _ in range(2):
        status, body = ask(settings, "POST", "/", urlencode(form).encode(), **kind)
        assert (status, json.loads(body)) == (200, {"value": site})
        target = f"/matomo.php?idsite={site}&rec=1&url=http%3A%2F%2Fnew.example%2F"
        assert {ask(settings, "GET", f"{target}{n}")[0] for n in range(40)} == {200}
        site += 1
    newest = PolicySet.load(records(settings, SITE_POLICIES)[-1][2])
    assert newest.of(site - 1) is not None
    assert f"veilstream_collector_in_force_sites {site - 1}.0" in admin(settings, "/metrics")[1]
    start_worker(settings)

    def stored() -> bool:
        with open_database(settings) as client:
            found = client.query(f"SELECT site_id, count() FROM events WHERE site_id > {THOUSANDS} GROUP BY ALL")
            return {row[0]: row[1] for row in found.result_rows} == {site - 2: 40, site - 1: 40}

    wait(stored)
    (settings.sites / "7.toml").write_text("shards = 0\n")
    wait(lambda: "veilstream_collector_broken_files 1.0" in admin(settings, "/metrics")[1])
    assert ask(settings, "GET", "/matomo.php?idsite=7&rec=1")[0] == 200
