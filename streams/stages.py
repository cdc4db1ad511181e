"""The stages that make columns of kept rows, in their fixed order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.parameters import decode
from schemas.privacy import CountryByLanguage, LocalTime, PageViewIds
from schemas.tables import ActionType, ReferrerType
from streams import fields
from streams.anonymize import addresses, custom, location, page_view_ids
from streams.caches import BETWEEN
from streams.commerce import Commerce
from streams.description import U64, Codes, Flags
from streams.distinct import Texts, encode, low, plain
from streams.enrich import actions, bots, campaigns
from streams.enrich.bots import Bot
from streams.enrich.campaigns import Campaign
from streams.identities import Identity

TEXT_PARAMETERS = ("action_name", "search", "search_cat", "e_c", "e_a", "e_n", "c_n", "c_p", "c_t", "c_i")
DEVICE_COLUMNS = {
    "device_type": "type",
    "device_brand": "brand",
    "device_model": "model",
    "os": "os",
    "os_version": "os_version",
    "browser": "browser",
    "browser_version": "browser_version",
}
COUNTRY_RULES = tuple(CountryByLanguage)
PAGE_VIEW_RULES = tuple(PageViewIds)
DROP, DAY, KEEP = range(len(PAGE_VIEW_RULES))
LOCAL_UNIT = {LocalTime.DROP: 0, LocalTime.HOUR: fields.HOUR, LocalTime.SECOND: 1}  # seconds


class Stages(Commerce, Identity):
    """All stages over the kept rows of one description."""

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
        bot = np.array([device.bot for device, _ in devices], np.uint16)[at]
        hints, hint_at = _or_else(query.full("uadata"), rows.hints) if query.given("uadata") else rows.hints
        pairs, pair_at = encode(pa.array((at << 32) | hint_at))
        both = [f"{distinct[pair >> 32]}{BETWEEN}{hints[pair & 0xFFFFFFFF]}" for pair in pairs]
        bot |= np.array(cache.hints.of(both, self.n), np.uint16)[pair_at]
        bot |= np.where(networks, np.uint16(Bot.ADDRESS), np.uint16(0))
        scripted = rows.role > 0
        for name in bots.SCRIPTED:
            if scripted.all():  # nearly every request has the first of them
                break
            scripted |= query.filled(name)
        self.columns["bot"] = pa.array(np.where(scripted, bot, bot | np.uint16(Bot.NO_SCRIPTS)))
        distinct, tongue_at = rows.language.override(*query.texts("lang"))
        tongues = cache.languages.of(distinct, self.n)
        self.tongues = tongues, tongue_at
        self.columns["language"] = low([tongue.language for tongue in tongues], tongue_at)
        shown = self.by_scope(lambda rules: rules.privacy.resolution)
        self.columns["resolution"] = self.each_text("res", fields.resolution, fields.UNKNOWN_RESOLUTION, shown)
        tongue_words = np.array([tongue.word for tongue in tongues], np.uint64)[tongue_at]
        return tongue_words, np.array([word for _, word in devices], np.uint64)[at]

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
        names[named & ~self.campaign_kept] = len(found) + 1 + len(table)
        self.columns["referrer_type"] = pa.array(kind)
        told_names = ["", *(r.name for r in found), *(c.name for c in table), campaigns.UNNAMED]
        self.columns["referrer_name"] = low(told_names, names)
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
            crash=self.crash(),
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
        self.columns["page_view_id"] = self.page_views(view)
        self.out.new_visit = query.is_one("new_visit").tolist()

    def page_views(self, texts: pa.StringArray) -> pa.StringArray:
        """Page view ids by the rules of each row."""
        rules = self.by_scope(lambda rules: PAGE_VIEW_RULES.index(rules.privacy.page_view_ids), np.int64)
        found = page_view_ids.page_views(self.k0, self.k1, texts) if (rules == DAY).any() else texts
        kept, dropped = rules == KEEP, rules == DROP
        if found is not texts and kept.any():
            found = pc.if_else(pa.array(kept), texts, found)
        return pc.if_else(pa.array(dropped), "", found) if dropped.any() else found

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


def _or_else(texts: pa.StringArray, others: Texts) -> Texts:
    """The texts, or the others where they are empty."""
    distinct, at = encode(texts)
    empty = np.array([not text for text in distinct], np.bool_)[at]
    return Texts.used(others.distinct + distinct, np.where(empty, others.codes, at + len(others.distinct)))
