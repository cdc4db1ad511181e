"""Fields of an event that are one value each: how a decoded parameter becomes a column's value."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NamedTuple

from schemas import parameters
from streams.anonymize.urls import clean_text
from streams.rules import Rules

PLUGINS = ("pdf", "qt", "realp", "wma", "fla", "java", "ag", "cookie")  # bit 0 on, of column plugins
TIMINGS = {
    "pf_net": "timing_network",
    "pf_srv": "timing_server",
    "pf_tfr": "timing_transfer",
    "pf_dm1": "timing_dom_processing",
    "pf_dm2": "timing_dom_completion",
    "pf_onl": "timing_on_load",
}
TIMING_LIMIT = 16_777_215  # milliseconds; beyond it a timing is ignored
MONEY = {"ec_st": "order_subtotal", "ec_tx": "order_tax", "ec_sh": "order_shipping", "ec_dt": "order_discount"}
MOST_CATEGORIES = 5
ITEM_LIMIT = 500  # items of one order that are kept
ITEMS_BYTES = 256 << 10
UINT32 = 2**32 - 1
NO_GOAL = -1
UNKNOWN_RESOLUTION = "unknown"
HOUR = 3600  # seconds

_page_view = re.compile(r"[0-9a-zA-Z]{0,6}").match
_resolution = re.compile(r"[0-9]{1,5}x[0-9]{1,5}").fullmatch


class Items(NamedTuple):
    """The items of an order or cart, one list per column."""

    sku: list[str]
    name: list[str]
    category: list[str]
    price: list[float]
    quantity: list[int]


def page_view_id(text: str) -> str:
    """`pv_id`: the letters and digits it begins with, at most 6."""
    found = _page_view(text)
    return found[0] if found else ""


def resolution(text: str) -> str:
    """`res` as WIDTHxHEIGHT, "unknown" for anything else."""
    return text if _resolution(text) else UNKNOWN_RESOLUTION


def local_seconds(hour: int, minute: int, second: int) -> int:
    """The visitor's time of day from `h`, `m`, `s` in seconds; -1 without an hour, and a part out of range is 0."""
    if hour == -1:
        return -1
    h = hour if 0 <= hour < 24 else 0
    m = minute if 0 <= minute < 60 else 0
    return h * 3600 + m * 60 + (second if 0 <= second < 60 else 0)


def _price(value: Any) -> float:
    if isinstance(value, str):
        return parameters.decimal(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    if isinstance(value, int):
        return float(value) if abs(value) < parameters.DECIMAL_LIMIT else 0.0
    return value if math.isfinite(value) and abs(value) < parameters.DECIMAL_LIMIT else 0.0


def _quantity(value: Any) -> int:
    if isinstance(value, str):
        return parameters.integer(value.strip(), 1, 0, UINT32)
    number = _price(value) if isinstance(value, int | float) and not isinstance(value, bool) else 1.0
    return max(0, min(UINT32, int(number)))


def _item_text(value: Any, rules: Rules) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    try:
        text = value if isinstance(value, str) else str(value)
    except ValueError:  # an integer of thousands of digits
        return ""
    return clean_text(text, rules)[0]


def _categories(value: Any, rules: Rules) -> str:
    """Up to five categories, one a line: a cleaned text has no line feeds."""
    found = [_item_text(one, rules) for one in (value if isinstance(value, list) else [value])[:MOST_CATEGORIES]]
    return "\n".join(text for text in found if text)


def categories(text: str, rules: Rules) -> str:
    """`_pkc`: a category, or JSON of up to five, one a line."""
    if text[:1] == "[" and len(text) <= ITEMS_BYTES:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = text
        return _categories(found, rules)
    return _categories(text, rules)


def items(text: str, rules: Rules) -> Items:
    """`ec_items`: JSON [[sku, name, category, price, quantity], ...]; what is malformed is left out."""
    out = Items([], [], [], [], [])
    if not text or len(text) > ITEMS_BYTES:
        return out
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        return out
    if not isinstance(rows, list):
        return out
    for row in rows[:ITEM_LIMIT]:
        if not isinstance(row, list) or not row:
            continue
        sku = _item_text(row[0], rules)
        if not sku:
            continue
        out.sku.append(sku)
        out.name.append(_item_text(row[1], rules) if len(row) > 1 else "")
        out.category.append(_categories(row[2], rules) if len(row) > 2 else "")
        out.price.append(_price(row[3]) if len(row) > 3 else 0.0)
        out.quantity.append(_quantity(row[4]) if len(row) > 4 else 1)
    return out
