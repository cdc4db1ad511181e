from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.privacy import Values, of_preset, resolve
from schemas.sites import SitePolicy
from streams.anonymize import custom, urls
from streams.enrich import campaigns
from streams.keyed import Kind
from streams.rules import Rules
from tests.streams.core.vectors import group


def matomo(**rules: object) -> SitePolicy:
    """A policy that keeps all parameters but the excluded."""
    return SitePolicy(privacy=msgspec.structs.replace(of_preset("matomo-default"), **rules))


RULES = Rules.of(1, matomo(excluded_parameters=("customer", "p2")))
KEEP = Rules.of(1, matomo(keep_fragment=True))


def cleaned(text: str, rules: Rules = RULES) -> tuple[str, int]:
    parts = urls.split(text)
    return ("", 0) if parts is None else urls.clean(parts, rules)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example", ("https://a.example", 0)),
        ("HTTPS://WWW.A.Example/Path?X=1", ("https://www.a.example/Path?X=1", 0)),
        ("https://a.example/?gclid=1&x=2&GCLID=3", ("https://a.example/?x=2", 2)),
        ("https://a.example/?%67clid=1", ("https://a.example/", 1)),
        ("https://a.example/?customer[name]=1&p2[]=2&p22=3", ("https://a.example/?p22=3", 2)),
        ("https://u:pw@a.example:8080/x", ("https://a.example:8080/x", 0)),
        ("https://a@b@c.example/", ("https://c.example/", 0)),
        ("https://a.example/x;jsessionid=1;p=2?q=3", ("https://a.example/x?p=2&q=3", 1)),
        ("https://a.example/x#part?sid=1", ("https://a.example/x", 0)),
        ("https://a.example/?a=1&&b&", ("https://a.example/?a=1&b", 0)),
        (
            "https://a.example/?u=https%3A%2F%2Fb.example%2F%3Fsid%3D1%26p%3D2",
            ("https://a.example/?u=https%3A%2F%2Fb.example%2F%3Fp%3D2", 1),
        ),
        (
            "https://a.example/?u=https%3A%2F%2Fjo%3Apw%40b.example",
            ("https://a.example/?u=https%3A%2F%2Fb.example", 0),
        ),
        ("android-app://com.example.app/x", ("android-app://com.example.app/x", 0)),
        ("  https://a.example/\0x\n ", ("https://a.example/x", 0)),
        ("javascript:alert(1)", ("", 0)),
        ("mailto:jo@x.example", ("", 0)),
        ("file:///home/jo/x", ("", 0)),
        ("https://", ("", 0)),
        ("/relative", ("", 0)),
        ("", ("", 0)),
    ],
)
def test_urls(text: str, expected: tuple[str, int]) -> None:
    assert cleaned(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example/#part", ("https://a.example/#part", 0)),
        ("https://a.example/#/r?sid=1&a=2", ("https://a.example/#/r?a=2", 1)),
        ("https://a.example/#sid=1", ("https://a.example/", 1)),
        ("https://a.example/#/r?sid=1", ("https://a.example/#/r", 1)),
    ],
)
def test_a_kept_fragment_loses_excluded_parameters_too(text: str, expected: tuple[str, int]) -> None:
    assert cleaned(text, KEEP) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plain = title 100 %", ("Plain = title 100 %", 0)),
        ("see https://x.example/?gclid=1&p=2 now", ("see https://x.example/?p=2 now", 1)),
        ("see https://x.example/?gclid=1 now", ("see https://x.example/ now", 1)),
        ("at https://jo:pw@x.example/", ("at https://x.example/", 0)),
        (
            "404/URL = %2Fa%3Fsid%3D1%26p%3D2/From = https%3A%2F%2Fjo%3Apw%40x.example%2F",
            ("404/URL = %2Fa%3Fp%3D2/From = https%3A%2F%2Fx.example%2F", 1),
        ),
        ("404/URL = %2Fa%3Fsid%3D1/From = x", ("404/URL = %2Fa/From = x", 1)),
        (" \x00 \x1f ", ("", 0)),
        ("a\ud800b", ("ab", 0)),
        ("https://u:pw@x.example/a?sid=1:3:4", ("https://x.example/a", 1)),
    ],
)
def test_texts(text: str, expected: tuple[str, int]) -> None:
    assert urls.clean_text(text, RULES) == expected


def test_texts_are_cut_at_a_character() -> None:
    assert len(urls.clean_text("é" * 2000, RULES)[0].encode()) == 1024
    assert len(urls.clean_text("a" + "é" * 2000, RULES)[0].encode()) == 1023
    assert cleaned("https://a.example/" + "x" * 5000)[0] == "https://a.example/" + "x" * 1006


@given(st.text(max_size=80))
def test_a_text_without_urls_is_the_same_under_all_rules(text: str) -> None:
    if not urls.holds_urls(urls.tidy(text)):
        assert urls.clean_text(text, RULES) == urls.clean_text(text, KEEP) == (urls.cut(urls.tidy(text)), 0)


SECRET = "s3cr3t"


@given(
    st.lists(st.sampled_from(["a=1", "b", "%41=%42", "x=y;z", ""])),
    st.integers(0, 5),
    st.sampled_from(["sid", "SID", "%73id", "sid[]", "sid[a]"]),
)
def test_an_excluded_value_is_gone_wherever_it_stands(parts: list[str], at: int, name: str) -> None:
    query = "&".join([*parts[:at], f"{name}={SECRET}", *parts[at:]])
    url, removed = cleaned(f"https://a.example/p?{query}#f?{query}", KEEP)
    assert SECRET not in url
    assert removed == 2
    assert SECRET not in urls.clean_text(f"x https://a.example/p?{query} y", RULES)[0]


