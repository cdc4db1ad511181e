"""Every view, on rows that were worked out by hand; and what is deleted leaves the sums at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from infra.service.clickhouse import Client
from infra.service.settings import Settings
from schemas.goals import Goal, Match, On
from schemas.packets import MAPPED_IPV4, Event, encode
from schemas.routing import ROUTING_VERSION
from schemas.sites import PolicySet, SitePolicy
from streams.batch import Record
from tests.streams.shell.conftest import MakePipeline
from tests.streams.shell.stream import publish_policies

DAY_MS = 86_400_000
START_MS = (time.time_ns() // 1_000_000 // DAY_MS - 1) * DAY_MS + 10 * 3_600_000  # yesterday, 10 o'clock
DAY = datetime.fromtimestamp(START_MS / 1000, UTC).date()
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 "
    "Mobile/15E148 Safari/604.1"
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
POLICIES = PolicySet(
    {
        1: SitePolicy(
            keep_bots=True,
            goal_rules=(
                Goal(1, On.URL, Match.CONTAINS, "/thanks", revenue=2.0),
                Goal(3, On.EVENT_ACTION, Match.EXACT, "sent", event_value=True, repeats=True),
            ),
        ),
        2: SitePolicy(timezone="Pacific/Kiritimati"),
        3: SitePolicy(timezone="Pacific/Pago_Pago"),
    }
)
VISITORS = {"a": (1, FIREFOX), "b": (2, IPHONE), "c": (3, GOOGLEBOT), "d": (4, FIREFOX)}


def page(path: str) -> str:
    return "url=" + quote(f"https://shop.example{path}", safe="")


def basket(*rows: str) -> str:
    return "&ec_items=" + quote(f"[{','.join(rows)}]", safe="")


SHOE = '["s","Shoe",["Men","Sale"],10,%d]'
TIMES = "&pf_net=10&pf_srv=100&pf_tfr=50&pf_dm1=200&pf_dm2=100&pf_onl=40"
# (minutes after the start, visitor, parameters)
REQUESTS: list[tuple[float, str, str]] = [
    (0, "a", page("/a") + "&action_name=A&urlref=" + quote("https://www.google.com/") + TIMES),
    (1, "a", page("/b") + "&action_name=B"),
    (3, "a", page("/b") + "&e_c=Form&e_a=sent&e_v=5"),
    (4, "a", page("/b") + "&e_c=Form&e_a=sent&e_v=7"),
    (5, "a", page("/thanks") + "&action_name=Thanks"),
    (6, "a", page("/thanks")),
    (7, "a", page("/order") + "&idgoal=0&ec_id=1&revenue=30&ec_st=25&ec_tx=3&ec_sh=2" + basket(SHOE % 3)),
    (8, "a", page("/order") + "&idgoal=0&ec_id=1&revenue=30" + basket(SHOE % 3)),
    (60, "b", page("/a?utm_campaign=spring&utm_source=news") + "&action_name=A"),
    (61, "b", page("/p") + "&_pks=s&_pkn=Shoe&_pkc=" + quote('["Men"]') + "&_pkp=10"),
    (62, "b", page("/p") + "&idgoal=0&revenue=20" + basket(SHOE % 2)),
    (63, "b", page("/p") + "&c_n=Ad&c_p=x.png&c_t=" + quote("https://o.example/")),
    (64, "b", page("/p") + "&c_n=Ad&c_p=x.png&c_i=click&c_t=" + quote("https://o.example/")),
    (70, "c", page("/a") + "&action_name=A"),
    (80, "d", page("/m") + "&action_name=M"),
    (
        81,
        "d",
        page("/m") + "&ca=1&ma_id=m1&ma_mt=video&ma_ti=Film&ma_st=5&ma_le=20&ma_re=" + quote("https://v.example/f"),
    ),
    (
        82,
        "d",
        page("/m")
        + "&ca=1&ma_id=m1&ma_mt=video&ma_ti=Film&ma_st=10&ma_le=20&ma_fs=1&ma_re="
        + quote("https://v.example/f"),
    ),
    (83, "d", page("/m") + "&ca=1&ma_id=m2&ma_mt=video&ma_ti=Film&ma_re=" + quote("https://v.example/f")),
    (84, "d", page("/s") + "&search=shoe&search_cat=all&search_count=7"),
    (
        85,
        "d",
        page("/m?sid=1")
        + "&ca=1&cra_tp=TypeError&cra_rl=3&cra="
        + quote("x of jo@x.example is not a function")
        + "&cra_ru="
        + quote("https://shop.example/app.js?v=2")
        + "&cra_st="
        + quote("x (a.js:1:2)\n\njo@x.example (b.js)"),
    ),
    (90, "d", page("/s") + "&ping=1"),
    (120, "a", page("/thanks")),
]


def at(minute: float) -> datetime:
    return datetime.fromtimestamp((START_MS + minute * 60_000) / 1000, UTC)


def aware(value: Any) -> Any:
    """A moment with its time zone, which the client leaves out of those of whole seconds."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


