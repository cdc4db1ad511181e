"""Columns of stored rows that may be emptied altogether, beside what a site's rules say (Matomo's "unset")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from schemas.tables import EVENTS, ReferrerType
from streams import fields

IDS = (
    *("visitor_id", "visitor_kind", "config_id", "user_id", "order_id"),
    *("visit_visitor_id", "visit_config_id", "visit_user_id"),
)
VISIT = ("visit_id", "visit_start", "visit_position", "visit_pageviews", "visit_last", "gap_ms")
# What tells which event a row is, when and of which site and visit, and what the rules above decide.
_NEVER_UNSET = (
    *("writer", "partition", "seq", "index", "generation", "offset", "policy_version", "site_id", "shard"),
    *("received_at", "time", "day", "action_type", "goal_id", "address", "repeat_id", "parameters_removed"),
    *("visit_campaign", "consent"),
    *IDS,
    *VISIT,
)
UNSET: dict[str, Any] = {name: None for name in EVENTS.names if name not in _NEVER_UNSET} | {
    "resolution": fields.UNKNOWN_RESOLUTION,
    "local_seconds": -1,
    "referrer_type": int(ReferrerType.DIRECT),
}
# Matomo's names of the columns that it lets be unset, where ours differ.
MATOMO_COLUMNS = {
    "visitor_localtime": "local_seconds",
    "location_region": "region",
    "location_country": "country",
    "location_city": "city",
    "location_browser_lang": "language",
    "config_os": "os",
    "config_os_version": "os_version",
    "config_browser_name": "browser",
    "config_browser_version": "browser_version",
    "config_device_type": "device_type",
    "config_device_brand": "device_brand",
    "config_device_model": "device_model",
    "config_resolution": "resolution",
    "referer_url": "referrer_url",
    "referer_name": "referrer_name",
    "referer_keyword": "referrer_keyword",
    "referer_type": "referrer_type",
    "idaction_content_name": "content_name",
    "idaction_content_piece": "content_piece",
    "idaction_content_target": "content_target",
    "idaction_content_interaction": "content_interaction",
    "idaction_event_category": "event_category",
    "idaction_event_action": "event_action",
    "idaction_name": "title",
    "idaction_url": "url",
    "search_cat": "search_category",
}


def column(name: str) -> str:
    """The column that may be emptied by this name, ours or Matomo's; raises KeyError where there is none."""
    found = MATOMO_COLUMNS.get(name, name)
    if found not in UNSET:
        raise KeyError(name)
    return found


def cast(values: Any, kind: pa.DataType) -> pa.Array:
    """A column as one of the type of `EVENTS`."""
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if values.type == kind:
        return values
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(values.type):
        return values.dictionary_encode().cast(kind)
    return values.cast(kind)


def empty(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    """The rows with these columns of `UNSET` as if nothing had been said."""
    for name in names:
        field = rows.schema.field(name)
        if pa.types.is_list(field.type):  # of lists that belong together each keeps its length
            lists = rows[name].combine_chunks()
            empty = _filled("" if field.type.value_type == pa.string() else 0, field.type.value_type, len(lists.values))
            values: pa.Array = pa.ListArray.from_arrays(lists.offsets, empty)
        else:
            value = UNSET[name]
            text = pa.types.is_dictionary(field.type) or field.type == pa.string()
            values = _filled(("" if text else 0) if value is None else value, field.type, rows.num_rows)
        rows = rows.set_column(rows.schema.get_field_index(name), field, cast(values, field.type))
    return rows


def _filled(value: Any, kind: pa.DataType, count: int) -> pa.Array:
    kind = pa.string() if pa.types.is_dictionary(kind) else kind
    return pa.array([value] * count, kind)
