"""Bulk requests: item by item, none hurts another."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest import bulk
from ingest.directory import Directory
from schemas import parameters
from schemas.packets import Event, Flag, Repeat, Role
from schemas.reasons import Invalid
from schemas.sites import load_sites
from tests.ingest.memory import SUPERUSER, WRITER, write_sites

ADDRESS = bytes(16)
GOOD = "?idsite=1&rec=1&url=http%3A%2F%2Fa%2F"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    return Directory(load_sites(write_sites(tmp_path_factory.mktemp("sites"), 1, 2)), 8)


def read(directory: Directory, body: bytes | dict[str, Any], **fields: bytes) -> tuple[bulk.Bulk, list[Event]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    found = bulk.read(data, named, ADDRESS, 5, directory)
    return found, [Event(*row) for _, row in found.events]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"requests":[]}', True),
        (b"{'requests':[]}", True),
        (b'"requests"', False),
        (b"requests=1&idsite=1", False),
        (b"", False),
        (b"idsite=1&rec=1&e_n=%22requests%22", False),
        (b"requests=?idsite%3D1", True),
        (b"a=1&requests%5B%5D=%3Fidsite%3D1", True),
        (b"norequests=?a&xrequests[]=?rec=1", False),
    ],
)
def test_a_body_is_a_bulk_by_what_it_holds(body: bytes, expected: bool) -> None:
    assert bulk.is_bulk(body) is expected


def test_what_looks_like_a_form_within_json_is_json(directory: Directory) -> None:
    found, events = read(directory, {"requests": [f"{GOOD}&a=requests[]=?b", f"{GOOD}&requests[]=?c"]})
    assert [event.query[-14:] for event in events] == ["&a=requests[]=?b"[-14:], "&requests[]=?c"]
    assert found.invalid == []


def test_items_are_strings_or_objects(directory: Directory) -> None:
    items = [
        GOOD,
        "http://host/matomo.php?idsite=2&rec=1#fragment?a=b",
        {
            "idsite": "1",
            "rec": 1,
            "bw_bytes": 12,
            "revenue": 1.5,
            "url": "http://a/ä b&c",
            "new_visit": True,
            "x": None,
        },
        {"idsite": 2, "rec": 1, "a": {"b": ["c", 2], "d&": ""}},
    ]
    found, events = read(directory, {"requests": items})
    assert [event.site for event in events] == [1, 2, 1, 2]
    assert events[1].query == "idsite=2&rec=1"
    assert parameters.parse(events[2].query) == {
        "idsite": "1",
        "rec": "1",
        "bw_bytes": "12",
        "revenue": "1.5",
        "url": "http://a/ä b&c",
        "new_visit": "1",
    }
    assert parameters.parse(events[3].query) == {
        "idsite": "2",
        "rec": "1",
        "a[b][0]": "c",
        "a[b][1]": "2",
        "a[d&]": "",
    }
    assert json.loads(found.answer()) == {"status": "success", "tracked": 4, "invalid": 0}


def test_a_bad_item_counts_and_its_neighbours_stay(directory: Directory) -> None:
    items: list[object] = [GOOD, "?idsite=9&rec=1", None, "", "no query", {}, "?idsite=x", "?rec=1", 5, GOOD]
    found, events = read(directory, {"requests": items})
    assert [(event.index, event.items) for event in events] == [(0, 10), (9, 10)]
    assert found.invalid == [
        (1, Invalid.UNKNOWN_SITE),
        (6, Invalid.MISSING_SITE),
        (7, Invalid.MISSING_SITE),
    ]
    assert json.loads(found.answer()) == {"status": "success", "tracked": 2, "invalid": 3}


@pytest.mark.parametrize(("token", "shown"), [(SUPERUSER, True), (WRITER, False), ("", False), (5, False)])
def test_only_a_superuser_sees_which_items_are_invalid(directory: Directory, token: Any, shown: bool) -> None:
    found, _ = read(directory, {"requests": [GOOD, "?idsite=9&rec=1"], "token_auth": token})
    answer = json.loads(found.answer())
    assert answer.get("invalid_indices") == ([1] if shown else None)


def test_the_token_of_the_bulk_counts_for_items_without_their_own(directory: Directory) -> None:
    items = [GOOD, GOOD + "&token_auth=wrong", "?idsite=2&rec=1"]
    _, events = read(directory, {"requests": items, "token_auth": WRITER})
    assert [event.role for event in events] == [Role.WRITE, Role.NONE, Role.NONE]
    assert [event.flags for event in events] == [0, Flag.BAD_TOKEN, Flag.BAD_TOKEN]
    assert not any("token" in event.query for event in events)


def test_text_that_is_not_unicode_costs_only_itself(directory: Directory) -> None:
    # As the log importer writes undecodable bytes of a log, and as a careless client sends them.
    escapes = b'{"requests":["?idsite=1&rec=1&url=a\\udce9b","?idsite=1&rec=1&url=\\ud800","?idsite=1&rec=1&url=c"]}'
    _, events = read(directory, escapes)
    assert [event.query[19:] for event in events] == ["a%E9b", "%ED%A0%80", "c"]
    raw = (
        b'{"requests":["?idsite=1&rec=1&url=a\xe9b",{"idsite":1,"rec":1,"url":"\xe9"},"?idsite=1&rec=1&url=\xc3\xa4"]}'
    )
    _, events = read(directory, raw)
    assert [event.query[19:] for event in events] == ["a%E9b", "%E9", "%C3%A4"]


@pytest.mark.parametrize(
    "body",
    [
        b" 'requests' ",
        b'{"requests":[',
        b'{"requests":5}',
        b'[{"requests":[]}]',
        b'{"requests":["a\xff\x00',
        b"[" * 100_000 + b'"requests"',
        b'{"requests":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}",
    ],
)
def test_a_body_that_is_no_bulk_is_named_so(directory: Directory, body: bytes) -> None:
    with pytest.raises(bulk.BadBulk):
        read(directory, body)


def test_an_item_too_deep_is_cut_not_followed(directory: Directory) -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = {"a": deep}
    _, events = read(directory, {"requests": [{"idsite": 1, "rec": 1, "d": deep}, GOOD]})
    assert [event.query for event in events] == ["idsite=1&rec=1", GOOD[1:]]


def test_repeats_are_named_by_the_body_from_two_items_on(directory: Directory) -> None:
    one, two = {"requests": [GOOD]}, {"requests": [GOOD, GOOD]}
    assert [event.repeat for event in read(directory, one)[1]] == [b""]
    repeats = [event.repeat for event in read(directory, two)[1]]
    assert repeats[0] == repeats[1] == read(directory, two)[1][0].repeat
    assert repeats[0][:1] == Repeat.BODY
    assert len(repeats[0]) == 17
    assert [event.index for event in read(directory, two)[1]] == [0, 1]
    other = read(directory, {"requests": [GOOD, GOOD], "send_image": 0})[1]
    assert other[0].repeat != repeats[0]


def test_an_idempotency_key_goes_before_the_body(directory: Directory) -> None:
    _, events = read(directory, {"requests": [GOOD, GOOD]}, idempotency_key=b"k")
    assert {event.repeat[:1] for event in events} == {Repeat.KEY}
    assert {event.index for event in events} == {0, 1}


@pytest.mark.parametrize(("value", "quiet"), [(0, True), ("0", True), (False, True), (1, False), ("1", False)])
def test_send_image_of_the_bulk(directory: Directory, value: Any, quiet: bool) -> None:
    assert read(directory, {"requests": [GOOD], "send_image": value})[0].quiet is quiet


def test_headers_go_to_every_item(directory: Directory) -> None:
    items = [GOOD, GOOD + "&uadata=%7B%7D"]
    fields = {"user_agent": b"Matomo/LogImport", "dnt": b"1", "sec_ch_ua_mobile": b"?1", "referer": b"http://x/"}
    _, events = read(directory, {"requests": [*items, "?idsite=2&rec=1"]}, **fields)
    assert [event.agent for event in events] == ["Matomo/LogImport"] * 3
    assert [event.flags for event in events] == [Flag.DNT] * 3
    assert [bool(event.hints) for event in events] == [True, False, True]
    assert events[2].query == "idsite=2&rec=1"


def test_places_in_the_list_are_those_sent(directory: Directory, tmp_path: Path) -> None:
    _, events = read(directory, {"requests": [None, "", GOOD, "?idsite=9&rec=1", GOOD]})
    assert [event.index for event in events] == [2, 4]


odd = st.sampled_from(
    [
        *("idsite=1", "idsite=2", "idsite=3", "idsite=", "idsite", "id%73ite=2", "xidsite=9", "idsite=01"),
        *("rec=1", "rec=0", "rec", "r%65c=1", "url=http%3A%2F%2Fa", "url=a?rec=1&b", "", "=", "a%5Bb%5D=1", "%=%"),
        *("send_image=0", "send_image", f"token_auth={WRITER}", "token_auth=x", "token%5Fauth=y", "a=b#c", "a b", "ä"),
        *("e_n=a%26b", "a=%e4", "\x00", "\x7f=1", "?idsite=2", "flag&", "\ud800"),
    ]
)
plain = st.sampled_from(
    ["idsite=1", "idsite=2", "idsite=3", "rec=1", "rec", "xrec=1", "url=a?rec=1", "", "a=%e4", "=b"]
)
starts = st.sampled_from(["?", "?", "?", "", "http://a/matomo.php?", "a?b?", "??"])


def items_of(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda start, some: start + "&".join(some), starts, st.lists(parts, max_size=6))


@settings(max_examples=300)
@example(["?rec&idsite=1", "?recx=1&idsite=1", "idsite=1&rec=1", "?rec=1&idsite=1"], "", False)
@example(["?idsite=1&rec=1&idsite=3", "?xidsite=1&rec=1", "?idsite=1"], "", False)
@example(["?idsite=1&rec=1&id%73ite=2"], "", False)
@example(["?%69dsite=2&rec=1&idsite=1", "?idsite=1&rec=1#&idsite=2", "?idsite=1&rec=1&a= "], "", False)
@given(
    st.one_of(
        st.lists(items_of(plain), max_size=5), st.lists(st.one_of(items_of(odd), st.none(), st.just(7)), max_size=5)
    ),
    st.sampled_from(["", WRITER, SUPERUSER, "wrong", "anonymous"]),
    st.booleans(),
)
def test_items_judged_together_are_judged_as_each_alone(
    directory: Directory, items: list[Any], token: str, signals: bool
) -> None:
    body = {"requests": items, "token_auth": token}
    fields = {"dnt": b"1", "user_agent": b"x"} if signals else {}
    found, events = read(directory, body, **fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "_common", lambda _items: False)
        expected, thorough = read(directory, body, **fields)
    assert events == thorough
    assert replace(found, common=False) == expected


def test_a_bulk_of_the_common_form_needs_no_thorough_look(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "judge", None)
    found, _ = read(directory, {"requests": [GOOD, "?rec=1&url=%7B&idsite=2", GOOD], "token_auth": WRITER})
    assert len(found.events) == 3