@pytest.fixture
def told(world: Settings, client: Client, make_pipeline: MakePipeline) -> Callable[[str], list[tuple[Any, ...]]]:
    """Asks a query of a database that holds the requests and one page view of now; moments have their time zone."""
    publish_policies(world, POLICIES)
    found = []
    now = time.time_ns() // 1_000_000
    for when, visitor, query in [*((START_MS + int(m * 60_000), v, q) for m, v, q in REQUESTS), (now, "d", page("/n"))]:
        number, agent = VISITORS[visitor]
        query = f"idsite=1&rec=1&_id={number:016x}&{query}" + ("" if agent == GOOGLEBOT else "&res=800x600")
        found.append(Event(when, 1, MAPPED_IPV4 + bytes((10, number, 0, 1)), 0, 0, agent, "de", "", query))
    found += [replace(found[-1], site=2), replace(found[-1], site=3)]
    value = encode(1, 0, ROUTING_VERSION, POLICIES.version, found)
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    pipeline.run([Record(0, 0, 1, now + 1, value)])
    return lambda sql: [tuple(map(aware, row)) for row in client.query(sql).result_rows]


Told = Callable[[str], list[tuple[Any, ...]]]
GOOGLE = (2, "Google", "")


def test_views(told: Told) -> None:
    ask = told
    yesterday = "site_id = 1 AND day = toDate(now('UTC')) - 1"
    assert ask(f"SELECT actions, pageviews, visits, revenue FROM days WHERE {yesterday}") == [(21, 9, 5, 80.0)]
    assert ask(
        "SELECT hour, actions, pageviews, visits, revenue FROM hours WHERE hour < toDate(now('UTC')) ORDER BY 1"
    ) == [
        (at(0), 8, 4, 1, 60.0),
        (at(60), 12, 4, 3, 20.0),
        (at(120), 1, 1, 1, 0.0),
    ]
    columns = "actions, pageviews, searches, bounced, seconds, entry_url, exit_url, referrer_type, referrer_name, goals"
    shop = "https://shop.example"
    a, b = f"{shop}/a", f"{shop}/p"
    assert ask(f"SELECT started_at, {columns} FROM visits WHERE started_at < toDate(now('UTC')) ORDER BY 1") == [
        (at(0), 8, 4, 0, 0, 480.0, a, f"{shop}/thanks", 2, "Google", [1, 3]),
        (at(60), 5, 2, 0, 0, 240.0, a, b, 6, "spring", []),
        (at(70), 1, 1, 0, 1, 0.0, a, a, 1, "", []),
        (at(80), 6, 1, 1, 0, 600.0, f"{shop}/m", f"{shop}/m", 1, "", []),
        (at(120), 1, 1, 0, 1, 0.0, f"{shop}/thanks", f"{shop}/thanks", 1, "", [1]),
    ]
    assert ask("SELECT device_type, browser, os, bot FROM visits ORDER BY started_at LIMIT 3") == [
        ("desktop", "Firefox", "Linux", 0),
        ("smartphone", "Mobile Safari", "iOS", 0),
        ("bot", "Googlebot", "", 513),
    ]
    assert ask("SELECT started_at, visit_number, days_since_last FROM returning_visits WHERE visit_number > 1") == [
        (at(120), 2, 0)
    ]
    assert ask(
        f"SELECT url, title, views, visits, entries, round(load_ms) FROM pages WHERE {yesterday} AND views > 0 "
        "AND url LIKE '%/a' ORDER BY url"
    ) == [(a, "A", 3, 3, 3, 500.0)]
    assert ask(
        f"SELECT url, views, visits, entries FROM pages WHERE {yesterday} AND url NOT LIKE '%/a' ORDER BY url"
    ) == [
        (f"{shop}/b", 1, 1, 0),
        (f"{shop}/m", 1, 1, 1),
        (b, 1, 1, 0),
        (f"{shop}/thanks", 3, 2, 1),
    ]
    assert ask(
        f"SELECT url, views, exits, seconds FROM page_times WHERE {yesterday} AND url != '{shop}/a' ORDER BY url"
    ) == [
        (f"{shop}/b", 1, 0, 120.0),
        (f"{shop}/m", 1, 0, 60.0),
        (b, 1, 0, 60.0),
        (f"{shop}/thanks", 3, 1, 60.0),
    ]
    assert ask(
        f"SELECT referrer_type, referrer_name, visits, actions, bounces, seconds FROM referrers "
        f"WHERE {yesterday} ORDER BY 1"
    ) == [(1, "", 3, 8, 2, 200.0), (2, "Google", 1, 8, 0, 480.0), (6, "spring", 1, 5, 0, 240.0)]
    assert ask("SELECT name, source, medium, visits, arrivals FROM campaigns") == [("spring", "news", "", 1, 1)]
    attributed = "referrer_type, referrer_name, last_referrer_type, last_referrer_name"
    assert ask(f"SELECT time, goal, revenue, {attributed} FROM goal_conversions ORDER BY time, goal") == [
        (at(3), 3, 5.0, 2, "Google", 2, "Google"),
        (at(4), 3, 7.0, 2, "Google", 2, "Google"),
        (at(5), 1, 2.0, 2, "Google", 2, "Google"),
        (at(120), 1, 2.0, 1, "", 2, "Google"),
    ]
    assert ask(
        "SELECT day, goal, referrer_name, conversions, visits, revenue FROM goals ORDER BY goal, referrer_name"
    ) == [
        (DAY, 1, "", 1, 1, 2.0),
        (DAY, 1, "Google", 1, 1, 2.0),
        (DAY, 3, "Google", 2, 1, 12.0),
    ]
    assert ask(
        "SELECT time, revenue, subtotal, tax, shipping, discount, items, referrer_name, order_id != 0 FROM orders"
    ) == [(at(7), 30.0, 25.0, 3.0, 2.0, 0.0, 3, "Google", 1)]
    assert ask("SELECT sku, name, categories, price, quantity, revenue FROM order_items") == [
        ("s", "Shoe", ["Men", "Sale"], 10.0, 3, 30.0)
    ]
    assert ask("SELECT time, revenue, skus, items FROM abandoned_carts") == [(at(62), 20.0, ["s"], 2)]
    assert ask("SELECT day, sku, name, views, quantity, revenue FROM products") == [(DAY, "s", "Shoe", 1, 3, 30.0)]
    assert ask("SELECT day, category, views, visits FROM product_categories") == [(DAY, "Men", 1, 1)]
    assert ask("SELECT name, piece, target, impressions, interactions FROM content") == [
        ("Ad", "x.png", "https://o.example/", 1, 1)
    ]
    assert ask("SELECT url, title, type, plays, started, seconds, share, fullscreen FROM media") == [
        ("https://v.example/f", "Film", "video", 2, 1, 10, 0.5, 1)
    ]
    assert ask("SELECT day, keyword, category, searches, visits, results FROM searches") == [
        (DAY, "shoe", "all", 1, 1, 7.0)
    ]
    assert ask("SELECT day, name, reasons, score, events, pageviews, visits FROM bots") == [
        (DAY, "Googlebot", ["crawler", "no_scripts"], 100, 1, 1, 1)
    ]
    assert ask("SELECT day, message, type, source, line, crashes, visits, pages, last_at, stack FROM crashes") == [
        (
            *(DAY, "x of [email] is not a function", "TypeError", "https://shop.example/app.js", 3, 1, 1, 1, at(85)),
            "x (a.js:1:2)\n[email] (b.js)",
        )
    ]
    assert ask("SELECT site_id, sum(actions), sum(pageviews), sum(visits) FROM realtime GROUP BY 1 ORDER BY 1") == [
        (site, 1, 1, 1) for site in (1, 2, 3)
    ]