def test_matomo_click_id_vectors(vectors: Path) -> None:
    for case in group(vectors, "url_exclude_click_ids"):
        assert cleaned(case["input"]["url"])[0] == case["expected"], case["id"]


def test_matomo_excluded_parameter_vectors(vectors: Path) -> None:
    tried = 0
    for case in group(vectors, "url_exclude_params"):
        given = case["input"]
        lists = given["site_excluded"] + "," + given["global_excluded"]
        names = [name.strip() for name in lists.split(",") if name.strip()]
        privacy, _ = resolve(
            {
                "": {
                    "preset": "matomo-default",
                    "excluded_parameters": names,
                    "keep_fragment": given["keep_url_fragment"],
                }
            }
        )
        rules = Rules.of(1, SitePolicy(privacy=privacy))
        campaigns = frozenset((given["campaign_var_name"] + "," + given["campaign_keyword_var_name"]).split(","))
        parts = urls.split(given["url"])
        url = urls.clean(parts, rules, campaigns)[0] if parts else ""
        assert url == (case["expected"] or ""), case["id"]
        tried += 1
    assert tried > 10


DEFAULT = Rules.of(1, SitePolicy())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://jo.doe%40a.example/x", "https://a.example/x"),
        ("https://jane:s3cret%40www.a.example/x", "https://www.a.example/x"),
        ("https://jane%3As3%2540a.example/x", "https://a.example/x"),
        ("https://x%2Fy@a.example/x", "https://a.example/x"),
        ("https://a.example%2Fjane/x", "https://a.example/x"),
        ("tel://+4917612345678", "tel://[phone]"),
        ("http://203.0.113.9:80/x", "http://203.0.113.9:80/x"),
        ("https://a.example/user/Jane%20Doe/x", "https://a.example/user/[name]/x"),
        ("https://a.example/user/jane%20doe", "https://a.example/user/[name]"),
        ("https://a.example/~jane%20doe/%22x%22", "https://a.example/~[name]/%22x%22"),
        ("https://a.example/%40jane%20doe/x", "https://a.example/@[name]/x"),
        ("https://a.example/user/%22jane%22/user/[jane]", "https://a.example/user/[name]/user/[name]"),
        ("https://a.example/user/a%40b.example/profile/settings", "https://a.example/user/[email]/profile/settings"),
        ("myapp://user/jane.doe/x", "myapp://user/[name]/x"),
        ("android-app://profile/jane", "android-app://profile/[name]"),
        ("https://a.example/a #x", "https://a.example/a"),
        ("https://a.example/a ?b=1 #x", "https://a.example/a"),
        ("http://[2001:db8::1]:80/x", "http://[2001:db8::1]:80/x"),
    ],
)
def test_a_host_tells_nothing_of_who_goes_there(text: str, expected: str) -> None:
    assert cleaned(text, DEFAULT)[0] == expected
    assert cleaned(expected, DEFAULT)[0] == expected


def test_the_host_of_the_sites_own_page_stays() -> None:
    parts = urls.split("https://+4917612345678/x")
    assert parts is not None
    assert urls.clean(parts, DEFAULT, own=True)[0] == "https://+4917612345678/x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Pay /pay?card=4111 1111 1111 1111 now", "Pay /pay now"),
        ("/pay?iban=DE89 3704 0044 0532 0130 00", "/pay"),
        ("a%3Fcard%3D4111 1111 1111 1111 b", "a b"),
        ("see https://jane:pw@a.example/?x=1 here", "see https://a.example/ here"),
        ("see https://a.example/a#access_token=abc here", "see https://a.example/a here"),
        ("see https://a.example/a?x=1#y here", "see https://a.example/a here"),
        ("https%3A%2F%2Fa.example%2Fa%23abc here", "https%3A%2F%2Fa.example%2Fa here"),
        ("C# and #12", "C# and #12"),
        ("https://s.example/a;user=jane;p=5?x=1", "https://s.example/a"),
        ("404/URL = %2Fa%3Bjsessionid%3Djane%3Bp%3D1/From = x", "404/URL = %2Fa/From = x"),
        ("a; b=c &amp; d", "a; b=c &amp; d"),
    ],
)
def test_urls_in_texts_leave_no_piece_of_what_is_removed(text: str, expected: str) -> None:
    assert urls.clean_text(text, DEFAULT)[0] == expected
    assert urls.clean_text(expected, DEFAULT)[0] == expected


def test_a_fragment_that_is_kept_is_held_against_the_rules() -> None:
    assert urls.clean_text("see https://a.example/a#gclid=1&x=2 here", KEEP)[0] == "see https://a.example/a#x=2 here"
    assert urls.clean_text("see https://a.example/a#top here", KEEP)[0] == "see https://a.example/a#top here"


def test_a_campaign_that_is_a_url_is_cleaned() -> None:
    found = campaigns.of_values({"utm_source": "https://jane:pw@a.example/?session=1&uid=2"}, DEFAULT)
    assert (found.name, found.source) == ("https://a.example/", "https://a.example/")


@pytest.mark.parametrize("kind", [Kind.DIMENSION, Kind.VARIABLE])
@pytest.mark.parametrize("filling", range(170, 260))
@pytest.mark.parametrize("given", ["jo.doe@canary.example", "4111111111111111"])
def test_a_custom_value_is_masked_before_it_is_cut(kind: Kind, filling: int, given: str) -> None:
    limit = custom.DIMENSION_LIMIT if kind is Kind.DIMENSION else custom.VARIABLE_LIMIT
    kept = custom.value(f"{'y' * filling} {given}", Values.KEEP, kind, lambda _rule: b"", DEFAULT)
    assert len(kept) <= limit
    assert given[:2] not in kept
