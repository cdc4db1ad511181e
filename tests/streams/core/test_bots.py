"""Devices and bots: what an agent says of itself, why it may be nobody, and what of that stands in the row."""

from __future__ import annotations

import pytest

from schemas.addresses import pack
from schemas.packets import Flag, Role
from schemas.sites import PolicySet, SitePolicy
from streams.enrich import bots, device
from streams.enrich.bots import Bot
from tests.streams.core.compare import run
from tests.streams.core.traffic import BASE, one, simple, world

KHTML = "AppleWebKit/537.36 (KHTML, like Gecko)"
CHROME = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {KHTML} Chrome/120.0.0.0 Safari/537.36"
HEADLESS = CHROME.replace("Chrome/", "HeadlessChrome/")
PIXEL = f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {KHTML} Chrome/120.0.0.0 Mobile Safari/537.36"
IPAD = f"Mozilla/5.0 (iPad; CPU OS 16_1 like Mac OS X) {KHTML} Version/16.1 Mobile/15E148 Safari/604.1"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
GPTBOT = f"Mozilla/5.0 {KHTML}; compatible; GPTBot/1.2; +https://openai.com/gptbot"
PLAIN = "idsite=1&rec=1&url=https%3A%2F%2Fwww.site1.example%2F&cookie="
RES = "&res=800x600"
CHATGPT = f"Mozilla/5.0 {KHTML}; compatible; ChatGPT-User/1.0; +https://openai.com/bot"


@pytest.mark.parametrize(
    ("agent", "kind", "os", "os_version", "browser", "version", "bot"),
    [
        (CHROME, "desktop", "Windows", "10", "Chrome", "120", 0),
        (PIXEL, "smartphone", "Android", "14", "Chrome Mobile", "120", 0),
        (IPAD, "tablet", "iOS", "16.1", "Mobile Safari", "16", 0),
        (HEADLESS, "desktop", "Windows", "10", "HeadlessChrome", "120", Bot.HEADLESS_AGENT),
        (GOOGLEBOT, "bot", "", "", "Googlebot", "2", Bot.CRAWLER),
        (GPTBOT, "bot", "", "", "GPTBot", "1", Bot.AI_CRAWLER),
        (CHATGPT, "bot", "", "", "ChatGPT-User", "", Bot.AI_ASSISTANT),
        ("curl/8.5.0", "bot", "", "", "curl", "8", Bot.LIBRARY),
        ("", "bot", "", "", "", "", Bot.NO_AGENT),
    ],
)
def test_devices(agent: str, kind: str, os: str, os_version: str, browser: str, version: str, bot: int) -> None:
    found = device.describe(agent)
    assert (found.type, found.os, found.os_version) == (kind, os, os_version)
    assert (found.browser, found.browser_version, found.bot) == (browser, version, bot)


def test_brand_and_model() -> None:
    found = device.describe(PIXEL)
    assert (found.brand, found.model) == ("Google", "Pixel 8")


@pytest.mark.parametrize(
    ("agent", "reasons"),
    [
        ("Mozilla/5.0 (Linux; Android 9; CUBOT X19) Mobile", 0),  # a telephone
        ("Matomo/LogImport", 0),
        ("MistralAI-User/1.0", Bot.AI_ASSISTANT),
        ("claudebot", Bot.AI_CRAWLER),
        ("Devine Explorer", 0),  # another word
        ("my-GPTBot-checker", Bot.CRAWLER),
        ("python-scrapy crawler headless", Bot.CRAWLER | Bot.LIBRARY | Bot.HEADLESS_AGENT),
        (" ", Bot.NO_AGENT),
        ("x" * 5000 + "bot", 0),  # beyond what is looked at
    ],
)
def test_reasons_of_agents(agent: str, reasons: int) -> None:
    assert bots.of_agent(agent).reasons == reasons


def test_reasons_of_hints() -> None:
    assert bots.of_hints('{"brands":[{"brand":"HeadlessChrome"}]}') == Bot.HEADLESS_HINT
    assert bots.of_hints('{"brands":[]}') == 0


