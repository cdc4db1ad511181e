"""Which events make a visit; every rule on the columnar worker and on the reference."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.packets import Event
from schemas.privacy import Privacy, Values
from schemas.reasons import Excluded
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import VisitorKind
from streams import batch, reference, state
from tests.streams.core.compare import run
from tests.streams.core.traffic import START_MS, one, simple, world

HASHED = Privacy(user_ids=Values.DAY)  # users are told apart only where the policy keeps something of them
POLICIES = PolicySet({1: SitePolicy(privacy=HASHED), 2: SitePolicy(privacy=HASHED, timezone="Asia/Kathmandu")})
MINUTE = 60_000
A, B = "_id=76d1f50cbfda087a", "_id=00d1f50cbfda087a"
PLACES = [b"\0" * 10 + b"\xff\xff" + bytes([10, n, 0, 1]) for n in range(3)]

BOTH = pytest.mark.parametrize("process", [batch.process, reference.process], ids=["columns", "reference"])


def events(*given: tuple[float, str] | tuple[float, str, int], site: int = 1) -> list[Event]:
    """Events from (minutes, parameters, place)."""
    return [
        simple(
            f"rec=1&url=https%3A%2F%2Fa.example%2F&{one_[1]}",
            at_ms=START_MS + round(one_[0] * MINUTE),
            address=PLACES[one_[2] if len(one_) == 3 else 0],
            site=site,
        )
        for one_ in given
    ]


def visits(process: Any, given: Sequence[Event], packets: int = 1) -> list[int]:
    """For each stored event the number of its visit, in order of appearance; cut into so many packets."""
    found = rows(process, given, packets)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(row["visit_id"], len(numbers)) for row in found]


def rows(process: Any, given: Sequence[Event], packets: int = 1) -> list[dict[str, Any]]:
    size = -(-len(given) // packets)
    parts = [given[start : start + size] for start in range(0, len(given), size)]
    records = [one(part, POLICIES.version, seq) for seq, part in enumerate(parts)]
    return run([records], world(POLICIES), process)["events"]


CASES = [
    ("two pages", [(0, A), (29.9, A)], [0, 0]),
    ("30 minutes of silence", [(0, A), (30, A)], [0, 1]),
    ("a chain of pauses", [(0, A), (29, A), (58, A), (87, A)], [0, 0, 0, 0]),
    ("two visitors", [(0, A), (1, B)], [0, 1]),
    ("no id: by configuration", [(0, ""), (1, ""), (2, "", 1)], [0, 0, 1]),
    ("the id comes late", [(0, ""), (1, A), (2, A, 1)], [0, 0, 0]),
    ("the user comes late", [(0, A), (1, A + "&uid=jo"), (2, "uid=jo", 1)], [0, 0, 0]),
    ("neither at first, then both", [(0, ""), (1, A + "&uid=jo"), (2, A, 1), (3, "uid=jo", 2)], [0, 0, 0, 0]),
    ("an event without id after one with", [(0, A), (1, "")], [0, 0]),
    ("another id from the same place", [(0, ""), (1, A), (2, B), (3, A)], [0, 0, 1, 0]),
    ("another user on the same device", [(0, A + "&uid=jo"), (1, A + "&uid=al"), (2, A)], [0, 1, 1]),
    ("another user without id", [(0, "uid=jo"), (1, "uid=al")], [0, 1]),
    ("a user who moves keeps the visit", [(0, "uid=jo"), (1, "uid=jo", 1)], [0, 0]),
    ("a user on two devices", [(0, A + "&uid=jo"), (1, B + "&uid=jo", 1)], [0, 0]),
    ("no id at another place", [(0, A), (1, "", 1)], [0, 1]),
    ("the newest of one configuration", [(0, A), (1, B), (2, "")], [0, 1, 1]),
    ("new_visit", [(0, A), (1, A + "&new_visit=1"), (2, A)], [0, 1, 1]),
    ("new_visit=0", [(0, A), (1, A + "&new_visit=0")], [0, 0]),
    ("a campaign", [(0, A), (1, A + "&mtm_campaign=x"), (2, A + "&mtm_campaign=x"), (3, A)], [0, 1, 1, 1]),
    ("another campaign", [(0, A + "&mtm_campaign=x"), (1, A + "&mtm_campaign=y")], [0, 1]),
    ("a ping prolongs", [(0, A), (29, A + "&ping=1"), (58, A)], [0, 0, 0]),
    ("a ping begins nothing", [(0, A + "&ping=1"), (1, A)], [0]),
    ("a late event joins backwards", [(40, A), (10.1, A)], [0, 0]),
    ("a late event too far back", [(40, A), (10, A)], [0, 1]),
    ("a late event does not turn the clock back", [(40, A), (20, A), (69, A)], [0, 0, 0]),
    ("one millisecond apart", [(0, A), (0, A), (0, A)], [0, 0, 0]),
]


@BOTH
@pytest.mark.parametrize(("given", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_rules(process: Any, given: Any, expected: list[int]) -> None:
    assert visits(process, events(*given)) == expected


@BOTH
def test_sites_are_apart(process: Any) -> None:
    assert visits(process, [*events((0, A)), *events((1, A), site=2)]) == [0, 1]


@BOTH
@pytest.mark.parametrize(("site", "midnight"), [(1, "2026-11-19T00:00:00"), (2, "2026-11-18T18:15:00")])
def test_midnight_of_the_site_ends_a_visit(process: Any, site: int, midnight: str) -> None:
    at = datetime.fromisoformat(midnight).replace(tzinfo=UTC).timestamp() * 1000
    minutes = (at - START_MS) / MINUTE
    given = events((minutes - 2, A), (minutes - 1 / 60_000, A), (minutes, A), (minutes + 1, A), site=site)
    found = rows(process, given)
    assert visits(process, given) == [0, 0, 1, 1]
    assert found[0]["visitor_id"] == found[1]["visitor_id"] != found[2]["visitor_id"] == found[3]["visitor_id"]
    assert found[1]["config_id"] != found[2]["config_id"]


@BOTH
def test_running_values_of_a_visit(process: Any) -> None:
    given = events(
        (0, A + "&mtm_campaign=x"), (1, A + "&e_c=a&e_a=b"), (3, A + "&ping=1"), (4, A), (2, A), (5, A + "&uid=jo")
    )
    found = rows(process, given)
    names = ("visit_position", "visit_pageviews", "gap_ms", "visit_last")
    assert [tuple(row[name] for name in names) for row in found] == [
        (1, 1, 0, START_MS),
        (2, 1, MINUTE, START_MS + MINUTE),
        (2, 1, 2 * MINUTE, START_MS + 3 * MINUTE),
        (3, 2, MINUTE, START_MS + 4 * MINUTE),
        (4, 3, 0, START_MS + 4 * MINUTE),
        (5, 4, MINUTE, START_MS + 5 * MINUTE),
    ]
    assert {row["visit_start"] for row in found} == {START_MS}
    assert {row["visit_campaign"] for row in found} == {"x"}
    assert [row["visitor_kind"] for row in found] == [VisitorKind.VISITOR_ID] * 5 + [VisitorKind.USER_ID]
    assert len({row["visit_visitor_id"] for row in found}) == 1
    assert [row["visit_user_id"] != 0 for row in found] == [False] * 5 + [True]


@BOTH
def test_a_visit_that_is_too_long(process: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from streams import visits as columnar

    for module in (columnar, reference):
        monkeypatch.setattr(module, "VISIT_ACTIONS", 3)
    given = events(*((n, A) for n in range(5)), (5, A + "&ping=1"))
    assert visits(process, given) == [0, 0, 0, 1, 1, 1]
    assert state.VISIT_ACTIONS == 10_000


@BOTH
@pytest.mark.parametrize("packets", [1, 3, 7])
def test_how_events_are_cut_into_packets_decides_nothing(process: Any, packets: int) -> None:
    # the visit's last action is 30 minutes before what another visitor did in an earlier packet
    assert visits(process, events((0, A), (30, B), (29, A)), packets) == [0, 1, 0]
    assert visits(process, events((0, A), (90, B), (29, A), (58, A), (88, A)), packets) == [0, 1, 0, 0, 2]


LATE = [
    ("an old visit goes on", [(0, A), (200, B), (10, A), (39.9, A)], [0, 1, 0, 0]),
    ("the one that was near then", [(0, A), (50, A), (200, B), (10, A), (79, A)], [0, 1, 2, 0, 1]),
    ("between two visits, near neither", [(0, A), (70, A), (200, B), (35, A)], [0, 1, 2, 3]),
    ("between two visits, near both", [(0, A), (50, A), (200, B), (25, A)], [0, 1, 2, 1]),
    ("an old visit without id", [(0, ""), (200, B), (10, "")], [0, 1, 0]),
    ("the id comes late, and late", [(0, ""), (200, B, 1), (10, A), (15, ""), (20, A, 2)], [0, 1, 0, 0, 0]),
    ("another user of then", [(0, A + "&uid=jo"), (200, B), (10, A + "&uid=al"), (11, "uid=jo", 1)], [0, 1, 2, 0]),
    ("a ping of then prolongs", [(0, A), (200, B), (29, A + "&ping=1"), (55, A)], [0, 1, 0, 0]),
    ("a ping of then begins nothing", [(0, A), (200, B), (30, A + "&ping=1")], [0, 1]),
    ("a campaign of then", [(0, A), (200, B), (10, A + "&mtm_campaign=x"), (20, A)], [0, 1, 2, 2]),
    ("old visits only", [(300, B), (0, A), (40, A), (10, A), (60, A), (5, A)], [0, 1, 2, 1, 2, 1]),
    ("what goes on does not take over", [(0, A), (100, A), (10, A), (101, A), (20, A)], [0, 1, 0, 1, 0]),
    ("from old to new in one go", [(0, A), (100, B), (29, A), (58, A), (87, A), (101, A)], [0, 1, 0, 0, 0, 0]),
    ("out of order within a packet", [(0, B), (40, A), (80, A), (42, A), (60, A)], [0, 1, 2, 1, 2]),
]


@BOTH
@pytest.mark.parametrize("packets", [1, 2, 3, 6])
@pytest.mark.parametrize(("given", "expected"), [case[1:] for case in LATE], ids=[case[0] for case in LATE])
def test_a_late_event_finds_the_visit_of_its_time(process: Any, packets: int, given: Any, expected: list[int]) -> None:
    found = events(*given)
    assert visits(process, found, min(packets, len(found))) == expected
    apart = [one([event], POLICIES.version, seq) for seq, event in enumerate(found)]
    numbers: dict[int, int] = {}
    stored = run([[record] for record in apart], world(POLICIES), process)["events"]
    assert [numbers.setdefault(row["visit_id"], len(numbers)) for row in stored] == expected


@BOTH
def test_a_ping_without_a_visit_is_counted_as_excluded(process: Any) -> None:
    record = one(events((0, A + "&ping=1"), (1, A), (2, A + "&ping=1"), (3, B + "&ping=1", 1)), POLICIES.version)
    found = run([[record]], world(POLICIES), process)
    assert [row["index"] for row in found["events"]] == [1, 2]
    ledger = found["packets"][0]
    assert (ledger["received"], ledger["stored"], ledger["excluded"], ledger["rejected"]) == (4, 2, 2, 0)
    assert found["rejects"] == []
    assert Excluded.PING_WITHOUT_VISIT not in str(found)


@BOTH
def test_the_visits_id_comes_from_the_name_of_its_first_event(process: Any) -> None:
    given = events((0, A), (40, A), (50, A))
    first, second = rows(process, given), rows(process, given[1:])
    assert len({row["visit_id"] for row in first}) == 2
    assert second[0]["visit_id"] != first[1]["visit_id"]
    assert rows(process, given) == first
