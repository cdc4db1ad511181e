"""Device, system and browser from the User-Agent, by the regular expressions of ua-parser (uap-core).

A parse costs some 20 microseconds, so it runs on agents not seen before only. Client hints (`uadata`,
Sec-CH-UA) serve for the verdict on bots alone so far.
"""

from __future__ import annotations

import re
from enum import IntFlag
from typing import NamedTuple

from ua_parser import Parser, Result
from ua_parser.loaders import load_lazy_builtins
from ua_parser.regex import Resolver

LIMIT = 1024  # characters of an agent that are looked at
TEXT_LIMIT = 64


class Bot(IntFlag):
    """Why an event may not be a person's; 0 is no reason."""

    AGENT = 1  # the agent names a crawler, a monitor or an HTTP library, or is empty
    HEADLESS_AGENT = 2  # the agent names a headless browser
    HEADLESS_HINT = 4  # the client hints do, whatever the agent says


class Device(NamedTuple):
    """Families are uap-core's, "" where not known. `fingerprint` is what of it enters the config id."""

    type: str
    brand: str
    model: str
    os: str
    os_version: str
    browser: str
    browser_version: str
    bot: int
    fingerprint: str


_parser = Parser(Resolver(load_lazy_builtins()))
_robot = re.compile(
    r"bot\b|bot[/;_-]|crawl|spider|slurp|curl/|wget/|python|java/|okhttp|go-http|libwww|httpclient|node-fetch"
    r"|axios|scrapy|monitor|preview|facebookexternalhit|lighthouse|\bphp\b|ruby|perl",
    re.IGNORECASE,
).search
_headless = re.compile(r"headless|phantomjs|electron/.*puppeteer|selenium|webdriver", re.IGNORECASE).search
_control = re.compile(r"[\x00-\x1f\x7f]").sub
_desktops = frozenset({"Windows", "Mac OS X", "Linux", "Ubuntu", "Chrome OS", "Fedora", "Debian", "FreeBSD", "OpenBSD"})
_phone_systems = frozenset({"iOS", "Android", "Windows Phone", "BlackBerry OS", "KaiOS", "Firefox OS", "HarmonyOS"})


def describe(agent: str) -> Device:
    """The device of a User-Agent."""
    agent = _control("", agent[:LIMIT]).strip()
    result = _parser.parse(agent)
    system, browser, device = result.os, result.user_agent, result.device
    bot = 0
    if not agent or (device is not None and device.family == "Spider") or _robot(agent):
        bot |= Bot.AGENT
    if _headless(agent):
        bot |= Bot.HEADLESS_AGENT
    os = _text(system.family if system else "")
    os_version = ".".join(part for part in (system.major, system.minor) if part) if system else ""
    name = _text(browser.family if browser else "")
    version = _text(browser.major if browser else "")
    kind = _type(agent, result, os, bot)
    brand = _text(device.brand if device else "")
    model = _text(device.model if device else "")
    if bot & Bot.AGENT:
        brand = model = ""
    fingerprint = "|".join((os, name, version, kind, model))
    return Device(kind, brand, model, os, _text(os_version), name, version, bot, fingerprint)


def headless_hint(hints: str) -> int:
    """The verdict on client hints, JSON of whatever form: only the word counts."""
    return int(Bot.HEADLESS_HINT) if "headless" in hints.lower() else 0


def _type(agent: str, result: Result, os: str, bot: int) -> str:
    family = result.device.family if result.device else ""
    if bot & Bot.AGENT:
        return "bot"
    if "TV" in agent or "tvOS" in agent or "BRAVIA" in agent:
        return "tv"
    if "iPad" in family or "Tablet" in agent or (os == "Android" and "Mobile" not in agent):
        return "tablet"
    if os in _phone_systems or "Mobile" in agent:
        return "smartphone"
    return "desktop" if os in _desktops else ""


def _text(value: str | None) -> str:
    return (value or "")[:TEXT_LIMIT].strip()
