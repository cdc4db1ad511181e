"""Recorded cases of the tracking API, each put to the function of the deployed stage that decides it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from infra import vectors_enrichment, vectors_privacy
from ingest import bulk, proxies, requests
from ingest.directory import Directory
from schemas import addresses, parameters
from schemas.packets import MAPPED_IPV4, Event, Role, encode
from schemas.privacy import resolve
from schemas.reasons import Invalid
from schemas.routing import ROUTING_VERSION
from schemas.sites import Site, SitePolicy, Sites
from schemas.tables import ActionType
from schemas.tokens import Token, token_hash
from streams import batch, fields
from streams.anonymize import urls, visitor_ids
from streams.batch import Outcome
from streams.state import PartitionState

Case = dict[str, Any]

PASSED, STRICTER, UNDECIDED = "passed", "stricter", "no stage decides this yet"
NOW_MS = 1_700_000_000_000  # when events of cases happen
LIST = Path(__file__).with_name("vectors_stricter.json")

# Groups of cases that concern requests, privacy and enrichment, in the order in which they are shown.
GROUPS = (
    *vectors_privacy.JUDGES,
    "bulk_detect",
    "bulk_parse",
    "bulk_response",
    "ip_from_header",
    "first_ip_from_list",
    "last_ip_from_list",
    "ip_sanitize",
    "visitor_id",
    "cdt",
    "local_time",
    "query_string_parse",
    "query_string_exclude",
    "is_look_like_url",
    "action_extract",
    "exclude_requests",
    "ip_excluded",
    "ip_in_range",
    "ip_range_sanitize",
    "ip_range_bounds",
    "excluded_user_agent",
    "exclude_unknown_urls",
    *vectors_enrichment.JUDGES,
)


NAMES_ONE = {"query_string_parse"}  # groups whose cases expect one name among those that are found


class BadFile(ValueError):
    """The file does not hold cases; the message says what is expected."""


def load(path: Path) -> dict[str, list[Case]]:
    """The cases of the groups that concern requests, by group; raises BadFile."""
    found: dict[str, list[Case]] = defaultdict(list)
    try:
        for case in json.loads(path.read_text("utf-8"))["vectors"]:
            found[case["group"]].append({"id": case["id"], **case})
    except (OSError, ValueError, TypeError, KeyError):
        raise BadFile("the file must be JSON with a list `vectors` of objects with `id` and `group`") from None
    chosen = {name: found[name] for name in GROUPS if name in found}
    if not chosen:
        raise BadFile("the file holds no group that concerns requests")
    return chosen


def run(case: Case) -> str:
    """PASSED, STRICTER, or what is wrong."""
    judge = JUDGES.get(case["group"])
    if judge is None:
        return UNDECIDED
    ours = judge(case["input"])
    stricter = _entry(case)
    if stricter is not None:
        return STRICTER if ours == stricter["ours"] else f"gives {ours!r}, the list says {stricter['ours']!r}"
    good = case["expected"] in ours if case["group"] in NAMES_ONE else _same(ours, case["expected"])
    return PASSED if good else f"gives {ours!r}, expected {case['expected']!r}"


def _entry(case: Case) -> dict[str, Any] | None:
    """The entry of the list that holds for a case: its own, or one of its group whose `where` its input meets."""
    if (own := _stricter().get(case["id"])) is not None:
        return own
    for name, entry in _stricter().items():
        where, given = entry.get("where"), case["input"]
        if not where or name.rpartition("-")[0] != case["group"] or not isinstance(given, dict):
            continue
        if all(given.get(key) == value for key, value in where.items()):
            return entry
    return None


def _same(ours: Any, expected: Any) -> bool:
    """Whether a result is the expected one; where an object's field expects a list of texts, any of them will do."""
    if not isinstance(ours, dict) or not isinstance(expected, dict):
        return bool(ours == expected)
    return ours.keys() == expected.keys() and all(
        ours[name] in value if isinstance(value, list) and isinstance(ours[name], str) else ours[name] == value
        for name, value in expected.items()
    )


@cache
def _stricter() -> dict[str, dict[str, Any]]:
    """By case: `ours` is the product's own result, `rule` what it follows, `reason` why.

    `where`: values of an input (null: not given) by which the same holds for every case of the group.
    """
    found: dict[str, dict[str, Any]] = json.loads(LIST.read_text("utf-8"))
    return found


