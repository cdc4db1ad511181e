"""Matomo's rules of visits once more, in SQL: the visits of a day are folded by the engine, event after event.

What is simulated (facts of the tracking API, 1.4): an event finds its visit by user, else visitor id, else
configuration, among those whose last action is less than 30 minutes away, the one that acted last; by visitor id only
if it has no other user, by configuration only if it has neither another user nor another visitor id (so one of
Matomo's `trust_visitors_cookies`: masked addresses make configurations that many people share). It is a new visit
otherwise, and after 10,000 actions, with another campaign, with `new_visit=1`, on another day of the site's. A
heartbeat prolongs and never begins.

Nothing here is shared with the worker. A group of the fold is a household's day at a site.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from infra.service.clickhouse import Client
from tests.streams.shell.day import ZONES, Done

HALF_HOUR = 1_800_000
LIMIT = 10_000
# n, time, device, visitor, user, campaign, ping, forced
EVENT = "Tuple(UInt32, Int64, String, String, String, String, UInt8, UInt8)"
# number of its first event, last action, actions, campaign, device, visitor, user, number of its latest event
VISIT = "Tuple(UInt32, Int64, UInt32, String, String, String, String, UInt32)"
# number of an event, of its visit's first, actions of the visit so far, milliseconds since the action before
STEP = "Tuple(UInt32, UInt32, UInt32, Int64)"


def simulate(client: Client, done: Sequence[Done]) -> dict[int, tuple[int, int, int]]:
    """By the number of each event that belongs to a visit: the number of the visit's first event, actions, gap."""
    columns = {
        "n": pa.array(range(1, len(done) + 1), pa.uint32()),
        "day": pa.array([(one.site, one.household) for one in done], pa.list_(pa.uint32())),
    }
    for name in ("time", "device", "visitor", "user", "campaign", "ping", "forced"):
        values = pa.array([getattr(one, name) for one in done])
        columns[name] = values.cast(pa.uint8()) if pa.types.is_boolean(values.type) else values
    client.command("DROP TABLE IF EXISTS done")
    client.command(
        "CREATE TABLE done (n UInt32, day Array(UInt32), time Int64, device String, visitor String, user String, "
        "campaign String, ping UInt8, forced UInt8) ENGINE = MergeTree ORDER BY n"
    )
    client.insert_arrow("done", pa.table(columns))
    zones = ", ".join(
        f"day[1] = {site}, toString(toDate(fromUnixTimestamp64Milli(time, '{zone}')))" for site, zone in ZONES.items()
    )
    rows = client.query(
        f"SELECT step.1, step.2, step.3, step.4 FROM (SELECT arrayFold((a, e) -> {_step()}, "
        f"groupArray((n, time, device, visitor, user, campaign, ping, forced)::{EVENT}), "
        f"([]::Array({VISIT}), []::Array({STEP}))).2 AS steps "
        f"FROM (SELECT * FROM done ORDER BY n) GROUP BY day, multiIf({zones}, '')) ARRAY JOIN steps AS step",
        settings={"max_query_size": 1 << 20, "max_ast_elements": 1_000_000, "max_threads": 1},
    ).result_rows
    return {int(n): (int(first), int(actions), int(gap)) for n, first, actions, gap in rows}


def _newest(condition: str) -> str:
    """The visit that acted last of those near the event; its number is 0 where there is none."""
    near = f"arrayFilter(v -> abs(e.2 - v.2) < {HALF_HOUR} AND {condition}, a.1)"
    return f"arraySort(v -> (v.2, v.8), {near})[-1]"


def _step() -> str:
    nobody = f"CAST((0, 0, 0, '', '', '', '', 0), '{VISIT}')"
    same_user = "(e.5 = '' OR v.7 IN ('', e.5))"
    # let ... in ..., as SQL has it: a lambda over an array of one
    found = (
        f"arrayMap(u -> if(u.1 > 0, u, arrayMap(w -> if(w.1 > 0 AND {same_user.replace('v.', 'w.')}, w, "
        f"arrayMap(v -> if({same_user} AND (e.4 = '' OR v.6 IN ('', e.4)), v, {nobody}), "
        f"[{_newest('v.5 = e.3')}])[1]), "
        f"[if(e.4 = '', {nobody}, {_newest('v.6 = e.4')})])[1]), "
        f"[if(e.5 = '', {nobody}, {_newest('v.7 = e.5')})])[1]"
    )
    joins = f"f.1 > 0 AND (e.6 = '' OR e.6 = f.4) AND e.8 = 0 AND f.3 < {LIMIT}"
    joined = (
        "CAST((f.1, greatest(f.2, e.2), f.3 + (e.7 = 0), f.4, f.5, if(f.6 = '', e.4, f.6), if(f.7 = '', e.5, f.7), "
        f"e.1), '{VISIT}')"
    )
    begun = f"CAST((e.1, e.2, 1, e.6, e.3, e.4, e.5, e.1), '{VISIT}')"
    visit = f"if({joins}, {joined}, if(e.7 = 1, {nobody}, {begun}))"
    gap = f"if({joins}, greatest(0, e.2 - f.2), 0)"
    pair = f"arrayMap(f -> ({visit}, {gap}), [{found}])[1]"
    kept = "arrayPushBack(arrayFilter(v -> v.1 != p.1.1, a.1), p.1)"
    step = f"CAST((e.1, p.1.1, p.1.3, p.2), '{STEP}')"
    return f"arrayMap(p -> if(p.1.1 = 0, a, ({kept}, arrayPushBack(a.2, {step}))), [{pair}])[1]"
