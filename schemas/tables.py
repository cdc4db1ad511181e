"""The columns of the ClickHouse tables that workers write, as Arrow schemas.

The order is the order of the SQL in `schemas/migrations`; a test holds the two equal. An event is named for
ever by (writer, partition, seq, index) and lies at the place (generation, partition, offset, index), where
the generation counts the Kafka topic ids that `events.raw` has had.
"""

from __future__ import annotations

from enum import IntEnum

import pyarrow as pa

from schemas.arrow import leave_pandas_out

leave_pandas_out()

TEXT = pa.string()
LOW = pa.dictionary(pa.int32(), pa.string())  # LowCardinality(String)
MOMENT = pa.timestamp("ms", "UTC")  # DateTime64(3, 'UTC')
DIGEST = pa.binary(16)  # FixedString(16)


class ActionType(IntEnum):
    """What an event is; the numbers are stored. Priority of types: `streams.enrich.actions`."""

    PAGE_VIEW = 1
    EVENT = 2
    OUTLINK = 3
    DOWNLOAD = 4
    GOAL = 5
    ECOMMERCE = 6
    CONTENT = 7
    PING = 8
    SITE_SEARCH = 9
    MEDIA = 10
    CRASH = 11


class ReferrerType(IntEnum):
    """Where a visit comes from; the numbers are Matomo's."""

    DIRECT = 1
    SEARCH_ENGINE = 2
    WEBSITE = 3
    CAMPAIGN = 6
    SOCIAL = 7
    AI_ASSISTANT = 8


class VisitorKind(IntEnum):
    """By which kind of id the request named its visitor."""

    NONE = 0
    USER_ID = 1
    VISITOR_ID = 2
    CONFIG_ID = 3


class PacketKind(IntEnum):
    """FIRST counts its events; a COPY of a name seen before and a BAD record (not a packet) count none."""

    FIRST = 1
    COPY = 2
    BAD = 3


EVENTS = pa.schema(
    [
        # name and place
        ("writer", pa.uint64()),
        ("partition", pa.uint16()),
        ("seq", pa.uint64()),
        ("index", pa.uint32()),
        ("generation", pa.uint32()),
        ("offset", pa.uint64()),
        ("policy_version", DIGEST),
        ("site_id", pa.uint32()),
        ("shard", pa.uint16()),
        ("received_at", MOMENT),
        ("time", MOMENT),
        # visitor and visit (0 = none)
        ("visitor_id", pa.uint64()),
        ("visitor_kind", pa.uint8()),
        ("config_id", pa.uint64()),
        ("user_id", pa.uint64()),
        ("visit_id", pa.uint64()),
        ("visit_start", MOMENT),
        ("visit_position", pa.uint32()),
        ("visit_pageviews", pa.uint32()),
        ("visit_campaign", LOW),
        ("visit_visitor_id", pa.uint64()),
        ("visit_config_id", pa.uint64()),
        ("visit_user_id", pa.uint64()),
        ("visit_last", MOMENT),
        ("gap_ms", pa.uint32()),
        # action
        ("action_type", pa.uint8()),
        ("page_view_id", TEXT),
        ("url", TEXT),
        ("url_host", LOW),
        ("url_path", TEXT),
        ("title", TEXT),
        ("link_url", TEXT),
        ("search_keyword", LOW),
        ("search_category", LOW),
        ("search_count", pa.uint32()),
        ("event_category", LOW),
        ("event_action", LOW),
        ("event_name", LOW),
        ("event_value", pa.float64()),
        ("content_name", LOW),
        ("content_piece", LOW),
        ("content_target", LOW),
        ("content_interaction", LOW),
        # referrer and campaign
        ("referrer_type", pa.uint8()),
        ("referrer_name", LOW),
        ("referrer_keyword", LOW),
        ("referrer_url", TEXT),
        ("campaign_name", LOW),
        ("campaign_source", LOW),
        ("campaign_medium", LOW),
        ("campaign_term", LOW),
        ("campaign_content", LOW),
        # goal and order
        ("goal_id", pa.int32()),
        ("revenue", pa.float64()),
        ("order_id", pa.uint64()),
        ("order_subtotal", pa.float64()),
        ("order_tax", pa.float64()),
        ("order_shipping", pa.float64()),
        ("order_discount", pa.float64()),
        ("item_sku", pa.list_(TEXT)),
        ("item_name", pa.list_(TEXT)),
        ("item_price", pa.list_(pa.float64())),
        ("item_quantity", pa.list_(pa.uint32())),
        # device
        ("device_type", LOW),
        ("device_brand", LOW),
        ("device_model", LOW),
        ("os", LOW),
        ("os_version", LOW),
        ("browser", LOW),
        ("browser_version", LOW),
        ("bot", pa.uint16()),
        ("resolution", LOW),
        ("language", LOW),
        ("plugins", pa.uint16()),
        ("local_seconds", pa.int32()),
        # place on earth, from the masked address
        ("address", LOW),
        ("country", LOW),
        ("region", LOW),
        ("city", LOW),
        # timings, milliseconds
        ("timing_network", pa.uint32()),
        ("timing_server", pa.uint32()),
        ("timing_transfer", pa.uint32()),
        ("timing_dom_processing", pa.uint32()),
        ("timing_dom_completion", pa.uint32()),
        ("timing_on_load", pa.uint32()),
        # privacy
        ("consent", pa.int8()),  # -1 nothing is known, 0 refused, 1 given
        ("parameters_removed", pa.uint16()),
        ("repeat_id", DIGEST),
        # what a site's rules let through
        ("user_name", TEXT),
        ("dimension_slot", pa.list_(pa.uint16())),
        ("dimension_value", pa.list_(TEXT)),
        ("variable_scope", pa.list_(pa.uint8())),
        ("variable_name", pa.list_(TEXT)),
        ("variable_value", pa.list_(TEXT)),
        ("country_source", LOW),  # what told the country: "request" or "language"
        # goals, baskets and media
        ("conversion_goal", pa.list_(pa.uint32())),
        ("conversion_revenue", pa.list_(pa.float64())),
        ("conversion_repeats", pa.list_(pa.uint8())),
        ("is_order", pa.uint8()),
        ("item_category", pa.list_(TEXT)),
        ("product_sku", TEXT),
        ("product_name", TEXT),
        ("product_category", TEXT),
        ("product_price", pa.float64()),
        ("media_id", TEXT),
        ("media_type", LOW),
        ("media_title", TEXT),
        ("media_url", TEXT),
        ("media_player", LOW),
        ("media_watched", pa.uint32()),  # seconds
        ("media_length", pa.uint32()),
        ("media_position", pa.uint32()),
        ("media_wait", pa.uint32()),
        ("media_width", pa.uint32()),  # pixels
        ("media_height", pa.uint32()),
        ("media_fullscreen", pa.uint8()),
        # reports of crashes
        ("crash_message", TEXT),
        ("crash_type", LOW),
        ("crash_category", LOW),
        ("crash_source", TEXT),
        ("crash_line", pa.uint32()),
        ("crash_column", pa.uint32()),
        ("crash_stack", TEXT),
        ("day", pa.date32()),  # the site's own
    ]
)