def _bulk_parse(given: Any) -> dict[str, Any]:
    content = bulk.parse(given.encode() if isinstance(given, str) else json.dumps(given).encode())
    queries = filter(None, map(bulk.item_query, content["requests"]))
    out: dict[str, Any] = {"requests": [parameters.parse(parameters.safe(query)) for query in queries]}
    return out | {"token_auth": content.get("token_auth", "")} if isinstance(given, str) else out


def _bulk_response(given: Case) -> str:
    if given["outcome"] == "exception":
        return bulk.failed(bulk.BadBulk()).decode()
    invalid = [(place, Invalid.MISSING_SITE) for place in given["invalid"]]
    row: Any = ()  # an answer is made from the number of rows alone
    return bulk.Bulk([(0, row)] * given["tracked"], invalid, False, given["authenticated"]).answer().decode()


def _visitor_id(given: Case) -> str | None:
    number = visitor_ids.cookie(given["_id"])
    return None if number is None else f"{number:016x}"


def _local_time(given: Case) -> str | None:
    hour, minute, second = (parameters.integer(given.get(name), -1 if name == "h" else 0) for name in "hms")
    seconds = fields.local_seconds(hour, minute, second)
    return None if seconds < 0 else f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _worked(policy: SitePolicy, event: Event) -> Outcome:
    """What the worker makes of an event of a site with this policy."""
    lookups = vectors_privacy.CaseLookups(policy)
    value = encode(1, 0, ROUTING_VERSION, lookups.policy.version, [event])
    return batch.process([batch.Record(0, 0, 1, NOW_MS, value)], {0: PartitionState()}, lookups)


def _event(given: dict[str, str], *, address: bytes = MAPPED_IPV4 + bytes(4), agent: str = "", role: int = 0) -> Event:
    query = urlencode({"idsite": "1", "rec": "1", **given})
    return Event(NOW_MS, 1, address, role, 0, agent, "", "", query)


def _row(policy: SitePolicy = SitePolicy(), **given: str) -> Case:  # noqa: B008
    """The row that the worker makes of an event with these parameters."""
    row: Case = _worked(policy, _event(given)).events.to_pylist()[0]
    return row


def _excluded(policy: SitePolicy, event: Event) -> bool:
    """Whether the worker excludes an event; it does nothing but that or storing it with the events of cases."""
    (entry,) = _worked(policy, event).packets.to_pylist()
    if entry["excluded"] + entry["stored"] != 1:
        raise AssertionError(f"the event was neither stored nor excluded: {entry}")
    return bool(entry["excluded"])


def _texts(given: Any) -> tuple[str, ...]:
    """A list as Matomo writes it in one text."""
    parts = given.replace("\n", ",").split(",") if isinstance(given, str) else given or ()
    return tuple(part.strip() for part in parts if part and part.strip())


def _excluded_request(given: Case) -> bool:
    policy = SitePolicy(excluded_requests=(given["exclude_requests"],))
    return _excluded(policy, _event({name: str(value) for name, value in dict(given["params"]).items()}))


def _excluded_address(given: Case) -> bool:
    address = addresses.pack(given["ip"]) or bytes(16)
    return _excluded(SitePolicy(excluded_addresses=_texts(given["excluded_ips"])), _event({}, address=address))


def _excluded_agent(given: Case) -> bool:
    policy = SitePolicy(excluded_agents=_texts(given["excluded_user_agents"]), keep_bots=True)
    return _excluded(policy, _event({}, agent=given["ua"]))


def _unknown_url(given: Case) -> Case:
    domains = tuple(url.partition("://")[2] or url for url in given["site_urls"])
    policy = SitePolicy(domains=domains, exclude_unknown_urls=bool(given["exclude_unknown_urls"]))
    return {"tracked": not _excluded(policy, _event({"url": given["url"]} if given["url"] else {}))}


