"""The masker believes no browser: whatever stands anywhere, nothing of a person is in what may be stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.parameter_lists import PERSONAL_PARAMETERS
from schemas.recordings import selector
from streams.anonymize import detect
from streams.anonymize.recordings import links, names, styles
from streams.anonymize.recordings.events import mask
from streams.anonymize.recordings.texts import FIXED, Tally, hard, hidden, shown
from tests.streams.anonymize.recordings.documents import (
    EVENTS,
    JSON,
    RULES,
    SAMPLES,
    VALUES,
    change,
    element,
    masked,
    mutation,
    snapshot,
    strings,
    text,
)


@settings(max_examples=120, deadline=None)
@given(EVENTS)
@example([snapshot(element(2, "style", {}, [text(3, 'a{content:"x" "y"}/*')]))])
@example([{"type": 4, "timestamp": "", "data": {"href": "sleva UPC 0 84056 94995 4", "width": None, "height": None}}])
def test_nothing_that_a_detector_names_is_left_and_masking_twice_is_masking_once(events: list[Any]) -> None:
    once = masked(events)
    for stored in strings(once):
        assert detect.search(stored, detect.ALL) == [], stored
        assert not styles._digits(unquote(stored)), stored  # the digits of an escape are none of its text
    assert masked(once) == once
    json.dumps(once, allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_no_json_makes_it_fail(value: Any) -> None:
    for events in ([value], value if isinstance(value, list) else [{"type": 2, "data": {"node": value}}]):
        json.dumps(masked(events), allow_nan=False)


def test_what_is_nested_without_end_is_left_out() -> None:
    node: dict[str, Any] = text(3, "deep")
    for _ in range(300):
        node = element(2, "div", {}, [node])
    tally = Tally()
    masked([snapshot(node)], tally=tally)
    assert tally.dropped["node"] == 1


@pytest.mark.parametrize("value", SAMPLES)
def test_a_value_is_masked_wherever_it_stands_even_where_it_is_shown(value: str) -> None:
    places = element(
        2,
        "div",
        {"data-matomo-unmask": "", "title": value, "data-x": value, "alt": value, "class": value, "id": value},
        [
            text(3, value),
            element(4, "input", {"value": value, "placeholder": value}),
            element(5, "a", {"href": f"https://shop.example/p?q={value}", "style": f"--x:{value}"}),
        ],
    )
    late = mutation(
        adds=[{"parentId": 2, "nextId": None, "node": text(6, value)}],
        texts=[{"id": 3, "value": value}],
        attributes=[{"id": 4, "attributes": {"value": value}}],
    )
    for stored in strings(masked([snapshot(places), late, change(5, id=4, text=value, isChecked=True)])):
        assert detect.search(stored, detect.ALL) == []
        assert not hard(stored) or stored.startswith("http")


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_texts_links_selectors_and_sheets_are_settled(value: str) -> None:
    once = shown(value, RULES)[0]
    assert shown(once, RULES)[0] == once
    assert hidden(hidden(value)) == hidden(value)
    kept = links.link(value, RULES)
    assert links.link(kept, RULES) == kept
    where = names.selector(value)
    assert names.selector(where) == where
    assert detect.search(where, detect.ALL) == []
    sheet = styles.sheet(value, RULES, Tally())
    assert styles.sheet(sheet, RULES, Tally()) == sheet


def of(events: list[Any]) -> Any:
    (found,) = masked(events)[:1]
    return found["data"]["node"]["childNodes"][0]


def test_a_text_keeps_its_shape_and_nothing_else() -> None:
    assert hidden("Dear Ms. Doe,\n\tyour  order 42") == "**** *** ****\n ****  ***** **"
    assert of([snapshot(element(2, "p", {}, [text(3, "Hello Jane")]))])["childNodes"][0]["textContent"] == "***** ****"


def test_marks_show_and_hide_the_nearest_decides() -> None:
    page = element(
        2,
        "div",
        {"data-matomo-unmask": ""},
        [
            text(3, "shown here"),
            element(
                4, "p", {"data-matomo-mask": ""}, [text(5, "not here"), element(6, "b", {}, [text(7, "nor here")])]
            ),
            element(8, "p", {"data-matomo-mask": "", "data-matomo-unmask": ""}, [text(9, "both hide")]),
            element(10, "input", {"name": "colour", "value": "dark red"}),
            element(11, "p", {}, [text(12, "mail jo@example.com"), text(13, "id 1234567"), text(14, "id 123456")]),
        ],
    )
    found = of([snapshot(page)])["childNodes"]
    assert found[0]["textContent"] == "shown here"
    assert found[1]["childNodes"][0]["textContent"] == "*** ****"
    assert found[1]["childNodes"][1]["childNodes"][0]["textContent"] == "*** ****"
    assert found[2]["childNodes"][0]["textContent"] == "**** ****"
    assert found[3]["attributes"]["value"] == "dark red"
    assert [one["textContent"] for one in found[4]["childNodes"]] == ["**** **************", "** *******", "id 123456"]


def test_a_site_says_what_else_is_shown() -> None:
    unmask = (selector("main.article"), selector("[data-open=yes]"))
    page = snapshot(
        element(2, "main", {"class": "wide article"}, [text(3, "one")]),
        element(4, "main", {"class": "wide"}, [text(5, "two")]),
        element(6, "p", {"data-open": "yes"}, [text(7, "three")]),
        element(8, "p", {"data-matomo-unmask": ""}, [text(9, "four")]),
    )
    nodes = mask([page], RULES, unmask, Tally()).events[0]["data"]["node"]["childNodes"]  # type: ignore[index]
    assert [node["childNodes"][0]["textContent"] for node in nodes] == ["one", "***", "three", "****"]
    assert nodes[2]["attributes"] == {"data-open": "yes"}


@pytest.mark.parametrize(
    "attributes",
    [
        *({"type": kind} for kind in ("password", "email", "tel", "number", "PASSWORD", " email ")),
        *({"name": name} for name in ("user_email", "customer[phone]", "lastName", "address1", "cc-number", "IBAN")),
        *({"id": name} for name in ("password2", "téléphone", "date-of-birth", "billing.city")),
        *({"autocomplete": name} for name in ("section-a shipping street-address", "one-time-code")),
    ],
)
def test_a_locked_field_shows_not_even_a_length(attributes: dict[str, str]) -> None:
    page = element(2, "form", {"data-matomo-unmask": ""}, [element(3, "input", {**attributes, "value": "secret"})])
    typed = change(5, id=3, text="secret words", isChecked=True)
    found, late = masked([snapshot(page), typed])
    field = found["data"]["node"]["childNodes"][0]["childNodes"][0]
    assert field["attributes"]["value"] == FIXED
    assert (late["data"]["text"], late["data"]["isChecked"]) == (FIXED, False)


def test_every_name_of_matomos_list_locks_a_field(vectors: Path) -> None:
    listed = json.loads((vectors / "matomo.json").read_text())["lists"]["heatmap_always_masked_field_names"]
    assert len(set(listed)) > 150
    assert [name for name in listed if not names.locked({"name": name})] == []
    assert [name for name in PERSONAL_PARAMETERS if not names.locked({"id": name.upper()})] == []
    assert not names.locked({"name": "colour", "type": "text", "id": "search-box", "autocomplete": "off"})


def test_a_field_that_is_edited_in_the_page_or_becomes_locked_later_is_masked() -> None:
    page = element(
        2,
        "div",
        {"data-matomo-unmask": ""},
        [
            element(3, "div", {"contenteditable": "true", "id": "address"}, [text(4, "Main Street")]),
            element(5, "input", {"name": "colour"}),
            element(6, "p", {}, [text(7, "seen")]),
        ],
    )
    later = mutation(
        attributes=[
            {"id": 5, "attributes": {"type": "password"}},
            {"id": 6, "attributes": {"data-matomo-mask": ""}},
            {"id": 99, "attributes": {"title": "unknown node"}},
        ],
        texts=[{"id": 7, "value": "hidden now"}, {"id": 99, "value": "unknown node"}],
    )
    first, second, third = masked([snapshot(page), later, change(5, id=5, text="typed", isChecked=False)])
    inside = first["data"]["node"]["childNodes"][0]["childNodes"]
    assert inside[0]["childNodes"][0]["textContent"] == "**** ******"
    assert [one["value"] for one in second["data"]["texts"]] == ["****** ***", "******* ****"]
    assert second["data"]["attributes"][2]["attributes"] == {"title": "******* ****"}
    assert third["data"]["text"] == FIXED


def test_what_is_taken_away_from_a_node_is_not_shown_again() -> None:
    page = element(2, "p", {"data-matomo-unmask": ""}, [text(3, "seen")])
    later = mutation(
        attributes=[{"id": 2, "attributes": {"data-matomo-unmask": None}}], texts=[{"id": 3, "value": "changed"}]
    )
    again = mutation(
        attributes=[{"id": 2, "attributes": {"data-matomo-unmask": ""}}], texts=[{"id": 3, "value": "changed"}]
    )
    _, *late = masked([snapshot(page), later, again])
    assert [one["data"]["texts"][0]["value"] for one in late] == ["*******", "*******"]


def test_scripts_comments_frames_and_handlers_are_left_out_and_counted() -> None:
    page = snapshot(
        element(2, "script", {"src": "https://shop.example/a.js"}, [text(3, "user = 'Jane'")]),
        {"type": 5, "id": 4, "textContent": "Jane was here"},
        element(5, "iframe", {"srcdoc": "<p>Jane</p>", "src": "https://x.example", "width": 300}, [element(6, "p")]),
        element(7, "meta", {"name": "author", "content": "Jane"}),
        element(8, "div", {"onclick": "greet('Jane')", "made-up": "Jane"}, [text(9, "x")]),
        element(10, "canvas", {"rr_dataURL": "data:image/png;base64,AAAA", "width": 2}),
    )
    tally = Tally()
    (found,) = masked([page], tally=tally)
    assert "Jane" not in json.dumps(found)
    nodes = found["data"]["node"]["childNodes"]
    assert [(node["tagName"], node["attributes"]) for node in nodes] == [
        ("iframe", {"width": 300}), ("div", {}), ("canvas", {"width": 2})
    ]  # fmt: skip
    assert tally.dropped == {"script": 1, "comment": 1, "meta": 1, "inside": 1, "attribute": 2}


def test_events_that_are_not_known_are_left_out_and_counted() -> None:
    tally = Tally()
    told = [
        {"type": 6, "timestamp": 5, "data": {"plugin": "rrweb/console@1", "payload": {"payload": ["Jane"]}}},
        {"type": 5, "timestamp": 6, "data": {"tag": "signed-in", "payload": {"who": "Jane"}}},
        change(9, id=3, property="fillText", args=["Jane"]),
        change(10, family="Jane", buffer="AAAA"),
        change(77),
        {"type": 12, "data": {}},
        "Jane",
    ]
    assert masked(told, tally=tally) == [{"type": 5, "data": {"tag": "signed-in", "payload": {}}, "timestamp": 0}]
    assert tally.dropped == {
        "type_6": 1, "payload": 1, "source_9": 1, "source_10": 1, "type_3": 1, "type_12": 1, "event": 1
    }  # fmt: skip


def test_a_clock_is_not_kept_and_numbers_are_of_six_digits() -> None:
    moves = change(1, positions=[{"id": 3, "x": 4915112345678, "y": 1.75, "timeOffset": -50}])
    meta = {
        "type": 4, "timestamp": 1_790_000_000_000,
        "data": {"href": "https://shop.example/a?q=red&sid=1#x", "width": 1280, "height": 720.5},
    }  # fmt: skip
    assert masked([meta, moves]) == [
        {"type": 4, "data": {"href": "https://shop.example/a?q=red", "width": 1280, "height": 720}, "timestamp": 0},
        {
            "type": 3,
            "data": {"source": 1, "positions": [{"id": 3, "x": 999_999, "y": 1, "timeOffset": -50}]},
            "timestamp": 100,
        },
    ]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/p/red?utm_source=x&token=abc", "/p/red?utm_source=x"),
        ("https://u:pw@shop.example/a%20b?x=1", "https://shop.example/a%20b"),
        ("data:text/html,<p>Jane</p>", ""),
        ("javascript:alert(1)", ""),
        ("mailto:jo@example.com", ""),
        ("tel:+4915112345678", ""),
        ("#jane", ""),
        ("https://shop.example/o/12345678/x", "https://shop.example/o//x"),
        ("https://jo%40example.com/", "https://example.com/"),
        ("//cdn.example/a.png", "//cdn.example/a.png"),
    ],
)
def test_addresses_follow_the_rules_of_the_site(given: str, kept: str) -> None:
    assert links.link(given, RULES) == kept


def test_style_sheets_keep_their_rules_and_lose_their_texts() -> None:
    sheet = (
        '@media (max-width: 600px){.menu{color:#ff0000}} /* by Jane */ a::after{content:"Jane"} '
        'input[type="text"]{width:10px} b{background:url(data:image/png;base64,AA)} '
        "i{background:url('/img/a.png?u=jane')} u{who:jo@example.com} p{--who:Lieber Karl;--b:4px #fff} "
        "s{content:'\\4a'} @font-face{src:url(/f.woff2)"
        ' format("woff2")}'
    )
    found = styles.sheet(sheet, RULES, Tally())
    assert "Jane" not in found
    assert "jane" not in found
    assert "jo@" not in found
    assert "p{--who:0;--b:4px #fff}" in found
    for kept in ("{.menu{color:#ff0000}}", 'input[type="text"]', 'url("/img/a.png")', 'format("woff2")', " u{", "x{}"):
        assert (kept in found) is (kept != " u{"), kept
    assert found.count("{") == found.count("}")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("div#main > a.button:nth-child(3)", "div#main > a.button:nth-child(3)"),
        ("#user-4711-2938 .card", "* > .card"),
        ("form input[name='jane']", "form > input"),
        ("#jane form input[name='jane@example.com']", "*"),
        ("/html/body/div[2]/a[14]", "html > body > div[2] > a[14]"),
        (".jane\\@example\\.com", "*"),
        ('tr[data-customer="Jane Doe"] td', "tr > td"),
    ],
)
def test_selectors_carry_no_names_that_may_be_values(given: str, kept: str) -> None:
    assert names.selector(given) == kept


@given(st.text(max_size=40))
def test_a_name_is_kept_whole_or_not_at_all(value: str) -> None:
    assert names.name(value) in ("", value)


SHOWN = {"data-matomo-unmask": ""}
KARL = text(9, "Karl")
MASKED = element(3, "div", {"data-matomo-mask": ""})  # a node that was there, moved
FRAME = {"type": 0, "id": 20, "childNodes": [element(21, "p", SHOWN, [text(22, "Karl")])]}


@pytest.mark.parametrize(
    "told",
    [
        mutation(attributes=[{"id": 3, "attributes": {"data-matomo-mask": ""}}], adds=[{"parentId": 3, "node": KARL}]),
        mutation(
            attributes=[
                {"id": 3, "attributes": {"title": "Karl"}},
                {"id": 2, "attributes": {"data-matomo-mask": ""}},
            ]
        ),
        mutation(attributes=[{"id": 4, "attributes": {"name": "password"}}], adds=[{"parentId": 4, "node": KARL}]),
        mutation(
            attributes=[{"id": 3, "attributes": {"contenteditable": "", "name": "email"}}],
            adds=[{"parentId": 3, "node": text(9, "Karl")}],
        ),
        mutation(
            adds=[
                {"parentId": 20, "node": element(21, "p", {}, [text(22, "Karl")])},
                {"parentId": 3, "node": element(20, "div", {"data-matomo-mask": ""})},
            ]
        ),
        mutation(adds=[{"parentId": 3, "node": KARL}, {"parentId": 2, "node": MASKED}]),
        mutation(adds=[{"parentId": 5, "node": FRAME}]),
        mutation(adds=[{"parentId": 5, "node": element(21, "p", SHOWN, [text(22, "Karl")])}]),
        mutation(adds=[{"parentId": 77, "node": FRAME}]),
    ],
)  # fmt: skip
def test_what_a_mutation_hides_is_hidden_in_all_of_it_and_frames_stay_shut(told: Any) -> None:
    editable = element(4, "div", {"contenteditable": "true"})
    page = snapshot(element(2, "main", SHOWN, [element(3, "div", {}), editable, element(5, "iframe", {})]))
    shown_before = masked([page, mutation(adds=[{"parentId": 3, "node": text(9, "Karl")}])])
    assert "Karl" in json.dumps(shown_before)
    assert "Karl" not in json.dumps(masked([page, told]))


@pytest.mark.parametrize(
    ("attributes", "showing"),
    [
        ({"srcset": "data:image/svg+xml;utf8,%3Csvg%3EKarlKarl%3C/svg%3E 1x"}, "[x]"),
        ({"srcset": "/a.png 1x, data:image/png;base64,KarlKarl 2x"}, "[x]"),
        ({"style": "--user: Lieber Karl; color: red"}, "[x]"),
        ({"style": "font-family: Lieber Karl ich bin heute krank"}, "[x]"),
        ({"role": "Lieber Karl"}, "[x]"),
        ({"data-matomo-mask": "Karl"}, "[x]"),
        ({"type": "password", "value": "Karl"}, "[value]"),
        ({"title": "Karl", "data-matomo-mask": ""}, "[title]"),
    ],
)
def test_attributes_tell_nothing_of_a_person(attributes: dict[str, str], showing: str) -> None:
    found = mask([snapshot(element(2, "input", attributes))], RULES, (selector(showing),), Tally()).events
    assert "Karl" not in json.dumps(found)