PACKETS = pa.schema(
    [
        ("partition", pa.uint16()),
        ("generation", pa.uint32()),
        ("offset", pa.uint64()),
        ("writer", pa.uint64()),
        ("seq", pa.uint64()),
        ("kind", pa.uint8()),
        ("routing", pa.uint16()),
        ("policy_version", DIGEST),
        ("appended_at", MOMENT),
        ("watermark", MOMENT),
        ("received", pa.uint32()),
        ("stored", pa.uint32()),
        ("excluded", pa.uint32()),
        ("rejected", pa.uint32()),
        ("repeats_key", pa.uint32()),
        ("repeats_random", pa.uint32()),
        ("repeats_body", pa.uint32()),
        ("repeats_from", MOMENT),
        ("repeats_site", pa.list_(pa.uint32())),
        ("repeats_reason", pa.list_(TEXT)),
        ("repeats_count", pa.list_(pa.uint32())),
        ("masked_site", pa.list_(pa.uint32())),
        ("masked_kind", pa.list_(TEXT)),
        ("masked_field", pa.list_(TEXT)),
        ("masked_count", pa.list_(pa.uint32())),
    ]
)

REJECTS = pa.schema(
    [
        ("writer", pa.uint64()),
        ("partition", pa.uint16()),
        ("seq", pa.uint64()),
        ("index", pa.uint32()),
        ("generation", pa.uint32()),
        ("offset", pa.uint64()),
        ("site_id", pa.uint32()),
        ("received_at", MOMENT),
        ("reason", LOW),
        ("field", LOW),
        ("size", pa.uint32()),
    ]
)

_CHUNK = [("writer", pa.uint64()), ("partition", pa.uint16()), ("seq", pa.uint64()), ("index", pa.uint32())]
RECORDINGS = pa.schema(
    [
        ("site_id", pa.uint32()),
        ("session", pa.uint64()),
        ("sequence", pa.uint32()),
        ("received_at", MOMENT),
        *_CHUNK,
        ("policy_version", DIGEST),
        ("url", TEXT),
        ("url_host", LOW),
        ("url_path", TEXT),
        ("viewport", LOW),
        ("events", pa.uint32()),
        ("data", TEXT),
        ("masked_kind", pa.list_(TEXT)),
        ("masked_count", pa.list_(pa.uint32())),
        ("dropped_kind", pa.list_(TEXT)),
        ("dropped_count", pa.list_(pa.uint32())),
    ]
)

HEATMAP = pa.schema(
    [
        ("site_id", pa.uint32()),
        ("received_at", MOMENT),
        ("url_host", LOW),
        ("url_path", TEXT),
        ("action", pa.uint8()),
        ("selector", TEXT),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("relative_to", LOW),
        ("viewport", LOW),
        ("weight", pa.uint32()),
        *_CHUNK,
        ("number", pa.uint32()),
    ]
)

_SQL_TYPES = {
    TEXT: "String",
    LOW: "LowCardinality(String)",
    MOMENT: "DateTime64(3, 'UTC')",
    DIGEST: "FixedString(16)",
    pa.binary(8): "FixedString(8)",
    pa.binary(32): "FixedString(32)",
    pa.binary(): "String",
    pa.date32(): "Date",
    pa.int8(): "Int8",
    pa.uint8(): "UInt8",
    pa.uint16(): "UInt16",
    pa.uint32(): "UInt32",
    pa.uint64(): "UInt64",
    pa.int32(): "Int32",
    pa.float64(): "Float64",
}


def sql_type(kind: pa.DataType) -> str:
    """ClickHouse's type of a column of these schemas; raises KeyError for a type that they don't use."""
    if pa.types.is_list(kind):
        return f"Array({sql_type(kind.value_type)})"
    return _SQL_TYPES[kind]


def sql_columns(schema: pa.Schema) -> str:
    """The columns as in `INSERT INTO t (...)`, quoted, as some names are words of SQL."""
    return ", ".join(f"`{field.name}`" for field in schema)


def sql_structure(schema: pa.Schema) -> str:
    """The columns with their types, as `input()` takes them."""
    return ", ".join(f"`{field.name}` {sql_type(field.type)}" for field in schema)
