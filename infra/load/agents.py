"""What visitors browse with: agents (`agents.txt`), languages and screens, in plausible shares."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from urllib.parse import quote

_LANGUAGES = """en-US,en;q=0.9 en-US,en;q=0.5 en-US en-GB,en;q=0.9 en-GB,en-US;q=0.9,en;q=0.8 en-CA,en;q=0.9 en-AU en-IN
de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7 de de-AT,de;q=0.9 de-CH,de;q=0.9,fr;q=0.7 fr-FR,fr;q=0.9,en;q=0.8 fr-CA,fr;q=0.9
fr-BE,fr;q=0.8,nl;q=0.6 es-ES,es;q=0.9 es-MX,es-419;q=0.9,es;q=0.8 es-AR it-IT,it;q=0.9 pt-BR,pt;q=0.9,en-US;q=0.8
pt-PT,pt;q=0.9 nl-NL,nl;q=0.9 pl-PL,pl;q=0.9 sv-SE,sv;q=0.9 nb-NO,nb;q=0.9 da-DK fi-FI cs-CZ,cs;q=0.9 hu-HU ro-RO
uk-UA,uk;q=0.9,ru;q=0.8 ru-RU,ru;q=0.9 tr-TR,tr;q=0.9 el-GR ar-SA,ar;q=0.9 he-IL hi-IN,hi;q=0.9,en;q=0.7 id-ID
vi-VN th-TH ja-JP,ja;q=0.9 ja ko-KR,ko;q=0.9 zh-CN,zh;q=0.9,en;q=0.8 zh-TW,zh;q=0.9 zh-Hans-CN * de-DE;q=1.0"""
LANGUAGES = _LANGUAGES.split()

_SCREENS = {
    "desktop": "1920x1080 1920x1080 1366x768 1536x864 1440x900 2560x1440 1280x720 1680x1050 3840x2160 1920x1200",
    "mobile": "390x844 393x852 360x800 412x915 414x896 375x812 430x932 360x780 384x854 320x568",
    "tablet": "820x1180 768x1024 800x1280 1024x1366 601x962 1280x800",
    "other": "1920x1080 1280x720 3840x2160",
    "bot": "1024x768 412x732",
}
SCREENS = {kind: sizes.split() for kind, sizes in _SCREENS.items()}
SHARES = {"desktop": 0.48, "mobile": 0.44, "tablet": 0.05, "other": 0.01, "bot": 0.02}


@dataclass(frozen=True, slots=True)
class Agent:
    """kind: a key of SHARES. header: User-Agent. hints: the parameter `uadata`, percent-encoded, or ""."""

    kind: str
    header: str
    hints: str


def _hints(kind: str, header: str) -> str:
    """What Chromium tells through `navigator.userAgentData`, and other browsers do not."""
    if "Chrome/" not in header or kind not in ("desktop", "mobile") or "; wv)" in header:
        return ""
    version = header.partition("Chrome/")[2].partition(".")[0]
    brand = "Microsoft Edge" if " Edg/" in header else "Google Chrome"
    systems = {"Windows": ("Windows", "15.0.0"), "Macintosh": ("macOS", "15.6.1"), "Android": ("Android", "14.0.0")}
    platform, release = next((value for word, value in systems.items() if word in header), ("Linux", ""))
    versions = [("Chromium", version), ("Not=A?Brand", "24"), (brand, version)]
    data = {
        "fullVersionList": [{"brand": name, "version": f"{number}.0.0.0"} for name, number in versions],
        "mobile": kind == "mobile",
        "model": "SM-S928B" if kind == "mobile" else "",
        "platform": platform,
        "platformVersion": release,
    }
    return quote(json.dumps(data, separators=(",", ":")), safe="")


def load_agents() -> dict[str, list[Agent]]:
    """The agents of `agents.txt` by kind."""
    agents: dict[str, list[Agent]] = {kind: [] for kind in SHARES}
    for line in Path(__file__).with_name("agents.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            kind, _, header = line.partition("\t")
            agents[kind].append(Agent(kind, header, _hints(kind, header)))
    return agents


AGENTS = load_agents()
_KINDS, _WEIGHTS = list(SHARES), list(SHARES.values())


def choose(random: Random) -> Agent:
    """An agent, by the shares of the kinds; the first of a kind are the likelier ones."""
    of_kind = AGENTS[random.choices(_KINDS, _WEIGHTS)[0]]
    return of_kind[int(random.random() ** 1.6 * len(of_kind))]
