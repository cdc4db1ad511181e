"""From a hit to the request that a tracker would have sent, and which hits are none of a visitor's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import quote

from infra.imports.formats import Hit

_static = (
    "avif bmp class css eot gif ico jpeg jpg js json map mjs otf png svg swf ttf wasm webmanifest webp woff woff2 xml"
)
_downloads = (
    "7z apk avi bin bz2 csv deb dmg doc docx epub exe flac gz iso jar mkv mov mp3 mp4 mpeg msi odp ods odt ogg pdf pkg "
    "ppt pptx rar rpm rtf sh tar tgz torrent txt wav webm wma wmv xls xlsx xz zip"
)
STATIC, DOWNLOADS = frozenset(_static.split()), frozenset(_downloads.split())
_SAFE = "~()*!'"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which hits count, and what their addresses begin with. `base`: scheme and host, for logs that name no host."""

    site: int
    base: str
    static: bool = False
    errors: bool = False
    bots: bool = False

    def request(self, hit: Hit) -> str | None:
        """The query string of a hit; None where it does not count."""
        if hit.method not in ("GET", "POST") or (hit.status >= 300 and not self.errors and hit.status != 304):
            return None
        path = hit.path
        ending = path.partition("?")[0].rpartition("/")[2].rpartition(".")[2].lower()
        if ending in STATIC and not self.static:
            return None
        url = path if path.startswith(("http://", "https://")) else self._base(hit) + path
        parts = [f"?idsite={self.site}&rec=1&url={_quoted(url)}&cdt={_time(hit.time)}"]
        if hit.address:
            parts.append("cip=" + _address(hit.address))
        parts.append("ua=" + _quoted(hit.agent))
        if hit.referrer:
            parts.append("urlref=" + _quoted(hit.referrer))
        if ending in DOWNLOADS and "." in path:
            parts.append("download=" + _quoted(url))
        elif hit.status >= 400:
            title = f"{hit.status}/URL = {quote(path, safe='')}"
            parts.append("action_name=" + _quoted(title))
        if hit.milliseconds > 0:
            parts.append(f"pf_srv={hit.milliseconds}")
        if self.bots:
            parts.append("bots=1")
        return "&".join(parts)

    def _base(self, hit: Hit) -> str:
        return f"{self.base.partition('://')[0]}://{hit.host}" if hit.host else self.base


@lru_cache(maxsize=16_384)
def _quoted(text: str) -> str:
    """A text as it stands in a query string; agents, addresses and referrers come again and again."""
    return quote(text, safe=_SAFE, errors="replace")


def _time(seconds: float) -> str:
    if seconds == int(seconds):
        return str(int(seconds))
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H%%3A%M%%3A%S.%f")[:-3] + "Z"


@lru_cache(maxsize=16_384)
def _address(text: str) -> str:
    """An address that the collector takes, as it stands in a query string: what is none, such as a name, is 0.0.0.0."""
    try:
        return quote(str(ip_address(text.partition("%")[0])), safe="")
    except ValueError:
        return "0.0.0.0"
