"""Recorded cases of Matomo's privacy rules, put to the rules of the worker and to the rows that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pyarrow as pa

from ingest import headers
from schemas import addresses
from schemas.packets import MAPPED_IPV4, Event, Header, encode
from schemas.privacy import Referrers, resolve
from schemas.routing import ROUTING_VERSION
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import EVENTS, ReferrerType
from streams import batch, consent, verdicts
from streams.anonymize import addresses as masks
from streams.anonymize import emptied, past, referrers
from streams.rules import Rules
from streams.state import PartitionState
from streams.surroundings import Asked, AskedVisits
from streams.window import Run

Case = dict[str, Any]

NOW_MS = 1_700_000_000_000
FIREFOX_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.10; rv:33.0) Gecko/20100101 Firefox/33.0"
FIREFOX_LINUX = "Mozilla/5.0 (Linux; rv:33.0) Gecko/20100101 Firefox/33.0"
TYPES = {
    "website": ReferrerType.WEBSITE,
    "search": ReferrerType.SEARCH_ENGINE,
    "campaign": ReferrerType.CAMPAIGN,
    "social": ReferrerType.SOCIAL,
    "ai": ReferrerType.AI_ASSISTANT,
    "direct": ReferrerType.DIRECT,
}


class CaseLookups:
    """Sites 1 and 2 of one policy, or such as are given, and secrets that are none."""

    def __init__(self, policy: SitePolicy, sites: Mapping[int, SitePolicy] | None = None) -> None:
        self.policy = PolicySet(sites or {1: policy, 2: policy})

    def policies(self, _version: bytes) -> PolicySet:
        return self.policy

    def open(self, _value: bytes, _head: Header, _partition: int) -> bytes:
        raise AssertionError("no packet here is sealed")

    def day_secret(self, _date: date) -> bytes:
        return bytes(32)

    def site_key(self, _site: int) -> bytes:
        return bytes(32)

    def identities(self, asked: Sequence[Asked]) -> Sequence[Run]:
        raise AssertionError("no case is late")

    def visits(self, asked: Sequence[AskedVisits]) -> Sequence[Sequence[tuple[object, ...]]]:
        return [() for _ in asked]  # every case has a visit of its own


def rows(rules: Mapping[str, Any], requests: Sequence[Mapping[str, str]]) -> list[Case]:
    """The rows that the worker makes of requests a second apart, of one visitor, under a `[privacy]` table."""
    privacy, _ = resolve({"": rules})
    lookups = CaseLookups(SitePolicy(privacy=privacy))
    address = MAPPED_IPV4 + bytes((203, 0, 113, 77))
    events = []
    for number, given in enumerate(requests):
        parameters = {"idsite": "1", "rec": "1", "url": "http://site.example/", **given}
        site = int(parameters["idsite"])
        events.append(Event(NOW_MS + 1000 * number, site, address, 0, 0, FIREFOX_MAC, "en", "", urlencode(parameters)))
    value = encode(1, 0, ROUTING_VERSION, lookups.policy.version, events)
    record = batch.Record(0, 0, 1, NOW_MS + 1000 * len(events), value)
    found: list[Case] = batch.process([record], {0: PartitionState()}, lookups).events.to_pylist()
    return found


def _masked(given: Case) -> bytes:
    packed = addresses.pack(given["ip"])
    if packed is None:
        return b""
    column = np.frombuffer(packed, np.uint8).reshape(1, 16)
    return masks.packed(masks.mask_column(column, np.array([given["mask_level"]]))).tobytes()


def _mask_component(given: Case) -> Case:
    return {"hex": _masked(given)[0 if ":" in given["ip"] else 12 :].hex()}


def _mask(given: Case) -> Case:
    mapped = given["ip"].startswith("::ffff:")
    return _mask_component(given) if mapped else {"ip": masks.text(_masked(given)), **_mask_component(given)}


def _level(given: Case) -> Referrers:
    return Referrers(given["option"] or Referrers.KEEP)


def _referrer_url(given: Case) -> str | bool:
    return False if given["url"] is False else referrers.url(given["url"], _level(given))


def _referrer(given: Case) -> Case:
    kind, level = TYPES[given["type"]], _level(given)
    return {
        "referer_url": referrers.url(given["referer_url"], level),
        "referer_name": referrers.name(given["referer_name"], kind, level),
        "referer_keyword": referrers.keyword(given["referer_keyword"], kind, level),
    }


def _do_not_track(given: Case) -> bool:
    privacy, _ = resolve({"": {"do_not_track": given["dnt_enabled"]}})
    flags = headers.flags({given["header"].lower(): given["value"].encode()})
    return verdicts.before_parsing(privacy, True, flags) is verdicts.DO_NOT_TRACK


def _user_id(given: Case) -> Any:
    if "uid" in given:
        return f"{rows({'user_ids': 'site'}, [{'uid': given['uid']}])[0]['user_id']:016x}"
    hashed = {"preset": "matomo-default", "user_ids": "site", "order_ids": "site"}
    row = rows(hashed, [{**given["params"], "idsite": "1", "idgoal": "0"}])[0]
    changed = {name for name, column in (("uid", "user_id"), ("ec_id", "order_id")) if row[column]}
    return {name: value for name, value in given["params"].items() if name not in changed}


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _excluded(given: Case) -> str | bool:
    """A name of a campaign's parameter that Matomo was told is one that the site excludes here."""
    names = ("site_excluded", "global_excluded", "campaign_var_name", "campaign_keyword_var_name")
    excluded = [name for key in names for name in _listed(given.get(key, ""))]
    fragment = given.get("keep_url_fragment", False)
    rules = {"preset": "matomo-default", "excluded_parameters": excluded, "keep_fragment": fragment}
    return rows(rules, [{"url": given["url"]}])[0]["url"] or False


