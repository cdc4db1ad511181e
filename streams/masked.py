"""How many values the detectors masked, counted from the rows that are stored: by packet, site, kind and column.

A value that stands in two columns, as in `url` and `url_path`, counts in both. What a site itself calls
`contact[email]` is no placeholder; one that stands alone in a text as it came counts too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.privacy import Detector

COLUMNS = (
    *("url", "url_path", "title", "link_url", "search_keyword", "search_category"),
    *("event_category", "event_action", "event_name"),
    *("content_name", "content_piece", "content_target", "content_interaction"),
    *("referrer_name", "referrer_keyword", "referrer_url"),
    *("campaign_name", "campaign_source", "campaign_medium", "campaign_term", "campaign_content"),
    *("item_sku", "item_name", "item_category", "product_sku", "product_name", "product_category"),
    *("crash_message", "crash_type", "crash_category", "crash_source", "crash_stack"),
    *("media_title", "media_url", "media_player", "city", "dimension_value", "variable_name", "variable_value"),
)

# Whatever is masked ends a word, or follows an escape.
_placeholders = re.compile(rf"(?:(?<![A-Za-z0-9_\]])|(?<=%[0-9A-Fa-f][0-9A-Fa-f]))\[({'|'.join(Detector)})\]").findall

Place = tuple[int, int]  # partition, offset
Name = tuple[int, str, str]  # site, kind, column


def kinds(text: str) -> list[str]:
    """The kind of each placeholder in a stored text."""
    return _placeholders(text) if "[" in text else []


def counts(events: pa.Table) -> dict[Place, dict[Name, int]]:
    """The counts of each packet that has any, in order of their names."""
    found: dict[Place, Counter[Name]] = {}
    places = [events[name].to_numpy() for name in ("partition", "offset", "site_id")]
    for column in COLUMNS:
        for row, text in _bracketed(events[column].combine_chunks()):
            partition, offset, site = (int(values[row]) for values in places)
            for kind in kinds(text):
                found.setdefault((partition, offset), Counter())[site, kind, column] += 1
    return {place: dict(sorted(counted.items())) for place, counted in found.items()}


def _bracketed(column: pa.Array) -> Iterator[tuple[int, str]]:
    """Rows and texts of a column that hold a bracket."""
    if pa.types.is_dictionary(column.type):
        bracketed = pc.match_substring(column.dictionary, "[").to_numpy(zero_copy_only=False)
        if bracketed.any():
            texts, codes = column.dictionary.to_pylist(), column.indices.to_numpy()
            for row in np.flatnonzero(bracketed[codes]).tolist():
                yield row, texts[codes[row]]
        return
    rows = np.arange(len(column))
    if pa.types.is_list(column.type):
        rows, column = pc.list_parent_indices(column).to_numpy(), pc.list_flatten(column)
    here = pc.match_substring(column, "[")
    yield from zip(rows[here.to_numpy(zero_copy_only=False)].tolist(), column.filter(here).to_pylist(), strict=True)


def columns(counted: Mapping[Name, int]) -> dict[str, list[int] | list[str]]:
    """The counts of one packet as columns of `packets`."""
    return {
        "masked_site": [site for site, _, _ in counted],
        "masked_kind": [kind for _, kind, _ in counted],
        "masked_field": [column for _, _, column in counted],
        "masked_count": list(counted.values()),
    }
