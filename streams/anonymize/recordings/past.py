"""Stored recordings and heatmaps, brought under the rules of today: masked once more as if they came now.

A chunk that the rules of today made mostly stays as it is when it is masked again, and never shows more: what only the
events before masking told, such as marks of a page that were not kept, can't be judged again, and is then masked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemas.recordings import Selector
from streams.anonymize import urls
from streams.anonymize.recordings.events import mask
from streams.anonymize.recordings.links import link
from streams.anonymize.recordings.names import selector
from streams.anonymize.recordings.texts import Tally
from streams.rules import Rules

Row = dict[str, Any]


def recording(row: Mapping[str, Any], rules: Rules, unmask: tuple[Selector, ...]) -> Row:
    """What the rules decide of a row of `recordings`; its counts stay those of what was masked when it came."""
    try:
        events = json.loads(row["data"])
    except (ValueError, RecursionError):  # nothing that a worker has stored; masked or not at all
        events = []
    masked = mask(events if isinstance(events, list) else [], rules, unmask, Tally())
    url = link(row["url"], rules)
    text = json.dumps(masked.events, separators=(",", ":"), allow_nan=False)
    return {"url": url, **place(url), "events": len(masked.events), "data": text}


def point(host: str, path: str, where: str, rules: Rules) -> tuple[str, str, str]:
    """`url_host`, `url_path` and `selector` of a row of `heatmap`."""
    page = place(link(f"https://{host}{path}", rules)) if host else place("")
    return page["url_host"], page["url_path"], selector(where)


def place(page: str) -> Row:
    """`url_host` and `url_path` of an address that may be kept."""
    parts = urls.split(page)
    return {"url_host": parts.host.partition(":")[0] if parts else "", "url_path": (parts.path or "/") if parts else ""}
