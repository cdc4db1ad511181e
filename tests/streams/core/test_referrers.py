"""Where visits come from: rules on one address, and what of it stands in rows."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.privacy import Detector, of_preset
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import ActionType, ReferrerType
from streams.anonymize.urls import split
from streams.enrich import referrers
from streams.enrich.referrers import DIRECT, Referrer
from streams.rules import Rules
from tests.streams.core.compare import run
from tests.streams.core.traffic import BASE, one, simple, world

MATOMO = of_preset("matomo-default")
POLICIES = PolicySet(
    {
        1: SitePolicy(
            privacy=MATOMO,
            domains=("*.shop.example", "site.example", "www.other.example:8080", "folder.example/en"),
            excluded_referrers=("pay.example", "*.bank.example", "mixed.example/pay"),
        ),
        2: SitePolicy(privacy=MATOMO, domains=("site.example/blog", "folder.example/fr")),
    }
)
RULES = Rules.of(1, POLICIES.sites[1], POLICIES.folders)


@pytest.mark.parametrize(
    ("text", "kind", "name", "keyword"),
    [
        ("", ReferrerType.DIRECT, "", ""),
        ("nonsense", ReferrerType.DIRECT, "", ""),
        ("https://www.site.example/x", ReferrerType.DIRECT, "", ""),
        ("https://a.b.shop.example/x", ReferrerType.DIRECT, "", ""),
        ("https://other.example:8080/x", ReferrerType.DIRECT, "", ""),
        ("https://folder.example/EN/x", ReferrerType.DIRECT, "", ""),
        ("https://folder.example/it/x", ReferrerType.WEBSITE, "folder.example", ""),
        ("https://folder.example/fr/x", ReferrerType.WEBSITE, "folder.example/fr", ""),
        ("https://site.example/Blog?x=1", ReferrerType.WEBSITE, "site.example/blog", ""),
        ("https://www.pay.example/done", ReferrerType.DIRECT, "", ""),
        ("https://a.pay.example/done", ReferrerType.WEBSITE, "a.pay.example", ""),
        ("https://a.bank.example/", ReferrerType.DIRECT, "", ""),
        ("https://mixed.example/pay/1", ReferrerType.DIRECT, "", ""),
        ("https://mixed.example/news", ReferrerType.WEBSITE, "mixed.example", ""),
        ("https://[2001:db8::1]:8443/x", ReferrerType.WEBSITE, "[2001:db8::1]", ""),
        ("https://notsite.example/x", ReferrerType.WEBSITE, "notsite.example", ""),
        ("https://other.example/x", ReferrerType.WEBSITE, "other.example", ""),
        ("https://www.google.de/", ReferrerType.SEARCH_ENGINE, "Google", ""),
        ("https://www.google.co.uk/search?q=Red+Shoe", ReferrerType.SEARCH_ENGINE, "Google", "red shoe"),
        ("https://www.google.com/search?q=shoe&tbm=nws", ReferrerType.SEARCH_ENGINE, "Google News", "shoe"),
        ("https://www.google.com/search?tbm=vid", ReferrerType.SEARCH_ENGINE, "Google Video", ""),
        ("https://www.google.com/search?as_epq=red+shoe", ReferrerType.SEARCH_ENGINE, "Google", '"red shoe"'),
        ("https://www.google.com/search?as_q=a&as_oq=b+c", ReferrerType.SEARCH_ENGINE, "Google", "a b or c"),
        ("https://www.google.com/reader/view/", ReferrerType.WEBSITE, "google.com", ""),
        ("https://any.example/?cx=partner-pub-1&q=x", ReferrerType.SEARCH_ENGINE, "Google Custom Search", "x"),
        ("https://any.example/?q=x&cx=partner-pub-1", ReferrerType.WEBSITE, "any.example", ""),
        ("https://x.y.search.yahoo.com/a?p=Shoe", ReferrerType.SEARCH_ENGINE, "Yahoo!", "shoe"),
        ("https://x.images.search.yahoo.com/a?p=Shoe", ReferrerType.SEARCH_ENGINE, "Yahoo! Images", "shoe"),
        ("https://www.baidu.com/s?wd=%C1%F7%D0%D0", ReferrerType.SEARCH_ENGINE, "Baidu", "流行"),
        ("https://m.facebook.com/", ReferrerType.SOCIAL, "Facebook", ""),
        ("https://notfacebook.com/", ReferrerType.WEBSITE, "notfacebook.com", ""),
        ("https://chatgpt.com/c/1", ReferrerType.AI_ASSISTANT, "ChatGPT", ""),
        ("https://x.com/i/grok", ReferrerType.AI_ASSISTANT, "Grok", ""),
        ("https://x.com/someone", ReferrerType.SOCIAL, "Twitter", ""),
    ],
)
def test_referrers(text: str, kind: int, name: str, keyword: str) -> None:
    found = referrers.classify(split(text), RULES)
    assert (found.type, found.name, found.keyword) == (kind, name, keyword)


@pytest.mark.parametrize(
    ("text", "url", "removed"),
    [
        ("https://jo:pw@a.example/?sid=1&p=2", "https://a.example/?p=2", 1),
        ("https://l.instagram.com/?u=1&E=2&s=3", "https://l.instagram.com/?u=1", 0),
        ("https://notinstagram.com/?e=2", "https://notinstagram.com/?e=2", 0),
        ("https://www.google.co.uk/url?q=a&ved=1&x=2", "https://www.google.co.uk/url?q=a&x=2", 0),
        ("https://google.example.com/?ved=1", "https://google.example.com/", 0),
        ("https://mygoogle.com/?ved=1", "https://mygoogle.com/?ved=1", 0),
    ],
)
def test_a_referrers_url_is_clean_and_without_what_its_host_wrote_for_itself(text: str, url: str, removed: int) -> None:
    found = referrers.classify(split(text), RULES)
    assert (found.url, found.removed) == (url, removed)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("abmw.:/?#[]@&=%;+-é \ud800\0"), max_size=60))
def test_any_text_is_a_referrer_of_some_type(text: str) -> None:
    for given_ in (text, f"https://www.google.de/{text}", f"https://{text}"):
        found = referrers.classify(split(given_), RULES)
        assert (found.type == ReferrerType.DIRECT) == (found == DIRECT)
        assert len(found.name.encode()) <= 255 >= len(found.keyword.encode())


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("www2.example.co.uk", "example.{}"),
        ("search.de.example.com", "{}.example.com"),
        ("images.de.m.example.com", "images.{}.example.com"),
        ("example.com.de.fr", "example.com.{}.{}"),
        ("de", "de"),
        ("", ""),
    ],
)
def test_lossy_hosts(host: str, expected: str) -> None:
    assert referrers.lossy(host) == expected


def rows(*requests: tuple[str, str], site: int = 1, **policy: Any) -> list[dict[str, Any]]:
    """The rows of requests of one visitor, each a page and the page before."""
    policies = PolicySet({**POLICIES.sites, site: msgspec.structs.replace(POLICIES.sites[site], **policy)})
    queries = [f"{BASE}&url={quote(url, safe='')}&urlref={quote(before, safe='')}" for url, before in requests]
    events = [simple(query, site=site) for query in queries]
    return run([[one(events, policies.version)]], world(policies))["events"]


def test_the_pages_own_host_is_direct_but_not_the_folder_of_another_site() -> None:
    urls = ["https://elsewhere.example/b", "https://folder.example/fr/b", "https://www.elsewhere.example/b"]
    pages = ["https://elsewhere.example/a", "https://folder.example/it/a", "https://elsewhere.example/a"]
    found = rows(*zip(pages, urls, strict=True))
    assert [row["referrer_type"] for row in found] == [ReferrerType.DIRECT, ReferrerType.WEBSITE, ReferrerType.WEBSITE]
    assert [row["referrer_url"] for row in found] == ["", urls[1], urls[2]]


def test_a_campaign_without_a_keyword_has_that_of_the_search_unless_the_rules_keep_none() -> None:
    search, page = "https://www.google.com/search?q=Shoe", "https://site.example/?utm_campaign=a"
    requests = [(page, search), (page + "&utm_term=own", search), (page, "https://news.example/?q=x")]
    found = rows(*requests)
    assert [row["referrer_keyword"] for row in found] == ["shoe", "own", ""]
    assert {(row["referrer_type"], row["referrer_name"]) for row in found} == {(ReferrerType.CAMPAIGN, "a")}
    assert [row["campaign_term"] for row in found] == ["", "own", ""]
    for rule in ({"campaigns": False}, {"referrer": "exclude_query"}):
        privacy = msgspec.convert(msgspec.to_builtins(MATOMO) | rule, type(MATOMO), strict=False)
        assert rows(*requests, privacy=privacy)[0]["referrer_keyword"] == ""


def test_detectors_see_a_keyword_as_it_was_typed() -> None:
    hidden = b64encode(b"jane.doe@example.org").decode()  # in lower case it is base64 of nothing
    privacy = msgspec.structs.replace(MATOMO, detectors=tuple(Detector))
    page, search = "https://site.example/", f"https://www.google.com/search?q=Find+{quote(hidden)}"
    assert rows((page, search), privacy=privacy)[0]["referrer_keyword"] == "find [email]"


def test_a_visit_has_the_first_referrer_that_is_not_direct() -> None:
    direct, first, second = DIRECT, Referrer(ReferrerType.WEBSITE, "a"), Referrer(ReferrerType.SOCIAL, "b")
    assert referrers.of_visit([direct, first, second, direct]) == first
    assert referrers.of_visit([direct]) == referrers.of_visit([]) == direct


def test_the_url_of_a_site_search_has_no_parameters_that_have_columns_and_that_of_other_actions_has() -> None:
    privacy = msgspec.structs.replace(MATOMO, search_category_parameters=("cat",))
    page = "https://site.example/list?x=1&q=Tea&cat=Hot&utm_campaign=a"
    policies = PolicySet({1: SitePolicy(privacy=privacy)})
    more = ["", "&link=https%3A%2F%2Fout.example%2F", "&search=Coffee&search_cat=Cold&search_count=7"]
    events = [simple(f"{BASE}&url={quote(page, safe='')}{text}") for text in more]
    found = run([[one(events, policies.version)]], world(policies))["events"]
    bare, whole = "https://site.example/list?x=1", "https://site.example/list?x=1&q=Tea&cat=Hot"
    names = ("action_type", "url", "search_keyword", "search_category", "search_count")
    assert [tuple(row[name] for name in names) for row in found] == [
        (ActionType.SITE_SEARCH, bare, "Tea", "Hot", 0),
        (ActionType.OUTLINK, whole, "", "", 0),
        (ActionType.SITE_SEARCH, bare, "Coffee", "Cold", 7),
    ]
    assert {row["parameters_removed"] for row in found} == {0}
