"""Stages of what an event is worth: orders and carts, products, goals; of players of media and crashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.privacy import Orders
from schemas.tables import EVENTS, ActionType
from streams import fields
from streams.anonymize import order_ids, page_view_ids
from streams.description import Codes, Flags
from streams.distinct import low, plain
from streams.enrich import conversions, crashes, media
from streams.enrich.crashes import Crash
from streams.enrich.media import Media
from streams.frame import Frame

T = TypeVar("T", Media, Crash)


class Commerce(Frame):
    """Needs `action` and `goal`."""

    goal: Codes  # `idgoal` of each row

    def order(self, action: npt.NDArray[np.uint8]) -> None:
        query, is_order = self.query, action == ActionType.ECOMMERCE
        order = np.zeros(self.n, np.uint64)
        for text, row in zip(*query.texts("ec_id"), strict=True):
            rule = self.rules_of(row).privacy.order_ids
            if is_order[row] and rule is not Orders.DROP:
                order[row] = order_ids.order_hash(self.kept_key(row, rule is Orders.SITE), text)
        self.columns["order_id"] = pa.array(order)
        self.columns["is_order"] = pa.array((is_order & query.filled("ec_id")).astype(np.uint8))
        lengths = np.zeros(self.n + 1, np.int32)
        flat: tuple[list[Any], ...] = tuple([] for _ in fields.Items._fields)
        for text, row in zip(*query.texts("ec_items"), strict=True):
            rules = self.rules[self.rows.scope[row]]
            if is_order[row] and rules is not None:
                items = fields.items(text, rules)
                lengths[row + 1] = len(items.sku)
                for name, all_values in zip(fields.Items._fields, flat, strict=True):
                    all_values.extend(getattr(items, name))
        offsets = pa.array(np.cumsum(lengths, dtype=np.int32))
        for name, values in zip(fields.Items._fields, flat, strict=True):
            kind = EVENTS.field(f"item_{name}").type
            lists = pa.ListArray.from_arrays(offsets, pa.array(values, kind.value_type))
            self.columns[f"item_{name}"] = lists.cast(kind)
        for parameter, name in fields.MONEY.items():
            self.columns[name] = pa.array(np.where(is_order, query.decimals(parameter), 0.0))
        goal = self.goal
        typed = is_order | (action == ActionType.GOAL)
        self.columns["goal_id"] = pa.array(np.where(typed, goal, fields.NO_GOAL).astype(np.int32))
        self.columns["revenue"] = pa.array(np.where(typed, query.decimals("revenue"), 0.0))

    def products(self, action: npt.NDArray[np.uint8]) -> None:
        """The product or category that a page shows; later requests of the page repeat it, and are no views of it."""
        query, viewed = self.query, action == ActionType.PAGE_VIEW
        for parameter, name in (("_pks", "sku"), ("_pkn", "name"), ("_pkc", "category")):
            texts, codes = [""], np.zeros(self.n, np.int64)
            for text, row in zip(*query.texts(parameter), strict=True) if query.given(parameter) else ():
                if viewed[row]:
                    codes[row] = len(texts)
                    texts.append(
                        fields.categories(text, self.rules_of(row)) if name == "category" else self.cleaned(row, text)
                    )
            self.columns[f"product_{name}"] = plain(texts, codes)
        self.columns["product_price"] = pa.array(np.where(viewed, query.decimals("_pkp"), 0.0))

    def conversions(self) -> None:
        """The goals that are converted (`enrich.conversions`)."""
        goals = [rules.goals if rules is not None else () for rules in self.rules]
        found: dict[int, list[conversions.Conversion]] = {}
        if any(goals) or (self.goal > 0).any():
            given = self.query.filled("revenue")
            revenue = self.columns["revenue"].to_numpy()
            found = conversions.of_columns(goals, self.rows.scope, self.columns, revenue, given)
        names = tuple(f"conversion_{name}" for name in conversions.Conversion._fields)
        self.columns |= self.lists(names, found)

    def media(self) -> Flags:
        """The player that a request tells of; returns where one does."""
        told = self._told("media", "ma_id", media.PARAMETERS, media.of_request, media.NONE)
        if told.any():
            rows = np.flatnonzero(told).tolist()
            texts, codes = [""], np.zeros(self.n, np.int64)
            for row, text in zip(rows, self.columns["media_id"].take(pa.array(rows)).to_pylist(), strict=True):
                codes[row] = len(texts)
                rule = self.rules_of(row).privacy.page_view_ids
                texts.append(page_view_ids.playing(self.key_of(row), text, rule))
            self.columns["media_id"] = plain(texts, codes)
        return told

    def crash(self) -> Flags:
        """The crash that a request reports; returns where one does."""
        return self._told("crash", "cra", crashes.PARAMETERS, crashes.of_request, crashes.NONE)

    def _told(self, name: str, needed: str, names: Sequence[str], rule: Callable[..., T], none: T) -> Flags:
        """Columns `name`_… of what few requests tell, by a rule; returns where it is not nothing."""
        given: dict[int, dict[str, str]] = {}
        for parameter in names if self.query.given(needed) else ():
            for text, row in zip(*self.query.texts(parameter), strict=True):
                given.setdefault(row, {})[parameter] = text
        found: dict[int, T] = {}
        for row, texts in given.items():
            one = rule(texts, partial(self.cleaned, row), partial(self.linked, row))
            if one != none:
                found[row] = one
        codes = np.zeros(self.n, np.int64)
        codes[list(found)] = np.arange(1, len(found) + 1)
        table = [none]
        table += found.values()
        for position, field in enumerate(none._fields):
            kind = EVENTS.field(f"{name}_{field}").type
            values: list[Any] = [entry[position] for entry in table]
            column = low(values, codes) if pa.types.is_dictionary(kind) else pa.array(values, kind).take(codes)
            self.columns[f"{name}_{field}"] = column
        return codes > 0
