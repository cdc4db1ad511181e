"""From request to event: what is taken, what is refused, and what leaves."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import requests
from ingest.directory import Directory
from ingest.permissions import Refused
from ingest.requests import judge, merged, plain, single
from schemas import parameters
from schemas.packets import MAPPED_IPV4, Event, Flag, Repeat, Role
from schemas.reasons import Invalid
from schemas.routing import partition_of
from schemas.sites import load_sites
from tests.ingest.memory import SUPERUSER, WRITER, write_sites

ADDRESS = bytes(10) + b"\xff\xff\x7f\0\0\x01"
PARTITIONS = 8


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    return Directory(load_sites(write_sites(tmp_path_factory.mktemp("sites"), 1, 2, 77)), PARTITIONS)


def event(directory: Directory, query: bytes, **fields: bytes) -> Event:
    outcome = single(query, names(fields), ADDRESS, 1_700_000_000_123, directory)
    assert not isinstance(outcome, Refused), outcome
    partition, row, _ = outcome
    assert partition == partition_of(row[1], 0, PARTITIONS)
    return Event(*row)


def names(fields: dict[str, bytes]) -> dict[str, bytes]:
    return {name.replace("_", "-"): value for name, value in fields.items()}


def test_event_holds_what_the_closed_list_names(directory: Directory) -> None:
    found = event(
        directory,
        b"idsite=77&rec=1&url=http%3A%2F%2Fa%2F&send_image=0",
        user_agent=b"Mozilla/5.0",
        accept_language=b"de,en;q=0.5",
        origin=b"http://a",
        referer=b"http://a/secret",
        cookie=b"_pk_id.1.abcd=0123456789abcdef.1700000000.",
        connection=b"keep-alive",
    )
    assert found == Event(
        received_ms=1_700_000_000_123,
        site=77,
        address=ADDRESS,
        role=0,
        flags=0,
        agent="Mozilla/5.0",
        language="de,en;q=0.5",
        hints="",
        query="idsite=77&rec=1&url=http%3A%2F%2Fa%2F",
    )


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (b"rec=1&url=x", Invalid.MISSING_SITE),
        (b"idsite=&rec=1", Invalid.MISSING_SITE),
        (b"idsite=0&rec=1", Invalid.MISSING_SITE),
        (b"idsite=-1&rec=1", Invalid.MISSING_SITE),
        (b"idsite=1abc&rec=1", Invalid.MISSING_SITE),
        (b"idsite=3&rec=1", Invalid.UNKNOWN_SITE),
        (b"idsite=99999999999999999999&rec=1", Invalid.UNKNOWN_SITE),
        (b"idsite=1&idsite=3&rec=1", Invalid.UNKNOWN_SITE),
        (b"idsite=1&rec=1&a=" + b"x" * requests.QUERY_LIMIT, Invalid.TOO_LARGE),
        (b"idsite=1&rec=1&a=" + b"\xff" * (requests.QUERY_LIMIT // 2), Invalid.TOO_LARGE),
    ],
)
def test_what_cannot_be_taken_is_refused_with_a_reason(directory: Directory, query: bytes, reason: Invalid) -> None:
    outcome = single(query, {}, ADDRESS, 0, directory)
    assert isinstance(outcome, Refused)
    assert outcome.reason is reason


@pytest.mark.parametrize(
    ("query", "site"),
    [
        (b"idsite=1&rec=1", 1),
        (b"idsite=2&idsite=77&rec=1", 77),
        (b"idsite=077&rec=1", 77),
        (b"idsite=%37%37&rec=1", 77),
        (b"id%73ite=77&rec=1", 77),
        (b"idsite=1&id%73ite=77&rec=1", 77),
        (b"idsite=1&rec=0", 1),
        (b"idsite=1", 1),  # answered as ever and not recorded, which is the worker's to say
        (b"xidsite=2&idsite=1&rec=1", 1),
    ],
)
def test_site(directory: Directory, query: bytes, site: int) -> None:
    assert event(directory, query).site == site


@pytest.mark.parametrize(
    ("query", "role", "flag"),
    [
        (b"idsite=1&rec=1", Role.NONE, 0),
        (b"idsite=1&rec=1&token_auth=", Role.NONE, 0),
        (b"idsite=1&rec=1&token_auth=anonymous", Role.NONE, 0),
        (b"idsite=1&rec=1&token_auth=" + WRITER.encode(), Role.WRITE, 0),
        (b"idsite=1&rec=1&token_auth=wrong&token_auth=" + SUPERUSER.encode(), Role.SUPERUSER, 0),
        (b"idsite=1&rec=1&token%5Fauth=" + SUPERUSER.encode(), Role.SUPERUSER, 0),
        (b"idsite=1&rec=1&token_auth=wrong", Role.NONE, Flag.BAD_TOKEN),
        (b"idsite=2&rec=1&token_auth=" + WRITER.encode(), Role.NONE, Flag.BAD_TOKEN),
    ],
)
def test_a_token_becomes_a_role_and_does_not_leave(directory: Directory, query: bytes, role: Role, flag: int) -> None:
    found = event(directory, query)
    assert (found.role, found.flags) == (role, flag)
    assert "token" not in found.query
    assert "wrong" not in found.query


@pytest.mark.parametrize(
    ("query", "quiet", "left"),
    [
        (b"idsite=1&rec=1", False, "idsite=1&rec=1"),
        (b"send_image=0&idsite=1&rec=1", True, "idsite=1&rec=1"),
        (b"idsite=1&send_image=0&rec=1", True, "idsite=1&rec=1"),
        (b"idsite=1&rec=1&send_image=0", True, "idsite=1&rec=1"),
        (b"idsite=1&rec=1&send_image=1", False, "idsite=1&rec=1"),
        (b"idsite=1&send_image=1&rec=1&send_image=0", True, "idsite=1&rec=1"),
        (b"idsite=1&rec=1&xsend_image=0", False, "idsite=1&rec=1&xsend_image=0"),
    ],
)
def test_send_image_decides_about_the_answer_and_does_not_leave(
    directory: Directory, query: bytes, quiet: bool, left: str
) -> None:
    outcome = single(query, {}, ADDRESS, 0, directory)
    assert not isinstance(outcome, Refused)
    assert outcome[2] is quiet
    assert outcome[1][8] == left


@pytest.mark.parametrize(
    ("query", "filled"),
    [
        (b"idsite=1&rec=1", True),
        (b"idsite=1&rec=1&url=http%3A%2F%2Fb%2F", False),
        (b"idsite=1&rec=1&urlref=http%3A%2F%2Fb%2F", False),
        (b"url=&urlref=&idsite=1&rec=1", True),
        (b"urlref=&idsite=1&rec=1&url=http%3A%2F%2Fb%2F", False),
    ],
)
def test_the_referer_stands_in_for_a_missing_url(directory: Directory, query: bytes, filled: bool) -> None:
    found = event(directory, query, referer="http://a/b?c=d&e=ä".encode())
    assert bool(found.flags & Flag.URL_FROM_REFERER) is filled
    assert (parameters.parse(found.query).get("url") == "http://a/b?c=d&e=ä") is filled


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({"dnt": b"1"}, Flag.DNT),
        ({"dnt": b"0"}, 0),
        ({"x_do_not_track": b"1"}, Flag.DNT),
        ({"x_do_not_track": b"10"}, 0),
        ({"sec_gpc": b"1"}, Flag.GPC),
        ({"sec_gpc": b"0", "dnt": b"1"}, Flag.DNT),
        ({"x_purpose": b"preview"}, Flag.PREFETCH),
        ({"x_moz": b"prefetch"}, Flag.PREFETCH),
        ({"sec_purpose": b"prefetch;prerender"}, Flag.PREFETCH),
        ({"cookie": b"a=b; matomo_ignore=ignore%3D%2A"}, Flag.OPT_OUT),
        ({"cookie": b"piwik_ignore=1"}, Flag.OPT_OUT),
        ({"cookie": b"mtm_consent_removed=1700000000"}, Flag.OPT_OUT),
        ({"cookie": b"mtm_consent=1700000000"}, Flag.CONSENT),
        ({"cookie": b"mtm_consent=1;mtm_cookie_consent=1"}, Flag.CONSENT | Flag.COOKIE_CONSENT),
        ({"cookie": b"mtm_consent="}, 0),
        ({"cookie": b"xmatomo_ignore=1; a=matomo_ignore=1"}, 0),
    ],
)
def test_flags(directory: Directory, fields: dict[str, bytes], flags: int) -> None:
    assert event(directory, b"idsite=1&rec=1", **fields).flags == flags


def test_client_hints_are_kept_unless_the_query_has_them(directory: Directory) -> None:
    fields = {"sec_ch_ua_mobile": b"?0", "sec_ch_ua_platform": b'"Linux"'}
    expected = '{"sec-ch-ua-mobile":"?0","sec-ch-ua-platform":"\\"Linux\\""}'
    assert event(directory, b"idsite=1&rec=1", **fields).hints == expected
    assert event(directory, b"idsite=1&rec=1&uadata=%7B%7D", **fields).hints == ""


def test_a_query_leaves_printable(directory: Directory) -> None:
    found = event(directory, "idsite=1&rec=1&action_name=Käse 1\n2".encode() + b"\xff\x00")
    assert found.query == "idsite=1&rec=1&action_name=K%C3%A4se%201%0A2%FF%00"


def test_an_agent_that_is_not_utf8_leaves_as_text(directory: Directory) -> None:
    found = event(directory, b"idsite=1&rec=1", user_agent=b"a\xffb" + b"x" * 2000)
    assert found.agent == "a\ufffdb" + "x" * 1021


def test_an_idempotency_key_names_the_repeat_by_site_and_token(directory: Directory) -> None:
    queries = (b"idsite=1&rec=1", b"idsite=2&rec=1", b"idsite=1&rec=1&token_auth=" + WRITER.encode())
    repeats = [event(directory, query, idempotency_key=b"k").repeat for query in queries]
    assert all(repeat[:1] == Repeat.KEY and len(repeat) == 17 for repeat in repeats)
    assert len(set(repeats)) == 3
    assert event(directory, queries[0] + b"&a=b", idempotency_key=b"k").repeat == repeats[0]
    assert event(directory, queries[0], idempotency_key=b"l").repeat not in repeats
    assert event(directory, queries[0]).repeat == event(directory, queries[0], idempotency_key=b"").repeat == b""


@pytest.mark.parametrize(
    ("query", "form", "expected"),
    [
        (b"a=1", b"", b"a=1"),
        (b"", b"a=1\r\n", b"a=1"),
        (b"a=1", b"a=2&b=3", b"a=2&b=3&a=1"),
        (b"", b"", b""),
    ],
)
def test_form_and_query_merge_and_the_query_wins(query: bytes, form: bytes, expected: bytes) -> None:
    assert merged(query, form) == expected


pieces = st.sampled_from(
    [
        *("idsite=1", "idsite=77", "idsite=3", "idsite=", "idsite", "id%73ite=2", "xidsite=9"),
        *("rec=1", "rec=0", "rec", "r%65c=1", "recMode=1"),
        *("send_image=0", "send_image=1", "send_image", "send%5fimage=0"),
        *("cip=1.2.3.4", "cip=", "%63ip=1", "cdt=1", "cid=x", "pf_net=-1", "lat=1", "cs=latin1"),
        *("token_auth=x", f"token_auth={WRITER}", "token%5Fauth=y", "url=token_auth"),
        *("url=http%3A%2F%2Fa", "url=", "urlref=b", "uadata=%7B%7D", "", "=", "a%5Bb%5D=1", "%=%", "a=%e4 b"),
    ]
)


COMMON = [b"idsite=1&rec=1&url=a", b"rec=1&idsite=77&send_image=0&a=%e4%20b", b"idsite=1&rec=1&send_image=0&url=x"]


@pytest.mark.parametrize("query", COMMON)
def test_a_query_of_the_common_form_takes_the_quick_way(directory: Directory, query: bytes) -> None:
    assert plain(b"&" + query, directory, False) is not None


@given(st.lists(pieces, max_size=9), st.booleans())
def test_the_quick_way_judges_as_the_thorough_one_or_leaves_it_to_that(
    directory: Directory, parts: list[str], referer: bool
) -> None:
    query = "&".join(parts).encode()
    found = plain(b"&" + query, directory, referer)
    if found is None:
        return
    judged = judge(query, directory, "", b"http://r/" if referer else None)
    assert not isinstance(judged, Refused)
    assert found == (judged.place, judged.query, judged.special.get(b"send_image") == b"0")
    assert (judged.role, judged.flags) == (0, 0)
    # where client hints in headers give way, the service looks for the name alone
    assert (b"uadata" in judged.special) == ("&uadata=" in "&" + judged.query)


@pytest.mark.parametrize("piece", ["%75adata=1", "a&", "&&", "#x", "a%20b=1", "\x7f=1", "x=\x00", "a=b=c"])
def test_odd_pieces_change_nothing_of_that(directory: Directory, piece: str) -> None:
    for query in (f"{piece}&idsite=1&rec=1", f"idsite=1&{piece}&rec=1", f"idsite=1&rec=1&{piece}"):
        if (found := plain(b"&" + query.encode(), directory, False)) is not None:
            judged = judge(query.encode(), directory)
            assert not isinstance(judged, Refused)
            assert found == (judged.place, judged.query, False)


@given(st.text(), st.text())
def test_no_value_is_changed(directory: Directory, name: str, value: str) -> None:
    query = f"idsite=1&rec=1&x{quote(name)}={quote(value)}&y={value.replace('&', '').replace('=', '')}"
    found = event(directory, query.encode("utf-8", "replace"))
    assert parameters.parse(found.query) == parameters.parse(query.encode("utf-8", "replace").decode())


NOW = 1_700_000_000_000  # 2023-11-14 22:13:20 UTC
TOKEN = b"&token_auth=" + WRITER.encode()


@pytest.mark.parametrize(
    ("query", "name"),
    [
        (b"cip=1.2.3.4", "cip"),
        (b"%63ip=1.2.3.4", "cip"),
        (b"cip=-", "cip"),
        (b"country=de", "country"),
        (b"region=BE", "region"),
        (b"city=x", "city"),
        (b"lat=1", "lat"),
        (b"long=1", "long"),
        (b"cdt=2023-11-13+22:13:20", "cdt"),
        (b"cdt=1699000000", "cdt"),
        (b"cdo=86400", "cdo"),
    ],
)
def test_what_needs_a_token_is_refused_without_one(directory: Directory, query: bytes, name: str) -> None:
    for text in (b"idsite=1&rec=1&" + query, query + b"&idsite=1&rec=1", b"idsite=1&rec=1&token_auth=no&" + query):
        assert plain(b"&" + text, directory, False) is None
        outcome = single(text, {}, ADDRESS, NOW, directory)
        assert isinstance(outcome, Refused)
        assert (outcome.reason, name in outcome.text) == (Invalid.BAD_PARAMETER, True)
    assert not isinstance(single(b"idsite=1&rec=1&" + query + TOKEN, {}, ADDRESS, NOW, directory), Refused)


@pytest.mark.parametrize("query", [b"cid=76d1", b"cid=76d1f50cbfda087az", b"pf_net=-1", b"pf_onl=-20", b"%70f_net=-3"])
def test_wrong_values_are_refused_with_any_token(directory: Directory, query: bytes) -> None:
    assert plain(b"&idsite=1&rec=1&" + query, directory, False) is None
    outcome = single(b"idsite=1&rec=1&" + query + TOKEN, {}, ADDRESS, NOW, directory)
    assert isinstance(outcome, Refused)
    assert outcome.reason is Invalid.BAD_PARAMETER


@pytest.mark.parametrize(
    "query",
    [
        b"cid=",
        b"cid=76D1F50CBFDA087a",
        b"cdt=2023-11-13+22:13:21",
        b"cdo=86399",
        b"cdt=0",
        b"cdt=9999999999",
        b"pf_net=x",
        b"pf_net=-1.5",
        b"cip=",
        b"lat=&long=&country=",
        b"idgoal=99",
        b"cdt=when",
    ],
)
def test_what_anyone_may_send(directory: Directory, query: bytes) -> None:
    assert not isinstance(single(b"idsite=1&rec=1&" + query, {}, ADDRESS, NOW, directory), Refused)


@pytest.mark.parametrize(
    ("cip", "token", "address"),
    [
        (b"1.2.3.4", True, MAPPED_IPV4 + bytes([1, 2, 3, 4])),
        (b"%3A%3A1", True, bytes(15) + b"\1"),
        (b"[2001:db8::1]:80", True, bytes.fromhex("20010db8000000000000000000000001")),
        (b"-", True, MAPPED_IPV4 + bytes(4)),
        (b"", True, MAPPED_IPV4 + bytes(4)),
        (b"none+of+yours", True, MAPPED_IPV4 + bytes(4)),
        (b"", False, ADDRESS),
    ],
)
def test_cip_is_the_address_and_does_not_leave_by_itself(
    directory: Directory, cip: bytes, token: bool, address: bytes
) -> None:
    found = event(directory, b"idsite=1&rec=1&cip=" + cip + (TOKEN if token else b""))
    assert (found.address, found.query) == (address, "idsite=1&rec=1")


def test_goals_of_a_site_that_names_them(tmp_path: Path) -> None:
    folder = write_sites(tmp_path, 1)
    (folder / "5.toml").write_text("goals = [2, 3]")
    directory = Directory(load_sites(folder), PARTITIONS)
    for goal, taken in ((b"2", True), (b"4", False), (b"0", True), (b"-1", True), (b"x", True)):
        query = b"idsite=5&rec=1&idgoal=" + goal
        assert plain(b"&" + query, directory, False) is None
        assert isinstance(single(query, {}, ADDRESS, NOW, directory), Refused) is not taken


@pytest.mark.parametrize(
    ("query", "title"),
    [
        (b"action_name=caf%E9&cs=windows-1252", "caf\u00e9"),
        (b"action_name=caf%C3%A9&cs=windows-1252", "caf\u00e9"),  # browsers send UTF-8 whatever the page is in
        (b"action_name=%CA%F5%B1%EA+1&cs=gbk", "\u672f\u6807 1"),
        (b"action_name=caf%E9&cs=no-such", "caf\ufffd"),
        (b"action_name=caf%E9&cs=hex", "caf\ufffd"),
        (b"action_name=caf%E9", "caf\ufffd"),
    ],
)
def test_values_in_the_charset_of_an_old_page(directory: Directory, query: bytes, title: str) -> None:
    assert parameters.parse(event(directory, b"idsite=1&rec=1&" + query).query)["action_name"] == title


def test_directory_knows_superusers(tmp_path: Path) -> None:
    directory = Directory(load_sites(write_sites(tmp_path, 1)), PARTITIONS)
    assert directory.superuser(SUPERUSER)
    assert not directory.superuser(WRITER)
    assert not directory.superuser("")
