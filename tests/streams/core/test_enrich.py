from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.privacy import of_preset
from schemas.sites import SitePolicy
from schemas.tables import ActionType, ReferrerType
from streams import fields
from streams.anonymize import urls
from streams.enrich import actions, campaigns, device, languages, referrers, searches
from streams.enrich.device import Bot
from streams.rules import Rules
from tests.streams.core.vectors import group

MATOMO = of_preset("matomo-default")
RULES = Rules.of(1, SitePolicy(privacy=MATOMO, domains=("*.shop.example", "site.example", "www.other.example:8080")))


def test_action_columns_equal_values_for_every_combination() -> None:
    names = ("ping", "download", "link", "event", "content", "search", "custom")
    combinations = [(goal, *flags) for goal in (-1, 0, 3) for flags in product([False, True], repeat=len(names))]
    columns = dict(zip(("goal", *names), map(np.array, zip(*combinations, strict=True)), strict=True))
    classify: Any = actions.classify
    expected = [classify(goal=goal, **dict(zip(names, flags, strict=True))) for goal, *flags in combinations]
    assert actions.classify_columns(**columns).tolist() == expected
    assert set(expected) == set(ActionType)


@pytest.mark.parametrize(
    ("text", "kind", "name", "keyword"),
    [
        ("", ReferrerType.DIRECT, "", ""),
        ("nonsense", ReferrerType.DIRECT, "", ""),
        ("https://www.site.example/x", ReferrerType.DIRECT, "", ""),
        ("https://a.b.shop.example/x", ReferrerType.DIRECT, "", ""),
        ("https://other.example:8080/x", ReferrerType.DIRECT, "", ""),
        ("https://notsite.example/x", ReferrerType.WEBSITE, "notsite.example", ""),
        ("https://other.example/x", ReferrerType.WEBSITE, "other.example", ""),
        ("https://www.google.de/", ReferrerType.SEARCH_ENGINE, "Google", ""),
        ("https://www.google.co.uk/search?q=Red+Shoe", ReferrerType.SEARCH_ENGINE, "Google", "red shoe"),
        ("https://www.google.com/reader/view/", ReferrerType.WEBSITE, "google.com", ""),
        ("https://www.baidu.com/s?wd=%C1%F7%D0%D0", ReferrerType.SEARCH_ENGINE, "Baidu", "流行"),
        ("https://m.facebook.com/", ReferrerType.SOCIAL, "Facebook", ""),
        ("https://notfacebook.com/", ReferrerType.WEBSITE, "notfacebook.com", ""),
        ("https://chatgpt.com/c/1", ReferrerType.AI_ASSISTANT, "ChatGPT", ""),
        ("https://x.com/i/grok", ReferrerType.AI_ASSISTANT, "Grok", ""),
        ("https://x.com/someone", ReferrerType.SOCIAL, "Twitter", ""),
    ],
)
def test_referrers(text: str, kind: int, name: str, keyword: str) -> None:
    found = referrers.classify(text, RULES)
    assert (found.type, found.name, found.keyword) == (kind, name, keyword)


def test_a_referrers_url_is_clean() -> None:
    found = referrers.classify("https://jo:pw@a.example/?sid=1&p=2", RULES)
    assert (found.url, found.removed, found.host) == ("https://a.example/?p=2", 1, "a.example")


# special cases of single engines that are not in the public list
UNLISTED = (
    "images.google.com/imgres",
    "imgres?imgurl",
    "tbm=isch&hl=en&source",
    "tbm=shop",
    "as_epq",
    "cathoogle",
    "gougou",
    "yhs",
    "images.de.ask.com",
)


def test_matomo_search_engine_vectors(vectors: Path) -> None:
    tried = 0
    for case in group(vectors, "search_engine"):
        if any(text in case["input"] for text in UNLISTED):
            continue
        parts = urls.split(case["input"])
        found = referrers.search(parts) if parts else None
        expected = case["expected"]
        assert found == ((expected["name"], expected["keywords"] or "") if expected else None), case["id"]
        tried += 1
    assert tried >= 50


def test_matomo_social_vectors(vectors: Path) -> None:
    for case in group(vectors, "social_name"):
        if case["input"].startswith("http"):
            found = referrers.classify(case["input"], RULES)
            assert (found.name if found.type == ReferrerType.SOCIAL else "Unknown") == case["expected"], case["id"]


def campaign_of(url: str) -> campaigns.Campaign:
    parts = urls.split(url)
    assert parts is not None
    return campaigns.of_parameters(parts.parameters + parts.fragment_parameters, RULES)


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


def test_site_search_keyword() -> None:
    parts = urls.split("https://a.example/?x=1&q=+&search=caf%C3%A9+au+lait")
    assert parts is not None
    assert searches.keyword(parts.parameters, RULES) == "café au lait"
    assert searches.keyword((), RULES) == ""


