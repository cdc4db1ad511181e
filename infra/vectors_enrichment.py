"""Recorded cases of what Matomo adds to an event, put to the rules of the worker and to the rows that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from infra.vectors_privacy import FIREFOX_MAC, NOW_MS, TYPES, CaseLookups
from ingest import headers, reporting
from schemas import addresses
from schemas.packets import MAPPED_IPV4, Event, encode
from schemas.privacy import CountryByLanguage, resolve
from schemas.routing import ROUTING_VERSION
from schemas.sites import SitePolicy
from schemas.tables import ActionType, ReferrerType
from streams import batch
from streams.enrich import countries, languages, referrers
from streams.enrich.referrers import Referrer
from streams.state import PartitionState

Case = dict[str, Any]

MATOMO, _ = resolve({"": {"preset": "matomo-default", "keep_fragment": True}})
PAGE = "http://page.example/"
MINUTE_MS = 60_000
# The addresses of the sites of Matomo's tests, by group and id; a site without one has "".
SITES = {
    "referrer_type": ("piwik.org/foo/bar", "piwik.org", "piwik.xyz", "google.com/subdir", "", "matomo.org"),
    "referrer_name": ("piwik.org/foo/bar", "piwik.org", "piwik.xyz", ""),
    "referrer_keyword": ("piwik.org", "piwik.xyz", ""),
    "referrer_url": ("piwik.org/foo/bar",),
}
EXCLUDED = {"matomo.org": ("paypal.com", "payments.amazon.com/proceed", "*.payment.provider")}
ONLY_KNOWN_URLS = {"google.com/subdir"}
# What comes before the case's own event, by the type of referrer that the visit has from it.
BEFORE = {
    "direct": {"url": PAGE},
    "website": {"url": PAGE, "urlref": "http://other.example/"},
    "campaign": {"url": f"{PAGE}?pk_campaign=before"},
}


def event(
    given: Mapping[str, str],
    *,
    site: int = 1,
    later_ms: int = 0,
    address: bytes = MAPPED_IPV4 + bytes(4),
    flags: int = 0,
    agent: str = FIREFOX_MAC,
) -> Event:
    """An event with these parameters, `later_ms` after the cases' time."""
    query = urlencode({"idsite": str(site), "rec": "1", **given})
    return Event(NOW_MS + later_ms, site, address, 0, flags, agent, "en", "", query)


def rows(sites: Mapping[int, SitePolicy], *events: Event) -> list[Case]:
    """The rows that the worker makes of events, given in rising time; those that it excludes have none."""
    lookups = CaseLookups(SitePolicy(), sites)
    value = encode(1, 0, ROUTING_VERSION, lookups.policy.version, events)
    record = batch.Record(0, 0, 1, events[-1].received_ms, value)
    found: list[Case] = batch.process([record], {0: PartitionState()}, lookups).events.to_pylist()
    return found


def _visit_of(group: str, given: Case) -> Referrer | None:
    """The referrer of a visit after the case's event; None where that left it as it was."""
    sites = {
        number: SitePolicy(
            privacy=MATOMO,
            domains=(domain,) if domain else (),
            exclude_unknown_urls=domain in ONLY_KNOWN_URLS,
            excluded_referrers=EXCLUDED.get(domain, ()),
        )
        for number, domain in enumerate(SITES[group], 1)
    }
    requests = [BEFORE[given["existing_type"]]] if "existing_type" in given else []
    requests.append({"url": given["url"], "urlref": given["urlref"], **given.get("extra", {})})
    number = given["idsite"]
    found = rows(sites, *(event(query, site=number, later_ms=at) for at, query in enumerate(requests)))
    *before, now = (
        referrers.of_visit(map(_referrer, [row for row in found[: at + 1] if row["visit_id"] == last["visit_id"]]))
        for at, last in enumerate(found)
    )
    return None if before == [now] and found[0]["visit_id"] == found[-1]["visit_id"] else now


def _referrer(row: Case) -> Referrer:
    return Referrer(*(row[f"referrer_{name}"] for name in ("type", "name", "keyword", "url")))


def _visit(group: str, show: Callable[[Referrer], Any]) -> Callable[[Case], Any]:
    def judge(given: Case) -> Any:
        found = _visit_of(group, given)
        return False if found is None else show(found)

    return judge


