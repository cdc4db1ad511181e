"""The stages that look at an event alone, over columns: parse, exclude, mask, and everything else.

Each kind of value (agent, address, page, referrer, text) is dictionary-encoded, and its rule, a plain function
in `anonymize` or `enrich`, runs on values not seen before (`streams.distinct`). Nothing is gathered for events
that are not kept. An exception is the fault of an event: the rows are halved until it stands alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas import moments
from schemas.packets import Flag, Role
from schemas.parameters import decode
from schemas.privacy import Consent, CountryByLanguage, LocalTime, Orders, Privacy, Values, VisitorIds
from schemas.tables import EVENTS, ActionType, ReferrerType, VisitorKind
from streams import consent, excluding, fields, keyed, repeats
from streams.anonymize import addresses, custom, detect, location, order_ids, user_ids, visitor_ids
from streams.anonymize.urls import clean, clean_text, split
from streams.caches import SEPARATOR, caches
from streams.columns import Query, text_bytes
from streams.distinct import Texts, encode, low, plain
from streams.enrich import actions, campaigns, conversions, media
from streams.enrich.bots import Bot
from streams.enrich.campaigns import Campaign
from streams.gather import Rows, valid_times
from streams.keyed import Kind
from streams.repeats import Doubts, Earlier, Identities
from streams.rules import QUARTER_MS, Rules
from streams.surroundings import Lookups, Surroundings
from streams.verdicts import (
    BAD_CDT,
    BAD_CID,
    BAD_TIME,
    BAD_TIMINGS,
    DO_NOT_TRACK,
    EARLIEST_MS,
    GLOBAL_PRIVACY_CONTROL,
    INTERNAL_ERROR,
    NO_CONSENT,
    NUMBER,
    UNKNOWN_SITE,
)

TEXT_PARAMETERS = ("action_name", "search", "search_cat", "e_c", "e_a", "e_n", "c_n", "c_p", "c_t", "c_i")
PARAMETERS = (
    *("rec", "url", "urlref", "cid", "_id", "uid", "pv_id", "ua", "lang", "uadata", "res", "link", "download"),
    *("h", "m", "s", "ping", "new_visit", "ca", "idgoal", "revenue", "search_count", "e_v", "consent"),
    *("_pks", "_pkn", "_pkc", "_pkp", *media.PARAMETERS),
    *("r", "rand", "bots", "cdt", "cdo", "country", "region", "city", *custom.SCOPES),
    *("ec_id", "ec_items", *fields.MONEY, *fields.PLUGINS, *fields.TIMINGS, *TEXT_PARAMETERS),
    *sorted(campaigns.PARAMETERS),
)
DEVICE_COLUMNS = {
    "device_type": "type",
    "device_brand": "brand",
    "device_model": "model",
    "os": "os",
    "os_version": "os_version",
    "browser": "browser",
    "browser_version": "browser_version",
}
DAY_MS = 86_400_000
COUNTRY_RULES = tuple(CountryByLanguage)
LOCAL_UNIT = {LocalTime.DROP: 0, LocalTime.HOUR: fields.HOUR, LocalTime.SECOND: 1}  # seconds
NAMES = {name: number for number, name in enumerate(PARAMETERS, 1)}

U64 = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Description:
    """What is known of some rows without looking at visits.

    `rows`: their numbers in the batch; `verdict`: one number of `verdicts.VERDICTS` each; the rest has one entry
    per kept row, `kept` being its number in the batch. `columns` lacks name, place, visit and identity.
    """

    rows: Codes
    verdict: npt.NDArray[np.uint8]
    kept: Codes
    columns: dict[str, pa.Array] = field(default_factory=dict)
    time: list[int] = field(default_factory=list)
    user: list[int] = field(default_factory=list)
    visitor: list[int] = field(default_factory=list)
    config: list[int] = field(default_factory=list)
    visit_name: list[int] = field(default_factory=list)
    action: list[int] = field(default_factory=list)
    new_visit: list[bool] = field(default_factory=list)
    campaign: list[str] = field(default_factory=list)
    repeats: Identities = field(default_factory=lambda: Identities.none(0))
    doubts: Doubts = field(default_factory=Doubts)


def describe(rows: Rows, earlier: Earlier, lookups: Lookups) -> list[Description]:
    """Describe all rows, in order; one description where nothing fails. Raises Surroundings."""
    return _halving(rows, np.arange(len(rows)), earlier, lookups)


def _halving(rows: Rows, at: Codes, earlier: Earlier, lookups: Lookups) -> list[Description]:
    part = rows if len(at) == len(rows) else rows.take(at)
    try:
        return [_describe(part, at, earlier, lookups)]
    except (Surroundings, MemoryError):
        raise
    except Exception:
        if len(at) == 1:
            return [Description(at, np.array([NUMBER[INTERNAL_ERROR]], np.uint8), at[:0])]
        middle = len(at) // 2
        return _halving(rows, at[:middle], earlier, lookups) + _halving(rows, at[middle:], earlier, lookups)


def _describe(rows: Rows, at: Codes, earlier: Earlier, lookups: Lookups) -> Description:
    verdict = _before_parsing(rows)
    first = np.flatnonzero(verdict == 0)
    if len(first) < len(rows):
        rows = rows.take(first)
    sites = [rules.exclusions if rules else None for _, rules in rows.scopes]
    query = Query(rows.query, excluding.names_of(sites, NAMES))
    timings = {name: query.integers(name, 0, -1, fields.TIMING_LIMIT + 1) for name in fields.TIMINGS}
    later, networks = excluding.verdicts(rows, query, rows.agent.override(*query.texts("ua")), sites)
    consents = _consents(rows, query)
    rows, bad_time = _moments(rows, query)
    parsed = _after_parsing(rows, query, consents, bad_time, timings)
    later = np.where(later == 0, parsed, later).astype(np.uint8)
    ids = repeats.identify(rows, query, np.flatnonzero(later == 0), lookups)
    later = np.where(earlier.repeated(rows, ids), repeats.VERDICT[ids.how], later)
    verdict[first] = later
    second = np.flatnonzero(later == 0)
    if len(second) < len(rows):
        rows = rows.take(second, query=False)
        query.keep(second)
        consents, networks = consents[second], networks[second]
        timings = {name: values[second] for name, values in timings.items()}
    out = Description(at, verdict, at[first[second]], repeats=ids.take(second))
    if len(rows):
        _Stages(_granted(rows, consents), query, lookups, out).run(consents, timings, networks)
    return out


def _consents(rows: Rows, query: Query) -> Codes:
    """The consent of each row (`consent.of_action`)."""
    said = query.each("consent", consent.said, consent.UNKNOWN, np.int64)
    by_cookie = (said == consent.UNKNOWN) & ((rows.flags & Flag.CONSENT) != 0)
    return np.where(by_cookie, consent.GIVEN, said)


def _granted(rows: Rows, consents: Codes) -> Rows:
    """The rows, those with consent under the rules that their site has for these."""
    own = [rules.consented if rules is not None else None for _, rules in rows.scopes]
    if not any(own):
        return rows
    here = (consents == consent.GIVEN) & np.array([rules is not None for rules in own], np.bool_)[rows.scope]
    scopes = [*rows.scopes, *((version, rules) for (version, _), rules in zip(rows.scopes, own, strict=True))]
    return replace(rows, scope=np.where(here, rows.scope + len(own), rows.scope), scopes=scopes)


def _of_scope(rows: Rows, rule: Callable[[Privacy], bool]) -> Flags:
    """Where a rule of the row's site holds; False where the site is unknown."""
    return np.array([rules is not None and rule(rules.privacy) for _, rules in rows.scopes], np.bool_)[rows.scope]


