"""A site's effective privacy policy in plain sentences, and what of it leaks. Everything is read from the rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from infra.service.vault import KEPT
from schemas.parameter_lists import PERSONAL_PARAMETERS, SESSION_PARAMETERS
from schemas.privacy import (
    Consent,
    CountryByLanguage,
    Detector,
    Fingerprint,
    FingerprintAddress,
    LocalTime,
    Location,
    Orders,
    PageViewIds,
    Privacy,
    Referrers,
    UrlParameters,
    Values,
    VisitorIds,
)
from schemas.retention import KINDS, Retention
from schemas.sites import SitePolicy

PERSONAL = "pseudonymous, personal data"
NOT_PERSONAL = "no personal data"

_joint = re.compile(r"[-_ ]").sub


def kind(rules: Privacy) -> str:
    """What rows made by these rules are, with or without consent: no personal data only where no id lasts, no other
    columns bring two days together, and values and parameters that name people are looked for and left out."""
    return PERSONAL if any(map(_personal, (rules, rules.granted()))) else NOT_PERSONAL


def _personal(rules: Privacy) -> bool:
    open_parameters = rules.url_parameters is UrlParameters.ALL or bool(_personal_names(rules))
    return bool(rules.lasting or linkable(rules)) or open_parameters or len(rules.detectors) < len(Detector)


def _personal_names(rules: Privacy) -> set[str]:
    """Parameters on the allow-list that mostly hold what names a person or a session."""
    known = PERSONAL_PARAMETERS | SESSION_PARAMETERS
    listed = rules.allowed_parameters if rules.url_parameters is UrlParameters.LISTED else ()
    return {name for name in listed if {name, _joint("", name)} & known}


def explain(policy: SitePolicy, retention: Retention = Retention()) -> list[str]:  # noqa: B008
    """What is collected, in which form and for how long, a sentence each."""
    rules = policy.privacy
    out = [f"By these rules what is stored is {kind(rules)}."]
    out += _when(rules)
    out += _what(rules)
    out += _recordings(policy)
    out += _how_long(policy, retention)
    out.append(_linked(rules))
    granted = rules.granted()
    if granted is not rules:
        without = set(_what(rules))
        out.append(f"Actions for which the visitor gave consent follow the preset {granted.preset} instead:")
        out += [f"With consent: {text}" for text in (*_what(granted), _linked(granted)) if text not in without]
    return out


def linkable(rules: Privacy) -> list[str]:
    """By what visits of one visitor on two days can be linked, beside network, kinds of device, language and hour."""
    lasts = (Values.SITE, Values.KEEP)
    custom = (rules.custom_variables, rules.custom_dimensions, *rules.dimensions.values())
    found = {
        "visitor ids": rules.reads_ids and rules.visitor_ids is VisitorIds.SITE,
        "user ids": rules.reads_ids and rules.user_ids in lasts,
        "order numbers that are sent again": rules.order_ids is Orders.SITE,
        "pages that are open over midnight": rules.page_view_ids is PageViewIds.KEEP,
        "custom values": any(rule in lasts for rule in custom),
        "network addresses of few visitors": rules.mask_bytes < 2,
        "brand and model of the device": rules.device_model,
        "versions of system and browser": rules.device_versions,
        "the size of the screen": rules.resolution,
        "the browser's plugins": rules.plugins,
        "the visitor's clock": rules.local_time is LocalTime.SECOND,
    }
    return [name for name, can in found.items() if can]


def _linked(rules: Privacy) -> str:
    found = linkable(rules)
    if found:
        return f"Visits of one visitor on two days can be linked by {', '.join(found)}."
    kept = "network, " if rules.mask_bytes < 4 else ""
    return (
        f"Visits of one visitor on two days can't be linked, but where {kept}place, kinds of device, language and hour "
        "are those of few."
    )


def _when(rules: Privacy) -> list[str]:
    out = ["Requests of visitors who opted out by cookie are not stored."]
    asked = [name for name, on in (("Do Not Track", rules.do_not_track), ("GPC", rules.global_privacy_control)) if on]
    silent = [name for name in ("Do Not Track", "GPC") if name not in asked]
    if asked:
        out.append(f"Requests of browsers that send {' or '.join(asked)} are not stored.")
    if silent:
        out.append(f"The signals {' and '.join(silent)} of browsers are not heeded.")
    out.append(
        {
            Consent.IGNORED: "Consent is noted with each action and changes nothing.",
            Consent.AWARE: "Consent is noted with each action; without it no visitor id and no user id is read."
            if rules.with_consent
            else "Consent is noted with each action; no visitor id and no user id is read, whatever it says.",
            Consent.REQUIRED: "Nothing is stored of actions for which the visitor has not given consent.",
        }[rules.consent]
    )
    return out


def _what(rules: Privacy) -> list[str]:
    return [
        _address(rules),
        _fingerprint(rules),
        _visitor(rules),
        _user(rules),
        {
            Orders.DROP: "Order numbers are not stored.",
            Orders.DAY: "Order numbers are stored as hashes whose key lives for the site's day.",
            Orders.SITE: "Order numbers are stored as hashes under a lasting key of the site.",
        }[rules.order_ids],
        {
            PageViewIds.DROP: "Ids of page views and of playings of media are not stored.",
            PageViewIds.DAY: "Ids of page views and of playings of media are stored as hashes whose key lives for the "
            "site's day.",
            PageViewIds.KEEP: "Ids of page views and of playings of media are stored as they came.",
        }[rules.page_view_ids],
        _value("Each custom variable", rules.custom_variables),
        _value("Each custom dimension", rules.custom_dimensions),
        *(_value(f"Custom dimension {slot}", rule) for slot, rule in rules.dimensions.items()),
        *_urls(rules),
        {
            Referrers.KEEP: "Of the page before, the whole address is stored, by the rules for addresses.",
            Referrers.EXCLUDE_QUERY: "Of the page before, host and path are stored, and no search words.",
            Referrers.EXCLUDE_PATH: "Of the page before, only the host is stored.",
            Referrers.EXCLUDE_ALL: "Of the page before, its kind is stored, and names of search engines and networks.",
        }[rules.referrer],
        "Names and words of campaigns are stored."
        if rules.campaigns
        else "Names and words of campaigns are not stored.",
        {
            Location.NONE: "No place on earth is stored.",
            Location.COUNTRY: "Of the visitor's place on earth, the country is stored.",
            Location.REGION: "Of the visitor's place on earth, country and region are stored.",
            Location.CITY: "Of the visitor's place on earth, country, region and city are stored.",
        }[rules.location],
        {
            CountryByLanguage.NEVER: "Languages tell no country.",
            CountryByLanguage.REGION: "The region of the visitor's language tells the country where nothing else does.",
            CountryByLanguage.LANGUAGE: "The visitor's language tells the country where nothing else does.",
        }[rules.country_by_language],
        _device(rules),
        {
            LocalTime.DROP: "The time of day at the visitor is not stored.",
            LocalTime.HOUR: "The time of day at the visitor is stored to the hour.",
            LocalTime.SECOND: "The time of day at the visitor is stored to the second.",
        }[rules.local_time],
        "Titles, events, searches, contents, reports of crashes and the names of items are stored as texts, "
        "with URLs in them treated like all others.",
        _values(rules),
        "Contents of forms are refused.",
    ]


_DETECTED = {
    Detector.EMAIL: "e-mail addresses",
    Detector.PHONE: "telephone numbers",
    Detector.IBAN: "bank accounts (IBAN)",
    Detector.CARD: "payment cards",
    Detector.NATIONAL_ID: "tax and national identity numbers",
    Detector.TOKEN: "tokens and keys",
    Detector.IP: "network addresses",
    Detector.MAC: "addresses of devices (MAC)",
    Detector.NAME: "names in paths such as /users/",
}


def _values(rules: Privacy) -> str:
    found = ", ".join(text for kind, text in _DETECTED.items() if kind in rules.detectors)
    kept = ", ".join(text for kind, text in _DETECTED.items() if kind not in rules.detectors)
    numbers = "Numbers (values of events, revenues, quantities, timings) are stored as numbers, and not searched."
    if not found:
        return f"Texts and addresses of pages are not searched for {kept}. {numbers}"
    return (
        f"Wherever texts, addresses of pages or custom values hold {found}, their kind is stored instead"
        f"{f'; they are not searched for {kept}' if kept else ''}. {numbers}"
    )


def _address(rules: Privacy) -> str:
    if rules.mask_bytes >= 5:
        return "The network address is not stored."
    if rules.mask_bytes == 0:
        return "The network address is stored whole."
    bits = {1: 64, 2: 48, 3: 24, 4: 0}[rules.mask_bytes]
    return (
        f"The network address is stored without the last {rules.mask_bytes} of its 4 bytes "
        f"(IPv6: with {bits} of its 128 bits)."
    )


def _fingerprint(rules: Privacy) -> str:
    if rules.visitor_ids is VisitorIds.REQUEST:
        return "Requests of one visitor are not brought together: each has a random id of its own."
    address = "whole" if rules.fingerprint_address is FingerprintAddress.FULL else "masked"
    features = "kinds of device and browser and the language"
    features += " and the browser's plugins" if rules.fingerprint is Fingerprint.FINE else ""
    return (
        f"Requests of one visit are brought together by a hash of the {address} network address, {features}, "
        "whose key lives for the site's day."
    )


def _visitor(rules: Privacy) -> str:
    if not rules.reads_ids:
        return "Visitor ids and user ids are not read."
    cookie = " The id in the visitor's cookie is not read." if rules.cookieless else ""
    return {
        VisitorIds.DROP: "Visitor ids are not read.",
        VisitorIds.DAY: "Visitor ids serve as hashes whose key lives for the site's day.",
        VisitorIds.SITE: "Visitor ids are stored as hashes under a lasting key of the site, so visits on many days "
        "can be linked.",
    }[rules.visitor_ids] + cookie


def _user(rules: Privacy) -> str:
    if not rules.reads_ids:
        return "The user id is not stored."
    if rules.user_ids is not Values.DROP:
        return _value("The user id", rules.user_ids)
    return "The user id is not stored; it serves in place of a visitor id that is missing, as a hash for the day."


def _value(name: str, rule: Values) -> str:
    return (
        name
        + {
            Values.DROP: " is not stored.",
            Values.DAY: " is stored as a hash whose key lives for the site's day.",
            Values.SITE: " is stored as a hash under a lasting key of the site.",
            Values.KEEP: " is stored as it came.",
        }[rule]
    )


def _urls(rules: Privacy) -> list[str]:
    if rules.url_parameters is UrlParameters.LISTED:
        more = f" and {', '.join(rules.allowed_parameters)}" if rules.allowed_parameters else ""
        campaigns = "campaigns, " if rules.campaigns else ""
        kept = f"Of an address's parameters those of {campaigns}site searches{more} are stored and no others."
    else:
        lists = f" and those of the lists {', '.join(rules.excluded_lists)}" if rules.excluded_lists else ""
        own = f" but {', '.join(rules.excluded_parameters)}" if rules.excluded_parameters else ""
        kept = f"Of an address all parameters are stored{own}{lists if own else lists.replace(' and', ' but')}."
    out = [kept]
    if rules.masked_paths:
        out.append(f"In paths like {', '.join(rules.masked_paths)} what stands for a star is not stored.")
    out.append(f"What follows # in an address is {'stored' if rules.keep_fragment else 'not stored'}.")
    return out


def _device(rules: Privacy) -> str:
    parts = {
        "brand and model of the device": rules.device_model,
        "versions of system and browser": rules.device_versions,
        "the size of the screen": rules.resolution,
        "the browser's plugins": rules.plugins,
    }
    kept = ["kinds of device, system and browser", "language", *(name for name, on in parts.items() if on)]
    missing = [name for name, on in parts.items() if not on]
    return f"Stored of the device: {', '.join(kept)}{'; not stored: ' + ', '.join(missing) if missing else ''}."


def _recordings(policy: SitePolicy) -> list[str]:
    rules = policy.recordings
    if not rules.enabled:
        return ["Recordings of sessions and heatmaps are refused."]
    part = "all sessions" if rules.share == 1 else f"{100 * rules.share:g} % of the sessions, chosen by chance,"
    shown = (
        f"Shown are texts in elements that are {' or '.join(rules.unmask)}, without what is searched for in all texts"
        if rules.unmask
        else "No text is shown"
    )
    return [
        f"Of {part} pages, moves and clicks are recorded, linked to no visitor and, beyond a session, to no other one.",
        f"Of their texts and of what is put into fields only the shape is stored. {shown}; fields for passwords, "
        "addresses, numbers and the like, runs of 7 digits and anything with an @ never are.",
        "Clicks, moves and scrolls are stored by page and element as heatmaps.",
    ]


_KINDS = {
    "events": "Rows of events",
    "rejects": "Reasons why events could not be stored",
    "recordings": "Recordings of sessions",
    "heatmap": "Heatmaps",
}


def _how_long(policy: SitePolicy, retention: Retention) -> list[str]:
    rules = policy.privacy
    out = [
        f"Days are those of time zone {policy.timezone}; the key of one is destroyed when no raw data of it is left, "
        f"{KEPT.days} days after it at the latest.",
    ]
    for kind_ in KINDS:
        if kind_ in ("recordings", "heatmap") and not policy.recordings.enabled:
            continue
        days = getattr(retention, kind_)
        kept = f"for {days} days and removed then" if days else "until they are erased"
        out.append(f"{_KINDS[kind_]} are kept {kept}.")
    if rules.needs_site_key:
        out.append("The lasting key of the site is kept until it is deleted.")
    return out


@dataclass(frozen=True, slots=True)
class Finding:
    """A combination of rules that leaks: a fixed name, the rules that make it, and what follows."""

    name: str
    rules: tuple[str, ...]
    text: str


def _fine_device(rules: Privacy) -> bool:
    return sum((rules.resolution, rules.device_model, rules.device_versions, rules.plugins)) >= 2


_CHECKS: tuple[tuple[str, tuple[str, ...], Callable[[Privacy], bool], str], ...] = (
    (
        "user-ids-beside-masked-addresses",
        ("user_ids", "mask_bytes"),
        lambda r: r.reads_ids and r.user_ids is Values.KEEP and r.mask_bytes > 0,
        "user ids are stored as they came: masking addresses hides nobody who is signed in",
    ),
    (
        "lasting-ids-with-full-referrers",
        ("visitor_ids", "referrer"),
        lambda r: "visitor_ids" in r.lasting and r.referrer is Referrers.KEEP,
        "addresses of other pages are stored beside ids that last: what a visitor read elsewhere adds up",
    ),
    (
        "lasting-ids-with-open-parameters",
        ("visitor_ids", "url_parameters", "excluded_lists"),
        lambda r: (
            "visitor_ids" in r.lasting and r.url_parameters is UrlParameters.ALL and "personal" not in r.excluded_lists
        ),
        "parameters with names, e-mail addresses and tokens are stored beside ids that last",
    ),
    (
        "lasting-ids-without-consent",
        ("visitor_ids", "user_ids", "consent"),
        lambda r: r.consent is Consent.IGNORED and not {"visitor_ids", "user_ids"}.isdisjoint(r.lasting),
        "ids that last are stored without asking the visitor",
    ),
    (
        "custom-values-beside-hashed-ids",
        ("user_ids", "custom_variables", "custom_dimensions", "dimensions"),
        lambda r: (
            (r.user_ids is not Values.KEEP or not r.reads_ids)
            and Values.KEEP in (r.custom_variables, r.custom_dimensions, *r.dimensions.values())
        ),
        "custom values are stored as they came: sites often put there the user id that is hashed elsewhere",
    ),
    (
        "texts-with-email-addresses",
        ("detectors",),
        lambda r: Detector.EMAIL not in r.detectors,
        "e-mail addresses in titles, searches, events and addresses of pages are stored as they came",
    ),
    (
        "values-that-no-detector-looks-for",
        ("detectors",),
        lambda r: Detector.EMAIL in r.detectors and len(r.detectors) < len(Detector),
        "values of the kinds whose detectors are off are stored as they came",
    ),
    (
        "personal-parameters-on-the-allow-list",
        ("allowed_parameters",),
        lambda r: bool(_personal_names(r)),
        "parameters that mostly hold names, e-mail addresses or sessions are stored",
    ),
    (
        "open-parameters",
        ("url_parameters", "excluded_lists"),
        lambda r: (
            "visitor_ids" not in r.lasting
            and r.url_parameters is UrlParameters.ALL
            and "personal" not in r.excluded_lists
        ),
        "parameters with names, e-mail addresses and tokens are stored",
    ),
    (
        "fingerprint-of-full-address",
        ("fingerprint_address", "mask_bytes"),
        lambda r: r.fingerprint_address is FingerprintAddress.FULL and r.mask_bytes > 0,
        "the fingerprint tells apart addresses that are masked elsewhere",
    ),
    ("full-addresses", ("mask_bytes",), lambda r: r.mask_bytes == 0, "network addresses are stored whole"),
    (
        "devices-tell-visitors-apart",
        ("resolution", "device_model", "device_versions", "plugins"),
        lambda r: not r.lasting and _fine_device(r),
        "no id lasts, but devices are described so finely that visits on two days can be linked",
    ),
    (
        "clocks-tell-visitors-apart",
        ("local_time",),
        lambda r: not r.lasting and r.local_time is LocalTime.SECOND,
        "no id lasts, but the seconds by which a visitor's clock is wrong link visits",
    ),
    (
        "fragments-beside-an-allow-list",
        ("keep_fragment", "url_parameters"),
        lambda r: r.keep_fragment and r.url_parameters is UrlParameters.LISTED,
        "parameters are stored by an allow-list, but fragments are stored whole where they hold no parameters",
    ),
)


def check(rules: Privacy) -> list[Finding]:
    """What leaks by these rules, with or without consent; empty where nothing does."""
    out: dict[str, Finding] = {}
    for these in (rules, rules.granted()):
        for name, keys, applies, text in _CHECKS:
            if applies(these) and not (these is not rules and name == "lasting-ids-without-consent"):
                out.setdefault(name, Finding(name, keys, text))
    return list(out.values())
