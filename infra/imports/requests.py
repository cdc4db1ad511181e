"""From a hit to the request that a tracker would have sent, and which hits are none of a visitor's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
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
        parts = [f"?idsite={self.site}&rec=1&url={quote(url, safe=_SAFE)}&cdt={_time(hit.time)}"]
        if hit.address:
            parts.append("cip=" + quote(_address(hit.address), safe=""))
        parts.append("ua=" + quote(hit.agent, safe=_SAFE, errors="replace"))
        if hit.referrer:
            parts.append("urlref=" + quote(hit.referrer, safe=_SAFE, errors="replace"))
        if ending in DOWNLOADS and "." in path:
            parts.append("download=" + quote(url, safe=_SAFE, errors="replace"))
        elif hit.status >= 400:
            title = f"{hit.status}/URL = {quote(path, safe='')}"
            parts.append("action_name=" + quote(title, safe=_SAFE))
        if hit.milliseconds > 0:
            parts.append(f"pf_srv={hit.milliseconds}")
        if self.bots:
            parts.append("bots=1")
        return "&".join(parts)

    def _base(self, hit: Hit) -> str:
        return f"{self.base.partition('://')[0]}://{hit.host}" if hit.host else self.base


def _time(seconds: float) -> str:
    if seconds == int(seconds):
        return str(int(seconds))
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H%%3A%M%%3A%S.%f")[:-3] + "Z"


def _address(text: str) -> str:
    """An address that the collector takes: what is none, such as a host name, is 0.0.0.0."""
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        return "0.0.0.0"
