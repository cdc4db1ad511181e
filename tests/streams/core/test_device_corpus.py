"""The detector against agents of real visitors, named by others.

Two corpora, read from wheels in the folder `VEILSTREAM_TEST_AGENTS` (as `pip download --no-deps` leaves them there);
nothing of them is kept here:

- random-user-agent 1.0.1 (MIT): agents with device, system and browser as whatismybrowser.com named them; taken are
  those that it calls average, common or very common, some 11,000.
- fake-useragent 2.2.0 (Apache-2.0): agents of 2025 with the kind of device as the site that was visited measured it.

Names differ, so families are compared: a browser built into an app counts as what the corpus calls it, an app or the
engine's browser. What the corpus does not name, does not count.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from streams.enrich import device

WANTED = 0.97
TYPES = {
    "computer": {"desktop"},
    "mobile": {"smartphone", "tablet"},
    "mobile -> phone": {"smartphone"},
    "mobile -> tablet": {"tablet"},
    "mobile -> ebook-reader": {"tablet"},
    "mobile -> music-player": {"smartphone"},
    "mobile -> handheld-game": {"console"},
    "large-screen -> tv": {"tv"},
    "large-screen -> game-console": {"console"},
    "server": {"bot"},
}
SYSTEMS = {
    "windows": {"Windows"},
    "android": {"Android"},
    "fire-os": {"Android"},
    "mac-os-x": {"Mac OS X"},
    "macos": {"Mac OS X"},
    "ios": {"iOS"},
    "linux": {
        "Linux",
        "Ubuntu",
        "Fedora",
        "Debian",
        "SUSE",
        "Mandriva",
        "Red Hat",
        "CentOS",
        "Mint",
        "Gentoo",
        "Arch Linux",
    },
    "chromeos": {"Chrome OS"},
    "windows-phone": {"Windows Phone"},
    "windows-mobile": {"Windows Mobile"},
    "blackberry-os": {"BlackBerry OS"},
    "freebsd": {"FreeBSD"},
}
BROWSERS = {
    "chrome": {"Chrome", "Chrome Mobile", "Chrome Mobile iOS", "Chrome Mobile WebView", "Chromium", "HeadlessChrome"},
    "chromium": {"Chromium", "Chrome"},
    "firefox": {"Firefox", "Firefox Mobile", "Firefox iOS", "Firefox Beta", "Firefox Alpha"},
    "safari": {"Safari", "Mobile Safari", "Mobile Safari UI/WKWebView"},
    "internet-explorer": {"IE"},
    "internet-explorer-mobile": {"IE Mobile"},
    "edge": {"Edge", "Edge Mobile"},
    "opera": {"Opera", "Opera Mobile"},
    "opera-mini": {"Opera Mini"},
    "android-browser": {"Android"},
    "samsung-browser": {"Samsung Internet"},
    "yandex-browser": {"Yandex Browser"},
    "uc-browser": {"UC Browser"},
    "vivaldi": {"Vivaldi"},
    "silk": {"Amazon Silk"},
    "google-search-app": {"Google"},
}
IN_APPS = {
    "Facebook",
    "Instagram",
    "Facebook Messenger",
    "Google",
    "Apple Mail",
    "MiuiBrowser",
    "Pinterest",
    "LINE",
    "Snapchat",
}
IN_APPS |= {"Twitter", "DuckDuckGo Mobile", "Flipboard", "Qt Web Engine"}
BUILT_IN = {"chrome", "safari", "webkit-based-browser", "android-browser"}


@lru_cache
def wheel(name: str) -> zipfile.ZipFile:
    folder = os.environ.get("VEILSTREAM_TEST_AGENTS")
    if not folder:
        pytest.skip("VEILSTREAM_TEST_AGENTS is not set")
    found = sorted(Path(folder).glob(f"{name}-*.whl"))
    if not found:
        pytest.fail(f"{folder} holds no wheel of {name}; pip download --no-deps -d {folder} {name}")
    return zipfile.ZipFile(found[0])


@lru_cache
def named() -> list[dict[str, Any]]:
    packed = wheel("random_user_agent").read("random_user_agent/data/user_agents.zip")
    lines = zipfile.ZipFile(io.BytesIO(packed)).read("user_agents.jl").decode().splitlines()
    return [json.loads(line) for line in lines if '"popularity": "uncommon"' not in line]


def agreement(pairs: Iterator[tuple[str, str, bool]]) -> tuple[float, list[tuple[tuple[str, str], int]]]:
    """The part that agrees, and what disagrees most: (named so, ours)."""
    counted, wrong = 0, Counter[tuple[str, str]]()
    for theirs, ours, right in pairs:
        counted += 1
        if not right:
            wrong[theirs, ours] += 1
    assert counted > 5_000
    return 1 - wrong.total() / counted, wrong.most_common(12)


def compared(row: dict[str, Any], what: str) -> tuple[str, str, bool] | None:
    found = device.describe(row["user_agent"])
    if what == "type":
        label, ours, right = row["hardware_type"], found.type, TYPES
    elif what == "os":
        label, ours, right = row["operating_system"], found.os, SYSTEMS
    else:
        label, ours, right = row["software_name"], found.browser, BROWSERS
    if label not in right or row["software_type"].startswith("bot") or found.bot & device.MACHINES:
        return None
    same = ours in right[label] or (what == "browser" and label in BUILT_IN and ours in IN_APPS)
    return label, ours, same


@pytest.mark.long
@pytest.mark.parametrize("what", ["type", "os", "browser"])
def test_agreement_with_what_others_named(what: str) -> None:
    pairs = (pair for row in named() if (pair := compared(row, what)) is not None)
    share, wrong = agreement(pairs)
    print(f"{what}: {share:.4f} {wrong}")
    assert share >= WANTED, wrong


@pytest.mark.long
def test_agreement_on_the_kind_of_device_of_todays_visitors() -> None:
    kinds = {"mobile": {"smartphone"}, "desktop": {"desktop"}, "tablet": {"tablet"}}
    lines = wheel("fake_useragent").read("fake_useragent/data/browsers.jsonl").decode().splitlines()
    rows = [json.loads(line) for line in lines]
    share, wrong = agreement(
        (row["type"], ours, ours in kinds[row["type"]])
        for row in rows
        for ours in [device.describe(row["useragent"]).type]
    )
    print(f"today: {share:.4f} {wrong}")
    assert share >= WANTED, wrong
