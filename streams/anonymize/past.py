"""Rows that are stored, brought under the rules of today: what was kept under wider ones is cut down, never widened.

Texts, addresses, places and URLs pass the functions that events pass, so a row that the rules of today made is left as
it is. Ids are hashed once more (`again`) under a key that nobody keeps, one for each of the site's dates: what a row
says of a day stays together, and nothing leads back to an id or on to the next day. Only ids that the rules of today
keep for good, hashed by the site's key, stay. A row's `policy_version` tells under which rules it was brought last.

What rows don't say can't be judged again: whether Do Not Track was sent, or what a fingerprint was made of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas import addresses as grammar
from schemas.privacy import (
    CountryByLanguage,
    LocalTime,
    Location,
    Orders,
    PageViewIds,
    Privacy,
    Referrers,
    Values,
    VisitorIds,
)
from schemas.tables import EVENTS, ActionType, ReferrerType, VisitorKind
from streams import consent, fields, keyed
from streams.anonymize import addresses, custom, location, page_view_ids, referrers
from streams.anonymize.emptied import IDS, VISIT, cast, empty
from streams.anonymize.texts import free_text
from streams.anonymize.urls import clean, clean_path, clean_text, split, tidy
from streams.enrich import campaigns, languages, searches
from streams.enrich import referrers as origins
from streams.keyed import Kind
from streams.rules import QUARTER_MS, Rules

TEXTS = (
    *("title", "search_keyword", "search_category", "event_category", "event_action", "event_name"),
    *("content_name", "content_piece", "content_target", "content_interaction"),
    *("product_sku", "product_name", "media_title", "media_player"),
    *("crash_message", "crash_type", "crash_category"),
)
CAMPAIGN = ("campaign_name", "campaign_source", "campaign_medium", "campaign_term", "campaign_content")
DEVICE = {
    "device_brand": "device_model",
    "device_model": "device_model",
    "os_version": "device_versions",
    "browser_version": "device_versions",
}
PASSES = 4  # a text that the rules still change after so many is dropped

Columns = dict[str, pa.Array]
U64 = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

_hashed = re.compile(r"[0-9a-f]{16}").fullmatch


class SiteKeyNeeded(LookupError):
    """The rules of today hash values by the site's permanent key, which was not given."""


@dataclass(frozen=True, slots=True)
class Keys:
    """`secret`: 32 random bytes of this run, kept in memory alone. `site`: the site's permanent key (16 bytes)."""

    secret: bytes
    site: bytes | None = None

    def of_site(self) -> bytes:
        """The permanent key; raises SiteKeyNeeded."""
        if self.site is None:
            raise SiteKeyNeeded
        return self.site


def anonymise(
    rows: pa.Table, rules: Rules, keys: Keys, version: bytes, before: Rules | None = None, unset: Sequence[str] = ()
) -> pa.Table:
    """Rows of `EVENTS` of one site as its rules of today, those of policy `version`, allow them; raises SiteKeyNeeded.

    `before`: the rules under which all these rows were brought last, where they are known. `unset`: columns that
    are emptied besides (`emptied.UNSET`).
    """
    n = rows.num_rows
    if not n:
        return rows
    granted = rows["consent"].to_numpy() == consent.GIVEN
    decides = rules.consented is not None or (before is not None and before.consented is not None)
    if not decides or not granted.any() or granted.all():
        of = rules.of_consent(consent.GIVEN) if granted.all() else rules
        was = before.of_consent(consent.GIVEN) if before is not None and granted.all() else before
        found = _Rows(rows, of, keys, was).run()
    else:
        order = np.argsort(~granted, kind="stable")
        parts = [anonymise(rows.filter(pa.array(mask)), rules, keys, version, before) for mask in (granted, ~granted)]
        return empty(pa.concat_tables(parts).combine_chunks().take(pa.array(np.argsort(order))), unset)
    found["policy_version"] = pa.array([version] * n, pa.binary(16))
    columns = [found.get(field.name, rows[field.name]) for field in rows.schema]
    arrays = [cast(values, field.type) for values, field in zip(columns, rows.schema, strict=True)]
    return empty(pa.Table.from_arrays(arrays, schema=rows.schema), unset)