def _cdt(given: Case) -> str:
    """The collector's verdict, and then the worker's time."""
    token, role = "a token of this case", Role.WRITE if given.get("authenticated") else Role.NONE
    policy = SitePolicy()
    site = Site(1, "", policy, {token_hash(token): Token(role)} if role else {})
    query: dict[str, str] = {name: given[name] for name in ("cdt", "cdo") if name in given}
    if (said := query.get("cdt", "")).startswith("now"):
        query["cdt"] = str(NOW_MS // 1000 + int(said[3:] or 0))
    if role:
        query["token_auth"] = token
    text = urlencode({"idsite": "1", "rec": "1", **query}).encode()
    outcome = requests.single(text, {}, MAPPED_IPV4 + bytes(4), NOW_MS, Directory(Sites({1: site}), 1))
    if not isinstance(outcome, tuple):
        (seconds,) = re.findall(r"[0-9]+(?= seconds ago)", outcome.text)
        return f"ERROR: Custom timestamp is {seconds} seconds old, requires &token_auth"
    (row,) = _worked(policy, Event(*outcome[1])).events.to_pylist()
    seconds = round((row["time"] - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) - NOW_MS // 1000
    return f"now{seconds:+d}" if seconds else "now"


def _action(given: Case) -> Case:
    row = _row(**given)
    kind = ActionType(row["action_type"])
    shown = {ActionType.PAGE_VIEW: "page_url", ActionType.OUTLINK: "outlink", ActionType.DOWNLOAD: "download"}
    page = kind is ActionType.PAGE_VIEW
    name = (row["title"] or None) if page else None
    return {"name": name, "url": row["url" if page else "link_url"], "type": shown[kind]}


def _exclude(given: Case) -> str:
    privacy, _ = resolve({"": {"preset": "matomo-default", "excluded_parameters": given["exclude"]}})
    policy = SitePolicy(privacy=privacy)
    url: str = _row(policy, url=f"http://site.example/?{urlencode(given['params'])}")["url"]
    return url.partition("?")[2]


def _from_header(given: Case) -> str:
    """Matomo trusts a header from everybody once it is named; here the peer is named as a proxy then."""
    headers = [name.removeprefix("HTTP_").replace("_", "-").lower() for name in given["proxy_client_headers"] if name]
    trusted = [network for network in given["proxy_ips"] if network]
    if headers:
        trusted.append(given["remote_addr"])
    found = proxies.Proxies(trusted, headers, first=not given["proxy_ip_read_last_in_list"])
    peer = addresses.pack(given["remote_addr"]) or bytes(16)
    header = {"x-forwarded-for": given["x_forwarded_for"].encode()}
    return _shown(found.visitor(peer, header) if found.trusts(peer) else peer)


def _names(given: str) -> list[str]:
    """The parameters of a page's address; `x[]` is one of x."""
    found = urls.split(f"http://site.example/?{given.removeprefix('?')}")
    return sorted({part.name.partition("[")[0] for part in found.parameters}) if found else []


def _shown(address: bytes) -> str:
    found = IPv6Address(address)
    return str(found.ipv4_mapped or found)


def _listed(given: str, place: int) -> str:
    found = proxies.entries("x-forwarded-for", given.encode())
    return found[place] if found else ""


def _range_bounds(given: str) -> list[str] | None:
    found = addresses.parse_range(given)
    if found is None:
        return None
    size = 4 if "." in given and ":" not in given else 16
    return [number.to_bytes(16, "big")[-size:].hex() for number in (found.low, found.high)]


def _range(given: str) -> str | None:
    """The range in Matomo's way of writing, for comparison: the same address, no stars, and the bits."""
    found = addresses.parse_range(given)
    if found is None:
        return None
    address = given.partition("/")[0].replace("*", "0")
    size = 128 if ":" in address else 32
    return f"{address}/{size - (found.high - found.low).bit_length()}"


def _in_range(given: Case) -> bool:
    found, address = addresses.parse_range(given["range"]), addresses.pack(given["ip"])
    return found is not None and address is not None and address in found


JUDGES: dict[str, Callable[[Any], Any]] = {
    **vectors_privacy.JUDGES,
    **vectors_enrichment.JUDGES,
    "ip_from_header": _from_header,
    "first_ip_from_list": lambda given: _listed(given, 0),
    "last_ip_from_list": lambda given: _listed(given, -1),
    "ip_sanitize": addresses.host,
    "ip_in_range": _in_range,
    "ip_excluded": _excluded_address,
    "exclude_requests": _excluded_request,
    "excluded_user_agent": _excluded_agent,
    "exclude_unknown_urls": _unknown_url,
    "cdt": _cdt,
    "ip_range_sanitize": _range,
    "ip_range_bounds": _range_bounds,
    "bulk_detect": lambda given: bulk.is_bulk(given.encode()),
    "bulk_parse": _bulk_parse,
    "bulk_response": _bulk_response,
    "visitor_id": _visitor_id,
    "local_time": _local_time,
    "action_extract": _action,
    "query_string_exclude": _exclude,
    "query_string_parse": _names,
    "is_look_like_url": lambda given: urls.split(given) is not None,
}
