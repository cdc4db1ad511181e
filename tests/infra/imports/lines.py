"""Made-up lines of an access log, by seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1",
)
BEGIN = datetime(2025, 10, 10, tzinfo=UTC)


def combined(count: int, *, seed: int = 1, visitors: int = 200, step: float = 0.4) -> list[str]:
    """Lines of the combined format, `step` seconds apart on the average; one in ten is of no visitor's."""
    draw = random.Random(seed)
    now, found = BEGIN, []
    for _ in range(count):
        now += timedelta(seconds=draw.random() * 2 * step)
        visitor = draw.randrange(visitors)
        address = f"10.{visitor >> 16 & 255}.{visitor >> 8 & 255}.{visitor & 255}"
        path = draw.choice(("/", "/shop", f"/shop/thing-{draw.randrange(500)}.html?color=red", "/news/today"))
        path = draw.choice(("/style.css", "/logo.png")) if draw.random() < 0.1 else path
        referrer = "https://www.google.com/" if draw.random() < 0.2 else "-"
        found.append(
            f'{address} - - [{now:%d/%b/%Y:%H:%M:%S +0000}] "GET {path} HTTP/1.1" 200 {draw.randrange(90_000)} '
            f'"{referrer}" "{AGENTS[visitor % len(AGENTS)]}"'
        )
    return found
