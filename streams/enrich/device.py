"""Device, system and browser from the User-Agent, by the regular expressions of ua-parser (uap-core).

A parse costs some 20 microseconds, so it runs on agents not seen before only. Client hints (`uadata`,
Sec-CH-UA) serve for the verdict on bots alone so far (`bots`).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ua_parser import Parser, Result
from ua_parser.loaders import load_lazy_builtins
from ua_parser.regex import Resolver

from streams.enrich import bots
from streams.enrich.bots import LIMIT, Bot

TEXT_LIMIT = 64
MACHINES = ~(Bot.HEADLESS_AGENT | Bot.HEADLESS_HINT)  # reasons for which an agent is of no person's device


class Device(NamedTuple):
    """Families are uap-core's, "" where not known. `bot`: see there. `fingerprint` is what enters the config id."""

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
_control = re.compile(r"[\x00-\x1f\x7f]").sub
_desktops = frozenset({"Windows", "Mac OS X", "Linux", "Ubuntu", "Chrome OS", "Fedora", "Debian", "FreeBSD", "OpenBSD"})
_phone_systems = frozenset({"iOS", "Android", "Windows Phone", "BlackBerry OS", "KaiOS", "Firefox OS", "HarmonyOS"})
_phone_systems |= {
    "Symbian OS",
    "Symbian^3",
    "Bada",
    "BREW",
    "Windows Mobile",
    "Nokia Series 30 Plus",
    "Nokia Series 40",
}
_console = re.compile(r"PlayStation|Nintendo|Xbox").search
_feature_phone = re.compile(r"MIDP|UP\.Browser|UP\.Link|J2ME").search


def describe(agent: str) -> Device:
    """The device of a User-Agent."""
    agent = _control("", agent[:LIMIT]).strip()
    result = _parser.parse(agent)
    system, browser, device = result.os, result.user_agent, result.device
    bot, called = bots.of_agent(agent)
    if not bot & MACHINES and device is not None and device.family == "Spider":
        bot |= Bot.CRAWLER
    os = _text(system.family if system else "")
    os_version = ".".join(part for part in (system.major, system.minor) if part) if system else ""
    name = called or _text(browser.family if browser else "")
    version = _text(browser.major if browser and browser.family == (called or browser.family) else "")
    kind = _type(agent, result, os, bot)
    brand = _text(device.brand if device else "")
    model = _text(device.model if device else "")
    if bot & MACHINES:
        brand = model = ""
    fingerprint = "|".join((os, name, version, kind, model))
    return Device(kind, brand, model, os, _text(os_version), name, version, int(bot), fingerprint)


def _type(agent: str, result: Result, os: str, bot: Bot) -> str:
    family = result.device.family if result.device else ""
    if bot & MACHINES:
        return "bot"
    if _console(agent):
        return "console"
    if "TV" in agent or "tvOS" in agent or "BRAVIA" in agent:
        return "tv"
    if "iPad" in family or "Tablet" in agent.replace("Tablet PC", "") or (os == "Android" and "Mobile" not in agent):
        return "tablet"
    if os in _phone_systems or "Mobile" in agent or _feature_phone(agent):
        return "smartphone"
    return "desktop" if os in _desktops else ""


def _text(value: str | None) -> str:
    return (value or "")[:TEXT_LIMIT].strip()
