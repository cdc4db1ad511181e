"""A plain Faust agent, as the tutorial teaches: an event per record, a dict per row, rows inserted as lists.

It applies the same rules to the same fields as the stream worker and fills the same columns, in plain Python. It
promises less: an event may be lost or counted twice when it is killed. After every insert it writes how many events
it has seen into the file named by PROGRESS.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import faust

from infra.service.clickhouse import connect
from infra.service.settings import load_settings
from infra.service.vault import Vault, master_keys
from schemas import parameters
from schemas.packets import MAPPED_IPV4, Event
from schemas.sites import load_sites
from schemas.tables import EVENTS, ActionType
from schemas.topics import EVENTS_RAW
from streams import fields, keyed, reference
from streams.anonymize import addresses, visitor_ids
from streams.enrich import device
from streams.keyed import Kind
from streams.rules import Rules

ROWS = 10_000  # in an insert
WITHIN = 1.0  # seconds that a row waits for others
VISIT_MS = 1_800_000
MOMENTS = ("received_at", "time", "visit_start", "visit_last")


@dataclass(slots=True)
class Visit:
    """An open visit."""

    id: int
    start: int
    last: int
    position: int
    pageviews: int
    campaign: str
    visitor: int
    user: int
    config: int


settings = load_settings()
client = connect(settings)
vault = Vault(client, master_keys(settings.master_key))
vault.refresh()
policies = load_sites(settings.sites).policies
progress = Path(os.environ["PROGRESS"])
visits: dict[int, Visit] = {}
device.describe = lru_cache(65_536)(device.describe)  # anybody would

app = faust.App(
    "plain-agent",
    broker=";".join(f"kafka://{server}" for server in settings.kafka.split(",")),
    consumer_auto_offset_reset="earliest",
    topic_allow_declare=False,
    topic_disable_leader=True,
    value_serializer="json",
    web_enabled=False,
)
topic = app.topic(settings.topic(EVENTS_RAW), value_serializer="json")
seen = 0


@app.agent(topic)
async def store(stream: Any) -> None:
    """Process and insert."""
    global seen
    async for events in stream.take(ROWS, within=WITHIN):
        rows = [row for number, event in enumerate(events) if (row := process(event, seen + number)) is not None]
        client.insert("events", [list(row.values()) for row in rows], column_names=list(rows[0]))
        seen += len(events)
        progress.write_text(str(seen))


@lru_cache(4096)
def rules_of(site: int) -> Rules | None:
    """The rules of a site."""
    policy = policies.of(site)
    return None if policy is None else Rules.of(site, policy)


def process(event: dict[str, Any], number: int) -> dict[str, Any] | None:
    """The row of an event, or None where it has none."""
    time, site = event["received_ms"], event["site"]
    rules = rules_of(site)
    given = parameters.parse(event["query"])
    if rules is None or parameters.integer(given.get("rec")) != 1:
        return None
    if given.get("cid") and visitor_ids.forced(given["cid"]) is None:
        return None
    timings = {name: parameters.integer(given.get(name)) for name in fields.TIMINGS}
    if any(value < 0 for value in timings.values()):
        return None
    masked = addresses.mask(MAPPED_IPV4 + ip_address(event["address"]).packed, rules.privacy.mask_bytes)
    key = keyed.site_day_key(vault.day_secret(rules.date(time)), site)
    raw = Event(time, site, b"", 0, 0, event["agent"], event["language"], "", event["query"])
    row: dict[str, Any] = dict.fromkeys(EVENTS.names)
    row |= {"writer": 0, "partition": 0, "seq": number, "index": 0, "generation": 0, "offset": number, "shard": 0}
    row |= {"policy_version": policies.version, "site_id": site, "received_at": time, "time": time, "consent": -1}
    row["day"] = rules.date(time)
    row |= {
        "address": addresses.text(masked),
        "country": "",
        "country_source": "",
        "region": "",
        "city": "",
        "repeat_id": bytes(16),
    }
    config = reference._device(row, raw, given, masked, key, rules)
    row["parameters_removed"], campaign = reference._content(row, given, rules, key, lambda _site: key, timings)
    reference._custom(row, given, rules, lambda _site: key)
    user, visitor = reference._identity(row, given, rules, config, key, lambda _site: key)
    visit = visits.get(user) or visits.get(visitor) or visits.get(config)
    if visit is not None and (time - visit.last >= VISIT_MS or campaign not in ("", visit.campaign)):
        visit = None
    gap = 0
    if visit is None:
        if row["action_type"] == ActionType.PING:
            return None
        name = keyed.hash_words(key, Kind.VISIT, number)
        visit = Visit(name, time, time, 0, 0, campaign, visitor, user, config)
    else:
        gap = max(0, time - visit.last)
        visit.last = max(visit.last, time)
    visit.position += row["action_type"] != ActionType.PING
    visit.pageviews += row["action_type"] == ActionType.PAGE_VIEW
    for known in (user, visitor, config):
        if known:
            visits[known] = visit
    row |= {"visit_id": visit.id, "visit_start": visit.start, "visit_last": visit.last, "gap_ms": gap}
    row |= {"visit_position": visit.position, "visit_pageviews": visit.pageviews, "visit_campaign": visit.campaign}
    row |= {"visit_visitor_id": visit.visitor, "visit_config_id": visit.config, "visit_user_id": visit.user}
    for column in MOMENTS:
        row[column] = datetime.fromtimestamp(row[column] / 1000, UTC)
    return row


if __name__ == "__main__":
    faust.Worker(app, loglevel="ERROR").execute_from_commandline()
