"""What rows hold under a policy: each rule is seen at work, and fails here when it is switched off."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import parameters
from schemas.packets import Flag, Role
from schemas.privacy import RULES, Privacy, Referrers, of_preset, resolve
from schemas.reasons import Excluded
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import ReferrerType
from streams import consent, masked, reference, verdicts
from streams.anonymize import addresses, custom, location, referrers, urls
from streams.rules import Rules
from tests.streams.core import policies as random_policies
from tests.streams.core.compare import differences, run
from tests.streams.core.traffic import BASE, one, simple, world

Row = dict[str, Any]


@pytest.mark.parametrize("seed", range(50))
def test_worker_and_reference_agree_under_random_policies(seed: int) -> None:
    policies = random_policies.policy_set(seed)
    records = random_policies.Told(seed, visitors=12).records(policies.version, 8, partitions=2, odd=0.1, size=12)
    batches = [records[:3], records[3:]]
    ours = run(batches, world(policies))
    assert differences(ours, run(batches, world(policies), reference.process)) == []
    assert ours["packets"]


def rows(table: dict[str, Any], *queries: str, **event: Any) -> list[Row]:
    """The rows of requests under a `[privacy]` table, over the preset that keeps the most where none is named."""
    privacy, _ = resolve({"": {"preset": "matomo-default", **table}})
    policies = PolicySet({site: SitePolicy(privacy=privacy, domains=("www.site1.example",)) for site in (1, 2)})
    events = [simple(BASE + query, **event) for query in queries]
    return run([[one(events, policies.version)]], world(policies))["events"]


def cell(column: str, query: str = "", **event: Any) -> Callable[[dict[str, Any]], Any]:
    """A column of the row of a request under a table."""

    def of(table: dict[str, Any]) -> Any:
        found = rows(table, query, **event)
        return found[0][column] if found else None

    return of


def host_and(text: str) -> str:
    return f"https://www.site1.example/{text}"


PAGE = "&url=https%3A%2F%2Fwww.site1.example%2Fusers%2Fjo%3Fcolor%3D1%26email%3Djo%26sid%3D2%26x%3D3%26q%3Dw%23part"
REFERRER = "&urlref=https%3A%2F%2Fother.example%2Fa%2Fb%3Fx%3D1"
PLAYING = "&ma_id=ab1&ma_re=https%3A%2F%2Fwww.site1.example%2Fa.mp4"
FIREFOX_10 = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
FIREFOX_10 += "Version/17.1 Mobile/15E148 Safari/604.1"
OFF: list[tuple[str, Any, Any, Callable[[dict[str, Any]], Any], Any]] = [
    # rule, strict, loose, what is looked at, what the strict value gives
    ("preset", "no-personal-data", "matomo-default", lambda t: rows({**t}, "&uid=jo")[0]["user_name"], ""),
    ("mask_bytes", 2, 0, cell("address"), "81.2.0.0"),
    ("mask_bytes", 5, 4, cell("address"), ""),
    ("fingerprint", "coarse", "fine", lambda t: len(configs(t, "&fla=0", "&fla=1")), 1),
    ("fingerprint_address", "masked", "full", lambda t: neighbours(t), True),
    ("cookieless", True, False, cell("visit_visitor_id"), 0),
    ("visitor_ids", "drop", "day", cell("visit_visitor_id"), 0),
    ("visitor_ids", "request", "day", lambda t: len({row["visit_id"] for row in rows(t, "", "")}), 2),
    ("visitor_ids", "day", "site", lambda t: days(t, "visitor_id"), 2),
    ("user_ids", "drop", "day", cell("user_id", "&uid=jo"), 0),
    ("user_ids", "day", "site", lambda t: days(t, "user_id", "&uid=jo"), 2),
    ("user_ids", "site", "keep", cell("user_name", "&uid=jo"), ""),
    ("order_ids", "drop", "day", cell("order_id", "&idgoal=0&ec_id=7"), 0),
    ("order_ids", "day", "site", lambda t: days(t, "order_id", "&idgoal=0&ec_id=7"), 2),
    ("page_view_ids", "drop", "day", cell("page_view_id", "&pv_id=abc123"), ""),
    ("page_view_ids", "day", "keep", lambda t: days(t, "page_view_id", "&pv_id=abc123"), 2),
    ("page_view_ids", "drop", "day", cell("media_id", PLAYING), ""),
    ("page_view_ids", "day", "keep", lambda t: days(t, "media_id", PLAYING), 2),
    ("custom_variables", "drop", "keep", cell("variable_value", "&cvar=%7B%221%22%3A%5B%22k%22%2C%22v%22%5D%7D"), []),
    ("custom_dimensions", "drop", "keep", cell("dimension_value", "&dimension4=v"), []),
    ("dimensions", {"4": "drop"}, {"4": "keep"}, cell("dimension_value", "&dimension4=v"), []),
    ("url_parameters", "listed", "all", cell("url", PAGE), host_and("users/jo")),
    ("excluded_lists", ["personal", "sessions"], [], cell("url", PAGE), host_and("users/jo?color=1&x=3")),
    ("excluded_lists", ["personal"], [], cell("url", PAGE), host_and("users/jo?color=1&sid=2&x=3")),
    ("excluded_parameters", ["/^[cx]/"], [], cell("url", PAGE), host_and("users/jo?email=jo")),
    ("masked_paths", ["/users/*"], [], cell("url_path", PAGE), "/users/*"),
    ("detectors", ["email"], [], cell("title", "&action_name=mail+to+jo%40x.example"), "mail to [email]"),
    ("detectors", ["name"], ["email"], cell("url_path", PAGE), "/users/[name]"),
    ("keep_fragment", False, True, cell("url", PAGE), host_and("users/jo?color=1&email=jo&x=3")),
    ("search_parameters", [], ["q"], cell("search_keyword", PAGE), ""),
    ("search_category_parameters", [], ["x"], cell("search_category", PAGE), ""),
    ("campaigns", False, True, cell("campaign_name", "&utm_campaign=sale"), ""),
    ("campaigns", False, True, cell("visit_campaign", "&utm_campaign=sale"), ""),
    ("referrer", "exclude_query", "keep", cell("referrer_url", REFERRER), "https://other.example/a/b"),
    ("referrer", "exclude_path", "keep", cell("referrer_url", REFERRER), "https://other.example/"),
    ("referrer", "exclude_all", "keep", cell("referrer_name", REFERRER), ""),
    ("location", "none", "city", cell("country", "&country=de", role=int(Role.WRITE)), ""),
    ("location", "region", "city", cell("city", "&country=de&city=K", role=int(Role.WRITE)), ""),
    ("country_by_language", "never", "region", cell("country", language="fr,de-at"), ""),
    ("country_by_language", "region", "language", cell("country", language="fr,de-at"), "at"),
    ("location", "none", "city", cell("country", language="de-at"), ""),
    ("resolution", False, True, cell("resolution", "&res=800x600"), "unknown"),
    ("device_model", False, True, cell("device_brand", agent=FIREFOX_10), ""),
    ("device_versions", False, True, cell("browser_version", agent=FIREFOX_10), ""),
    ("plugins", False, True, cell("plugins", "&pdf=1"), 0),
    ("local_time", "hour", "second", cell("local_seconds", "&h=1&m=2&s=3"), 3600),
    ("local_time", "drop", "second", cell("local_seconds", "&h=1&m=2&s=3"), -1),
    ("do_not_track", True, False, cell("url", flags=int(Flag.DNT)), None),
    ("global_privacy_control", True, False, cell("url", flags=int(Flag.GPC)), None),
    ("consent", "required", "ignored", cell("url", "&consent=0"), None),
    ("children", True, False, cell("visit_user_id", "&uid=jo"), 0),
]
NEEDS = {"dimensions": {"custom_dimensions": "keep"}}


def configs(table: dict[str, Any], *queries: str) -> set[int]:
    return {row["config_id"] for row in rows(table, *queries)}


def neighbours(table: dict[str, Any]) -> bool:
    """Whether two addresses of one masked network have one fingerprint."""
    found = [rows(table, "", address=b"\0" * 10 + b"\xff\xff" + bytes([81, 2, 69, n]))[0] for n in (1, 2)]
    return len({row["config_id"] for row in found}) == 1


def days(table: dict[str, Any], column: str, query: str = "") -> int:
    """How many values a column has for the same request on two days."""
    found = [rows(table, query, at_ms=1_795_000_000_000 + day * 86_400_000)[0][column] for day in (0, 1)]
    assert all(found)
    return len(set(found))


@pytest.mark.parametrize(("rule", "strict", "loose", "look", "expected"), OFF, ids=lambda v: v if v in RULES else "")
def test_each_rule_is_seen_in_rows_and_gone_when_it_is_off(
    rule: str, strict: Any, loose: Any, look: Callable[[dict[str, Any]], Any], expected: Any
) -> None:
    needs = NEEDS.get(rule, {})
    assert look({**needs, rule: strict}) == expected
    assert look({**needs, rule: loose}) != expected


def test_no_rule_is_without_a_test() -> None:
    assert set(RULES) - {rule for rule, *_ in OFF} == {"allowed_parameters", "with_consent"}


def test_an_allow_list_keeps_what_the_site_names() -> None:
    table = {"url_parameters": "listed", "allowed_parameters": ["color"]}
    assert rows(table, PAGE)[0]["url"] == host_and("users/jo?color=1")


@pytest.mark.parametrize("parameter", ["link", "download", "urlref", "action_name", "e_n", "c_t", "dimension1"])
def test_parameters_are_removed_wherever_a_url_stands(parameter: str) -> None:
    more = {"e_n": "&e_c=a&e_a=b", "c_t": "&c_n=a"}.get(parameter, "")
    query = f"{more}&{parameter}=https%3A%2F%2Fo.example%2Fp%3Fcolor%3D1%26secret%3Dcanary"
    loose = {"url_parameters": "all", "excluded_lists": []}
    assert "canary" in str(rows(loose, query))
    assert "canary" not in str(rows({"url_parameters": "listed"}, query))
    assert "canary" not in str(rows({"url_parameters": "all", "excluded_lists": ["personal"]}, query))


# -- the order ------------------------------------------------------------------------------------------------------


def test_what_is_excluded_is_never_masked_and_what_is_masked_is_never_seen_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from streams import columns, describe, stages

    steps: list[str] = []

    def watched(owner: Any, name: str, step: str) -> None:
        function = getattr(owner, name)

        def run_(*arguments: Any, **named: Any) -> Any:
            steps.append(step)
            return function(*arguments, **named)

        monkeypatch.setattr(owner, name, run_)

    watched(columns.Query, "__init__", "parse")
    watched(describe, "_after_parsing", "exclude")
    for name in ("keys", "device", "page", "referrer", "action", "order", "numbers", "place", "own_fields", "identity"):
        watched(stages.Stages, name, "everything else")
    watched(addresses, "mask_column", "mask")
    assert rows({"fingerprint_address": "masked"}, "")
    assert list(dict.fromkeys(steps)) == ["parse", "exclude", "mask", "everything else"]
    steps.clear()
    assert rows({"consent": "required"}, "&consent=0") == []
    assert steps == ["parse", "exclude"]
    steps.clear()
    assert rows({"do_not_track": True}, "", flags=int(Flag.DNT)) == []
    assert steps == ["parse", "exclude"]  # of no rows


def test_no_stage_sees_the_whole_address_unless_the_policy_says_so() -> None:
    near = [b"\0" * 10 + b"\xff\xff" + bytes([81, 2, 69, n]) for n in (1, 2)]
    one_, other = (rows({"fingerprint_address": "masked"}, "", address=address)[0] for address in near)
    assert {name for name in one_ if one_[name] != other[name]} == set()


# -- consent --------------------------------------------------------------------------------------------------------

CNIL = {"preset": "cnil-exempt"}


def test_consent_within_a_visit_changes_its_rules_and_neither_splits_it_nor_its_fingerprint() -> None:
    ids = ["&_id=" + "a" * 16, "&_id=" + "b" * 16, "&_id=" + "c" * 16 + "&consent=1", "&_id=" + "c" * 16 + "&consent=1"]
    found = rows(CNIL, *(query + "&uid=jo&res=800x600&utm_campaign=sale&fla=1" for query in ids))
    assert len({row["visit_id"] for row in found}) == len({row["config_id"] for row in found}) == 1
    assert [row["consent"] for row in found] == [-1, -1, 1, 1]
    assert [row["resolution"] for row in found] == ["unknown", "unknown", "800x600", "800x600"]
    assert [row["campaign_name"] for row in found] == ["", "", "sale", "sale"]
    assert [bool(row["user_id"]) for row in found] == [False, False, True, True]
    assert {row["visit_campaign"] for row in found} == {""}


def test_what_was_dropped_before_consent_does_not_come_back() -> None:
    found = rows(CNIL, "&res=800x600&uid=jo&consent=0", "&consent=1")
    assert [row["resolution"] for row in found] == ["unknown", "unknown"]
    assert [row["visit_user_id"] for row in found] == [0, 0]


def test_consent_withdrawn_leaves_the_visit_whole() -> None:
    found = rows(CNIL, "&consent=1", "&consent=1", "&consent=0", "&consent=0")
    assert len({row["visit_id"] for row in found}) == 1
    assert consent.of_visit(row["consent"] for row in found) == consent.MIXED


@pytest.mark.parametrize(
    ("query", "flags", "said"),
    [
        ("", 0, -1),
        ("&consent=1", 0, 1),
        ("&consent=0", 0, 0),
        ("&consent=0", Flag.CONSENT, 0),
        ("", Flag.CONSENT, 1),
        ("", Flag.COOKIE_CONSENT, -1),
        ("&consent=x", 0, -1),
        ("&consent=2", 0, -1),
    ],
)
def test_consent_of_an_action(query: str, flags: int, said: int) -> None:
    found = rows({}, query, flags=int(flags))
    assert [row["consent"] for row in found] == [said]
    assert len(rows({"consent": "required"}, query, flags=int(flags))) == (said == consent.GIVEN)


def test_refusal_is_counted_by_its_reason() -> None:
    rules = Privacy()
    assert verdicts.before_parsing(rules, True, Flag.DNT | Flag.GPC) == (Excluded.DO_NOT_TRACK, "")
    assert verdicts.before_parsing(rules, True, Flag.GPC) == (Excluded.GLOBAL_PRIVACY_CONTROL, "")
    assert verdicts.before_parsing(rules, True, Flag.OPT_OUT | Flag.DNT) == (Excluded.DO_NOT_TRACK, "")
    assert verdicts.before_parsing(rules, True, Flag.OPT_OUT) is None  # is read with the exclusions
    assert verdicts.before_parsing(of_preset("matomo-default"), True, Flag.DNT | Flag.GPC) is None


def test_a_childrens_site_has_no_identifier_at_all() -> None:
    query = "&uid=jo&cid=0123456789abcdef&idgoal=0&ec_id=7&dimension1=x&cvar=%7B%221%22%3A%5B%22k%22%2C%22v%22%5D%7D"
    found = rows({"children": True}, query, query)
    assert len({row["visitor_id"] for row in found}) == len({row["config_id"] for row in found}) == 2
    names = ("user_id", "user_name", "order_id", "visit_user_id", "visit_visitor_id", "address", "dimension_slot")
    assert not any(row[name] for row in found for name in (*names, "variable_name"))


def test_ids_that_come_late_hold_a_visit_together_under_the_default() -> None:
    anonymous, cookie = BASE.replace("&_id=76d1f50cbfda087a", ""), "&_id=76d1f50cbfda087a"
    policies = PolicySet({1: SitePolicy()})
    events = [simple(anonymous + more) for more in ("", cookie, cookie + "&uid=jo")]
    found = run([[one(events, policies.version)]], world(policies))["events"]
    assert len({row["visit_id"] for row in found}) == 1
    assert {(row["user_id"], row["user_name"], row["visit_user_id"]) for row in found} == {(0, "", 0)}
    alone = [simple(anonymous + "&uid=jo", address=bytes(15) + bytes([n])) for n in (1, 2)]
    alone = [msgspec.structs.replace(event, language=tongue) for event, tongue in zip(alone, ("de", "fr"), strict=True)]
    found = run([[one(alone, policies.version)]], world(policies))["events"]
    assert len({row["config_id"] for row in found}) == 2
    assert len({row["visit_id"] for row in found}) == 1


def test_request_ids_are_the_same_when_the_log_is_run_again() -> None:
    first, again = (rows({"visitor_ids": "request"}, "", "") for _ in range(2))
    assert [row["visitor_id"] for row in first] == [row["visitor_id"] for row in again]


def test_an_order_sent_twice_is_seen_as_one() -> None:
    for keyed in ("day", "site"):
        first, second = rows({"order_ids": keyed}, "&idgoal=0&ec_id=A1", "&idgoal=0&ec_id=+A1+&new_visit=1")
        assert first["order_id"] == second["order_id"] != 0


def test_a_masked_campaign_keeps_its_type() -> None:
    (row,) = rows({"campaigns": False}, "&utm_campaign=sale&utm_term=x" + REFERRER)
    assert row["referrer_type"] == ReferrerType.CAMPAIGN
    assert row["referrer_name"] == "(placeholder)"
    assert not any(row[name] for name in ("referrer_keyword", "campaign_name", "campaign_term", "visit_campaign"))


def test_a_place_needs_a_token_that_may_write() -> None:
    for role, expected in ((Role.NONE, ""), (Role.VIEW, ""), (Role.WRITE, "de")):
        assert rows({}, "&country=DE", role=int(role), language="")[0]["country"] == expected


def test_custom_values_by_slot() -> None:
    table = {"custom_dimensions": "keep", "dimensions": {"2": "day", "3": "drop"}}
    (row,) = rows(table, "&dimension1=a&dimension2=b&dimension3=c&dimension1000=d&dimension01=e")
    assert row["dimension_slot"] == [1, 2]
    assert row["dimension_value"][0] == "a"
    assert len(row["dimension_value"][1]) == 16 != len("b")


# -- properties -----------------------------------------------------------------------------------------------------

ADDRESSES = st.one_of(
    st.binary(min_size=16, max_size=16),
    *(
        st.binary(min_size=size, max_size=size).map(head.__add__)
        for head, size in (
            (addresses.MAPPED, 4),
            (addresses.SIX_TO_FOUR, 14),
            (addresses.NAT64, 4),
            (addresses.COMPATIBLE, 4),
            (bytes.fromhex("20010000"), 12),
        )
    ),
)


@given(ADDRESSES, st.integers(0, 5))
def test_masking_twice_is_masking_once_and_more_masks_more(address: bytes, level: int) -> None:
    masked = addresses.mask(address, level)
    assert addresses.mask(masked, level) == masked
    assert addresses.mask(masked, min(5, level + 1)) == addresses.mask(address, min(5, level + 1))


@pytest.mark.parametrize("front", [addresses.MAPPED, addresses.NAT64, addresses.COMPATIBLE])
def test_ipv4_at_the_end_is_masked_as_ipv4(front: bytes) -> None:
    for level, kept in enumerate([b"\1\2\3\4", b"\1\2\3\0", b"\1\2\0\0", b"\1\0\0\0", bytes(4)]):
        assert addresses.mask(front + b"\1\2\3\4", level)[12:] == kept


def test_no_visitors_address_is_left_in_teredo_and_6to4() -> None:
    teredo = bytes.fromhex("20010000") + b"\x41\x36\xe3\x78" + b"\x80\0\x63\xbf" + b"\x3f\xff\xfd\xd2"
    assert addresses.mask(teredo, 1)[8:] == bytes(8)
    assert addresses.mask(b"\x20\x02\1\2\3\4" + bytes(10), 1)[2:6] == b"\1\2\3\0"


TEXTS = st.text(st.sampled_from("ab0:/?#[]@&=%.;{}\"',-_ é\ud800\0\n"), max_size=60)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.integers(0, 49))
def test_no_rule_raises_and_cleaning_twice_is_cleaning_once(text: str, seed: int) -> None:
    privacy = random_policies.privacy(random.Random(seed))
    rules = Rules.of(1, SitePolicy(privacy=privacy))
    key = bytes(16)
    for base in (rules, rules.of_consent(consent.GIVEN)):
        cleaned, _ = urls.clean_text(text, base)
        parts = urls.split("https://a.example/" + text)
        assert parts is not None
        url, _ = urls.clean(parts, base)
        assert urls.clean(parts, base) == urls.clean(parts, base, path=urls.clean_path(parts, base))
        again = urls.split(url)
        assert again is not None
        assert urls.masked_path(urls.masked_path(parts.path, base), base) == urls.masked_path(parts.path, base)
        custom.dimensions({1: text, 2: cleaned}, base, lambda _rule: key)
        custom.variables({"cvar": text, "_cvar": f'{{"1":["k",{text}]}}'}, base, lambda _rule: key)
        location.given({"country": text, "region": text, "city": text}, 4, base)
        for level in Referrers:
            for kind in ReferrerType:
                once = (
                    referrers.url(text, level),
                    referrers.name(text, kind, level),
                    referrers.keyword(text, kind, level),
                )
                assert referrers.url(once[0], level) == once[0]
                assert referrers.name(once[1], kind, level) == once[1]
                assert referrers.keyword(once[2], kind, level) == once[2]
        consent.said(text)


def test_a_request_of_anything_is_described_under_any_policy() -> None:
    r = random.Random(3)
    for seed in range(6):
        policies = random_policies.policy_set(seed, 1)
        texts = ["".join(r.choices('0aé%&=:/?#{}[]"dimension1cvar', k=30)) for _ in range(200)]
        events = [simple(parameters.safe(f"{BASE}&cvar={t}&dimension1={t}&country={t}".encode())) for t in texts]
        found = run([[one(events, policies.version)]], world(policies))
        assert not [row for row in found["rejects"] if row["reason"] == "internal_error"]


# -- detectors ------------------------------------------------------------------------------------------------------

ENCODED = "jo.doe%40canary.example"
EVERYWHERE = {
    "url": f"&url=https%3A%2F%2Fwww.site1.example%2F{ENCODED}%3Fa%3D{ENCODED}%23{ENCODED}",
    "url_path": f"&url=https%3A%2F%2Fwww.site1.example%2F{ENCODED}",
    "title": f"&action_name={ENCODED}",
    "link_url": f"&link=https%3A%2F%2Fo.example%2F%3Fto%3D{ENCODED}",
    "search_keyword": f"&search={ENCODED}",
    "search_category": f"&search=a&search_cat={ENCODED}",
    "event_category": f"&e_a=a&e_c={ENCODED}",
    "event_action": f"&e_c=a&e_a={ENCODED}",
    "event_name": f"&e_c=a&e_a=a&e_n={ENCODED}",
    "content_name": f"&c_n={ENCODED}",
    "content_piece": f"&c_n=a&c_p={ENCODED}",
    "content_target": f"&c_n=a&c_t={ENCODED}",
    "content_interaction": f"&c_n=a&c_i={ENCODED}",
    "referrer_name": f"&utm_campaign={ENCODED}",
    "referrer_keyword": f"&urlref=https%3A%2F%2Fwww.bing.com%2Fsearch%3Fq%3D{ENCODED}",
    "referrer_url": f"&urlref=https%3A%2F%2Fo.example%2F%3Fq%3D{ENCODED}",
    "campaign_name": f"&utm_campaign={ENCODED}",
    "campaign_source": f"&url=https%3A%2F%2Fwww.site1.example%2F%3Futm_source%3D{ENCODED}",
    "campaign_medium": f"&utm_campaign=a&utm_medium={ENCODED}",
    "campaign_term": f"&utm_campaign=a&utm_term={ENCODED}",
    "campaign_content": f"&utm_campaign=a&utm_content={ENCODED}",
    "item_sku": f"&idgoal=0&ec_items=%5B%5B%22{ENCODED}%22%2C%22n%22%5D%5D",
    "item_name": f"&idgoal=0&ec_items=%5B%5B%22s%22%2C%22{ENCODED}%22%5D%5D",
    "item_category": f"&idgoal=0&ec_items=%5B%5B%22s%22%2C%22n%22%2C%22{ENCODED}%22%5D%5D",
    "product_sku": f"&_pks={ENCODED}",
    "product_name": f"&_pkn={ENCODED}",
    "product_category": f"&_pkc=%5B%22a%22%2C%22{ENCODED}%22%5D",
    "media_title": f"&ma_id=a&ma_re=https%3A%2F%2Fo.example%2F&ma_ti={ENCODED}",
    "media_url": f"&ma_id=a&ma_re=https%3A%2F%2Fo.example%2F%3Fto%3D{ENCODED}",
    "media_player": f"&ma_id=a&ma_re=https%3A%2F%2Fo.example%2F&ma_pn={ENCODED}",
    "crash_message": f"&ca=1&cra={ENCODED}",
    "crash_type": f"&ca=1&cra=a&cra_tp={ENCODED}",
    "crash_category": f"&ca=1&cra=a&cra_ct={ENCODED}",
    "crash_source": f"&ca=1&cra=a&cra_ru=https%3A%2F%2Fo.example%2F%3Fto%3D{ENCODED}",
    "crash_stack": f"&ca=1&cra=a&cra_st=a%0A{ENCODED}%20(b.js)",
    "city": f"&country=de&city={ENCODED}",
    "dimension_value": f"&dimension3={ENCODED}",
    "variable_name": f"&cvar=%7B%221%22%3A%5B%22{ENCODED}%22%2C%22v%22%5D%7D",
    "variable_value": f"&e_cvar=%7B%221%22%3A%5B%22k%22%2C%22{ENCODED}%22%5D%7D",
}
LOOSE = {"excluded_lists": [], "keep_fragment": True}


def everything(table: dict[str, Any], query: str) -> str:
    return str(rows({**LOOSE, **table}, query, role=int(Role.WRITE)))


def test_every_column_that_counts_is_tried() -> None:
    assert set(EVERYWHERE) == set(masked.COLUMNS)


@pytest.mark.parametrize("column", EVERYWHERE)
def test_a_value_is_masked_in_every_field_and_counted_there(column: str) -> None:
    query = EVERYWHERE[column]
    assert "canary" in everything({"detectors": []}, query)
    assert "canary" not in everything({"detectors": ["email"]}, query)
    privacy, _ = resolve({"": {"preset": "matomo-default", **LOOSE, "detectors": ["email"]}})
    policies = PolicySet({1: SitePolicy(privacy=privacy)})
    events = [simple(BASE + query, role=int(Role.WRITE)), simple(BASE)]
    (packet,) = run([[one(events, policies.version)]], world(policies))["packets"]
    counted = dict(zip(packet["masked_field"], packet["masked_count"], strict=True))
    assert counted[column] == (3 if column == "url" else 1)
    assert set(packet["masked_kind"]) == {"email"}
    assert set(packet["masked_site"]) == {1}


def test_what_a_site_calls_its_fields_is_not_counted() -> None:
    assert masked.kinds("/x?contact[email]=a&a[b][phone]=1&user%5Bname%5D=2") == []
    assert masked.kinds("/x?contact[email]=[email]&u=%2F%2F[phone]") == ["email", "phone"]


def test_what_was_not_stored_is_not_counted() -> None:
    privacy, _ = resolve({"": {"preset": "matomo-default", "detectors": ["email"]}})
    policies = PolicySet({1: SitePolicy(privacy=privacy)})
    title = f"&action_name={ENCODED}"
    events = [simple(BASE + "&ping=1" + title), simple(BASE + title), simple(BASE.replace("rec=1", "rec=0") + title)]
    (packet,) = run([[one(events, policies.version)]], world(policies))["packets"]
    assert (packet["stored"], packet["masked_count"]) == (1, [1])


def test_the_host_of_a_page_is_no_value() -> None:
    query = "&url=http%3A%2F%2F81.2.69.142%2Fa%3Fip%3D81.2.69.142"
    (row,) = rows({"detectors": ["ip"]}, query)
    assert (row["url"], row["url_host"]) == ("http://81.2.69.142/a?ip=[ip]", "81.2.69.142")


def test_consent_does_not_bring_values_back() -> None:
    table = {"preset": "cnil-exempt", "with_consent": "matomo-default"}
    assert "canary" not in everything(table, f"&consent=1&action_name={ENCODED}")