def _fragment(given: Case) -> str:
    url: str = rows({"preset": "matomo-default", "keep_fragment": True}, [{"url": given["prefix"] + given["url"]}])[0][
        "url"
    ]
    return url


def _config_relation(given: Case) -> str:
    matomo = {"preset": "matomo-default"}
    a: dict[str, str] = {"fla": "0"}
    b, rules = dict(a), dict(matomo)
    if given["b"].startswith("idsite=2"):
        b["idsite"] = "2"
    elif given["a"].startswith("ua "):
        b["ua"] = FIREFOX_LINUX
    elif "plugin" in given["a"]:
        b["fla"] = "1"
    elif given["a"] == "full ip":
        rules["fingerprint_address"] = "masked"
    one, other = rows(matomo, [a])[0], rows(rules, [b])[0]
    return "same" if one["config_id"] == other["config_id"] else "different"


def _consent(given: Case) -> Any:
    rules = {"preset": "cnil-exempt"}
    if "params_differ_only_by" in given:
        found = rows(rules, [{}, {"consent": "0"}, {"consent": "1"}])
        return {"config_id": "same" if len({row["config_id"] for row in found}) == 1 else "different"}
    if "campaign" in given:
        request = {"consent": given["consent"], "utm_campaign": given["campaign"]}
        return {"referer_name": rows(rules, [request])[0]["referrer_name"]}
    change = given.get("visitor_id_changes_at")
    requests = []
    for number, said in enumerate(given["consents"]):
        after = change is not None and number >= change
        request = {"_id": ("b" if after else "a") * 16, "res": given.get("res", "")}
        requests.append(request if said is None else {**request, "consent": said})
    found = rows(rules, requests)
    visits = len({row["visit_id"] for row in found})
    if "res" in given:
        return {"after_first": found[0]["resolution"], "after_second": found[1]["resolution"]}
    if change is not None:
        return {"visits": visits, "actions_count": len(found)}
    actions = [row["consent"] for row in found]
    return {"visits": visits, "actions": [str(said) for said in actions], "visit": str(consent.of_visit(actions))}