def test_days_are_those_of_the_site(told: Told) -> None:
    (now,) = (moment for (moment,) in told("SELECT time FROM events WHERE site_id = 2"))
    here = {2: now.astimezone(ZoneInfo("Pacific/Kiritimati")).date(), 3: (now - timedelta(hours=11)).date()}
    assert here[2] != here[3]
    for view in ("days", "pages", "visits", "referrers"):
        assert dict(told(f"SELECT site_id, day FROM {view} WHERE site_id > 1")) == here


def test_a_visit_that_is_too_quick(world: Settings, client: Client, make_pipeline: MakePipeline) -> None:
    publish_policies(world, POLICIES)
    found = [
        Event(
            *(START_MS + n * step, 1, MAPPED_IPV4 + bytes((10, step % 256, 0, 1)), 0, 0, agent, "de", ""),
            f"idsite=1&rec=1&res=800x600&_id={step:016x}&{page('/a')}{n}",
        )
        for step, agent in [(900, FIREFOX), (1100, IPHONE)]
        for n in range(20)
    ]
    pipeline = make_pipeline()
    pipeline.assign({0: 0})
    pipeline.run([Record(0, 0, 1, START_MS + 60_000, encode(1, 0, ROUTING_VERSION, POLICIES.version, found))])
    rows = client.query("SELECT actions, bot, bot_reasons, bot_score FROM visits ORDER BY ended_at").result_rows
    assert rows == [(20, 0, ["rate"], 70), (20, 0, [], 0)]