def settled(rule: Callable[[str], str], text: str) -> str:
    """The text as the rule leaves it when asked again: what it never leaves alone is dropped.

    A text that was cut when it was stored can hold the rest of something that only now looks like a value.
    """
    for _ in range(PASSES):
        before, text = text, rule(text)
        if text == before:
            return text
    return ""


class _Rows:
    """Rows of one site under one set of rules."""

    def __init__(self, rows: pa.Table, rules: Rules, keys: Keys, before: Rules | None) -> None:
        self.rows, self.rules, self.keys, self.before = rows, rules, keys, before
        self.n = rows.num_rows
        self.privacy: Privacy = rules.privacy
        self.out: Columns = {}
        self.day_keys, self.day_at = self._days()
        words = np.array([keyed.key_words(key) for key in self.day_keys], np.uint64)
        self.k0, self.k1 = words[self.day_at, 0], words[self.day_at, 1]

    def run(self) -> Columns:
        """The columns that rules decide."""
        self.address()
        self.place()
        self.device()
        self.page()
        self.referrer()
        self.campaign()
        for name in TEXTS:
            self.each(name, self.text)
        for name in ("item_sku", "item_name"):
            self.each_in_lists(name, self.text)
        self.each_in_lists("item_category", self.lines)
        self.each("product_category", self.lines)
        self.each("crash_stack", self.lines)
        self.own_fields()
        self.page_views()
        self.identity()
        return self.out

    def _days(self) -> tuple[list[bytes], npt.NDArray[np.int64]]:
        """A key for each date at the site, and each row's among them."""
        quarters, at = np.unique(self.number("time").astype(np.int64) // QUARTER_MS, return_inverse=True)
        made: dict[date, int] = {}
        days = [made.setdefault(self.rules.date(quarter * QUARTER_MS), len(made)) for quarter in quarters.tolist()]
        keys = [keyed.site_day_key(keyed.import_secret(self.keys.secret, day), self.rules.site) for day in made]
        return keys, np.array(days, np.int64)[at]

    # -- the frame -------------------------------------------------------------------------------------------------

    def number(self, name: str) -> npt.NDArray[Any]:
        values = self.rows[name].combine_chunks()
        if pa.types.is_timestamp(values.type):
            values = values.cast(pa.timestamp("ms", "UTC")).view(pa.int64())
        found: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
        return found

    def texts(self, name: str) -> list[str]:
        found: list[str] = self.rows[name].to_pylist()
        return found

    def each(self, name: str, rule: Callable[[str], str]) -> None:
        """A column of texts, the rule asked once for each text."""
        made: dict[str, str] = {}
        out = []
        for text in self.texts(name):
            found = made.get(text)
            if found is None:
                found = made[text] = rule(text) if text else ""
            out.append(found)
        self.out[name] = pa.array(out, pa.string())

    def each_in_lists(self, name: str, rule: Callable[[str], str]) -> None:
        lists = self.rows[name].combine_chunks()
        made: dict[str, str] = {}
        texts = [made[text] if text in made else made.setdefault(text, rule(text)) for text in lists.values.to_pylist()]
        self.out[name] = pa.ListArray.from_arrays(lists.offsets, pa.array(texts, pa.string()))

    def each_tuple(self, names: Sequence[str], rule: Callable[..., Sequence[Any]], into: Sequence[str]) -> None:
        """Columns that a rule decides together."""
        made: dict[tuple[Any, ...], Sequence[Any]] = {}
        columns = [self.rows[name].to_pylist() for name in names]
        out = []
        for values in zip(*columns, strict=True):
            found = made.get(values)
            if found is None:
                found = made[values] = rule(*values)
            out.append(found)
        for name, column_ in zip(into, zip(*out, strict=True), strict=True):
            kind = EVENTS.field(name).type
            self.out[name] = pa.array(column_, pa.string() if pa.types.is_dictionary(kind) else kind)

    # -- kinds of personal data ------------------------------------------------------------------------------------

    def text(self, text: str) -> str:
        return settled(lambda text: clean_text(text, self.rules)[0], text)

    def lines(self, text: str) -> str:
        """Texts of a line each."""
        return "\n".join(map(self.text, text.split("\n")))

    def address(self) -> None:
        level = self.privacy.mask_bytes

        def masked(text: str) -> str:
            packed = grammar.pack(text)
            return "" if packed is None else addresses.stored(addresses.mask(packed, level), level)

        self.each("address", masked)

    def place(self) -> None:
        known = self.before is not None and self.before.country_by_language is self.rules.country_by_language
        by_language, level = self.rules.country_by_language, self.privacy.location

        def cut(country: str, region: str, city: str, source: str, language: str) -> tuple[str, str, str, str]:
            if source == "language" and not known:
                told = languages.country(languages.accepted(language), CountryByLanguage.REGION)
                if by_language is CountryByLanguage.NEVER or (by_language is CountryByLanguage.REGION and not told):
                    country = ""
            city = settled(lambda text: free_text(tidy(text), self.rules, location.LIMIT), city)
            found = location.cut_to(location.Place(country, region, city), level)
            return (*found, source if found.country else "")

        names = ("country", "region", "city", "country_source")
        if level is Location.NONE:
            for name in names:
                self.each(name, lambda _text: "")
            return
        self.each_tuple((*names, "language"), cut, names)

    def device(self) -> None:
        for name, rule in DEVICE.items():
            if not getattr(self.privacy, rule):
                self.each(name, lambda _text: "")
        if not self.privacy.resolution:
            self.out["resolution"] = pa.array([fields.UNKNOWN_RESOLUTION] * self.n, pa.string())
        if not self.privacy.plugins:
            self.out["plugins"] = pa.array(np.zeros(self.n, np.uint16))
        if self.privacy.local_time is not LocalTime.SECOND:
            seconds = self.number("local_seconds")
            hours = np.where(seconds < 0, -1, seconds // fields.HOUR * fields.HOUR)
            dropped = self.privacy.local_time is LocalTime.DROP
            self.out["local_seconds"] = pa.array(np.where(dropped, -1, hours).astype(np.int32))

    def page(self) -> None:
        rules = self.rules

        def url(text: str, action: int) -> tuple[str]:
            def once(text: str) -> str:
                parts = split(text)
                if parts is None:
                    return ""
                dropped = rules.campaign_parameters
                if action == ActionType.SITE_SEARCH:
                    given = parts.parameters + parts.fragment_parameters
                    dropped = rules.column_parameters if searches.of_parameters(given, rules).keyword else dropped
                return clean(parts, rules, dropped, own=True)[0]

            return (settled(once, text),)

        def path(text: str) -> str:
            def once(text: str) -> str:
                parts = split("//host" + text)
                return "" if parts is None else clean_path(parts._replace(path=text), rules)[0]

            return settled(once, text)

        def link(text: str) -> str:
            def once(text: str) -> str:
                parts = split(text)
                return "" if parts is None else clean(parts, rules)[0]

            return settled(once, text)

        self.each_tuple(("url", "action_type"), url, ("url",))
        self.each("url_path", path)
        self.each("link_url", link)
        self.each("media_url", link)
        self.each("crash_source", link)

    def referrer(self) -> None:
        rules, level = self.rules, self.privacy.referrer

        def url(text: str) -> str:
            parts = split(text)
            if parts is None:
                return ""
            return referrers.url(clean(parts, rules, origins.noise(parts.host))[0], level)

        def cut(kind: int, name: str, keyword: str, text: str, term: str) -> tuple[str, str, str]:
            text = settled(url, text) if text else ""
            keyword = settled(lambda word: clean_text(word, rules, origins.LIMIT)[0], keyword)
            if kind != ReferrerType.CAMPAIGN:
                return referrers.name(name, kind, level), referrers.keyword(keyword, kind, level), text
            if not self.privacy.campaigns:
                return campaigns.UNNAMED, "", text
            # a campaign without a keyword has that of the search which it was found by
            keyword = keyword if term or level is Referrers.KEEP else ""
            return self.campaign_text(name), keyword, text

        names = ("referrer_name", "referrer_keyword", "referrer_url")
        self.each_tuple(("referrer_type", *names, "campaign_term"), cut, names)

    def campaign_text(self, text: str) -> str:
        return settled(lambda text: clean_text(text, self.rules, campaigns.LIMIT)[0], text)

    def campaign(self) -> None:
        for name in CAMPAIGN:
            self.each(name, self.campaign_text if self.privacy.campaigns else lambda _text: "")
        self.each("visit_campaign", self.campaign_text if self.rules.campaign_splits else lambda _text: "")

    def own_fields(self) -> None:
        """Custom dimensions and variables. A value whose form is not known is taken for one that came as it is."""
        was = self.before.privacy if self.before is not None else None
        columns = [self.rows[name].to_pylist() for name in ("dimension_slot", "dimension_value")]
        slots: list[list[int]] = []
        values: list[list[str]] = []
        for row, (numbers, texts) in enumerate(zip(*columns, strict=True)):
            kept = [(slot, text) for slot, text in zip(numbers, texts, strict=True) if self._keeps(slot)]
            slots.append([slot for slot, _ in kept])
            values.append(
                [
                    self._value(
                        text, self.privacy.dimension(slot), was.dimension(slot) if was else None, row, Kind.DIMENSION
                    )
                    for slot, text in kept
                ]
            )
        self.out["dimension_slot"] = pa.array(slots, pa.list_(pa.uint16()))
        self.out["dimension_value"] = pa.array(values, pa.list_(pa.string()))
        names = ("variable_scope", "variable_name", "variable_value")
        rule = self.privacy.custom_variables
        if rule is Values.DROP:
            for name in names:
                self.out[name] = pa.array([[]] * self.n, EVENTS.field(name).type)
            return
        self.each_in_lists("variable_name", self.text)
        lists = self.rows["variable_value"].to_pylist()
        old = was.custom_variables if was else None
        made = [[self._value(text, rule, old, row, Kind.VARIABLE) for text in texts] for row, texts in enumerate(lists)]
        self.out["variable_value"] = pa.array(made, pa.list_(pa.string()))

    def page_views(self) -> None:
        """Ids of page views and of playings, hashed once more where they are hashes of a day."""
        rule = self.privacy.page_view_ids
        if rule is PageViewIds.DAY:
            views = cast(self.rows["page_view_id"], pa.string())
            self.out["page_view_id"] = page_view_ids.page_views(self.k0, self.k1, views)
            keys = [self.day_keys[at] for at in self.day_at.tolist()]
            playings = zip(keys, self.texts("media_id"), strict=True)
            made = [page_view_ids.playing(key, text, rule) for key, text in playings]
            self.out["media_id"] = pa.array(made, pa.string())
        elif rule is PageViewIds.DROP:
            for name in ("page_view_id", "media_id"):
                self.each(name, lambda _text: "")

    def _keeps(self, slot: int) -> bool:
        return self.privacy.dimension(slot) is not Values.DROP

    def _value(self, text: str, rule: Values, before: Values | None, row: int, kind: Kind) -> str:
        if rule is Values.KEEP or not text:
            return self.text(text)
        if rule is Values.DAY:
            return f"{keyed.hash_text(self.day_keys[self.day_at[row]], kind, text):016x}"
        if before in (Values.DAY, Values.SITE) and _hashed(text):
            return text
        return custom.value(text, rule, kind, lambda _rule: self.keys.of_site(), self.rules)

    # -- ids -------------------------------------------------------------------------------------------------------

    def again(self, name: str) -> U64:
        """The hashes of stored ids under the key of the day; none stays none."""
        ids = self.number(name).astype(np.uint64)
        return np.where(ids > 0, keyed.hash_columns(self.k0, self.k1, Kind.AGAIN, ids), np.uint64(0))

    def identity(self) -> None:
        none = np.zeros(self.n, np.uint64)
        privacy, kind = self.privacy, self.number("visitor_kind")
        orders = {Orders.DROP: none, Orders.DAY: self.again("order_id"), Orders.SITE: self.number("order_id")}
        self.ids(order_id=orders[privacy.order_ids])
        self.each("user_name", lambda text: text if privacy.user_ids is Values.KEEP and self.rules.reads_ids else "")
        if privacy.visitor_ids is VisitorIds.REQUEST:
            self._apart()
            return
        config = self.again("config_id")
        if not self.rules.reads_ids:
            named = np.full(self.n, VisitorKind.CONFIG_ID, np.uint8)
            self.ids(visitor_id=config, config_id=config, user_id=none)
            self.ids(visit_visitor_id=none, visit_user_id=none, visit_config_id=self.again("visit_config_id"))
            self.out["visitor_kind"] = pa.array(named)
            return
        lasting = privacy.visitor_ids is VisitorIds.SITE
        lasting_users = privacy.user_ids in (Values.SITE, Values.KEEP)
        by_user, by_id = kind == VisitorKind.USER_ID, kind == VisitorKind.VISITOR_ID
        stored, visitor = self.number("visitor_id").astype(np.uint64), self.again("visitor_id")
        if lasting:
            visitor = np.where(by_id | (by_user & lasting_users), stored, visitor)
        users = self.again("visit_user_id")
        visitors = self.again("visit_visitor_id")
        if privacy.user_ids is Values.DROP:  # a user id stands in for a visitor's, and no row tells that it does
            visitors = np.where(visitors > 0, visitors, users)
            by_id, by_user, users = by_id | by_user, by_user & False, none
        if privacy.visitor_ids is VisitorIds.DROP:
            by_id, visitors = by_id & False, none
        visitor = np.where(by_user | by_id, visitor, config)
        kept = self.number("user_id").astype(np.uint64) if lasting_users else self.again("user_id")
        self.ids(
            visitor_id=visitor,
            config_id=config,
            user_id=none if privacy.user_ids is Values.DROP else kept,
            visit_visitor_id=visitors,
            visit_config_id=self.again("visit_config_id"),
            visit_user_id=users,
        )
        kinds = np.where(by_user, VisitorKind.USER_ID, np.where(by_id, VisitorKind.VISITOR_ID, VisitorKind.CONFIG_ID))
        self.out["visitor_kind"] = pa.array(kinds.astype(np.uint8))

    def _apart(self) -> None:
        """Each action by itself: a visitor and a visit of its own, as with `visitor_ids = "request"`."""
        none, time = np.zeros(self.n, np.uint64), self.number("time")
        place = (self.number("partition").astype(np.uint64) << np.uint64(32)) | self.number("index").astype(np.uint64)
        name = self.number("writer").astype(np.uint64), self.number("seq").astype(np.uint64), place
        one = keyed.hash_columns(self.k0, self.k1, Kind.REQUEST, *name)
        self.ids(visitor_id=one, config_id=one, user_id=none)
        self.ids(visit_visitor_id=none, visit_user_id=none, visit_config_id=one)
        self.ids(visit_id=keyed.hash_columns(self.k0, self.k1, Kind.VISIT, *name))
        action = self.number("action_type")
        moment = pa.array(time).view(pa.timestamp("ms", "UTC"))
        self.out |= {
            "visitor_kind": pa.array(np.full(self.n, VisitorKind.CONFIG_ID, np.uint8)),
            "visit_start": moment,
            "visit_last": moment,
            "visit_position": pa.array((action != ActionType.PING).astype(np.uint32)),
            "visit_pageviews": pa.array((action == ActionType.PAGE_VIEW).astype(np.uint32)),
            "gap_ms": pa.array(np.zeros(self.n, np.uint32)),
        }

    def ids(self, **columns: U64) -> None:
        self.out |= {name: pa.array(ids) for name, ids in columns.items()}


UNTOUCHED = frozenset(IDS) | frozenset(VISIT) | {"page_view_id", "media_id"}
_HASHES = ("dimension_value", "variable_value")


def differing(rows: pa.Table, rules: Rules, keys: Keys) -> dict[str, int]:
    """By column, how many rows brought under these rules would still be changed by them; ids are judged by their form.

    What stands in a column of ids is new with every run, so of those it counts what the rules forbid at all.
    """
    if not rows.num_rows:
        return {}
    again = anonymise(rows, rules, keys, rows["policy_version"][0].as_py(), rules)
    out = {}
    for name in rows.schema.names:
        if name == "policy_version":
            continue
        old, new = rows[name].combine_chunks(), again[name].combine_chunks()
        if name in UNTOUCHED or name in _HASHES:
            count = sum(bool(a) and not b for a, b in zip(_plain(old), _plain(new), strict=True))
        else:
            count = sum(a != b for a, b in zip(old.to_pylist(), new.to_pylist(), strict=True))
        if count:
            out[name] = count
    return out


def _plain(values: pa.Array) -> list[Any]:
    found: list[Any] = values.to_pylist()
    return found
