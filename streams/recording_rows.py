"""Packets of `recordings.raw` as rows of `recordings` and `heatmap`: excluded, masked, linked to nobody. Pure.

A packet is one of `schemas.packets`. What stands for the query of an event is the query of the request, and behind a
blank, which no query holds, the events of rrweb as a JSON list in ASCII; of a request with `hsr_*` the query alone.

The order is that of events: parse, exclude, mask. A session is a hash by a key of the site's day, so it can be told
from no other day's and belongs to no visitor. Running any part of the log again gives the same rows.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas import packets, parameters
from schemas.packets import BadPacket, Event, Header
from schemas.privacy import Consent
from schemas.reasons import Unrecorded
from schemas.recordings import Selector, selector
from schemas.sites import PolicySet, SitePolicy
from streams import consent, exclusions, keyed
from streams.anonymize.recordings import points
from streams.anonymize.recordings.events import Json, Masked, mask
from streams.anonymize.recordings.links import link
from streams.anonymize.recordings.past import place
from streams.anonymize.recordings.points import Point, viewport_class
from streams.anonymize.recordings.texts import Tally
from streams.keyed import Kind
from streams.rules import Rules
from streams.surroundings import Lookups, Surroundings
from streams.verdicts import EARLIEST_MS, LATEST_MS, NO_CONSENT, before_parsing

SESSION_LIMIT = 200  # characters of a recorder's name for a session
RULES_KEPT = 1024
HOUR_MS = 3_600_000
UINT32 = 2**32 - 1

Row = dict[str, Any]


@dataclass(slots=True)
class Chunks:
    """Rows of one record. dropped: chunks without any, by reason. masked: values in the rows, by kind."""

    recordings: list[Row] = field(default_factory=list)
    heatmap: list[Row] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    masked: Counter[str] = field(default_factory=Counter)


class _Site(NamedTuple):
    policy: SitePolicy
    rules: Rules
    unmask: tuple[Selector, ...]


class Recorder:
    """Makes rows; holds the rules of sites under the policies that were named last. For one thread."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._sites: OrderedDict[tuple[bytes, int], _Site] = OrderedDict()

    def rows(self, value: bytes, partition: int) -> Chunks:
        """The rows of a record; raises Surroundings where something is missing, and nothing for what it holds."""
        out = Chunks()
        try:
            header, columns = packets.decode(value, self._lookups, partition)
        except BadPacket:
            out.dropped[Unrecorded.UNREADABLE] += 1
            return out
        policies = self._lookups.policies(header.policy)
        for index in range(header.count):
            name = {"writer": header.writer, "partition": partition, "seq": header.seq, "index": index}
            try:
                reason = self._chunk(columns.event(index), name, header, policies, out)
            except (Surroundings, MemoryError):
                raise
            except Exception:
                reason = Unrecorded.INTERNAL_ERROR
            if reason:
                out.dropped[reason] += 1
        return out

    def _chunk(self, event: Event, name: Row, header: Header, policies: PolicySet, out: Chunks) -> str:
        """Adds the rows of a chunk; returns why it has none, "" where it has."""
        site = self._site(header.policy, event.site, policies)
        if site is None or not site.policy.recordings.enabled:
            return Unrecorded.OFF
        if not EARLIEST_MS <= event.received_ms < LATEST_MS:
            return Unrecorded.BAD_TIME
        privacy, rules = site.policy.privacy, site.rules
        query, _, document = event.query.partition(" ")
        given = parameters.parse(query)
        verdict = before_parsing(privacy, True, event.flags)
        if verdict is None:
            rec, bots = parameters.integer(given.get("rec"), 1) == 1, parameters.integer(given.get("bots")) == 1
            verdict = exclusions.verdict(event, given, rec, bots, rules.exclusions)
        agreed = consent.of_action(given.get("consent", ""), event.flags)
        if verdict is None and privacy.consent is Consent.REQUIRED and agreed != consent.GIVEN:
            verdict = NO_CONSENT
        if verdict is not None:
            return verdict.reason
        rules = rules.of_consent(agreed)
        key = keyed.site_day_key(self._lookups.day_secret(rules.date(event.received_ms)), event.site)
        session = _session(key, given, name)
        if session / 2**64 >= site.policy.recordings.share:
            return Unrecorded.NOT_SAMPLED
        tally = Tally()
        width, height = (max(0, parameters.integer(given.get(side))) for side in ("hsr_vw", "hsr_vh"))
        page = link(given.get("url", ""), rules)
        if not document:
            found = points.of_request(given, tally)
            out.heatmap += _points(found, name, event, page, viewport_class(width))
            return ""
        read = _read(document)
        if read is None:
            return Unrecorded.UNREADABLE
        masked = mask(read, rules, site.unmask, tally)
        page = page or _page(masked.events)
        found, width = points.of_events(masked.events, masked.document, width, height)
        viewport = viewport_class(width)
        out.heatmap += _points(found, name, event, page, viewport)
        if masked.events:
            out.recordings.append(_recording(masked, name, event, header, given, session, page, viewport, tally))
        out.masked.update(tally.masked)
        return ""

    def _site(self, version: bytes, number: int, policies: PolicySet) -> _Site | None:
        found = self._sites.get((version, number))
        if found is None:
            policy = policies.of(number)
            if policy is None:
                return None
            unmask = tuple(map(selector, policy.recordings.unmask))
            found = self._sites[version, number] = _Site(policy, Rules.of(number, policy, policies.folders), unmask)
            if len(self._sites) > RULES_KEPT:
                self._sites.popitem(last=False)
        return found


def _session(key: bytes, given: Mapping[str, str], name: Row) -> int:
    text = (given.get("session") or given.get("hsr_vid") or "").strip()[:SESSION_LIMIT]
    if text:
        return keyed.hash_text(key, Kind.RECORDING, text)
    place = name["partition"] << 32 | name["index"]
    return keyed.hash_words(key, Kind.RECORDING, name["writer"], name["seq"], place)


def _read(document: str) -> list[object] | None:
    try:
        found = json.loads(document)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _page(events: list[Json]) -> str:
    """The address of the page that the chunk itself tells."""
    return next((data["href"] for event in events if isinstance(data := event["data"], dict) and "href" in data), "")


def _recording(
    masked: Masked,
    name: Row,
    event: Event,
    header: Header,
    given: Mapping[str, str],
    session: int,
    page: str,
    viewport: str,
    tally: Tally,
) -> Row:
    row: Row = name | {"site_id": event.site, "session": session, "received_at": event.received_ms}
    row["sequence"] = parameters.integer(given.get("sequence"), 0, 0, UINT32)
    row |= {"policy_version": header.policy, "url": page, "viewport": viewport} | place(page)
    row |= {"events": len(masked.events), "data": json.dumps(masked.events, separators=(",", ":"), allow_nan=False)}
    for column, counts in (("masked", +tally.masked), ("dropped", +tally.dropped)):
        row[f"{column}_kind"] = sorted(counts)
        row[f"{column}_count"] = [counts[kind] for kind in sorted(counts)]
    return row


def _points(found: list[Point], name: Row, event: Event, page: str, viewport: str) -> list[Row]:
    hour = event.received_ms - event.received_ms % HOUR_MS
    common = name | place(page) | {"site_id": event.site, "received_at": hour, "viewport": viewport}
    return [common | point._asdict() | {"number": number} for number, point in enumerate(found)]