@pytest.mark.parametrize(
    ("agent", "hints", "contradicted"),
    [
        (CHROME, '{"platform":"Windows","brands":[{"brand":"Chromium","version":"120"}]}', False),
        (CHROME, '{"platform":"Linux"}', True),
        (CHROME, '{"platform":"Solaris"}', False),  # nothing is known of it
        (CHROME, '{"sec-ch-ua-platform":"\\"macOS\\""}', True),
        (CHROME, '{"brands":[{"brand":"Chromium","version":"119"}]}', True),
        (CHROME, '{"fullVersionList":[{"brand":"Chromium","version":"120.0.1"}],"brands":[]}', False),
        (CHROME, '{"sec-ch-ua":"\\"Not A\\";v=\\"8\\", \\"Chromium\\";v=\\"120\\""}', False),
        (CHROME, '{"sec-ch-ua":"\\"Chromium\\";v=\\"99\\""}', True),
        (IPAD, '{"brands":[{"brand":"Chromium","version":"120"}]}', True),  # no such browser sends any
        (PIXEL, '{"platform":"Android","mobile":true}', False),
        (PIXEL.replace("Android 14", "x86_64"), '{"platform":"Android"}', False),  # it asks for the desktop's page
        (CHROME, "[1]", False),
        (CHROME, '{"brands":3,"platform":[]}', False),
        (CHROME, "{", False),
        ("", '{"platform":"Linux"}', False),
    ],
)
def test_hints_that_contradict_the_agent(agent: str, hints: str, contradicted: bool) -> None:
    assert bots.of_hints(hints, agent) == (Bot.CONTRADICTION if contradicted else 0)


def test_contradictions_and_requests_without_scripts_are_stored() -> None:
    policies = PolicySet({1: SitePolicy()})
    events = [
        simple(PLAIN, agent=CHROME),
        simple(PLAIN, agent=CHROME, role=Role.WRITE),  # a server sends what it likes
        simple(PLAIN + "&pv_id=abc123", agent=CHROME),
        simple(BASE + RES, agent=CHROME, hints='{"sec-ch-ua-platform":"Android"}'),
        simple(BASE + "&uadata=%7B%22platform%22%3A%22macOS%22%7D&ua=Firefox", agent=CHROME),
    ]
    found = run([[one(events, policies.version)]], world(policies))["events"]
    expected = [Bot.NO_SCRIPTS, 0, 0, Bot.CONTRADICTION, Bot.CONTRADICTION]
    assert [row["bot"] for row in found] == expected


@pytest.mark.parametrize(("policy", "more"), [(SitePolicy(), "&bots=1"), (SitePolicy(keep_bots=True), "")])
def test_what_is_kept_of_bots_is_stored_with_all_reasons(policy: SitePolicy, more: str) -> None:
    policies = PolicySet({1: policy})
    google, person = pack("66.249.85.36"), pack("81.2.69.160")
    hints = "&uadata=%7B%22brands%22%3A%5B%7B%22brand%22%3A%22HeadlessChrome%22%7D%5D%7D"
    events = [
        simple(BASE + RES + more, agent=GOOGLEBOT, address=google),
        simple(BASE + RES + more + hints, agent=CHATGPT, address=person),
        simple(BASE + RES + more, agent=CHROME, address=google, flags=int(Flag.DATA_SAVER)),
        simple(BASE + RES, agent=HEADLESS, address=person),
    ]
    found = run([[one(events, policies.version)]], world(policies))["events"]
    expected = [Bot.CRAWLER | Bot.ADDRESS, Bot.AI_ASSISTANT | Bot.HEADLESS_HINT, 0, Bot.HEADLESS_AGENT]
    assert [row["bot"] for row in found] == expected
    assert found[0]["address"] == "66.249.0.0"


def test_without_asking_crawlers_and_assistants_are_left_out_and_headless_browsers_are_marked() -> None:
    policies = PolicySet({1: SitePolicy()})
    events = [simple(BASE, agent=agent) for agent in (GOOGLEBOT, GPTBOT, CHATGPT, HEADLESS, "curl/8")]
    found = run([[one(events, policies.version)]], world(policies))["events"]
    assert [row["index"] for row in found] == [3, 4]
