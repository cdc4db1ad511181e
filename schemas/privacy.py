"""The privacy rules of a site: table `[privacy]` of its file over that of `default.toml` over a preset.

    [privacy]
    preset = "no-personal-data"          # or cnil-exempt, consent-required, matomo-default
    mask_bytes = 2                       # any rule of `Privacy` by its name
    [privacy.dimensions]
    3 = "keep"                           # a custom dimension's own rule

Each value is decided by the first that names it: the site's file, `default.toml`, the preset that is in force there.
`children = true` goes before all: it sets every rule of `CHILDREN`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, get_type_hints

import msgspec

from schemas.exclusions import is_pattern, pattern
from schemas.parameter_lists import EXCLUSION_LISTS, SEARCH_PARAMETERS

PATTERN_LIMIT = 200  # characters of a /regex/


class PrivacyError(ValueError):
    """A privacy rule is wrong; the message names the key and what is expected."""


class VisitorIds(StrEnum):
    """How a visitor is named in rows: not at all, by a hash keyed for a day or a site, or anew with every request."""

    DROP = "drop"
    DAY = "day"
    SITE = "site"
    REQUEST = "request"


class Orders(StrEnum):
    """In which form an order id is kept; either key lets one order that is sent twice be seen as one."""

    DROP = "drop"
    DAY = "day"
    SITE = "site"


class PageViewIds(StrEnum):
    """How a page view and the playing of a medium are named: not at all, by a hash keyed for the day, as they came."""

    DROP = "drop"
    DAY = "day"
    KEEP = "keep"


class Values(StrEnum):
    """In which form a value that the site gave is kept: not at all, hashed by a key of a day or the site, as it is."""

    DROP = "drop"
    DAY = "day"
    SITE = "site"
    KEEP = "keep"


class Referrers(StrEnum):
    """How much of a referrer is kept (Matomo's anonymizeReferrer, of which KEEP is the empty level)."""

    KEEP = "keep"
    EXCLUDE_QUERY = "exclude_query"
    EXCLUDE_PATH = "exclude_path"
    EXCLUDE_ALL = "exclude_all"


class UrlParameters(StrEnum):
    """Which parameters of URLs are kept: those on the allow-list, or all but the excluded."""

    LISTED = "listed"
    ALL = "all"


class Location(StrEnum):
    """The finest place on earth that is kept."""

    NONE = "none"
    COUNTRY = "country"
    REGION = "region"
    CITY = "city"


class CountryByLanguage(StrEnum):
    """What of the visitor's languages tells the country where nothing else does.

    Nothing; the region of one (`fr-ca`); or, of one without a region, the country where most of its speakers live.
    """

    NEVER = "never"
    REGION = "region"
    LANGUAGE = "language"


class LocalTime(StrEnum):
    """How much of the time of day at the visitor is kept."""

    DROP = "drop"
    HOUR = "hour"
    SECOND = "second"


class Fingerprint(StrEnum):
    """What tells two visitors apart who send no id: network, device family and language, or plugins as well."""

    COARSE = "coarse"
    FINE = "fine"


class FingerprintAddress(StrEnum):
    """Which address the fingerprint is made of."""

    MASKED = "masked"
    FULL = "full"


class Detector(StrEnum):
    """A kind of personal data that is known by its value, wherever it stands in a text."""

    EMAIL = "email"
    PHONE = "phone"
    IBAN = "iban"
    CARD = "card"
    NATIONAL_ID = "national_id"
    TOKEN = "token"
    IP = "ip"
    MAC = "mac"
    NAME = "name"


class Consent(StrEnum):
    """What consent changes: nothing; the rules of actions that have it; whether anything is stored at all."""

    IGNORED = "ignored"
    AWARE = "aware"
    REQUIRED = "required"


class Privacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rules in force at a site. The defaults are the preset `no-personal-data`; names are lower case and sorted."""

    preset: str = "no-personal-data"
    mask_bytes: int = 2  # 0 to 4 bytes of IPv4 (IPv6 keeps 128, 64, 48, 24, 0 bits); 5: nothing is stored
    fingerprint: Fingerprint = Fingerprint.COARSE
    fingerprint_address: FingerprintAddress = FingerprintAddress.MASKED
    cookieless: bool = False  # ignore `_id`
    visitor_ids: VisitorIds = VisitorIds.DAY
    user_ids: Values = Values.DROP
    order_ids: Orders = Orders.DAY
    page_view_ids: PageViewIds = PageViewIds.DAY  # `pv_id` and `ma_id`
    custom_variables: Values = Values.DROP
    custom_dimensions: Values = Values.DROP
    dimensions: dict[int, Values] = {}  # by slot, before `custom_dimensions`
    url_parameters: UrlParameters = UrlParameters.LISTED
    allowed_parameters: tuple[str, ...] = ()  # beside campaigns and site searches
    excluded_parameters: tuple[str, ...] = ()  # names and /regex/
    excluded_lists: tuple[str, ...] = ("personal", "sessions")
    detectors: tuple[Detector, ...] = tuple(Detector)  # kinds of values that texts lose
    masked_paths: tuple[str, ...] = ()  # such as /users/*/orders: what stands for a star is not kept
    keep_fragment: bool = False
    search_parameters: tuple[str, ...] = tuple(sorted(SEARCH_PARAMETERS))
    search_category_parameters: tuple[str, ...] = ()
    campaigns: bool = True
    referrer: Referrers = Referrers.EXCLUDE_QUERY
    location: Location = Location.COUNTRY
    country_by_language: CountryByLanguage = CountryByLanguage.NEVER
    resolution: bool = False
    device_model: bool = False
    device_versions: bool = False
    plugins: bool = False
    local_time: LocalTime = LocalTime.HOUR
    do_not_track: bool = True
    global_privacy_control: bool = True
    consent: Consent = Consent.IGNORED
    with_consent: str = ""  # under AWARE: the preset whose rules hold for actions with consent
    children: bool = False

    def dimension(self, slot: int) -> Values:
        """The rule of a custom dimension, 1 to 999."""
        return self.dimensions.get(slot, self.custom_dimensions)

    @property
    def reads_ids(self) -> bool:
        """Whether visitor ids and user ids of requests are read at all; `granted` says with which rules they may be."""
        return self.visitor_ids is not VisitorIds.REQUEST and self.consent is not Consent.AWARE

    @property
    def lasting(self) -> tuple[str, ...]:
        """The rules by which something is stored that names a person beyond the day: then it is personal data."""
        ids = ("visitor_ids", "user_ids") if self.reads_ids else ()
        found = [name for name in (*ids, "order_ids") if getattr(self, name) in ("site", "keep")]
        found += [name for name in ("custom_variables", "custom_dimensions") if getattr(self, name) in ("site", "keep")]
        if any(rule in (Values.SITE, Values.KEEP) for rule in self.dimensions.values()):
            found.append("dimensions")
        if self.mask_bytes == 0:
            found.append("mask_bytes")
        return tuple(found)

    @property
    def needs_site_key(self) -> bool:
        """Whether anything is hashed with the site's permanent key, with or without consent."""
        own = (self.user_ids, self.custom_variables, self.custom_dimensions, *self.dimensions.values())
        if self.visitor_ids is VisitorIds.SITE or self.order_ids is Orders.SITE:
            return True
        if Values.SITE in own or self.user_ids is Values.KEEP:
            return True
        granted = self.granted()
        return granted is not self and granted.needs_site_key

    def granted(self) -> Privacy:
        """The rules for actions with consent: those of `with_consent`, with the site's own lists; else the same."""
        if self.consent is not Consent.AWARE or not self.with_consent:
            return self
        lists = {name: getattr(self, name) for name in LISTS}
        return msgspec.structs.replace(of_preset(self.with_consent), consent=Consent.IGNORED, with_consent="", **lists)


LISTS = (
    *("allowed_parameters", "excluded_parameters", "detectors", "masked_paths", "keep_fragment"),
    *("search_parameters", "search_category_parameters"),
)
RULES = tuple(name for name in Privacy.__struct_fields__)
_CHOICES: dict[str, type[StrEnum]] = {
    name: kind for name, kind in get_type_hints(Privacy).items() if isinstance(kind, type) and issubclass(kind, StrEnum)
}

# What Matomo does as it is installed: names and hashes that last, everything kept that is not an id of a session.
_MATOMO: dict[str, Any] = {
    "fingerprint": Fingerprint.FINE,
    "fingerprint_address": FingerprintAddress.FULL,
    "visitor_ids": VisitorIds.SITE,
    "user_ids": Values.KEEP,
    "order_ids": Orders.SITE,
    "page_view_ids": PageViewIds.KEEP,
    "custom_variables": Values.KEEP,
    "custom_dimensions": Values.KEEP,
    "url_parameters": UrlParameters.ALL,
    "excluded_lists": ("sessions",),
    "detectors": (),
    "referrer": Referrers.KEEP,
    "location": Location.CITY,
    "country_by_language": CountryByLanguage.LANGUAGE,
    "resolution": True,
    "device_model": True,
    "device_versions": True,
    "plugins": True,
    "local_time": LocalTime.SECOND,
    "do_not_track": False,
    "global_privacy_control": False,
}
PRESETS: dict[str, dict[str, Any]] = {
    "no-personal-data": {},
    # What Matomo's policy for the French exemption restricts; actions with consent follow `consent-required`.
    "cnil-exempt": {
        "url_parameters": UrlParameters.ALL,
        "campaigns": False,
        "referrer": Referrers.EXCLUDE_PATH,
        "location": Location.CITY,
        "device_versions": True,
        "consent": Consent.AWARE,
        "with_consent": "consent-required",
    },
    "consent-required": {
        "visitor_ids": VisitorIds.SITE,
        "user_ids": Values.SITE,
        "order_ids": Orders.SITE,
        "page_view_ids": PageViewIds.KEEP,
        "custom_variables": Values.KEEP,
        "custom_dimensions": Values.KEEP,
        "url_parameters": UrlParameters.ALL,
        "referrer": Referrers.KEEP,
        "location": Location.CITY,
        "resolution": True,
        "device_model": True,
        "device_versions": True,
        "plugins": True,
        "consent": Consent.REQUIRED,
    },
    "matomo-default": _MATOMO,
}
# No identifiers at all (GDPR article 8, recital 38).
CHILDREN: dict[str, Any] = {
    "mask_bytes": 5,
    "cookieless": True,
    "visitor_ids": VisitorIds.REQUEST,
    "user_ids": Values.DROP,
    "order_ids": Orders.DROP,
    "page_view_ids": PageViewIds.DROP,
    "custom_variables": Values.DROP,
    "custom_dimensions": Values.DROP,
    "dimensions": {},
    "url_parameters": UrlParameters.LISTED,
    "allowed_parameters": (),
    "keep_fragment": False,
    "detectors": tuple(Detector),
    "referrer": Referrers.EXCLUDE_PATH,
    "location": Location.COUNTRY,
    "resolution": False,
    "device_model": False,
    "device_versions": False,
    "plugins": False,
    "local_time": LocalTime.HOUR,
    "do_not_track": True,
    "global_privacy_control": True,
    "with_consent": "",
}


def of_preset(name: str) -> Privacy:
    """The rules of a preset; raises PrivacyError."""
    if name not in PRESETS:
        raise PrivacyError(f"preset: must be one of {', '.join(PRESETS)}")
    return Privacy(preset=name, **PRESETS[name])


def resolve(tables: Mapping[str, Mapping[str, Any]]) -> tuple[Privacy, dict[str, str]]:
    """The rules in force, and by rule where its value is from: a name of `tables`, the preset's, or `children`.

    `tables`: raw `[privacy]` tables by where they stand, the strongest first. Raises PrivacyError.
    """
    given = {where: (table, _typed(table)) for where, table in tables.items()}
    preset = next(
        (typed.preset for table, typed in given.values() if "preset" in table), Privacy.__struct_defaults__[0]
    )
    values = {name: getattr(of_preset(preset), name) for name in RULES}
    sources = dict.fromkeys(RULES, f"preset {preset}")
    for where, (table, typed) in reversed(given.items()):
        for name in table:
            values[name], sources[name] = getattr(typed, name), where
    if values["consent"] is not Consent.AWARE and sources["with_consent"].startswith("preset "):
        values["with_consent"] = ""  # what the site says of consent goes before what its preset does
    if values["children"]:
        values |= CHILDREN
        sources |= dict.fromkeys(CHILDREN, "children")
    found = Privacy(**values)
    _check(found)
    return _ordered(found), sources


def _typed(table: Mapping[str, Any]) -> Privacy:
    for name, kind in _CHOICES.items():
        if name in table and table[name] not in list(kind):
            raise PrivacyError(f"privacy.{name} is {table[name]!r}, must be one of {', '.join(kind)}")
    kinds = table.get("detectors")
    for kind in kinds if isinstance(kinds, list) else ():
        if kind not in list(Detector):
            raise PrivacyError(f"privacy.detectors holds {kind!r}, must be among {', '.join(Detector)}")
    try:
        return msgspec.convert(table, Privacy, str_keys=True)
    except msgspec.ValidationError as error:
        raise PrivacyError(f"privacy: {error}") from None


def _ordered(found: Privacy) -> Privacy:
    names = ("allowed_parameters", "search_parameters", "search_category_parameters", "excluded_lists")
    lists = {name: tuple(sorted({text.lower() for text in getattr(found, name)})) for name in names}
    lists["excluded_parameters"] = tuple(
        sorted({text if is_pattern(text) else text.lower() for text in found.excluded_parameters})
    )
    lists["masked_paths"] = tuple(sorted(set(found.masked_paths)))
    detectors = tuple(kind for kind in Detector if kind in found.detectors)
    dimensions = dict(sorted(found.dimensions.items()))
    return msgspec.structs.replace(found, dimensions=dimensions, detectors=detectors, **lists)


def _check(found: Privacy) -> None:
    def wrong(key: str, expected: str) -> PrivacyError:
        return PrivacyError(f"privacy.{key} {expected}")

    if not 0 <= found.mask_bytes <= 5:
        raise wrong("mask_bytes", "must be from 0 to 5")
    if any(not 1 <= slot <= 999 for slot in found.dimensions):
        raise wrong("dimensions", "must be numbered from 1 to 999")
    for name in found.excluded_lists:
        if name.lower() not in EXCLUSION_LISTS:
            raise wrong("excluded_lists", f"must be among {', '.join(sorted(EXCLUSION_LISTS))}")
    for text in found.excluded_parameters:
        if is_pattern(text):
            try:
                pattern(text)
            except re.error:
                raise wrong("excluded_parameters", f"holds {text}, which is not a regular expression") from None
            if len(text) > PATTERN_LIMIT:
                raise wrong("excluded_parameters", f"holds a regular expression of over {PATTERN_LIMIT} characters")
    if any(text[:1] != "/" or "?" in text or "#" in text for text in found.masked_paths):
        raise wrong("masked_paths", "must be paths that begin with /, with * for what is not kept")
    if found.with_consent and found.with_consent not in PRESETS:
        raise wrong("with_consent", f"must be one of {', '.join(PRESETS)}")
    if found.with_consent and found.consent is not Consent.AWARE:
        raise wrong("with_consent", 'needs consent = "aware"')