def test_what_is_deleted_leaves_the_sums_at_once(told: Told, client: Client) -> None:
    yesterday = "hour < toDate(now('UTC'))"
    sums = f"SELECT sum(actions), sum(pageviews), sum(visits), sum(revenue) FROM hours WHERE {yesterday}"
    assert told(sums) == [(21, 9, 5, 80.0)]
    visitor = told("SELECT any(visitor_id) FROM orders AS o JOIN visits AS v ON o.visit_id = v.visit_id")[0][0]
    client.command(f"DELETE FROM events WHERE visitor_id = {visitor}", settings={"mutations_sync": 2})
    assert told(sums) == [(12, 4, 3, 20.0)]
    plan = "\n".join(row[0] for row in told(f"EXPLAIN projections = 1 {sums}"))
    assert "by_hour" in plan
    assert told(f"{sums} SETTINGS optimize_use_projections = 0") == [(12, 4, 3, 20.0)]
    assert told("SELECT count() FROM orders") == [(0,)]
    # other rows of the same parts may be changed as well
    client.command("ALTER TABLE events UPDATE revenue = 21 WHERE revenue = 20", settings={"mutations_sync": 2})
    assert told(sums) == [(12, 4, 3, 21.0)]


def test_every_column_says_what_it_is(told: Told, world: Settings) -> None:
    unsaid = told(
        "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = '' AND "
        "(table = 'events' OR table IN (SELECT name FROM system.tables WHERE database = currentDatabase() "
        "AND engine = 'View'))"
    )
    assert unsaid == []
    for (view,) in told("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'"):
        told(f"SELECT * FROM {view} LIMIT 1")  # every column can be asked for
    assert told(
        "SELECT count() FROM system.tables WHERE database = currentDatabase() AND engine = 'View' AND comment = ''"
    ) == [(0,)]
