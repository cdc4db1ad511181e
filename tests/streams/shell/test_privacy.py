"""Policies that keep ids, with a real broker and engine: the site's key is made, and all that is kept is stored."""

from __future__ import annotations

import time
from urllib.parse import quote

from infra.service.clickhouse import Client
from infra.service.settings import Settings
from schemas.packets import MAPPED_IPV4, Event, encode
from schemas.privacy import of_preset
from schemas.routing import ROUTING_VERSION
from schemas.sites import PolicySet, SitePolicy
from streams.batch import Record
from streams.enrich.referrers import Referrer, of_visit
from streams.partitions import Life
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import publish_policies

POLICIES = PolicySet({1: SitePolicy(privacy=of_preset("matomo-default")), 4: SitePolicy()})
CUSTOM = "&dimension3=gold&dimension12=a+b&cvar=%7B%222%22%3A%5B%22k%22%2C%22v%22%5D%7D&uid=jo"


def test_a_sites_key_is_made_by_the_owner_of_partition_0_and_what_is_kept_is_stored(
    client: Client, make_pipeline: MakePipeline, world: Settings
) -> None:
    publish_policies(world, POLICIES)
    now = time.time_ns() // 1_000_000
    address = MAPPED_IPV4 + bytes([198, 51, 100, 7])
    said = ["", "&consent=0", "&consent=1" + CUSTOM]
    base = "idsite=1&rec=1&url=https%3A%2F%2Fshop.example%2F&_id=0123456789abcdef"
    events = [Event(now + n, 1, address, 0, 0, "curl/8", "de", "", base + more) for n, more in enumerate(said)]
    records = [Record(1, 0, 1, now + 3, encode(5, 0, ROUTING_VERSION, POLICIES.version, events))]
    pipeline, owner = make_pipeline(), make_pipeline()
    pipeline.assign({1: 0})
    assert pipeline.run(records).done == {}
    assert pipeline.partitions[1].life is Life.WAITING
    assert "permanent key" in pipeline.partitions[1].why
    owner.assign({0: 0})
    owner.prepare()
    made = client.query("SELECT name FROM vault_keys WHERE kind = 'site'").result_rows
    assert [name for (name,) in made] == ["1"]  # site 4 keeps nothing under a lasting key
    pipeline.resume([1])
    assert pipeline.run(records).done == {1: 1}
    rows = client.query(
        "SELECT consent, user_name, user_id != 0, dimension_slot, dimension_value, variable_scope, variable_name, "
        "variable_value FROM events ORDER BY `index`"
    ).result_rows
    assert [row[0] for row in rows] == [-1, 0, 1]
    assert rows[0][1:] == ("", False, [], [], [], [], [])
    assert rows[2][1:] == ("jo", True, [3, 12], ["gold", "a b"], [1], ["k"], ["v"])
    assert client.query("SELECT site_id, consent FROM visit_consent").result_rows == [(1, 2)]


def test_views_tell_the_referrer_of_a_visit_and_the_reasons_of_a_bot(
    client: Client, make_pipeline: MakePipeline, world: Settings
) -> None:
    publish_policies(world, POLICIES)
    now = time.time_ns() // 1_000_000
    base = "idsite=4&rec=1&bots=1&res=800x600&url=https%3A%2F%2Fshop.example%2F&urlref="
    froms = ["", "https://t.co/x", "https://www.google.com/search?q=shoe", ""]
    agents = ["GPTBot", "python-requests crawler", "", "Mozilla/5.0 (Windows NT 10.0; rv:99.0) Gecko Firefox/99.0"]
    events = [
        Event(
            now + n, 4, MAPPED_IPV4 + bytes([66, 249, 85, visit]), 0, 0, agent, "de", "", base + quote(before, safe="")
        )
        for visit, agent in enumerate(agents)
        for n, before in enumerate(froms if visit % 2 else froms[:1])
    ]
    pipeline = make_pipeline()
    pipeline.assign({1: 0})
    record = Record(1, 0, 1, now + 9, encode(5, 0, ROUTING_VERSION, POLICIES.version, events))
    assert pipeline.run([record]).done == {1: 1}
    rows = client.query(
        "SELECT visit_id, referrer_type, referrer_name, referrer_keyword, referrer_url, bot_reasons FROM events "
        "WHERE site_id = 4 ORDER BY `index`"
    ).result_rows
    reasons = {row[0]: row[-1] for row in rows}
    assert sorted(reasons.values()) == [
        ["address"],
        ["address", "ai_crawler"],
        ["address", "no_agent"],
        ["crawler", "library", "address"],
    ]
    found = client.query(
        "SELECT visit_id, referrer_type, referrer_name, referrer_keyword, referrer_url FROM visit_referrers "
        "WHERE site_id = 4"
    ).result_rows
    expected = {visit: of_visit(Referrer(*row[1:5]) for row in rows if row[0] == visit)[:4] for visit in reasons}
    assert {row[0]: tuple(row[1:]) for row in found} == expected
    assert sorted(row[0] for row in expected.values()) == [1, 1, 7, 7]


def test_the_owner_of_partition_0_makes_a_key_when_it_is_missing(
    client: Client, make_pipeline: MakePipeline, world: Settings
) -> None:
    publish_policies(world, POLICIES)
    now = time.time_ns() // 1_000_000
    query = "idsite=1&rec=1&url=https%3A%2F%2Fshop.example%2F&_id=0123456789abcdef"
    event = Event(now, 1, MAPPED_IPV4 + bytes(4), 0, 0, "curl/8", "de", "", query)
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    record = Record(0, 0, 1, now, encode(5, 0, ROUTING_VERSION, POLICIES.version, [event]))
    assert pipeline.run([record]).done == {0: 1}