UNSET = {
    "config_os": ("os", "Unknown"),
    "config_os_version": ("os_version", None),
    "location_browser_lang": ("language", "Unknown ()"),
    "referer_url": ("referrer_url", None),
    "referer_name": ("referrer_name", None),
}
TYPE_NAMES = {
    "Direct Entry": ReferrerType.DIRECT,
    "Search Engines": ReferrerType.SEARCH_ENGINE,
    "Websites": ReferrerType.WEBSITE,
}


def _past(given: Mapping[str, Any], rules: Mapping[str, Any], unset: Sequence[str] = ()) -> Case:
    """A stored row of Matomo's, as the one row here, brought under a `[privacy]` table."""
    privacy, _ = resolve({"": {"preset": "matomo-default", **rules}})
    (stored,) = rows({"preset": "matomo-default"}, [{"uid": given["user_id"]}])
    stored |= {"visitor_id": int(given["idvisitor"], 16), "config_id": int(given.get("config_id", "1"), 16)}
    stored |= {"address": given.get("location_ip", ""), "country": str(given.get("location_country", ""))[-2:]}
    stored |= {ours: given.get(theirs) or "" for theirs, (ours, _) in UNSET.items()}
    stored["referrer_type"] = int(TYPE_NAMES[given.get("referer_type", "Direct Entry")])
    made = past.anonymise(
        pa.Table.from_pylist([stored], EVENTS),
        Rules.of(1, SitePolicy(privacy=privacy)),
        past.Keys(bytes(32), bytes(16)),
        bytes(16),
        unset=[emptied.column(name) for name in unset],
    )
    found: Case = made.to_pylist()[0]
    return found


def _past_visit(given: Case) -> Case:
    rules = {
        "mask_bytes": given["ip_mask"] if given["anonymizeIp"] else 0,
        "location": "none" if given["anonymizeLocation"] else "city",
        "user_ids": "site" if given["anonymizeUserId"] else "keep",
        "visitor_ids": "day",
    }
    row = _past(given["before"], rules, given["unset_visit_columns"])
    shown = {theirs: row[ours] or otherwise for theirs, (ours, otherwise) in UNSET.items()}
    names = {number: name for name, number in TYPE_NAMES.items()}
    return shown | {
        "location_ip": row["address"],
        "location_country": row["country"],
        "location_region": row["region"],
        "location_city": row["city"],
        "location_latitude": None,  # there are no such columns
        "location_longitude": None,
        "user_id": row["user_name"],
        "idvisitor": f"{row['visitor_id']:016x}",
        "config_id": f"{row['config_id']:016x}",
        "referer_type": names[ReferrerType(row["referrer_type"])],
    }


def _past_user(given: Case) -> Case:
    row = _past(given, {"user_ids": "site", "visitor_ids": "day"})
    return {"user_id": row["user_name"] or f"{row['user_id']:016x}", "idvisitor": f"{row['visitor_id']:016x}"}


def _may_be_emptied(name: str) -> bool:
    try:
        emptied.column(name)
    except KeyError:
        return False
    return True


JUDGES: dict[str, Callable[[Any], Any]] = {
    "ip_mask": _mask,
    "ip_mask_component": _mask_component,
    "referrer_anonymise_url": _referrer_url,
    "referrer_anonymise_name": lambda given: referrers.name(given["name"], TYPES[given["type"]], _level(given)),
    "referrer_anonymise_keyword": lambda given: referrers.keyword(
        given["keyword"], TYPES[given["type"]], _level(given)
    ),
    "referrer_anonymise_visit": _referrer,
    "dnt": _do_not_track,
    "user_id_hash": _user_id,
    "url_exclude_params": _excluded,
    "url_exclude_click_ids": _excluded,
    "url_hashtag": _fragment,
    "config_id_relation": _config_relation,
    "consent_aware": _consent,
    "retro_anonymise_visit": _past_visit,
    "retro_anonymise_user_id": _past_user,
    "unset_visit_column_allowed": _may_be_emptied,
    "unset_action_column_allowed": _may_be_emptied,
}
