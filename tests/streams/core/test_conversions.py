"""Goals: what converts them and what it is worth; baskets, product views and media."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest

from schemas.goals import Goal, GoalEntry, Match, On, read_goals
from schemas.sites import PolicySet, SitePolicy
from schemas.tables import ActionType
from streams import batch, reference
from tests.streams.core.compare import run
from tests.streams.core.traffic import BASE, one, simple, world

BOTH = pytest.mark.parametrize("process", [batch.process, reference.process], ids=["columns", "reference"])
THANKS = "&url=" + quote("https://www.site1.example/Thanks?sid=1")


def rows(process: Any, goals: tuple[Goal, ...], *queries: str) -> list[dict[str, Any]]:
    policies = PolicySet({1: SitePolicy(goal_rules=goals)})
    events = [simple(BASE + query, at_ms=1_795_000_000_000 + n) for n, query in enumerate(queries)]
    return run([[one(events, policies.version)]], world(policies), process)["events"]


def converted(row: dict[str, Any]) -> list[tuple[int, float, int]]:
    names = ("conversion_goal", "conversion_revenue", "conversion_repeats")
    return list(zip(*(row[name] for name in names), strict=True))


CASES = [
    (Goal(1, On.URL, pattern="thanks"), THANKS, [(1, 0.0, 0)]),
    (Goal(1, On.URL, pattern="thanks", case_sensitive=True), THANKS, []),
    (Goal(1, On.URL, Match.EXACT, "https://www.site1.example/Thanks"), THANKS, [(1, 0.0, 0)]),
    (Goal(1, On.URL, Match.EXACT, "/Thanks"), THANKS, []),
    (Goal(1, On.URL, Match.REGEX, "thanks$", revenue=3.5, repeats=True), THANKS, [(1, 3.5, 1)]),
    (Goal(1, On.URL, Match.REGEX, "sid"), THANKS, []),  # what is removed converts nothing
    (Goal(1, On.URL, pattern="thanks"), THANKS + "&e_c=a&e_a=b", []),  # an event of the page
    (Goal(1, On.URL, pattern="thanks"), THANKS + "&ping=1", []),
    (Goal(1, On.TITLE, pattern="order"), "&action_name=Your+Order", [(1, 0.0, 0)]),
    (Goal(1, On.EVENT_CATEGORY, Match.EXACT, "form"), "&e_c=Form&e_a=sent", [(1, 0.0, 0)]),
    (Goal(1, On.EVENT_ACTION, pattern="sent", event_value=True), "&e_c=Form&e_a=sent&e_v=2.25", [(1, 2.25, 0)]),
    (Goal(1, On.EVENT_ACTION, pattern="sent", event_value=True, revenue=9.0), "&e_c=F&e_a=sent", [(1, 9.0, 0)]),
    (Goal(1, On.EVENT_NAME, pattern="x"), "&e_c=Form&e_a=sent&e_n=xy", [(1, 0.0, 0)]),
    (Goal(1, On.EVENT_NAME, Match.REGEX, ".*"), "&e_c=Form&e_a=sent", []),  # no name is no text
    (Goal(1, On.DOWNLOAD, pattern=".pdf"), "&download=" + quote("https://a.example/x.PDF"), [(1, 0.0, 0)]),
    (Goal(1, On.OUTLINK, pattern=".pdf"), "&download=" + quote("https://a.example/x.pdf"), []),
    (Goal(1, On.OUTLINK, pattern="a.example"), "&link=" + quote("https://a.example/x"), [(1, 0.0, 0)]),
    (Goal(1, revenue=4.0, repeats=True), "&idgoal=1", [(1, 4.0, 1)]),
    (Goal(1, revenue=4.0), "&idgoal=1&revenue=0.5", [(1, 0.5, 0)]),
    (Goal(1, revenue=4.0), "&idgoal=2&revenue=0.5", [(2, 0.5, 0)]),
    (Goal(1, On.URL, pattern="thanks"), THANKS + "&idgoal=1", [(1, 0.0, 0)]),
    (Goal(1, revenue=4.0), "&idgoal=1&ping=1", []),
    (Goal(1, On.URL, pattern="thanks"), "&idgoal=0&ec_id=1" + THANKS, []),
]


@BOTH
@pytest.mark.parametrize(
    ("goal", "query", "expected"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_goal(process: Any, goal: Goal, query: str, expected: list[tuple[int, float, int]]) -> None:
    # a page view before it, so that a ping has its visit
    assert [converted(row) for row in rows(process, (goal,), "", query)][1] == expected


@BOTH
def test_one_event_converts_several_goals_in_order(process: Any) -> None:
    goals = (Goal(1, On.URL, pattern="thanks"), Goal(5, On.TITLE, pattern="thanks", revenue=1.0))
    assert converted(rows(process, goals, THANKS + "&action_name=Thanks")[0]) == [(1, 0.0, 0), (5, 1.0, 0)]


@BOTH
def test_orders_carts_and_their_items(process: Any) -> None:
    items = '[["s","n",["a","b\\n"],2.5,3],["t","",["a","b","c","d","e","f"]],["u","n","one"]]'
    order, cart, page = rows(
        process, (), f"&idgoal=0&ec_id=7&ec_items={quote(items)}", "&idgoal=0&revenue=2", "&ec_id=7"
    )
    assert [row["is_order"] for row in (order, cart, page)] == [1, 0, 0]
    assert order["item_category"] == ["a\nb", "a\nb\nc\nd\ne", "one"]
    assert order["order_id"] != 0 == cart["order_id"]


@BOTH
def test_product_views_are_page_views_alone(process: Any) -> None:
    product = "&_pks=S1&_pkn=Shoe&_pkc=" + quote('["Men","Sale"]') + "&_pkp=49.5"
    viewed, cart, event = rows(process, (), product, product + "&idgoal=0", product + "&e_c=a&e_a=b")
    names = ("product_sku", "product_name", "product_category", "product_price")
    assert [viewed[name] for name in names] == ["S1", "Shoe", "Men\nSale", 49.5]
    for row in (cart, event):
        assert [row[name] for name in names] == ["", "", "", 0.0]


@BOTH
def test_media(process: Any) -> None:
    playing = "&ma_id=ab1&ma_re=" + quote("https://v.example/a.mp4?sid=1") + "&ma_mt=video&ma_ti=A+film&ma_st=7&ca=1"
    row, other = rows(process, (), playing + "&ma_le=120&ma_fs=1&ma_w=640", "&ma_id=ab1&ca=1")
    assert row["action_type"] == ActionType.MEDIA
    assert row["parameters_removed"] == 1
    told = {name: value for name, value in row.items() if name.startswith("media_") and value}
    assert re.fullmatch("[0-9a-f]{16}", told.pop("media_id"))
    assert told == {
        "media_type": "video",
        "media_title": "A film",
        "media_url": "https://v.example/a.mp4",
        "media_watched": 7,
        "media_length": 120,
        "media_width": 640,
        "media_fullscreen": 1,
    }
    assert other["action_type"] == ActionType.EVENT
    assert other["media_id"] == ""


def test_ids_and_rules_of_goals_may_stand_together() -> None:
    ids, rules, names = read_goals([9, GoalEntry(3, On.URL, name="Thanks", pattern="x"), GoalEntry(1)])
    assert ids == (1, 3, 9)
    assert [goal.id for goal in rules] == [1, 3]
    assert names == {3: "Thanks"}
