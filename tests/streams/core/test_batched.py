"""Values that are judged together in a batch are each judged by the rules of their own site."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from schemas.privacy import Privacy
from schemas.sites import PolicySet, SitePolicy
from streams.caches import caches
from tests.streams.core.compare import run
from tests.streams.core.traffic import BASE, one, simple, world

ADDRESS = "jane.doe@example.org"


def test_a_campaign_and_a_title_of_two_sites_with_different_detectors() -> None:
    none = SitePolicy(privacy=msgspec.structs.replace(Privacy(), detectors=()))
    policies = PolicySet({1: none, 2: SitePolicy(), 3: none, 4: SitePolicy()})
    query = BASE + "&action_name=" + quote(f"To {ADDRESS}")
    query += "&url=" + quote(f"https://www.shop.example/p?utm_campaign=news&utm_content={quote(ADDRESS)}")
    events = [simple(query, site=site) for site in policies.sites]
    caches.cache_clear()
    rows = run([[one(events, policies.version)]], world(policies))["events"]
    found = [(row["site_id"], row["campaign_content"], row["title"]) for row in rows]
    assert found == [
        (1, ADDRESS, f"To {ADDRESS}"),
        (2, "[email]", "To [email]"),
        (3, ADDRESS, f"To {ADDRESS}"),
        (4, "[email]", "To [email]"),
    ]
