"""The traffic: the same for the same seed, as varied as it says, every number once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from urllib.parse import parse_qs

import numpy as np
import pytest

from infra.load.agents import AGENTS, LANGUAGES
from infra.load.faulty import KINDS
from infra.load.journal import Fate
from infra.load.numbers import LENGTH, LIMIT, numbers, page_view_id
from infra.load.sites import model_site, write_sites
from infra.load.traffic import Request, Traffic
from schemas.sites import load_sites

SITES = range(1, 6)


def requests(count: int, **options: float) -> list[Request]:
    traffic = Traffic(seed=int(options.pop("seed", 1)), sites=SITES, host="collector:8080", **options)  # type: ignore[arg-type]
    return [traffic.request() for _ in range(count)]


def parts(request: Request) -> tuple[str, str, dict[str, str], bytes]:
    head, _, body = request.payload.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    method, target, version = first.split(" ")
    assert version == "HTTP/1.1"
    return method, target, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


def queries(request: Request) -> list[dict[str, str]]:
    """The parameters of each event."""
    _, target, _, body = parts(request)
    if request.bulk:
        items = json.loads(body)["requests"]
        texts = [item if isinstance(item, dict) else item.partition("?")[2] for item in items]
    else:
        texts = [target.partition("?")[2] or body.decode("latin-1")]
    return [
        text if isinstance(text, dict) else {name: values[-1] for name, values in parse_qs(text).items()}
        for text in texts
    ]


def test_the_same_seed_makes_the_same_requests() -> None:
    assert requests(3_000, bad=0.1) == requests(3_000, bad=0.1)
    assert requests(100) != requests(100, seed=2)


def test_a_start_number_changes_the_numbers_alone() -> None:
    moved = requests(500, start=1_000_000)
    assert moved[0].first == 1_000_000
    assert [r.expected for r in moved] == [r.expected for r in requests(500)]


def test_every_event_carries_its_own_number() -> None:
    expected = 0
    for request in requests(3_000, bad=0):
        assert request.first == expected
        found = queries(request)
        assert len(found) == len(request.expected)
        for number, query in enumerate(found, request.first):
            assert query["pv_id"] == page_view_id(number)
        expected += len(found)


def test_requests_are_complete_http() -> None:
    for request in requests(3_000, bad=0.1):
        method, target, headers, body = parts(request)
        assert method in ("GET", "POST")
        assert target.startswith(("/matomo.php", "/piwik.php"))
        assert headers["host"] == "collector:8080"
        assert int(headers.get("content-length", 0)) == len(body)
        assert ("content-length" in headers) == (method == "POST")
        assert request.close == (headers.get("connection") == "close")


def test_all_kinds_of_requests_and_events_occur() -> None:
    ways: Counter[str] = Counter()
    events: Counter[str] = Counter()
    agents, sites, visitors, users = set(), set(), set(), set()
    for request in requests(20_000, bad=0):
        method, _, headers, body = parts(request)
        ways["bulk" if request.bulk else "GET" if method == "GET" else "form" if body else "beacon"] += 1
        for query in queries(request):
            if query["idsite"] == "4000000000":
                continue
            agents.add(query.get("ua") or headers["user-agent"])
            sites.add(query["idsite"])
            visitors.add(query.get("_id"))
            users.add(query.get("uid"))
            for name in ("search", "download", "link", "e_c", "c_n", "ping", "ec_id", "ec_items", "_pks", "pf_net"):
                events[name] += name in query
            events["page"] += "action_name" in query
            events["referrer"] += "google" in query.get("urlref", "")
            events["campaign"] += "utm_" in query.get("url", "") or "mtm_" in query.get("url", "")
            events["leak"] += "jane.doe" in query.get("url", "")
            events["all"] += 1
    assert set(ways) == {"bulk", "GET", "form", "beacon"}
    assert all(events.values()), events
    assert 0.5 < events["page"] / events["all"] < 0.8
    assert sites == {"1", "2", "3", "4", "5"}
    assert len(agents) > 120
    assert len(visitors) > 1_000
    assert None in users
    assert len(users) > 20


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_the_share_of_bulks_is_kept(share: float) -> None:
    made = requests(20_000 if share < 0.5 else 3_000, bulk=share, bad=0)
    events = sum(len(r.expected) for r in made)
    assert abs(sum(len(r.expected) for r in made if r.bulk) / events - share) < 0.06


def test_no_request_is_larger_than_asked() -> None:
    traffic = Traffic(seed=1, sites=SITES, host="h", bulk=1.0)
    assert all(len(traffic.request(most).expected) <= most for most in (1, 2, 3, 5, 8) for _ in range(50))


@pytest.mark.parametrize("kind", KINDS)
def test_faulty_requests_are_the_same_for_the_same_seed_and_have_fates(kind: str) -> None:
    made = KINDS[kind](Random(1), 3, 77)
    assert made == KINDS[kind](Random(1), 3, 77)
    assert made.fates
    if made.fates & (Fate.STORED | Fate.EXCLUDED):
        assert f"pv_id={page_view_id(77)}".encode() in made.query.encode() + (made.body or b"")


def test_all_faults_occur() -> None:
    expected = {fate for r in requests(5_000, bulk=0.0, bad=1.0) for fate in r.expected}
    assert expected == {int(KINDS[kind](Random(1), 1, 1).fates) for kind in KINDS}


def test_numbers_and_page_view_ids_are_one_to_one() -> None:
    wanted = [0, 1, 61, 62, 3_843, 3_844, 14_776_335, 14_776_336, LIMIT // 2, LIMIT - 1]
    ids = "".join(page_view_id(number) for number in wanted).encode()
    assert numbers(np.frombuffer(ids, np.uint8).reshape(-1, LENGTH)).tolist() == wanted
    assert numbers(np.frombuffer(b"00-00a", np.uint8).reshape(-1, LENGTH)).tolist() == [-1]


def test_agents_are_many_and_of_all_kinds() -> None:
    agents = [agent for kind in AGENTS.values() for agent in kind]
    assert len({agent.header for agent in agents}) == len(agents) >= 150
    assert all(AGENTS.values())
    assert all(agent.header.isascii() and agent.header.isprintable() for agent in agents)
    assert len(LANGUAGES) >= 40


def test_the_collector_knows_the_model_sites(tmp_path: Path) -> None:
    write_sites(tmp_path, SITES)
    assert {n: site.policy.domains[0] for n, site in load_sites(tmp_path).by_id.items()} == {
        n: model_site(n).domain for n in SITES
    }


def test_requests_are_sent_again_in_all_the_ways_that_clients_do() -> None:
    plain, found = requests(6_000), requests(6_000, repeat=0.3)
    assert [request.expected for request in plain] == [request.expected for request in found]
    assert not any(request.again for request in plain)
    ways: Counter[str] = Counter()
    for request in found:
        if not request.again:
            continue
        assert set(request.expected) == {Fate.STORED}
        method, _, headers, _ = parts(request)
        again = request._replace(payload=request.again)
        if request.bulk:
            assert again.payload == request.payload
            assert not any("r" in item for item in queries(request))
            ways["bulk"] += 1
        elif "idempotency-key" in headers:
            assert parts(again)[2]["idempotency-key"] == headers["idempotency-key"]
            ways["key"] += 1
        else:
            ((first,), (second,)) = queries(request), queries(again)
            assert (method, parts(again)[0]) == ("POST", "GET")
            assert (first.pop("send_image"), second.pop("send_image")) == ("0", "1")
            assert first == second
            assert {"r", "pv_id"} <= first.keys()
            ways["image"] += 1
    assert min(ways.values()) > 5
    assert len(ways) == 3


def test_a_request_that_is_sent_again_has_new_numbers_and_the_old_ones_in_it() -> None:
    traffic = Traffic(seed=1, sites=SITES, host="h", repeat=1.0)
    first = next(request for request in iter(traffic.request, None) if request.again)
    number = traffic.next_number
    again = traffic.again(first)
    assert (again.first, again.payload, again.again) == (number, first.again, b"")
    assert set(again.expected) == {Fate.REPEATED}
    assert traffic.next_number == number + len(first.expected)
