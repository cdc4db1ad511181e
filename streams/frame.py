"""What the stages share: columns of the kept rows, the rules and keys of each row's site, texts cleaned by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.parameters import decode
from schemas.privacy import Values
from schemas.tables import EVENTS
from streams import keyed
from streams.anonymize import custom, detect
from streams.anonymize.urls import clean, clean_text, split
from streams.caches import SEPARATOR, caches
from streams.columns import Query
from streams.description import Codes, Description, Flags
from streams.distinct import encode, low
from streams.gather import Rows
from streams.rules import QUARTER_MS, Rules
from streams.surroundings import Lookups

DAY_MS = 86_400_000


class Frame:
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

    def each_text(self, name: str, rule: Any, default: str, kept: Flags) -> pa.DictionaryArray:
        if not kept.any():
            return low([default], np.zeros(self.n, np.int64))
        values, rows = self.query.values(name)
        distinct, at = encode(values)
        codes = np.zeros(self.n, np.int64)
        codes[rows] = at + 1
        return low([default, *(rule(decode(text)) for text in distinct)], np.where(kept, codes, 0))

    def text_given(self, name: str) -> Flags:
        """Where a parameter is not empty after cleaning."""
        out = np.zeros(self.n, np.bool_)
        values, rows = self.query.values(name)
        if len(rows):
            distinct, at = self.scoped(values, rows)
            found = self.caches.links.of(distinct, len(rows))
            out[rows] = np.array([link.given for link in found], np.bool_)[at]
        return out

    def by_scope(self, rule: Callable[[Rules], Any], dtype: Any = np.bool_) -> npt.NDArray[Any]:
        """What a rule is at each row's site."""
        none = np.zeros(1, dtype)[0]
        return np.array([none if rules is None else rule(rules) for rules in self.rules], dtype)[self.rows.scope]

    def rules_of(self, row: int) -> Rules:
        rules: Rules | None = self.rules[self.rows.scope[row]]
        assert rules is not None
        return rules

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

    def keys(self) -> None:
        """Each row's date at its site, and its key: that of its site on that date."""
        time, stamped = self.rows.time_ms, self.rows.stamped_ms
        old = np.flatnonzero(time < stamped - DAY_MS)
        quarter = (np.where(time < stamped - DAY_MS, stamped, time) if len(old) else time) // QUARTER_MS
        distinct, at = encode(pa.array((self.rows.scope << 32) | quarter))
        made: dict[tuple[int, date], bytes] = {}
        keys, days = [], []
        for pair in distinct:
            rules = self.rules[pair >> 32]
            assert rules is not None
            day = rules.date((pair & 0xFFFFFFFF) * QUARTER_MS)
            name = (rules.site, day)
            if name not in made:
                made[name] = keyed.site_day_key(self.lookups.day_secret(day), rules.site)
            keys.append(made[name])
            days.append(day)
        imported: dict[tuple[int, int, int], int] = {}
        for row in old.tolist():
            pair = int(self.rows.scope[row]), int(time[row]) // QUARTER_MS, int(stamped[row]) // QUARTER_MS
            if pair not in imported:
                rules = self.rules[pair[0]]
                assert rules is not None
                imported[pair] = len(keys)
                keys.append(site_key(rules, pair[1] * QUARTER_MS, pair[2] * QUARTER_MS, self.lookups))
                days.append(rules.date(pair[1] * QUARTER_MS))
            at[row] = imported[pair]
        words = np.array([keyed.key_words(key) for key in keys], np.uint64)
        self.columns["day"] = pa.array(days, pa.date32()).take(pa.array(at))
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

    def keys_of(self, row: int) -> custom.Keys:
        return lambda rule: self.kept_key(row, rule is Values.SITE)


def site_key(rules: Rules, time_ms: int, stamped_ms: int, lookups: Lookups) -> bytes:
    """The key of a site on the date there of an event; one of before the day before it came is an import's."""
    day, came = rules.date(time_ms), rules.date(stamped_ms)
    if day >= came - timedelta(days=1):
        return keyed.site_day_key(lookups.day_secret(day), rules.site)
    return keyed.site_day_key(keyed.import_secret(lookups.day_secret(came), day), rules.site)