_NAMES = {number: name for name, number in TYPES.items()}


def _from(url: str) -> Referrer:
    """The referrer of a page view that came from there."""
    (row,) = rows({1: SitePolicy(privacy=MATOMO)}, event({"url": PAGE, "urlref": url}))
    return _referrer(row)


def _search_engine(url: str) -> Case | bool:
    found = _from(url)
    if found.type != ReferrerType.SEARCH_ENGINE:
        return False
    return {"name": found.name, "keywords": found.keyword or False}


def _network(url: str) -> str:
    found = _from(url)
    return found.name if found.type == ReferrerType.SOCIAL else "Unknown"


def _site_search(given: Case) -> Case | bool:
    site = given["site"]
    lists = {
        "search_parameters": site["sitesearch_keyword_parameters"],
        "search_category_parameters": site["sitesearch_category_parameters"],
    }
    privacy, _ = resolve({"": {"preset": "matomo-default", "keep_fragment": True, **lists}})
    (row,) = rows({1: SitePolicy(privacy=privacy)}, event({"url": given["url"]}))
    if row["action_type"] != ActionType.SITE_SEARCH:
        return False
    found = {"url": row["url"], "keyword": row["search_keyword"], "category": row["search_category"]}
    return found | {"count": row["search_count"] or False}


def _excluded(**values: Any) -> bool:
    given = {"urlref": values.pop("urlref", "")}
    return not rows({1: SitePolicy()}, event(given, **values))


def _bot_address(given: Case) -> bool:
    via = headers.flags({"via": given.get("via", "").encode()})
    return _excluded(address=addresses.pack(given["ip"]), flags=int(via))


def _country(given: Case, rule: CountryByLanguage = CountryByLanguage.REGION) -> str:
    valid = given["valid_countries"] if isinstance(given["valid_countries"], dict) else countries.CODES
    return languages.country(languages.accepted(given["lang"]), rule, valid) or "xx"


def _guess(given: Case) -> Case:
    return {"no_guess": _country(given), "guess": _country(given, CountryByLanguage.LANGUAGE)}


def _language(given: Case) -> str:
    return languages.best(languages.accepted(given["lang"]), given["valid"].__contains__) or "xx"


def _heartbeat(given: str) -> str:
    """What a heartbeat after a page view does, told as the cases tell it."""
    minutes = 10 if "< 30 min" in given else 31
    policies = {1: SitePolicy()}
    view, *pings = rows(policies, event({"url": PAGE}), event({"url": PAGE, "ping": "1"}, later_ms=minutes * MINUTE_MS))
    if not pings:
        return "request aborted: no new visit, no change"
    (ping,) = pings
    same = ping["visit_id"] == view["visit_id"] and ping["visit_position"] == view["visit_position"]
    longer = (ping["visit_last"] - view["visit_last"]).total_seconds() == minutes * 60 == ping["gap_ms"] / 1000
    if same and longer:
        return "same visit, visit_last_action_time/visit_total_time extended, no new action"
    return f"a row of {'the same' if same else 'another'} visit, which is {'' if longer else 'not '}prolonged"


JUDGES: dict[str, Callable[[Any], Any]] = {
    "referrer_type": _visit("referrer_type", lambda found: _NAMES[ReferrerType(found.type)]),
    "referrer_name": _visit("referrer_name", lambda found: found.name or None),
    "referrer_keyword": _visit("referrer_keyword", lambda found: found.keyword or None),
    "referrer_url": _visit("referrer_url", lambda found: found.url),
    "search_engine": _search_engine,
    "social_is": lambda given: _network(given["url"]) == given["assumed"],
    "social_name": _network,
    "site_search": _site_search,
    "bot_ua": lambda given: _excluded(agent=given["ua"]),
    "bot_ip": _bot_address,
    "bot_ip_chrome_data_saver": lambda given: {"is_bot": _bot_address(given)},
    "referrer_spam": lambda given: _excluded(urlref=given["urlref"]),
    "browser_language": lambda given: ",".join(languages.accepted(given)),
    "country_from_language": _country,
    "country_from_language_guess": _guess,
    "language_region": _language,
    "language_code": _language,
    "lossy_url": referrers.lossy,
    "host_from_url": reporting.host_of,
    "ping": _heartbeat,
}
