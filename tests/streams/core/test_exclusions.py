"""What is not kept: each rule on one value, the order of the reasons, and that nothing of it is seen after."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.addresses import pack
from schemas.packets import Event, Flag, Role
from schemas.reasons import Excluded
from schemas.sites import PolicySet, SitePolicy
from streams import batch, describe, exclusions, gather
from streams.batch import PartitionState
from streams.exclusions import Exclusions, Ranges
from streams.repeats import Earlier
from streams.verdicts import VERDICTS
from tests.streams.core.traffic import START_MS, one, simple, world

URL = "&url=https%3A%2F%2Fwww.site1.example%2Fen%2Fa"
GOOGLE, BING = pack("66.249.85.36"), pack("64.4.0.1")


def reason(policy: SitePolicy, query: str = "rec=1" + URL, **more: Any) -> str:
    """Why the worker does not keep an event of site 1, "" where it does."""
    policies = PolicySet({1: policy})
    looked_up = world(policies)
    record = one([simple(query, **more)], policies.version, appended_ms=START_MS)
    gathered = gather.gather([record], {0: PartitionState()}, looked_up)
    (piece,) = describe.describe(gathered.rows, Earlier(gathered, looked_up), looked_up)
    found = VERDICTS[piece.verdict[0]]
    return found.reason if found is not None else ""


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", True),
        ("x BingBot x", True),
        ("sogou spider", True),
        ("Mozilla/5.0 (X11) Chrome/12.0 Safari/534.51 Google Web Preview", True),
        ("Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)", True),
        ("Mozilla/5.0 (Linux; Android 9; CUBOT X19) Mobile", False),  # a telephone
        ("Matomo/LogImport", False),
        ("python-requests/2.31", False),  # libraries track what people do
        ("Java/17", False),
        ("", False),
    ],
)
def test_crawlers(agent: str, expected: bool) -> None:
    assert exclusions.crawler(agent) is expected
    assert (reason(SitePolicy(), agent=agent) == Excluded.BOT) is expected


def test_who_asks_for_bots_or_keeps_them_gets_them() -> None:
    bot = {"agent": "Googlebot/2.1"}
    assert reason(SitePolicy(), **bot) == Excluded.BOT
    assert reason(SitePolicy(), "rec=1&bots=1", **bot) == ""
    assert reason(SitePolicy(), "rec=1&bots=0", **bot) == Excluded.BOT
    assert reason(SitePolicy(keep_bots=True), **bot) == ""
    assert reason(SitePolicy(), "rec=1&ua=Googlebot") == Excluded.BOT
    assert reason(SitePolicy(), "rec=1&ua=Firefox", **bot) == ""


def test_addresses_of_crawlers_but_not_of_the_data_saver() -> None:
    assert reason(SitePolicy(), address=GOOGLE) == reason(SitePolicy(), address=BING) == Excluded.BOT_ADDRESS
    assert reason(SitePolicy(), address=GOOGLE, flags=int(Flag.DATA_SAVER)) == ""
    assert reason(SitePolicy(), address=BING, flags=int(Flag.DATA_SAVER)) == Excluded.BOT_ADDRESS
    assert reason(SitePolicy(), address=pack("64.4.64.0")) == ""
    assert reason(SitePolicy(), address=bytes(12) + (GOOGLE or b"")[12:]) == ""  # the same bits in IPv6


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.255.255", True),
        ("10.0.255.255", False),
        ("10.2.0.0", False),
        ("192.168.1.77", True),
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("8.8.8.8", True),
        ("8.8.8.9", False),
    ],
)
def test_addresses_of_a_site(address: str, expected: bool) -> None:
    texts = ("10.1.0.0/16", "192.168.1.*", "2001:db8::/32", "10.1.4.0/24", "8.8.8.8")
    policy = SitePolicy(excluded_addresses=texts)
    assert (reason(policy, address=pack(address)) == Excluded.EXCLUDED_ADDRESS) is expected
    assert ((pack(address) or b"") in Ranges(texts)) is expected


@pytest.mark.parametrize(
    ("referrer", "expected"),
    [
        ("http://semalt.com", True),
        ("https://make-money-online.7makemoneyonline.com/a?b", True),
        ("http://u:p@SEMALT.com:80/", True),
        ("//semalt.com/x", True),
        ("http://notsemalt.com/", False),
        ("http://valid.example/?of=semalt.com", False),  # names it, and is somebody else
        ("semalt.com", False),
        ("", False),
    ],
)
def test_referrer_spam(referrer: str, expected: bool) -> None:
    assert exclusions.spam(referrer) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://www.Shop.example/EN/a", True),
        ("http://shop.example:8080/en", True),
        ("http://shop.example/english", False),
        ("http://shop.example/", False),
        ("http://a.shop.example/en/", False),
        ("http://b.wild.example/x", True),
        ("http://wild.example/x", True),
        ("http://notwild.example/x", False),
        ("http://port.example:81/", True),
        ("http://port.example/", False),
        ("", False),
        ("shop.example/en/", False),
    ],
)
def test_pages_of_a_site(url: str, expected: bool) -> None:
    domains = ("shop.example/en", "*.wild.example", "port.example:81")
    site = Exclusions.of(SitePolicy(domains=domains, exclude_unknown_urls=True))
    assert site.knows(url) is expected


def test_the_first_reason_in_the_order_holds() -> None:
    policy = SitePolicy(
        domains=("other.example",),
        exclude_unknown_urls=True,
        excluded_addresses=("0.0.0.0/0",),
        excluded_agents=("bot",),
        excluded_requests=("zz==1",),
    )
    query = f"rec=0&zz=1&urlref=http%3A%2F%2Fsemalt.com{URL}"
    event: dict[str, Any] = {"agent": "a bot", "address": GOOGLE, "flags": int(Flag.OPT_OUT | Flag.PREFETCH)}
    fewer: list[tuple[str, Any]] = [
        ("bot", {"agent": "both"}),
        ("bot_address", {"address": pack("8.8.8.8")}),
        ("not_recorded", "rec=1"),
        ("excluded_request", "zz=2"),
        ("opted_out", {"flags": int(Flag.PREFETCH)}),
        ("excluded_address", {"address": pack("2001:db8::1")}),
        ("excluded_agent", {"agent": "Firefox"}),
        ("referrer_spam", "urlref="),
        ("unknown_url", "url=http%3A%2F%2Fother.example"),
        ("prefetch", {"flags": 0}),
        ("", {}),
    ]
    for expected, change in fewer:
        assert reason(policy, query, **event) == expected
        if isinstance(change, dict):
            event |= change
        else:
            query += "&" + change


def test_expressions_of_more_sites_than_names_can_be_numbered() -> None:
    policies = PolicySet({n: SitePolicy(excluded_requests=(f"name{n}==x",)) for n in range(1, 300)})
    events = [simple(f"rec=1&name{n}={'x' if n % 2 else 'y'}", site=n) for n in range(1, 300)]
    looked_up = world(policies)
    outcome = batch.process([one(events, policies.version, appended_ms=START_MS)], {0: PartitionState()}, looked_up)
    assert outcome.events["site_id"].to_pylist() == list(range(2, 300, 2))


def test_the_whole_address_decides_and_the_masked_one_is_kept() -> None:
    policies = PolicySet({1: SitePolicy(excluded_addresses=("81.2.69.160",))})
    events = [simple("rec=1", address=pack(text)) for text in ("81.2.69.160", "81.2.69.161")]
    record = one(events, policies.version, appended_ms=START_MS)
    (row,) = batch.process([record], {0: PartitionState()}, world(policies)).events.to_pylist()
    assert (row["index"], row["address"]) == (1, "81.2.0.0")


def test_an_import_of_long_ago_has_a_key_of_its_own_that_dies_with_the_day_it_came() -> None:
    policies = PolicySet({1: SitePolicy()})
    looked_up = world(policies)

    def rows(*events: Event) -> list[dict[str, Any]]:
        record = one(list(events), policies.version, appended_ms=START_MS)
        rows: list[dict[str, Any]] = batch.process([record], {0: PartitionState()}, looked_up).events.to_pylist()
        return rows

    query = "rec=1&_id=76d1f50cbfda087a"
    old = f"{query}&cdt=2009-03-04+05:06:07"
    day_before = simple(f"{query}&cdt=2026-11-17+01:00:00", role=int(Role.WRITE))
    events = [simple(query), simple(old, role=int(Role.WRITE)), day_before]
    now, imported, yesterday = rows(*events)
    assert imported["time"].isoformat() == "2009-03-04T05:06:07+00:00"
    assert len({row["visitor_id"] for row in (now, imported, yesterday)}) == 3
    (again,) = rows(simple(old, role=int(Role.WRITE)))
    assert again["visitor_id"] == imported["visitor_id"]
    (late,) = rows(simple(query, at_ms=START_MS - 50_000_000))
    assert late["visitor_id"] == yesterday["visitor_id"]
    assert rows(simple(old)) == []  # the collector refuses it; a packet that says otherwise is wrong
