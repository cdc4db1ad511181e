"""The opt-out page and script: languages, what the choice sets, whose form may make it, and what it does to events."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
import uvloop

from ingest import headers
from ingest.optout import page
from ingest.optout.texts import TEXTS, Texts, choose
from schemas.packets import Flag
from schemas.privacy import of_preset
from schemas.sites import PolicySet, SitePolicy
from tests.ingest.memory import running
from tests.ingest.test_http import get, post

OFFICIAL = {
    "bg",
    "cs",
    "da",
    "de",
    "el",
    "en",
    "es",
    "et",
    "fi",
    "fr",
    "ga",
    "hr",
    "hu",
    "it",
    "lt",
    "lv",
    "mt",
    "nl",
    "pl",
    "pt",
    "ro",
    "sk",
    "sl",
    "sv",
}
FORM = "Content-Type: application/x-www-form-urlencoded"


def reply(target: str = "", method: bytes = b"GET", body: bytes = b"", **fields: bytes) -> page.Reply:
    given = {name.replace("_", "-"): value for name, value in fields.items()}
    return page.reply(b"/opt-out", method, target.encode(), given, body)


def script(target: str = "", **fields: bytes) -> tuple[str, dict[str, object]]:
    answer = page.reply(b"/opt-out.js", b"GET", target.encode(), dict(fields), b"")
    source = answer.body.decode()
    start = source.rindex("})(") + 3
    return source, json.loads(source[start : source.rindex(");")].replace("<\\/", "</"))


def cookies(answer: page.Reply) -> list[str]:
    return re.findall(r"Set-Cookie: (.*)\r\n", answer.extra.decode())


PRIVATE = PolicySet({1: SitePolicy(), 2: SitePolicy(privacy=of_preset("matomo-default"))})


@pytest.mark.parametrize(
    ("site", "fields", "heeded"),
    [
        ("1", {"dnt": b"1"}, True),
        ("1", {"sec-gpc": b"1"}, True),
        ("1", {}, False),
        ("2", {"dnt": b"1", "sec-gpc": b"1"}, False),
        ("9", {"dnt": b"1"}, False),
        ("x", {"dnt": b"1"}, False),
    ],
)
def test_a_browser_s_signal_is_shown_where_the_site_heeds_it(site: str, fields: dict[str, bytes], heeded: bool) -> None:
    target = f"idsite={site}".encode()
    text = page.reply(b"/opt-out", b"GET", target, fields, b"", PRIVATE).body.decode()
    assert (TEXTS["en"].signal in text) is heeded
    refused = page.reply(b"/opt-out", b"GET", target, {**fields, "cookie": b"matomo_ignore=1"}, b"", PRIVATE)
    assert TEXTS["en"].refused in refused.body.decode()
    source = page.reply(b"/opt-out.js", b"GET", target, fields, b"", PRIVATE).body.decode()
    assert f'"doNotTrack": {"true" if site == "1" else "false"}' in source


def test_all_official_languages_are_there_and_whole() -> None:
    assert set(TEXTS) == OFFICIAL
    for language, texts in TEXTS.items():
        values = [getattr(texts, name) for name in Texts.__struct_fields__]
        assert all(value.strip() == value and len(value) > 8 for value in values), language
        assert len(set(values)) == len(values), language
    for name in Texts.__struct_fields__:  # nothing was left in another language
        assert len({getattr(texts, name) for texts in TEXTS.values()}) == len(TEXTS), name


@pytest.mark.parametrize(
    ("wanted", "accepted", "language"),
    [
        ("", "", "en"),
        ("de", "fr", "de"),
        ("pt-BR", "", "pt"),
        ("pt_br", "", "pt"),
        ("DE", "", "de"),
        ("auto", "fr-CH, fr;q=0.9, en;q=0.8", "fr"),
        ("auto", "xx, nl;q=0.3, sv;q=0.7", "sv"),
        ("xx", "el", "el"),
        ("", "zh-CN,zh;q=0.9", "en"),
        ("", "*", "en"),
        ("", "de;q=0, it;q=0.1", "it"),
        ("", "de;q=..., it;q=0.1", "it"),
        ("", "\xff\x00;;,,=", "en"),
    ],
)
def test_language(wanted: str, accepted: str, language: str) -> None:
    assert choose(wanted, accepted) == language


@pytest.mark.parametrize("language", sorted(OFFICIAL))
def test_the_page_tells_the_state_and_offers_the_other(language: str) -> None:
    texts = TEXTS[language]
    counted = unescape(reply(f"language={language}").body.decode())
    refused = unescape(reply(f"language={language}", cookie=b"a=b; matomo_ignore=1").body.decode())
    assert f'<html lang="{language}">' in counted
    assert texts.counted in counted
    assert texts.refused not in counted
    assert f'value="refuse">{texts.refuse}<' in counted
    assert texts.refused in refused
    assert f'value="allow">{texts.allow}<' in refused


def test_the_choice_is_kept_in_the_cookie_that_tracking_reads() -> None:
    answer = reply("language=de", b"POST", b"choice=refuse", sec_fetch_site=b"same-origin")
    assert answer.status == 303
    assert b"Location: /opt-out?language=de&chosen=refuse\r\n" in answer.extra
    lax, whole, partitioned = cookies(answer)
    assert lax.startswith("matomo_ignore=1; Path=/; Max-Age=34560000; ")
    assert lax.endswith("SameSite=Lax")
    assert whole.endswith("SameSite=None; Secure")
    assert partitioned.endswith("SameSite=None; Secure; Partitioned")
    for cookie in (lax, whole, partitioned):
        assert headers.flags({"cookie": cookie.partition(";")[0].encode()}) == Flag.OPT_OUT
    undone = cookies(reply("", b"POST", b"choice=allow"))
    assert len(undone) == 3
    for cookie in undone:
        assert cookie.startswith("matomo_ignore=; Path=/; Max-Age=0; ")
        assert headers.flags({"cookie": cookie.partition(";")[0].encode()}) == 0


@pytest.mark.parametrize(
    ("chosen", "cookie", "lost"),
    [
        ("refuse", b"", True),
        ("refuse", b"matomo_ignore=1", False),
        ("allow", b"matomo_ignore=1", True),
        ("allow", b"", False),
    ],
)
def test_a_choice_that_was_not_kept_is_said(chosen: str, cookie: bytes, lost: bool) -> None:
    text = reply(f"chosen={chosen}", cookie=cookie).body.decode()
    assert (TEXTS["en"].cookies in text) is lost


@pytest.mark.parametrize("site", [b"cross-site", b"same-site", b"none"])
def test_somebody_else_s_form_changes_nothing(site: bytes) -> None:
    answer = reply("", b"POST", b"choice=allow", sec_fetch_site=site)
    assert (answer.status, cookies(answer)) == (403, [])


@pytest.mark.parametrize("body", [b"", b"choice=", b"choice=maybe", b"\xff\x00=%", b"x" * 10_000])
def test_a_choice_must_be_one(body: bytes) -> None:
    answer = reply("", b"POST", body)
    assert (answer.status, cookies(answer)) == (400, [])
    assert b"choice" in answer.body


HOSTILE = [
    "language=%22%3E%3Cscript%3E",
    "fontFamily=x%7D%3C/style%3E%3Cscript%3E",
    "fontColor=red%3B%7D",
    "fontSize=1px%3Bx",
    "backgroundColor=%0d%0aSet-Cookie:x",
    "divId=%22%29%3Balert%281%29",
    "chosen=%3Cb%3E",
    "%00=%ff&language=%0d%0aX-Evil:1",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_nothing_of_a_request_becomes_markup_or_a_header(target: str) -> None:
    for answer in (
        reply(target),
        reply(target, b"POST", b"choice=refuse"),
        page.reply(b"/opt-out.js", b"GET", target.encode(), {}, b""),
    ):
        assert b"<script" not in answer.body
        assert b"alert(" not in answer.body
        assert b"red;" not in answer.body
        assert not re.search(rb"\n(Set-Cookie:x|X-Evil)", answer.extra)
    assert reply(target).body.count(b"</style>") == 1


def test_matomo_s_styles_are_taken() -> None:
    target = "backgroundColor=FFF&fontColor=112233&fontSize=1.5em&fontFamily=Arial,%20serif&showIntro=0&divId=box"
    text = reply(target).body.decode()
    assert "body{background-color:#FFF;color:#112233;font-size:1.5em;font-family:Arial, serif;}" in text
    assert TEXTS["en"].intro not in text
    source, options = script(target)
    assert options["div"] == "box"
    assert options["intro"] is False
    styles = {"backgroundColor": "#FFF", "color": "#112233", "fontSize": "1.5em", "fontFamily": "Arial, serif"}
    assert options["style"] == styles
    assert "mtm_consent_removed" in source


def test_the_script_speaks_the_visitor_s_language() -> None:
    _, options = script("", **{"accept-language": b"fi"})
    assert options["language"] == "fi"
    assert options["div"] == "matomo-opt-out"
    texts = options["texts"]
    assert isinstance(texts, dict)
    assert texts["refuse"] == TEXTS["fi"].refuse


def test_over_http_at_our_addresses_and_matomo_s(tmp_path: Path) -> None:
    async def inside() -> None:
        async with running(tmp_path) as collector:
            for path, kind in (
                ("/opt-out", "text/html"),
                ("/index.php?module=CoreAdminHome&action=optOut&language=de", "text/html"),
                ("/opt-out.js", "text/javascript"),
                ("/index.php?module=CoreAdminHome&action=optOutJS&divId=x", "text/javascript"),
            ):
                answer = await collector.ask(get(path=path))
                assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, kind)
                assert answer.headers["cache-control"] == "no-store"
            answer = await collector.ask(post(b"choice=refuse", FORM, path="/opt-out"))
            assert answer.status == 303
            assert answer.headers["location"] == "/opt-out?chosen=refuse"
            for path in (
                "/index.php?module=Login&action=optOut",
                "/index.php?action=optOut",
                "/index.php",
                "/opt-outs",
            ):
                assert (await collector.ask(get(path=path))).status == 404
            assert collector.delivery.events() == []

    uvloop.run(inside())
