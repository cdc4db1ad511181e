"""Packets of recordings become rows by the rules of events: excluded, sampled, masked, named by where they are from."""

from __future__ import annotations

import json
from datetime import date
from typing import Any
from urllib.parse import quote

import pytest

from schemas.packets import Event, Flag, encode
from schemas.privacy import Consent, Privacy
from schemas.reasons import Excluded, Unrecorded
from schemas.recordings import Recordings
from schemas.sites import PolicySet, SitePolicy
from streams.recording_rows import Chunks, Recorder
from streams.surroundings import PolicyMissing, SecretMissing
from tests.streams.anonymize.recordings.documents import change, element, mutation, snapshot, strings, text
from tests.streams.core.traffic import world

AT = 1_790_000_000_000
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
ON = Recordings(enabled=True)
POLICIES = PolicySet(
    {
        1: SitePolicy(domains=("shop.example",), timezone="Europe/Berlin", recordings=ON),
        2: SitePolicy(),
        3: SitePolicy(recordings=Recordings(enabled=True, share=0.3)),
        4: SitePolicy(recordings=ON, privacy=Privacy(consent=Consent.REQUIRED)),
        5: SitePolicy(recordings=ON, excluded_agents=("Firefox",)),
    }
)
TAGS = "p title script style textarea select option iframe meta link a img input svg path canvas button"
ATTRIBUTES = """
    value placeholder title alt label content onclick srcdoc data-name name for aria-label aria-description href src
    srcset action style _cssText class id rr_dataURL d width rel type autocomplete xlink:href media
"""
HREF = "https://shop.example/p/red?uid=7&q=shoe"
PAGE = [
    {"type": 4, "timestamp": AT, "data": {"href": HREF, "width": 500, "height": 800}},
    snapshot(
        element(2, "body", {"class": "shop"}, [element(3, "a", {"id": "buy", "href": "/buy?sid=1"}, [text(4, "Buy")])]),
        at=AT,
    ),
    change(2, type=2, id=3, x=250, y=200),
    change(1, positions=[{"id": 3, "x": 10, "y": 10, "timeOffset": 0}, {"id": 3, "x": 11, "y": 12, "timeOffset": 0}]),
    change(3, id=1, x=0, y=1600),
]  # fmt: skip


def event(query: str, told: Any = None, *, site: int = 1, flags: int = 0, at: int = AT) -> Event:
    written = f"idsite={site}&{query}" + (f" {json.dumps(told, separators=(',', ':'))}" if told is not None else "")
    return Event(at, site, bytes(10) + b"\xff\xff\xc6\x33\x64\x07", 0, flags, AGENT, "de", "", written)


def rows(*events: Event, seq: int = 0, partition: int = 3) -> Chunks:
    value = encode(7, seq, 1, POLICIES.version, events)
    return Recorder(world(POLICIES)).rows(value, partition)


def test_a_chunk_becomes_a_row_and_its_points() -> None:
    found = rows(event("session=abc&sequence=2&hsr_vw=1", PAGE))
    (row,) = found.recordings
    data = json.loads(row.pop("data"))
    assert [one["type"] for one in data] == [4, 2, 3, 3, 3]
    assert row.pop("session")
    assert row.pop("policy_version") == POLICIES.version
    assert row == {
        **{"writer": 7, "partition": 3, "seq": 0, "index": 0, "site_id": 1, "sequence": 2, "received_at": AT},
        **{"url": "https://shop.example/p/red?q=shoe", "url_host": "shop.example", "url_path": "/p/red"},
        **{"viewport": "phone", "events": 5, "masked_kind": ["text"], "masked_count": [1]},
        **{"dropped_kind": [], "dropped_count": []},
    }
    places = [
        tuple(point[key] for key in ("action", "selector", "x", "y", "relative_to", "weight"))
        for point in found.heatmap
    ]
    assert places == [
        (1, "a#buy", 0.5, 0.25, "viewport", 1), (2, "", 0.03, 0.01, "viewport", 2), (3, "", 0.0, 3.0, "viewports", 1)
    ]  # fmt: skip
    assert {(point["url_path"], point["viewport"], point["received_at"] % 3_600_000) for point in found.heatmap} == {
        ("/p/red", "phone", 0)
    }
    assert [point["number"] for point in found.heatmap] == [0, 1, 2]