def _before_parsing(rows: Rows) -> npt.NDArray[np.uint8]:
    known = np.array([rules is not None for _, rules in rows.scopes], np.bool_)[rows.scope]
    time_ok = valid_times(rows.received_ms) & (rows.time_ms >= EARLIEST_MS)
    conditions = [~known, ~time_ok]
    conditions.append(((rows.flags & Flag.DNT) != 0) & _of_scope(rows, lambda p: p.do_not_track))
    conditions.append(((rows.flags & Flag.GPC) != 0) & _of_scope(rows, lambda p: p.global_privacy_control))
    numbers = [NUMBER[v] for v in (UNKNOWN_SITE, BAD_TIME, DO_NOT_TRACK, GLOBAL_PRIVACY_CONTROL)]
    return np.select(conditions, numbers, 0).astype(np.uint8)


def _moments(rows: Rows, query: Query) -> tuple[Rows, Flags]:
    """The rows with the times that `cdt` and `cdo` ask for, and where they may not."""
    bad = np.zeros(query.n, np.bool_)
    if not query.given("cdt") and not query.given("cdo"):
        return rows, bad
    asked: dict[int, list[str]] = {}
    for position, name in enumerate(("cdt", "cdo")):
        for text, row in zip(*query.texts(name), strict=True):
            asked.setdefault(row, ["", ""])[position] = text
    times = rows.time_ms.copy()
    for row, (cdt, cdo) in asked.items():
        now = int(rows.received_ms[row])
        time = moments.said(cdt, cdo, now)
        bad[row] = moments.age(time, now) >= moments.DAY_SECONDS and rows.role[row] < Role.WRITE
        times[row] = min(moments.granted(time, now), int(times[row]))
    return replace(rows, time_ms=times), bad


