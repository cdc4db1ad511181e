from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.privacy import of_preset
from schemas.sites import SitePolicy
from schemas.tables import ActionType
from streams import fields
from streams.anonymize import urls
from streams.enrich import actions, campaigns, searches
from streams.rules import Rules
from tests.streams.core.vectors import group

MATOMO = of_preset("matomo-default")
RULES = Rules.of(1, SitePolicy(privacy=MATOMO, domains=("*.shop.example", "site.example", "www.other.example:8080")))


def test_action_columns_equal_values_for_every_combination() -> None:
    names = ("ping", "media", "crash", "download", "link", "event", "content", "search", "custom")
    combinations = [(goal, *flags) for goal in (-1, 0, 3) for flags in product([False, True], repeat=len(names))]
    columns = dict(zip(("goal", *names), map(np.array, zip(*combinations, strict=True)), strict=True))
    classify: Any = actions.classify
    expected = [classify(goal=goal, **dict(zip(names, flags, strict=True))) for goal, *flags in combinations]
    assert actions.classify_columns(**columns).tolist() == expected
    assert set(expected) == set(ActionType)


def campaign_of(url: str, rules: Rules = RULES) -> campaigns.Campaign:
    parts = urls.split(url)
    assert parts is not None
    return campaigns.of_parameters(parts.parameters + parts.fragment_parameters, rules)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("utm_campaign=a&utm_source=b&utm_medium=c&utm_term=d&utm_content=e", ("a", "b", "c", "d", "e")),
        ("UTM_Campaign=Spring+Sale", ("Spring Sale", "", "", "", "")),
        ("utm_campaign=no&mtm_campaign=yes", ("yes", "", "", "", "")),
        ("utm_source=b&utm_medium=c", ("b", "b", "c", "", "")),
        ("utm_medium=c", ("c", "", "c", "", "")),
        ("utm_campaign=+&utm_campaign=x", ("x", "", "", "", "")),
        ("utm_term=d", ("", "", "", "", "")),
        ("pk_campaign[]=test", ("", "", "", "", "")),
        ("x=1#pk_campaign=frag&pk_kwd=k", ("frag", "", "", "k", "")),
    ],
)
def test_campaigns_of_a_url(query: str, expected: tuple[str, ...]) -> None:
    found = campaign_of(f"https://a.example/?{query}")
    assert (found if found.name else campaigns.NONE) == expected


def test_campaign_parameters_of_the_request_itself() -> None:
    assert campaigns.of_request({"mtm_campaign": "a", "url": "x"}, RULES).name == "a"
    assert campaigns.of_request({"url": "x"}, RULES) == campaigns.NONE


def test_a_sites_own_campaign_parameters_go_first_and_are_read_in_the_pages_url_alone() -> None:
    policy = SitePolicy(campaign_parameters={"name": ("cmp", "c2"), "term": ("kw",)})
    rules = Rules.of(1, policy)
    assert campaign_of("https://a.example/?utm_campaign=no&c2=yes&KW=word", rules) == ("yes", "", "", "word", "")
    assert campaign_of("https://a.example/?utm_campaign=b&utm_term=t", rules) == ("b", "", "", "t", "")
    assert campaigns.of_request({"cmp": "a"}, rules) == campaigns.NONE
    parts = urls.split("https://a.example/?cmp=a&kw=b&utm_source=c")
    assert parts is not None
    assert urls.clean(parts, rules, rules.campaign_parameters) == ("https://a.example/", 0)
    masked = Rules.of(1, msgspec.structs.replace(policy, privacy=of_preset("cnil-exempt")))
    assert urls.clean(parts, masked) == ("https://a.example/", 3)


@pytest.mark.parametrize(
    ("query", "keyword", "category"),
    [
        ("?x=1&q=+&search=caf%C3%A9+au+lait&cat=Drinks", "café au lait", "Drinks"),
        ("?cat=Drinks", "", ""),  # a category alone is none
        ("#/list?q=tea&Category=+&cat=Hot", "tea", "Hot"),
        ("#q=tea", "tea", ""),
        ("?q=first#q=second", "first", ""),
        ("#a?q=b?q=c", "b?q=c", ""),
        ("", "", ""),
    ],
)
def test_site_searches(query: str, keyword: str, category: str) -> None:
    privacy = msgspec.structs.replace(MATOMO, search_category_parameters=("cat", "category"))
    parts = urls.split(f"https://a.example/{query}")
    assert parts is not None
    found = searches.of_parameters(
        parts.parameters + parts.fragment_parameters, Rules.of(1, SitePolicy(privacy=privacy))
    )
    assert found == (keyword, category)


def test_matomo_local_time_vectors(vectors: Path) -> None:
    for case in group(vectors, "local_time"):
        if "h" in case["input"]:
            h, m, s = (int(case["input"][name]) for name in "hms")
            assert fields.local_seconds(h, m, s) == 0
            assert case["expected"] == "00:00:00"
    assert fields.local_seconds(23, 59, 58) == 86398
    assert fields.local_seconds(-1, 5, 5) == -1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '[["s","n","c",10.5,2],["t","m",["a","b"],"7","3"]]',
            (["s", "t"], ["n", "m"], ["c", "a\nb"], [10.5, 7.0], [2, 3]),
        ),
        ('[["s"]]', (["s"], [""], [""], [0.0], [1])),
        ('["s","n","c",1,1]', ([], [], [], [], [])),
        ('[[""],[" "],[null],[[]],["ok"]]', (["ok"], [""], [""], [0.0], [1])),
        ('[["s","n","c",1e999,-5]]', (["s"], ["n"], ["c"], [0.0], [0])),
        ('[["s","n","c",true,99999999999999]]', (["s"], ["n"], ["c"], [0.0], [2**32 - 1])),
        ('[[12,"x?sid=1","c"]]', (["12"], ["x"], ["c"], [0.0], [1])),
        ("[" * 100_000, ([], [], [], [], [])),
        ('{"a":1}', ([], [], [], [], [])),
        ("", ([], [], [], [], [])),
    ],
)
def test_order_items(text: str, expected: tuple[list[object], ...]) -> None:
    assert fields.items(text, RULES) == expected
    assert len(fields.items("[" + '["s"],' * 900 + '["s"]]', RULES).sku) == fields.ITEM_LIMIT