def test_requests_of_matomos_heatmaps_become_points_only() -> None:
    told = [
        {"ty": 2, "x": 500, "y": 1000, "s": "#main .card-12345678 a[href='/jane']"},
        {"ty": 1, "x": 10, "y": 10, "s": "div"},
        {"ty": 9, "s": "input", "te": "jane@example.com"},
        {"ty": 5, "te": "<html>Jane</html>"},
        7,
    ]
    query = f"url=https%3A%2F%2Fshop.example%2Fa&hsr_vid=a1b2c3&hsr_vw=1400&hsr_sr=750&hsr_ev={json.dumps(told)}"
    found = rows(event(query.replace(" ", "%20").replace("#", "%23")))
    assert found.recordings == []
    places = [tuple(point[key] for key in ("action", "selector", "x", "y", "relative_to")) for point in found.heatmap]
    assert places == [
        (1, "#main > * > a", 0.25, 0.5, "element"), (2, "div", 0.01, 0.01, "element"), (3, "", 0.0, 0.75, "document")
    ]  # fmt: skip
    assert {point["viewport"] for point in found.heatmap} == {"desktop"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (event("session=a", PAGE, site=2), Unrecorded.OFF),
        (event("session=a", PAGE, site=99), Unrecorded.OFF),
        (event("session=a", PAGE, flags=Flag.DNT), Excluded.DO_NOT_TRACK),
        (event("session=a", PAGE, flags=Flag.GPC), Excluded.GLOBAL_PRIVACY_CONTROL),
        (event("session=a", PAGE, flags=Flag.OPT_OUT), Excluded.OPTED_OUT),
        (event("session=a", PAGE, site=4), Excluded.NO_CONSENT),
        (event("session=a&consent=0", PAGE, site=4, flags=Flag.CONSENT), Excluded.NO_CONSENT),
        (event("session=a", PAGE, site=5), Excluded.EXCLUDED_AGENT),
        (event("session=a&ua=Googlebot%2F2.1", PAGE), Excluded.BOT),
        (event("session=a", PAGE, at=5), Unrecorded.BAD_TIME),
        (event("session=a", {"no": "list"}), Unrecorded.UNREADABLE),
    ],
)
def test_what_is_not_kept_is_counted(given: Event, reason: str) -> None:
    found = rows(given, event("session=a&consent=1", PAGE, site=4))
    assert found.dropped == {reason: 1}
    assert [row["site_id"] for row in found.recordings] == [4]


def test_a_share_of_the_sessions_is_kept_whole() -> None:
    told = [event(f"session={n % 200}&sequence={n // 200}", PAGE[:1], site=3) for n in range(400)]
    found = rows(*told)
    kept = [row["session"] for row in found.recordings]
    assert 60 < len(kept) < 180
    assert all(kept.count(session) == 2 for session in kept)
    assert found.dropped[Unrecorded.NOT_SAMPLED] == 400 - len(kept)


def test_a_session_is_another_one_on_another_day_and_at_another_site() -> None:
    day = 86_400_000
    told = [event("session=a", PAGE), event("session=a", PAGE), event("session=a", PAGE, at=AT + day)]
    told += [event("session=a&consent=1", PAGE, site=4), event("", PAGE), event("", PAGE)]
    sessions = [row["session"] for row in rows(*told).recordings]
    assert sessions[0] == sessions[1]
    assert len(set(sessions)) == 5


