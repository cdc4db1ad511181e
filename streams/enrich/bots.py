"""Why an event may not be a person's: verdicts with their reasons, from the User-Agent and the client hints.

A crawler, a monitor and an assistant say so in their agents; so does a library, but libraries track what people do in
apps and shops. Artificial intelligences have but their names, so these are lists: crawlers read the web to train or to
index, assistants fetch a page because a person just asked for it. A verdict is stored with the row; what is left out
because of it is the matter of `streams.exclusions`.
"""

from __future__ import annotations

import re
from enum import IntFlag
from typing import Any, NamedTuple

import msgspec

LIMIT = 1024  # characters of an agent that are looked at


class Bot(IntFlag):
    """Reasons; 0 is none. The numbers are stored in column `bot`; `bot_reasons` shows their names."""

    CRAWLER = 1  # the agent names a crawler, a monitor or a preview
    HEADLESS_AGENT = 2  # the agent names a headless browser
    HEADLESS_HINT = 4  # the client hints do, whatever the agent says
    LIBRARY = 8  # the agent names an HTTP library or a command
    ADDRESS = 16  # the address is in a network of crawlers
    AI_CRAWLER = 32  # the agent names a crawler that reads for an artificial intelligence
    AI_ASSISTANT = 64  # the agent names an assistant that reads for a person
    NO_AGENT = 128  # there is no agent
    CONTRADICTION = 256  # the client hints name another system or browser than the agent
    NO_SCRIPTS = 512  # nothing in the request needs a script to be known; not said of requests with a token


# What only a script knows: none of them is in an image without a script, nor in a line of an access log.
SCRIPTED = ("res", "h", "cookie", "pv_id", "uadata")
EXCLUDED = Bot.CRAWLER | Bot.AI_CRAWLER | Bot.AI_ASSISTANT  # by agent, unless the request or the site says otherwise

_crawlers_of_ai = """
    AI2Bot Amazonbot anthropic-ai Applebot-Extended Bytespider CCBot Claude-SearchBot Claude-Web ClaudeBot
    cohere-training-data-crawler DeepSeekBot Diffbot FacebookBot Google-CloudVertexBot GPTBot GrokBot iaskspider
    ICC-Crawler ImagesiftBot meta-externalagent meta-webindexer NeevaBot OAI-SearchBot omgilibot PanguBot PerplexityBot
    PetalBot Timpibot TikTokSpider webzio-extended YouBot
"""
_assistants = """
    ChatGPT-User Claude-User cohere-ai Devin DuckAssistBot Gemini-Deep-Research Google-NotebookLM GoogleAgent-Mariner
    Manus-User meta-externalfetcher MistralAI-User NovaAct Perplexity-User
"""
_names = {name.lower(): (name, Bot.AI_CRAWLER) for name in _crawlers_of_ai.split()}
_names |= {name.lower(): (name, Bot.AI_ASSISTANT) for name in _assistants.split()}
_ai = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, _names))})(?![\w-])", re.IGNORECASE).search
_crawler = re.compile(
    r"(?<!cu)bot(?:\b|[/;_-])|crawl|spider|slurp|facebookexternalhit|lighthouse|page ?speed|preview|monitor|pingdom"
    r"|web/snippet|archiver|feedfetcher|mediapartners|google-inspectiontool|googleother|google-read-aloud"
    r"|screaming frog|statuscake|site24x7|datadogsynthetics|gtmetrix|embedly|iframely|w3c_validator|siteimprove",
    re.IGNORECASE,
).search
_library = re.compile(
    r"curl/|wget/|python|java/|okhttp|go-http|libwww|httpclient|node-fetch|undici|axios|scrapy|guzzle|faraday|aiohttp"
    r"|httpx/|\bphp\b|ruby|perl|postmanruntime|insomnia/",
    re.IGNORECASE,
).search
# By what hints call them. A phone that asks for the desktop's page calls itself Linux; so may a tablet in a dock.
_SYSTEMS = {
    "windows": re.compile("Windows").search,
    "macos": re.compile("Mac OS X|Macintosh").search,
    "linux": re.compile("Linux|X11|BSD").search,
    "android": re.compile("Android|Linux").search,
    "chrome os": re.compile("CrOS|Linux").search,
    "chromium os": re.compile("CrOS|Linux").search,
}
_chrome = re.compile(r"\b(?:Headless)?(?:Chrome|Chromium)/(\d+)").search
_brand = re.compile(r'"Chromium";\s*v="(\d+)').search
_headless = re.compile(r"headless|phantomjs|electron/.*puppeteer|selenium|webdriver|playwright", re.IGNORECASE).search


class Judged(NamedTuple):
    """The verdict on an agent. `name`: what an artificial intelligence calls itself, else ""."""

    reasons: Bot
    name: str = ""


def of_agent(agent: str) -> Judged:
    """The verdict on a User-Agent."""
    agent = agent[:LIMIT].strip()
    if not agent:
        return Judged(Bot.NO_AGENT)
    name, reasons = "", Bot(0)
    if found := _ai(agent):
        name, reasons = _names[found[0].lower()]
    elif _crawler(agent):
        reasons = Bot.CRAWLER
    if _library(agent):
        reasons |= Bot.LIBRARY
    if _headless(agent):
        reasons |= Bot.HEADLESS_AGENT
    return Judged(reasons, name)


def of_hints(hints: str, agent: str = "") -> Bot:
    """The verdict on client hints, JSON as in `uadata` or of the Sec-CH-UA headers, beside their agent."""
    reasons = Bot.HEADLESS_HINT if "headless" in hints.lower() else Bot(0)
    if agent.strip() and _contradicted(agent[:LIMIT], hints):
        reasons |= Bot.CONTRADICTION
    return reasons


def _contradicted(agent: str, hints: str) -> bool:
    """Whether a browser that sends these hints has another agent. Only browsers made of Chromium send any."""
    try:
        given = msgspec.json.decode(hints)
    except msgspec.DecodeError:
        return False
    if not isinstance(given, dict):
        return False
    platform = str(given.get("platform") or given.get("sec-ch-ua-platform") or "").strip('" ').lower()
    named = _SYSTEMS.get(platform)
    if named is not None and not named(agent):
        return True
    major = _chromium(given)
    if not major:
        return False
    shown = _chrome(agent)
    return shown is None or shown[1] != major


def _chromium(given: dict[str, Any]) -> str:
    """The major version that the brand Chromium has in client hints; "" where they don't say."""
    for name in ("fullVersionList", "brands"):
        for brand in entries if isinstance(entries := given.get(name), list) else ():
            if isinstance(brand, dict) and brand.get("brand") == "Chromium":
                return str(brand.get("version", "")).partition(".")[0]
    for name in ("sec-ch-ua-full-version-list", "sec-ch-ua"):
        if found := _brand(str(given.get(name, ""))):
            return found[1]
    return ""