def _after_parsing(
    rows: Rows, query: Query, consents: Codes, bad_time: Flags, timings: dict[str, Codes]
) -> npt.NDArray[np.uint8]:
    required = _of_scope(rows, lambda p: p.consent is Consent.REQUIRED)
    conditions = [required & (consents != consent.GIVEN), bad_time, np.zeros(query.n, np.bool_)]
    values, at = query.texts("cid")
    for row, text in zip(at, values, strict=True):
        conditions[2][row] = bool(text) and visitor_ids.forced(text) is None
    conditions += [values < 0 for values in timings.values()]
    numbers = [NUMBER[v] for v in (NO_CONSENT, BAD_CDT, BAD_CID, *(BAD_TIMINGS[name] for name in timings))]
    return np.select(conditions, numbers, 0).astype(np.uint8)


class _Stages:
    """The kept rows of one description on their way through the stages."""

    def __init__(self, rows: Rows, query: Query, lookups: Lookups, out: Description) -> None:
        self.rows, self.query, self.lookups, self.out = rows, query, lookups, out
        self.n = len(rows)
        self.columns = out.columns
        known = [rules for _, rules in rows.scopes]
        self.rules: list[Rules | None] = known
        self.caches = caches()
        numbers = self.caches.scopes(rows.scopes)
        self.prefixes = [f"{number}{SEPARATOR}" for number in numbers]
        self.removed = np.zeros(self.n, np.int64)
        self.detected = self.by_scope(lambda rules: rules.detectors >= detect.ALL)
        self.site_keys: dict[int, bytes] = {}

    def run(self, consents: Codes, timings: dict[str, Codes], networks: Flags) -> None:
        """All stages, in the fixed order: the address is masked before anything else is read.

        `networks`: where the address was one of a crawler.
        """
        seen = self.address()
        self.keys()
        language, device = self.device(networks)
        self.referrer(self.page())
        action = self.action()
        self.order(action)
        self.products(action)
        self.conversions()
        self.numbers(action, timings)
        self.place()
        self.own_fields()
        self.identity(seen, language, device)
        self.columns["consent"] = pa.array(consents.astype(np.int8))
        self.out.action = action.tolist()
        removed = self.removed + self.query.recorded()
        self.columns["parameters_removed"] = pa.array(np.minimum(removed, 65_535).astype(np.uint16))

    # -- helpers of the frame ---------------------------------------------------------------------------------

    def scoped(self, values: pa.Array, rows: Codes | None = None) -> tuple[list[str], Codes]:
        """The distinct values with their scope in front, as rules are the site's own, and each row's position."""
        distinct, at = encode(values)
        scope = self.rows.scope if rows is None else self.rows.scope[rows]
        pairs, at = encode(pa.array((at << 32) | scope))
        return [self.prefixes[pair & 0xFFFFFFFF] + distinct[pair >> 32] for pair in pairs], at

    def text(self, name: str) -> tuple[list[str], Codes]:
        """Cleaned texts of a parameter and each row's position among them, 0 for the empty text."""
        values, rows = self.query.values(name)
        codes = np.zeros(self.n, np.int64)
        if not len(rows):
            return [""], codes
        distinct, at = encode(values)
        found = self.caches.texts.of(distinct, len(rows))
        texts = ["", *(text.everywhere or "" for text in found)]
        codes[rows] = np.array([i if text.everywhere else 0 for i, text in enumerate(found, 1)], np.int64)[at]
        undecided = np.array([text.everywhere is None for text in found], np.bool_)
        if undecided.any():
            here = undecided[at]
            masked = np.array([text.masked is not None for text in found], np.bool_)[at] & self.detected[rows]
            numbers = [i if text.masked else 0 for i, text in enumerate(found, len(texts))]
            texts += [text.masked or "" for text in found]
            codes[rows[here & masked]] = np.array(numbers, np.int64)[at[here & masked]]
            here &= ~masked
            rows = rows[here]
            distinct, at = self.scoped(values.filter(pa.array(here)), rows)
            cleaned = self.caches.scoped_texts.of(distinct, len(rows))
            codes[rows] = np.array([i if text else 0 for i, (text, _) in enumerate(cleaned, len(texts))], np.int64)[at]
            self.removed[rows] += np.array([removed for _, removed in cleaned], np.int64)[at]
            texts += [text for text, _ in cleaned]
        return texts, codes

    def where(self, texts: tuple[list[str], Codes], mask: Flags) -> pa.DictionaryArray:
        """A LowCardinality column of the texts where the mask holds, "" elsewhere."""
        return low(texts[0], np.where(mask, texts[1], 0))

    def by_scope(self, rule: Callable[[Rules], Any], dtype: Any = np.bool_) -> npt.NDArray[Any]:
        """What a rule is at each row's site."""
        none = np.zeros(1, dtype)[0]
        return np.array([none if rules is None else rule(rules) for rules in self.rules], dtype)[self.rows.scope]

    def rules_of(self, row: int) -> Rules:
        rules: Rules | None = self.rules[self.rows.scope[row]]
        assert rules is not None
        return rules

    # -- stages -----------------------------------------------------------------------------------------------

    def address(self) -> U64:
        """What the fingerprint sees of each address: what is stored of it, unless the policy says otherwise."""
        levels = self.by_scope(lambda rules: rules.privacy.mask_bytes, np.int64)
        seen = self.by_scope(lambda rules: rules.fingerprint_mask, np.int64)
        masked = addresses.mask_column(self.rows.address, levels)
        buffer = pa.py_buffer(addresses.packed(masked))
        distinct, at = encode(pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), self.n, [None, buffer]))
        texts = [*self.caches.addresses.of(distinct, self.n), ""]
        self.columns["address"] = low(texts, np.where(levels >= addresses.DROP, len(texts) - 1, at))
        return masked if (seen == levels).all() else addresses.mask_column(self.rows.address, seen)

    def keys(self) -> None:
        """Each row's key: that of its site on its date there."""
        time, stamped = self.rows.time_ms, self.rows.stamped_ms
        old = np.flatnonzero(time < stamped - DAY_MS)
        quarter = (np.where(time < stamped - DAY_MS, stamped, time) if len(old) else time) // QUARTER_MS
        distinct, at = encode(pa.array((self.rows.scope << 32) | quarter))
        made: dict[tuple[int, date], bytes] = {}
        keys = []
        for pair in distinct:
            rules = self.rules[pair >> 32]
            assert rules is not None
            day = rules.date((pair & 0xFFFFFFFF) * QUARTER_MS)
            name = (rules.site, day)
            if name not in made:
                made[name] = keyed.site_day_key(self.lookups.day_secret(day), rules.site)
            keys.append(made[name])
        imported: dict[tuple[int, int, int], int] = {}
        for row in old.tolist():
            pair = int(self.rows.scope[row]), int(time[row]) // QUARTER_MS, int(stamped[row]) // QUARTER_MS
            if pair not in imported:
                rules = self.rules[pair[0]]
                assert rules is not None
                imported[pair] = len(keys)
                keys.append(site_key(rules, pair[1] * QUARTER_MS, pair[2] * QUARTER_MS, self.lookups))
            at[row] = imported[pair]
        words = np.array([keyed.key_words(key) for key in keys], np.uint64)
        self.key = keys, at
        self.k0, self.k1 = words[at, 0], words[at, 1]

    def key_of(self, row: int) -> bytes:
        keys, at = self.key
        key: bytes = keys[at[row]]
        return key

    def kept_key(self, row: int, site: bool) -> bytes:
        """The key of a row: that of its site, or that of its site on its date."""
        if not site:
            return self.key_of(row)
        number = self.rules_of(row).site
        found = self.site_keys.get(number)
        if found is None:
            found = self.site_keys[number] = keyed.site_key(self.lookups.site_key(number), number)
        return found

    def device(self, networks: Flags) -> tuple[U64, U64]:
        query, rows, cache = self.query, self.rows, self.caches
        distinct, at = rows.agent.override(*query.texts("ua"))
        devices = cache.devices.of(distinct, self.n)
        kept = {
            **dict.fromkeys(("brand", "model"), self.by_scope(lambda rules: rules.privacy.device_model)),
            **dict.fromkeys(("os_version", "browser_version"), self.by_scope(lambda r: r.privacy.device_versions)),
        }
        for column, name in DEVICE_COLUMNS.items():
            codes = np.where(kept[name], at, len(devices)) if name in kept else at
            self.columns[column] = low([*(getattr(device, name) for device, _ in devices), ""], codes)
        bot = np.array([device.bot for device, _ in devices], np.uint8)[at]
        hints, hint_at = _or_else(query.full("uadata"), rows.hints) if query.given("uadata") else rows.hints
        bot |= np.array(cache.hints.of(hints, self.n), np.uint8)[hint_at]
        self.columns["bot"] = pa.array(np.where(networks, bot | np.uint8(Bot.ADDRESS), bot))
        distinct, tongue_at = rows.language.override(*query.texts("lang"))
        tongues = cache.languages.of(distinct, self.n)
        self.tongues = tongues, tongue_at
        self.columns["language"] = low([tongue.language for tongue in tongues], tongue_at)
        shown = self.by_scope(lambda rules: rules.privacy.resolution)
        self.columns["resolution"] = self.each_text("res", fields.resolution, fields.UNKNOWN_RESOLUTION, shown)
        tongue_words = np.array([tongue.word for tongue in tongues], np.uint64)[tongue_at]
        return tongue_words, np.array([word for _, word in devices], np.uint64)[at]

    def each_text(self, name: str, rule: Any, default: str, kept: Flags) -> pa.DictionaryArray:
        if not kept.any():
            return low([default], np.zeros(self.n, np.int64))
        values, rows = self.query.values(name)
        distinct, at = encode(values)
        codes = np.zeros(self.n, np.int64)
        codes[rows] = at + 1
        return low([default, *(rule(decode(text)) for text in distinct)], np.where(kept, codes, 0))

    def page(self) -> Codes:
        """The page; returns the campaigns of the rows."""
        distinct, at = self.scoped(self.query.full("url"))
        pages = self.caches.pages.of(distinct, self.n)
        self.pages = pages, at
        self.columns["url_path"] = plain([page.path for page in pages], at)
        self.columns["url_host"] = low([page.host for page in pages], at)
        self.removed += np.array([page.removed for page in pages], np.int64)[at]
        number: dict[Campaign, int] = {campaigns.NONE: 0}
        of_page = np.array([number.setdefault(page.campaign, len(number)) for page in pages], np.int64)
        codes = of_page[at]
        direct: dict[int, dict[str, str]] = {}
        for name in campaigns.PARAMETERS:
            if self.query.given(name):
                for text, row in zip(*self.query.texts(name), strict=True):
                    direct.setdefault(row, {})[name] = text
        for row, values in direct.items():
            campaign = campaigns.of_request(values, self.rules_of(row))
            if campaign.name:
                codes[row] = number.setdefault(campaign, len(number))
        table = list(number)
        splits = np.where(self.by_scope(lambda rules: rules.campaign_splits), codes, 0)
        self.out.campaign = [table[code].name for code in splits.tolist()]
        self.campaign_kept = self.by_scope(lambda rules: rules.privacy.campaigns)
        shown = np.where(self.campaign_kept, codes, 0)
        for position, name in enumerate(Campaign._fields):
            self.columns[f"campaign_{name}"] = low([campaign[position] for campaign in table], shown)
        self.campaign_table = table
        return codes

    def referrer(self, campaign: Codes) -> None:
        values, given = self.query.values("urlref")
        distinct, at = self.scoped(values, given)
        found = self.caches.referrers.of(distinct, len(given))
        n = len(found) + 1  # position 0: direct
        codes = np.zeros(self.n, np.int64)
        codes[given] = at + 1
        kinds = np.array([ReferrerType.DIRECT, *(r.type for r in found)], np.uint8)
        hosts = ["", *(r.host for r in found)]
        pages, page_at = self.pages
        same = np.array([page.own for page in pages], object)[page_at] == np.array(hosts, object)[codes]
        codes[same.astype(np.bool_) & (kinds[codes] != ReferrerType.DIRECT)] = 0
        removed = np.array([0, *(r.removed for r in found)], np.int64)
        self.removed += removed[codes]
        kind = kinds[codes]
        self.columns["referrer_url"] = plain(["", *(r.url for r in found)], codes)
        named = campaign > 0
        kind[named] = ReferrerType.CAMPAIGN
        table = self.campaign_table
        shown = np.where(self.campaign_kept, campaign + n, 0)
        # a campaign without a keyword has that of the search which it was found by
        told = ~self.campaign_kept | np.array([bool(c.term) for c in table], np.bool_)[campaign]
        names, keywords = np.where(named, shown, codes), np.where(named & told, shown, codes)
        self.columns["referrer_type"] = pa.array(kind)
        self.columns["referrer_name"] = low(["", *(r.name for r in found), *(c.name for c in table)], names)
        self.columns["referrer_keyword"] = low(["", *(r.keyword for r in found), *(c.term for c in table)], keywords)

    def action(self) -> npt.NDArray[np.uint8]:
        query = self.query
        pages, page_at = self.pages
        results = [at for at, page in enumerate(pages) if page.search.keyword]
        number = np.zeros(len(pages), np.int64)
        number[results] = np.arange(1, len(results) + 1)
        result = number[page_at]  # which page of results it is, 0 for none
        links = {name: self.text_given(name) for name in ("link", "download")}
        texts = {name: self.text(name) for name in TEXT_PARAMETERS}
        ping = query.is_one("ping")
        goal = query.integers("idgoal", fields.NO_GOAL)
        search = texts["search"]
        self.ping, self.goal = ping, goal
        action = actions.classify_columns(
            ping=ping,
            goal=goal,
            media=self.media(),
            download=links["download"],
            link=links["link"],
            event=(texts["e_c"][1] > 0) & (texts["e_a"][1] > 0),
            content=texts["c_n"][1] > 0,
            search=(search[1] > 0) | (result > 0),
            custom=query.is_one("ca"),
        )
        self.columns["action_type"] = pa.array(action)
        is_event, is_content = action == ActionType.EVENT, action == ActionType.CONTENT
        is_search = action == ActionType.SITE_SEARCH
        linked = (action == ActionType.OUTLINK) | (action == ActionType.DOWNLOAD)
        title_texts, title_codes = texts["action_name"]
        self.columns["title"] = plain(title_texts, np.where(linked, 0, title_codes))
        urls = [page.url for page in pages] + [pages[at].searched for at in results]
        self.columns["url"] = plain(urls, np.where(is_search & (result > 0), result + len(pages) - 1, page_at))
        for name, (given, codes) in (("keyword", search), ("category", texts["search_cat"])):
            words = [*given, "", *(getattr(pages[at].search, name) for at in results)]
            codes = np.where(codes > 0, codes, result + len(given))
            self.columns[f"search_{name}"] = self.where((words, codes), is_search)
        count = np.where(is_search, query.integers("search_count", 0, 0), 0)
        self.columns["search_count"] = pa.array(count.astype(np.uint32))
        for parameter, name in (("e_c", "category"), ("e_a", "action"), ("e_n", "name")):
            self.columns[f"event_{name}"] = self.where(texts[parameter], is_event)
        self.columns["event_value"] = pa.array(np.where(is_event, query.decimals("e_v"), 0.0))
        for parameter, name in (("c_n", "name"), ("c_p", "piece"), ("c_t", "target"), ("c_i", "interaction")):
            self.columns[f"content_{name}"] = self.where(texts[parameter], is_content)
        self.link(action)
        return action

    def text_given(self, name: str) -> Flags:
        """Where a parameter is not empty after cleaning."""
        out = np.zeros(self.n, np.bool_)
        values, rows = self.query.values(name)
        if len(rows):
            distinct, at = self.scoped(values, rows)
            found = self.caches.links.of(distinct, len(rows))
            out[rows] = np.array([link.given for link in found], np.bool_)[at]
        return out

    def link(self, action: npt.NDArray[np.uint8]) -> None:
        urls, codes = [""], np.zeros(self.n, np.int64)
        for name, kind in (("link", ActionType.OUTLINK), ("download", ActionType.DOWNLOAD)):
            values, rows = self.query.values(name)
            here = action[rows] == kind
            if here.any():
                rows = rows[here]
                distinct, at = self.scoped(values.filter(pa.array(here)), rows)
                found = self.caches.links.of(distinct)
                codes[rows] = at + len(urls)
                urls += [link.url for link in found]
                self.removed[rows] += np.array([link.removed for link in found], np.int64)[at]
        self.columns["link_url"] = plain(urls, codes)

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

    def media(self) -> Flags:
        """The player that a request tells of; returns where one does."""
        found: dict[int, media.Media] = {}
        if self.query.given("ma_id"):
            given: dict[int, dict[str, str]] = {}
            for name in media.PARAMETERS:
                for text, row in zip(*self.query.texts(name), strict=True):
                    given.setdefault(row, {})[name] = text
            for row, texts in given.items():
                found[row] = media.of_request(texts, partial(self.cleaned, row), partial(self.linked, row))
        told = np.zeros(self.n, np.bool_)
        told[[row for row, one in found.items() if one.id]] = True
        none, rows = media.NONE, list(found)
        codes = np.zeros(self.n, np.int64)
        codes[rows] = np.arange(1, len(rows) + 1)
        table = [none, *found.values()]
        for position, name in enumerate(media.Media._fields):
            kind = EVENTS.field(f"media_{name}").type
            values: list[Any] = [one[position] for one in table]
            column = low(values, codes) if pa.types.is_dictionary(kind) else pa.array(values, kind).take(codes)
            self.columns[f"media_{name}"] = column
        return told

    def cleaned(self, row: int, text: str) -> str:
        """A text by the rules of a row's site; what is removed from it is counted."""
        cleaned, removed = clean_text(text, self.rules_of(row))
        self.removed[row] += removed
        return cleaned

    def linked(self, row: int, text: str) -> str:
        """An address by the rules of a row's site; what is removed from it is counted."""
        parts = split(text)
        url, removed = clean(parts, self.rules_of(row)) if parts is not None else ("", 0)
        self.removed[row] += removed
        return url

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

    def numbers(self, action: npt.NDArray[np.uint8], timings: dict[str, Codes]) -> None:
        query = self.query
        viewed = action == ActionType.PAGE_VIEW
        for parameter, name in fields.TIMINGS.items():
            values = timings[parameter]
            values = np.where(viewed & (values <= fields.TIMING_LIMIT), values, 0)
            self.columns[name] = pa.array(values.astype(np.uint32))
        plugins = np.zeros(self.n, np.uint16)
        for bit, name in enumerate(fields.PLUGINS):
            plugins |= query.is_one(name).astype(np.uint16) << np.uint16(bit)
        self.plugins = plugins
        kept = self.by_scope(lambda rules: rules.privacy.plugins)
        self.columns["plugins"] = pa.array(np.where(kept, plugins, np.uint16(0)))
        hour, minute, second = query.integers("h", -1), query.integers("m"), query.integers("s")
        h = np.where((hour >= 0) & (hour < 24), hour, 0)
        m = np.where((minute >= 0) & (minute < 60), minute, 0)
        s = np.where((second >= 0) & (second < 60), second, 0)
        seconds = np.where(hour == -1, -1, h * 3600 + m * 60 + s)
        unit = self.by_scope(lambda rules: LOCAL_UNIT[rules.privacy.local_time], np.int64)
        seconds = np.where((unit == 0) | (seconds < 0), -1, seconds // np.maximum(unit, 1) * unit)
        self.columns["local_seconds"] = pa.array(seconds.astype(np.int32))
        view = query.full("pv_id")
        if not pc.all(pc.match_substring_regex(view, "^[0-9a-zA-Z]{0,6}$")).as_py():
            view = pa.array([fields.page_view_id(decode(text)) for text in view.to_pylist()], pa.string())
        self.columns["page_view_id"] = view
        self.out.new_visit = query.is_one("new_visit").tolist()

    def place(self) -> None:
        """The place on earth that the request names itself, else the country that the visitor's languages tell."""
        query, codes = self.query, np.zeros(self.n, np.int64)
        number = {location.NOWHERE: 0}
        if query.given("country"):
            given: dict[int, dict[str, str]] = {}
            for name in location.PARAMETERS:
                for text, row in zip(*query.texts(name), strict=True):
                    given.setdefault(row, {})[name] = text
            for row, texts in given.items():
                place = location.given(texts, int(self.rows.role[row]), self.rules_of(row))
                codes[row] = number.setdefault(place, len(number))
        sources = np.where(codes > 0, 1, 0)
        tongues, at = self.tongues
        rules = self.by_scope(lambda rules: COUNTRY_RULES.index(rules.country_by_language), np.int64)
        for position, rule in enumerate(COUNTRY_RULES):
            if rule is not CountryByLanguage.NEVER and (here := (rules == position) & (sources == 0)).any():
                told = [location.Place(tongue.countries[rule]) for tongue in tongues]
                codes = np.where(here, np.array([number.setdefault(place, len(number)) for place in told])[at], codes)
        sources = np.where((codes > 0) & (sources == 0), 2, sources)
        self.columns["country_source"] = low(location.SOURCES, sources)
        for position, name in enumerate(location.PARAMETERS):
            self.columns[name] = low([found[position] for found in number], codes)

    def own_fields(self) -> None:
        """Custom dimensions and variables, where the policy keeps any."""
        dimensions: dict[int, list[tuple[int, str]]] = {}
        variables: dict[int, list[custom.Variable]] = {}
        wanted = [custom.wanted(rules.privacy) if rules is not None else (False, False) for rules in self.rules]
        if any(dimension for dimension, _ in wanted):
            for row, given in self.query.dimensions().items():
                dimensions[row] = custom.dimensions(given, self.rules_of(row), self.keys_of(row))
        if any(variable for _, variable in wanted):
            texts: dict[int, dict[str, str]] = {}
            for name in custom.SCOPES:
                for text, row in zip(*self.query.texts(name), strict=True):
                    texts.setdefault(row, {})[name] = text
            for row, found in texts.items():
                variables[row] = custom.variables(found, self.rules_of(row), self.keys_of(row))
        self.columns |= self.lists(("dimension_slot", "dimension_value"), dimensions)
        self.columns |= self.lists(("variable_scope", "variable_name", "variable_value"), variables)

    def keys_of(self, row: int) -> custom.Keys:
        return lambda rule: self.kept_key(row, rule is Values.SITE)

    def lists(self, names: tuple[str, ...], rows: Mapping[int, Sequence[tuple[Any, ...]]]) -> dict[str, pa.Array]:
        """Array columns of tuples by row; rows that are missing have none."""
        lengths = np.zeros(self.n + 1, np.int32)
        flat: list[tuple[Any, ...]] = []
        for row in sorted(rows):
            lengths[row + 1] = len(rows[row])
            flat += rows[row]
        offsets = pa.array(np.cumsum(lengths, dtype=np.int32))
        out = {}
        for position, name in enumerate(names):
            kind = EVENTS.field(name).type
            values = pa.array([entry[position] for entry in flat], kind.value_type)
            out[name] = pa.ListArray.from_arrays(offsets, values).cast(kind)
        return out

    def identity(self, seen: U64, language: U64, device: U64) -> None:
        rows, out = self.rows, self.out
        place = (rows.partition << np.uint64(32)) | rows.index.astype(np.uint64)
        config = self.fingerprint(seen, language, device)
        each = self.by_scope(lambda rules: rules.privacy.visitor_ids is VisitorIds.REQUEST)
        if each.any():
            random = keyed.hash_columns(self.k0, self.k1, Kind.REQUEST, rows.writer, rows.seq, place)
            config = np.where(each, random, config)
        numbers, named = self.visitor_numbers()
        visitor = np.where(named, keyed.hash_columns(self.k0, self.k1, Kind.VISITOR, numbers), np.uint64(0))
        user = np.zeros(self.n, np.uint64)
        kept_user, names = user.copy(), np.zeros(self.n, np.int64)
        texts = [""]
        for text, row in zip(*self.query.texts("uid"), strict=True):
            rules = self.rules_of(row)
            if not rules.reads_ids:
                continue
            hashed = user_ids.user_hash(self.key_of(row), text)
            rule = rules.privacy.user_ids
            if rule is Values.DROP:
                visitor[row] = visitor[row] or hashed
            else:
                user[row] = hashed
                lasts = rule is not Values.DAY
                kept_user[row] = user_ids.user_hash(self.kept_key(row, lasts), text) if lasts else user[row]
                if rule is Values.KEEP:
                    names[row] = len(texts)
                    texts.append(user_ids.clean(text))
        lasting = self.by_scope(lambda rules: rules.privacy.visitor_ids is VisitorIds.SITE)
        lasting_users = self.by_scope(lambda rules: rules.privacy.user_ids in (Values.SITE, Values.KEEP))
        kept_visitor = visitor
        if lasting.any():
            s0, s1 = self.site_words(lasting)
            kept = keyed.hash_columns(s0, s1, Kind.VISITOR, numbers)
            kept_visitor = np.where(lasting & named, kept, visitor)
        by_user = (user > 0) & ~(lasting & ~lasting_users & named)
        who = np.where(by_user, np.where(lasting & lasting_users, kept_user, user), kept_visitor)
        kind = np.where(
            by_user, VisitorKind.USER_ID, np.where(visitor > 0, VisitorKind.VISITOR_ID, VisitorKind.CONFIG_ID)
        )
        self.columns |= {
            "visitor_id": pa.array(np.where(who > 0, who, config)),
            "visitor_kind": pa.array(kind.astype(np.uint8)),
            "config_id": pa.array(config),
            "user_id": pa.array(kept_user),
            "user_name": plain(texts, names),
        }
        out.time = rows.time_ms.tolist()
        out.user, out.visitor, out.config = user.tolist(), visitor.tolist(), config.tolist()
        name = keyed.hash_columns(self.k0, self.k1, Kind.VISIT, rows.writer, rows.seq, place)
        out.visit_name = name.tolist()

    def fingerprint(self, seen: U64, language: U64, device: U64) -> U64:
        """The config ids, with plugins where the policy asks for it."""
        fine = self.by_scope(lambda rules: rules.fine)
        words = seen[:, 0], seen[:, 1], device, language
        if not fine.any():
            return keyed.hash_columns(self.k0, self.k1, Kind.CONFIG, *words)
        finer = keyed.hash_columns(self.k0, self.k1, Kind.CONFIG, *words, self.plugins.astype(np.uint64))
        if fine.all():
            return finer
        return np.where(fine, finer, keyed.hash_columns(self.k0, self.k1, Kind.CONFIG, *words))

    def site_words(self, where: Flags) -> tuple[U64, U64]:
        """The halves of the permanent keys of the sites of these rows, 0 elsewhere."""
        words = np.zeros((len(self.rules), 2), np.uint64)
        for scope in np.unique(self.rows.scope[where]).tolist():
            row = int(np.flatnonzero(self.rows.scope == scope)[0])
            words[scope] = keyed.key_words(self.kept_key(row, True))
        found = words[self.rows.scope]
        return found[:, 0], found[:, 1]

    def visitor_numbers(self) -> tuple[U64, Flags]:
        """The number of `cid` or `_id`, and which rows have one that may be read."""
        numbers, named = np.zeros(self.n, np.uint64), np.zeros(self.n, np.bool_)
        reads = self.by_scope(lambda rules: rules.reads_ids and rules.privacy.visitor_ids is not VisitorIds.DROP)
        cookies = reads & self.by_scope(lambda rules: not rules.privacy.cookieless)
        values, rows = self.query.values("_id")
        if len(rows) and cookies.any():
            data, starts, lengths = text_bytes(values)
            found, good = visitor_ids.cookie_column(data, starts, lengths)
            for i in np.flatnonzero(~good & (lengths >= 16)).tolist():  # perhaps percent-encoded
                number = visitor_ids.cookie(decode(values[i].as_py()))
                if number is not None:
                    found[i], good[i] = number, True
            numbers[rows], named[rows] = found, good
            named &= cookies
        for text, row in zip(*self.query.texts("cid"), strict=True):
            number = visitor_ids.forced(text)
            if number is not None and reads[row]:
                numbers[row], named[row] = number, True
        return numbers, named


def site_key(rules: Rules, time_ms: int, stamped_ms: int, lookups: Lookups) -> bytes:
    """The key of a site on the date there of an event; one of before the day before it came is an import's."""
    day, came = rules.date(time_ms), rules.date(stamped_ms)
    if day >= came - timedelta(days=1):
        return keyed.site_day_key(lookups.day_secret(day), rules.site)
    return keyed.site_day_key(keyed.import_secret(lookups.day_secret(came), day), rules.site)


def _or_else(texts: pa.StringArray, others: Texts) -> Texts:
    """The texts, or the others where they are empty."""
    distinct, at = encode(texts)
    empty = np.array([not text for text in distinct], np.bool_)[at]
    return Texts.used(others.distinct + distinct, np.where(empty, others.codes, at + len(others.distinct)))