KHTML = "AppleWebKit/537.36 (KHTML, like Gecko)"
CHROME = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {KHTML} Chrome/120.0.0.0 Safari/537.36"
HEADLESS = CHROME.replace("Chrome/", "HeadlessChrome/")
PIXEL = f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {KHTML} Chrome/120.0.0.0 Mobile Safari/537.36"
IPAD = f"Mozilla/5.0 (iPad; CPU OS 16_1 like Mac OS X) {KHTML} Version/16.1 Mobile/15E148 Safari/604.1"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.mark.parametrize(
    ("agent", "kind", "os", "os_version", "browser", "version", "bot"),
    [
        (CHROME, "desktop", "Windows", "10", "Chrome", "120", 0),
        (PIXEL, "smartphone", "Android", "14", "Chrome Mobile", "120", 0),
        (IPAD, "tablet", "iOS", "16.1", "Mobile Safari", "16", 0),
        (HEADLESS, "desktop", "Windows", "10", "HeadlessChrome", "120", Bot.HEADLESS_AGENT),
        (GOOGLEBOT, "bot", "", "", "Googlebot", "2", Bot.AGENT),
        ("curl/8.5.0", "bot", "", "", "curl", "8", Bot.AGENT),
        ("", "bot", "", "", "", "", Bot.AGENT),
    ],
)
def test_devices(agent: str, kind: str, os: str, os_version: str, browser: str, version: str, bot: int) -> None:
    found = device.describe(agent)
    assert (found.type, found.os, found.os_version) == (kind, os, os_version)
    assert (found.browser, found.browser_version, found.bot) == (browser, version, bot)


def test_brand_and_model() -> None:
    found = device.describe(PIXEL)
    assert (found.brand, found.model) == ("Google", "Pixel 8")
    assert device.headless_hint('{"brands":[{"brand":"HeadlessChrome"}]}') == Bot.HEADLESS_HINT
    assert device.headless_hint('{"brands":[]}') == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("de-DE,de;q=0.9,en;q=0.7", "de-de"),
        ("EN", "en"),
        (" (comment) fr", "fr"),
        ("*", ""),
        ("", ""),
        ("x" * 90, "xxxxxxxx"),
        ("\0de", ""),
    ],
)
def test_languages(text: str, expected: str) -> None:
    assert languages.first(text) == expected


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
        ('[["s","n","c",10.5,2],["t","m",["a","b"],"7","3"]]', (["s", "t"], ["n", "m"], [10.5, 7.0], [2, 3])),
        ('[["s"]]', (["s"], [""], [0.0], [1])),
        ('["s","n","c",1,1]', ([], [], [], [])),
        ('[[""],[" "],[null],[[]],["ok"]]', (["ok"], [""], [0.0], [1])),
        ('[["s","n","c",1e999,-5]]', (["s"], ["n"], [0.0], [0])),
        ('[["s","n","c",true,99999999999999]]', (["s"], ["n"], [0.0], [2**32 - 1])),
        ('[[12,"x?sid=1","c"]]', (["12"], ["x"], [0.0], [1])),
        ("[" * 100_000, ([], [], [], [])),
        ('{"a":1}', ([], [], [], [])),
        ("", ([], [], [], [])),
    ],
)
def test_order_items(text: str, expected: tuple[list[object], ...]) -> None:
    assert fields.items(text, RULES) == expected
    assert len(fields.items("[" + '["s"],' * 900 + '["s"]]', RULES).sku) == fields.ITEM_LIMIT


def test_matomo_referrer_type_vectors_of_new_visits(vectors: Path) -> None:
    hosts = {1: "piwik.org", 2: "piwik.org", 3: "piwik.xyz", 5: None, 6: "matomo.org"}
    names = {"direct": 1, "search": 2, "website": 3, "campaign": 6, "social": 7}
    tried = 0
    for case in group(vectors, "referrer_type"):
        given = case["input"]
        if given["hook"] != "onNewVisit" or given["idsite"] not in hosts or given["extra"]:
            continue
        if given["idsite"] in (2, 6) and case["expected"] in ("direct", "website") and "/" in given["urlref"][8:]:
            continue  # sites that are a folder of their host, and excluded referrers, are not there yet
        if case["id"] == "referrer_type-013":
            continue  # a page under another site's address
        host = hosts[given["idsite"]]
        rules = Rules.of(1, SitePolicy(privacy=MATOMO, domains=(host,) if host else ()))
        parts, found = urls.split(given["url"]), referrers.classify(given["urlref"], rules)
        assert parts is not None
        kind = ReferrerType.DIRECT if found.host == parts.host else found.type
        kind = ReferrerType.CAMPAIGN if campaigns.of_parameters(parts.parameters, rules).name else kind
        assert kind == names[case["expected"]], case["id"]
        tried += 1
    assert tried >= 8
