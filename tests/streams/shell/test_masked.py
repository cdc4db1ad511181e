"""What detectors masked, on the real engine: nothing of it is in rows, and it is counted once, by SQL and metric."""

from __future__ import annotations

import time

from infra.service.clickhouse import Client
from infra.service.settings import Settings
from schemas.packets import MAPPED_IPV4, Event, encode
from schemas.routing import ROUTING_VERSION
from schemas.sites import PolicySet, SitePolicy
from streams import metrics
from streams.batch import Record
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import publish_policies

POLICIES = PolicySet({1: SitePolicy(), 4: SitePolicy()})
BASE = "rec=1&_id=0123456789abcdef&url=https%3A%2F%2Fshop.example%2Fusers%2Fcanary&action_name="
TITLES = ("Home", "jo%40canary.example", "a%40canary.example+b%40canary.example", "%2B49+30+123456")


def test_masked_values_are_counted_once_by_site_kind_and_field(
    client: Client, make_pipeline: MakePipeline, world: Settings
) -> None:
    publish_policies(world, POLICIES)
    now = time.time_ns() // 1_000_000
    address = MAPPED_IPV4 + bytes([198, 51, 100, 7])
    events = [
        Event(now + n, site, address, 0, 0, "curl/8", "de", "", f"idsite={site}&{BASE}{title}")
        for n, (site, title) in enumerate((site, title) for site in (1, 4) for title in TITLES)
    ]
    records = [
        Record(0, at, 1, now + 10, encode(5, at, ROUTING_VERSION, POLICIES.version, some))
        for at, some in enumerate((events[:3], events[3:], events[3:]))
    ]
    records.append(Record(0, 3, 1, now + 10, records[0].value))  # a copy of the first
    before = metrics.masked.labels("email", "title")._value.get()
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    assert pipeline.run(records[:1]).done == {0: 1}
    again = make_pipeline()  # which takes over
    again.assign({0: 0})
    assert again.run([*records[:2], records[3]]).done == {0: 2}
    rows = client.query(
        "SELECT site_id, kind, field, sum(found) FROM masked_values GROUP BY ALL ORDER BY ALL"
    ).result_rows
    each = [("email", "title", 3), ("name", "url", 4), ("name", "url_path", 4), ("phone", "title", 1)]
    assert rows == [(site, *counted) for site in (1, 4) for counted in each]
    assert metrics.masked.labels("email", "title")._value.get() - before == 6
    stored = client.query("SELECT DISTINCT title FROM events ORDER BY title").result_rows
    assert stored == [("Home",), ("[email]",), ("[email] [email]",), ("[phone]",)]
    assert client.query("SELECT count() FROM events WHERE url LIKE '%canary%'").result_rows == [(0,)]