def test_a_packet_makes_the_same_rows_again_and_other_bytes_make_none() -> None:
    told = event("session=a", PAGE)
    assert rows(told) == rows(told)
    assert Recorder(world(POLICIES)).rows(b"no packet", 0).dropped == {Unrecorded.UNREADABLE: 1}
    deep = Event(AT, 1, bytes(16), 0, 0, AGENT, "", "", "idsite=1 " + "[" * 5000 + "]" * 5000)
    assert rows(deep).dropped == {Unrecorded.UNREADABLE: 1}


def test_what_is_missing_is_waited_for() -> None:
    around = world(POLICIES)
    around.dead.add(date(2026, 9, 21))
    with pytest.raises(SecretMissing):
        Recorder(around).rows(encode(7, 0, 1, POLICIES.version, [event("", PAGE)]), 0)
    with pytest.raises(PolicyMissing):
        Recorder(world()).rows(encode(7, 0, 1, POLICIES.version, [event("", PAGE)]), 0)


def test_nothing_of_a_person_is_in_a_row_whatever_field_it_was_in() -> None:
    """A document written by hand, with personal data in every field that rrweb has."""
    who, mail, card = "Wilhelmina Featherstone", "w.featherstone@mail.example", "4111 1111 1111 1111"
    say = f"{who}, {mail}, {card}"
    everything = dict.fromkeys((*ATTRIBUTES.split(), say), say)
    css = f'a{{content:"{say}"}} b{{background:url("https://x.example/{say}")}} /*{say}*/ c{{--n:{mail}}}'
    inside = []
    for n, tag in zip(range(10, 200, 5), TAGS.split(), strict=False):
        comment = {"type": 5, "id": n + 2, "textContent": say}
        inside.append(element(n, tag, everything, [text(n + 1, css if tag == "style" else say), comment]))
    page = snapshot(
        {"type": 1, "id": 300, "name": say, "publicId": say, "systemId": say},
        element(2, say, everything, inside),
        at=AT,
    )
    told = [
        page,
        {"type": 4, "timestamp": AT, "data": {"href": f"https://{mail}:x@shop.example/{card}?name={say}#{say}"}},
        {"type": 5, "timestamp": AT, "data": {"tag": say, "payload": {say: [say]}}},
        {"type": 6, "timestamp": AT, "data": {"plugin": say, "payload": say}},
        mutation(
            adds=[{"parentId": 2, "node": element(400, "p", everything, [text(401, say)]), say: say}],
            texts=[{"id": 11, "value": say}, {"id": 26, "value": css}, {"id": 901, "value": say}],
            attributes=[{"id": n, "attributes": everything | {"style": {"content": say, say: say}}} for n in (10, 902)],
        ),
        *(change(5, id=n, text=say, isChecked=True, say=say) for n in (30, 35, 70, 903)),
        change(8, id=25, adds=[{"rule": css, "index": [0]}], replace=css),
        change(13, id=25, index=[0], set={"property": "content", "value": f'"{say}"', "priority": say}),
        change(15, id=1, styles=[{"styleId": 1, "rules": [{"rule": css, "index": 0}]}], styleIds=[1]),
        *(change(source, id=10, family=say, args=[say], text=say, type=2, x=1, y=1) for source in range(17)),
    ]
    query = f"session={who}&sequence=1&url=https://shop.example/{mail}&uid={who}&action_name={who}&_id={'ab' * 8}"
    clicked = json.dumps([{"ty": 2, "s": f"#{who} [a={mail}]", "te": say}])
    heat = event(f"hsr_ev={quote(clicked)}&url={quote(say)}")
    found = rows(event(query.replace(" ", "%20"), told), heat)
    stored = repr(found)
    left = {one for row in (*found.recordings, *found.heatmap) for one in strings(row) if who.split()[0] in one}
    assert left == set()
    for secret in ("Wilhelmina", "Featherstone", "featherstone", "mail.example", "4111", "1111 1111", "abababab"):
        assert secret not in stored
    assert found.dropped == {}
    (row,) = found.recordings
    counts = dict(zip(row["masked_kind"], row["masked_count"], strict=True))
    assert min(counts[kind] for kind in ("text", "attribute", "field", "style")) > 0
