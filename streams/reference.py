"""The worker's rules applied one event at a time: the reference that the columnar worker is held equal to.

A second implementation because the columnar one is fast and this one is plain: it shares the rules on single
values (`anonymize`, `enrich`, `fields`, `verdicts`) and nothing of the frame: its own parsing by
`schemas.parameters.parse`, its own search for visits through a plain list. It is for tests; the worker never
runs it (some 100 microseconds per event, and the search is linear in the number of open visits).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from schemas import moments, packets, parameters
from schemas.packets import BadPacket, Event, Header, KeyDestroyed, Role
from schemas.privacy import Consent, LocalTime, Orders, Values, VisitorIds
from schemas.reasons import Excluded, Rejected, Repeated
from schemas.sites import PolicySet
from schemas.tables import EVENTS, PACKETS, REJECTS, ActionType, PacketKind, ReferrerType, VisitorKind
from streams import consent, exclusions, fields, keyed, masked, repeats
from streams.anonymize import (
    addresses,
    custom,
    location,
    order_ids,
    page_view_ids,
    recordings,
    urls,
    user_ids,
    visitor_ids,
)
from streams.batch import Outcome, Record
from streams.domains import portless
from streams.enrich import actions, bots, campaigns, conversions, crashes, device, languages, media, referrers, searches
from streams.enrich.bots import Bot
from streams.gather import REPEATS_SLACK_MS
from streams.keyed import Kind
from streams.rules import Rules
from streams.state import HELD_MS, VISIT_ACTIONS, VISIT_MS, PartitionState, Sequences, Visit
from streams.surroundings import Asked, AskedVisits, Lookups, Surroundings
from streams.verdicts import (
    BAD_CDT,
    BAD_CID,
    BAD_TIMINGS,
    EARLIEST_MS,
    INTERNAL_ERROR,
    LATEST_MS,
    NO_CONSENT,
    PING_WITHOUT_VISIT,
    RECORDING,
    REPEATS,
    Verdict,
    before_parsing,
)
from streams.window import Window

SLACK_MS = 90_000  # memory reaches back further
Row = dict[str, Any]


@dataclass(slots=True)
class _Visit:
    id: int
    start: int
    last: int
    position: int
    pageviews: int
    campaign: str
    visitor: int
    user: int
    config: int


class _Partition:
    """A private copy of a state: visits in a list, the one touched last at its end."""

    def __init__(self, state: PartitionState, first: Record) -> None:
        self.state = state
        self.place = first.partition, first.generation, first.offset
        self.applied = state.applied
        self.watermark = self.highest = state.watermark_ms
        self.seen = {writer: found.copy() for writer, found in state.seen.items()}
        distinct = {visit[0]: visit for visit in state.open().values()}
        self.visits = [_Visit(*visit) for visit in sorted(distinct.values(), key=lambda visit: visit[2])]
        self.repeats_from = state.repeats.from_ms
        held = zip(*(column.tolist() for column in state.repeats.rows()), strict=True)
        self.identities = [((high, low), at) for high, low, at in held]

    def look_up(self, site: int, time: int, user: int, visitor: int, config: int, lookups: Lookups) -> None:
        """Have the visits at hand that an event may belong to, where memory may lack one."""
        self.highest = max(self.highest, time)
        if time > self.highest - SLACK_MS:
            return
        span = site, time - 2 * VISIT_MS, time + 2 * VISIT_MS
        users, visitors, configs = (frozenset({key} - {0}) for key in (user, visitor, config))
        (rows,) = lookups.visits([AskedVisits(*self.place, users, visitors, configs, (span,))])
        known = {visit.id for visit in self.visits}
        found = [_Visit(*row[:9]) for row in sorted(rows, key=lambda row: row[9:12]) if row[0] not in known]  # type: ignore[arg-type]
        self.visits = found + self.visits

    def find(self, key: int, time: int) -> _Visit | None:
        """Of the visits with this hash less than 30 minutes away the one that acted last; of equals, touched last."""
        best = None
        for visit in self.visits:
            if key in (visit.user, visit.visitor, visit.config) and abs(time - visit.last) < VISIT_MS:
                best = visit if best is None or visit.last >= best.last else best
        return best

    def touch(self, visit: _Visit) -> None:
        self.visits = [other for other in self.visits if other is not visit] + [visit]

    def commit(self) -> None:
        index: dict[int, Visit] = {}
        for visit in self.visits:
            if visit.last <= self.state.watermark_ms - HELD_MS:
                continue
            value: Visit = astuple(visit)
            for key in (visit.user, visit.visitor, visit.config):
                if key and (key not in index or visit.last >= index[key][2]):
                    index[key] = value
        self.state.index, self.state.seen = index, self.seen
        self.state.watermark_ms = self.watermark
        high, low, at = ([row[n] for row in ((*name, at) for name, at in self.identities)] for n in range(3))
        self.state.repeats = Window.of(
            self.repeats_from, np.array(high, np.uint64), np.array(low, np.uint64), np.array(at, np.int64)
        )
        self.state.applied += 1


def process(records: Sequence[Record], states: Mapping[int, PartitionState], lookups: Lookups) -> Outcome:
    """The same as `streams.batch.process`."""
    partitions: dict[int, _Partition] = {}
    for record in records:
        if record.partition not in partitions:
            partitions[record.partition] = _Partition(states[record.partition], record)
    events: list[Row] = []
    rejects: list[Row] = []
    ledger: list[Row] = []
    for record in records:
        _record(record, partitions[record.partition], lookups, events, rejects, ledger)

    def commit() -> None:
        for partition in partitions.values():
            partition.commit()

    return Outcome(
        pa.Table.from_pylist(events, EVENTS),
        pa.Table.from_pylist(rejects, REJECTS),
        pa.Table.from_pylist(ledger, PACKETS),
        commit,
    )


def _record(
    record: Record,
    partition: _Partition,
    lookups: Lookups,
    events: list[Row],
    rejects: list[Row],
    ledger: list[Row],
) -> None:
    place: Row = {"partition": record.partition, "generation": record.generation, "offset": record.offset}
    entry: Row = place | {
        "writer": 0,
        "seq": record.offset,
        "kind": PacketKind.BAD,
        "routing": 0,
        "policy_version": bytes(16),
        "appended_at": record.appended_ms,
        "watermark": partition.watermark,
    }
    entry |= dict.fromkeys(PACKETS.names[PACKETS.names.index("received") : PACKETS.names.index("repeats_from")], 0)
    entry["repeats_from"] = partition.repeats_from
    entry |= {name: [] for name in PACKETS.names[PACKETS.names.index("repeats_site") :]}
    ledger.append(entry)
    try:
        header = packets.header(record.value)
        seen = partition.seen.get(header.writer)
        copy = seen is not None and header.seq in seen
        if not copy:
            header, columns = packets.decode(record.value, lookups, record.partition)
    except BadPacket as error:
        why = Rejected.KEY_DESTROYED if isinstance(error, KeyDestroyed) else Rejected.BAD_PACKET
        reject = {"writer": 0, "seq": record.offset, "index": 0, "site_id": 0, "field": ""}
        reject |= {"received_at": max(0, min(LATEST_MS, record.appended_ms)), "reason": why}
        rejects.append(place | reject | {"size": len(record.value)})
        return
    name = {"writer": header.writer, "seq": header.seq}
    entry |= name | {"routing": header.routing, "policy_version": header.policy}
    entry["kind"] = PacketKind.COPY if copy else PacketKind.FIRST
    if copy:
        return
    policies = lookups.policies(header.policy)
    partition.seen.setdefault(header.writer, Sequences()).add(header.seq)
    repeated: Counter[tuple[int, str]] = Counter()
    hidden: Counter[masked.Name] = Counter()
    for index in range(header.count):
        event = columns.event(index)
        if EARLIEST_MS <= event.received_ms < LATEST_MS:
            partition.watermark = max(partition.watermark, min(event.received_ms, record.appended_ms))
        try:
            result = _event(event, index, record, header, policies, partition, lookups)
        except (Surroundings, MemoryError):
            raise
        except Exception:
            result = INTERNAL_ERROR
        entry["received"] += 1
        if not isinstance(result, Verdict):
            entry["stored"] += 1
            events.append(place | name | {"index": index, "policy_version": header.policy} | result)
            hidden.update(_masked(result))
        elif isinstance(result.reason, Excluded):
            entry["excluded"] += 1
        elif isinstance(result.reason, Repeated):
            entry[f"repeats_{result.reason}"] += 1
            repeated[event.site, str(result.reason)] += 1
        else:
            entry["rejected"] += 1
            reject = {"index": index, "site_id": event.site, "reason": result.reason, "field": result.field}
            reject |= {"received_at": max(0, min(LATEST_MS, event.received_ms)), "size": len(event.query)}
            rejects.append(place | name | reject)
    entry["watermark"] = partition.watermark
    held = max([policy.repeat_seconds for policy in policies.sites.values()], default=0) * 1000
    partition.repeats_from = max(partition.repeats_from, partition.watermark - held - REPEATS_SLACK_MS)
    entry["repeats_from"] = partition.repeats_from
    for (site, reason), count in sorted(repeated.items()):
        entry["repeats_site"].append(site)
        entry["repeats_reason"].append(reason)
        entry["repeats_count"].append(count)
    entry |= masked.columns(dict(sorted(hidden.items())))


def _masked(row: Row) -> Iterator[masked.Name]:
    """The site, kind and column of each placeholder in a row."""
    for column in masked.COLUMNS:
        for text in row[column] if isinstance(row[column], list) else [row[column]]:
            for kind in masked.kinds(text):
                yield row["site_id"], kind, column


def _event(
    event: Event,
    index: int,
    record: Record,
    header: Header,
    policies: PolicySet,
    partition: _Partition,
    lookups: Lookups,
) -> Row | Verdict:
    time = min(event.received_ms, record.appended_ms)
    policy = policies.of(event.site)
    time_ok = EARLIEST_MS <= event.received_ms < LATEST_MS and time >= EARLIEST_MS
    verdict = before_parsing(policy.privacy if policy is not None else None, time_ok, event.flags)
    if verdict is not None or policy is None:
        assert verdict is not None
        return verdict
    given = parameters.parse(event.query)
    rules = Rules.of(event.site, policy, policies.folders)
    rec, bots = (parameters.integer(given.get(name)) == 1 for name in ("rec", "bots"))
    if (verdict := exclusions.verdict(event, given, rec, bots, rules.exclusions)) is not None:
        return verdict
    if not recordings.TOLD.isdisjoint(given):
        return RECORDING
    agreed = consent.of_action(given.get("consent", ""), event.flags)
    if policy.privacy.consent is Consent.REQUIRED and agreed != consent.GIVEN:
        return NO_CONSENT
    said = moments.said(given.get("cdt", ""), given.get("cdo", ""), event.received_ms)
    if moments.age(said, event.received_ms) >= moments.DAY_SECONDS and event.role < Role.WRITE:
        return BAD_CDT
    stamped, time = time, min(time, moments.granted(said, event.received_ms))
    if given.get("cid") and visitor_ids.forced(given["cid"]) is None:
        return BAD_CID
    timings = {name: parameters.integer(given.get(name)) for name in fields.TIMINGS}
    for name, value in timings.items():
        if value < 0:
            return BAD_TIMINGS[name]
    repeat = _repeat_identity(event, given, record, rules.repeat_ms)
    names = _names(repeat, event, rules.repeat_ms, lookups) if repeat else []
    if repeat and _repeated(event, names, rules.repeat_ms, record, partition, lookups):
        return REPEATS[repeat[0]]
    rules = rules.of_consent(agreed)
    privacy = rules.privacy
    day, came = rules.date(time), rules.date(stamped)
    imported = day < came - timedelta(days=1)
    secret = lookups.day_secret(came if imported else day)
    secret = keyed.import_secret(secret, day) if imported else secret
    key = keyed.site_day_key(secret, event.site)
    row: Row = {"site_id": event.site, "received_at": event.received_ms, "time": time, "day": day, "shard": 0}
    address = addresses.mask(event.address, privacy.mask_bytes)
    row["address"] = addresses.stored(address, privacy.mask_bytes)
    row["repeat_id"] = struct.pack("<QQ", *names[0]) if names else bytes(16)
    place = location.given(given, event.role, rules)
    row |= place._asdict() | {"country_source": "request" if place.country else ""}
    seen = addresses.mask(event.address, rules.fingerprint_mask)
    config = _device(row, event, given, seen, key, rules)
    if privacy.visitor_ids is VisitorIds.REQUEST:
        config = keyed.hash_words(key, Kind.REQUEST, header.writer, header.seq, record.partition << 32 | index)

    def kept_key(site: bool) -> bytes:
        return keyed.site_key(lookups.site_key(event.site), event.site) if site else key

    removed, campaign = _content(row, given, rules, key, kept_key, timings)
    _custom(row, given, rules, kept_key)
    row["parameters_removed"] = min(65_535, removed + recordings.count(event.query))
    row["consent"] = agreed
    user, visitor = _identity(row, given, rules, config, key, kept_key)
    partition.look_up(event.site, time, user, visitor, config, lookups)
    visit = _visit(partition, time, user, visitor, config, campaign, row["action_type"], given)
    if visit is None:
        return PING_WITHOUT_VISIT
    gap = 0
    if visit.id == 0:
        visit.id = keyed.hash_words(key, Kind.VISIT, header.writer, header.seq, record.partition << 32 | index)
        visit.start = visit.last = time
    else:
        gap = max(0, time - visit.last)
        visit.last = max(visit.last, time)
        visit.user, visit.visitor = visit.user or user, visit.visitor or visitor
    visit.position += row["action_type"] != ActionType.PING
    visit.pageviews += row["action_type"] == ActionType.PAGE_VIEW
    partition.touch(visit)
    if names:
        partition.identities.append((names[0], event.received_ms))
    return row | {
        "visit_id": visit.id,
        "visit_start": visit.start,
        "visit_position": visit.position,
        "visit_pageviews": visit.pageviews,
        "visit_campaign": visit.campaign,
        "visit_visitor_id": visit.visitor,
        "visit_config_id": visit.config,
        "visit_user_id": visit.user,
        "visit_last": visit.last,
        "gap_ms": gap,
    }


def _repeat_identity(
    event: Event, given: Mapping[str, str], record: Record, window: int
) -> tuple[Repeated, tuple[int, ...]] | None:
    """What tells a repeat of this event, and the words that are hashed for it."""
    age = record.appended_ms - event.received_ms
    if not window or not -repeats.AHEAD_MS <= age <= repeats.BEHIND_MS:
        return None
    how, *words = repeats.told(event.repeat, event.items)
    time = all(given.get(name) for name in ("h", "m", "s"))
    if how == repeats.KEY:
        return Repeated.KEY, (how, *words, event.index, 0, 0)
    if (given.get("r") or given.get("rand")) and (time or given.get("pv_id")):
        sender = repeats.agent_word(event.agent), *struct.unpack("<QQ", event.address)
        return Repeated.RANDOM, (repeats.RANDOM, *repeats.text_words(event.query), *sender)
    return (Repeated.BODY, (how, *words, event.index, 0, 0)) if how else None


def _names(
    identity: tuple[Repeated, tuple[int, ...]], event: Event, window: int, lookups: Lookups
) -> list[tuple[int, int]]:
    """The identity under the key of the event's day, and under that of a day that is near."""
    into = event.received_ms % repeats.DAY_MS
    side = -1 if into < window else 1 if repeats.DAY_MS - into <= window else 0
    found = []
    for days in dict.fromkeys((0, side)):
        day = datetime.fromtimestamp(event.received_ms // 1000, UTC).date() + timedelta(days=days)
        key = keyed.site_day_key(lookups.day_secret(day), event.site)
        high, low = (keyed.hash_words(key, Kind.REPEAT, half, *identity[1]) for half in (0, 1))
        found.append((high, low))
    return found


def _repeated(
    event: Event,
    names: Sequence[tuple[int, int]],
    window: int,
    record: Record,
    partition: _Partition,
    lookups: Lookups,
) -> bool:
    at = event.received_ms
    held = list(partition.identities)
    if at - window <= partition.state.repeats.from_ms:
        place = record.partition, record.generation, record.offset
        high = frozenset(high for high, _ in names)
        (run,) = lookups.identities([Asked(*place, frozenset([event.site]), high, at - window, at + window)])
        stored = zip(*(column.tolist() for column in run), strict=True)
        held += [((high, low), moment) for high, low, moment in stored]
    return any(name in names and abs(moment - at) <= window for name, moment in held)


def _visit(
    partition: _Partition,
    time: int,
    user: int,
    visitor: int,
    config: int,
    campaign: str,
    action: int,
    given: Mapping[str, str],
) -> _Visit | None:
    """The visit of an event; a new one has no id yet; None for a heartbeat that would begin one."""
    found = partition.find(user, time) if user else None
    if found is None and visitor:
        found = partition.find(visitor, time)
        if found is not None and user and found.user not in (0, user):
            found = None
    if found is None:
        found = partition.find(config, time)
        if found is not None:
            other_user = bool(user) and found.user not in (0, user)
            other_visitor = bool(visitor) and found.visitor not in (0, visitor)
            found = None if other_user or other_visitor else found
    if found is not None:
        same_campaign = campaign in ("", found.campaign)
        forced = parameters.integer(given.get("new_visit")) == 1
        if same_campaign and not forced and found.position < VISIT_ACTIONS:
            return found
    if action == ActionType.PING:
        return None
    return _Visit(0, 0, 0, 0, 0, campaign, visitor, user, config)


def _device(row: Row, event: Event, given: Mapping[str, str], seen: bytes, key: bytes, rules: Rules) -> int:
    from_network = exclusions.bot_address(event.address, event.flags)
    agent = given.get("ua", "")
    found = device.describe(agent if agent.strip() else event.agent)
    tongue = given.get("lang", "")
    tags = languages.accepted(tongue if tongue.strip() else event.language)
    language = languages.best(tags)
    if not row["country"] and (country := languages.country(tags, rules.country_by_language)):
        row |= {"country": country, "country_source": "language"}
    hints = given.get("uadata") or parameters.decode(event.hints)
    scripted = event.role > 0 or any(given.get(name) for name in bots.SCRIPTED)
    row |= {
        "device_type": found.type,
        "device_brand": found.brand if rules.privacy.device_model else "",
        "device_model": found.model if rules.privacy.device_model else "",
        "os": found.os,
        "os_version": found.os_version if rules.privacy.device_versions else "",
        "browser": found.browser,
        "browser_version": found.browser_version if rules.privacy.device_versions else "",
        "bot": found.bot
        | bots.of_hints(hints, agent if agent.strip() else event.agent)
        | (Bot.ADDRESS if from_network else 0)
        | (0 if scripted else Bot.NO_SCRIPTS),
        "language": language,
        "resolution": fields.resolution(given.get("res", "")) if rules.privacy.resolution else "unknown",
    }
    plugins = _plugins(given) if rules.fine else None
    return visitor_ids.config_hash(key, seen, found.fingerprint, language, plugins)


def _plugins(given: Mapping[str, str]) -> int:
    return sum((parameters.integer(given.get(name)) == 1) << bit for bit, name in enumerate(fields.PLUGINS))


def _identity(
    row: Row, given: Mapping[str, str], rules: Rules, config: int, key: bytes, kept_key: Callable[[bool], bytes]
) -> tuple[int, int]:
    """The day-keyed hashes of user and visitor; the row gets what is stored of them."""
    privacy = rules.privacy
    text = given.get("uid", "") if rules.reads_ids else ""
    user = user_ids.user_hash(key, text)
    kept_user, number = 0, None
    if rules.reads_ids and privacy.visitor_ids is not VisitorIds.DROP:
        number = visitor_ids.named(given, privacy.cookieless)
    visitor = visitor_ids.visitor_hash(key, number)
    user_lasts = privacy.user_ids in (Values.SITE, Values.KEEP)
    if privacy.user_ids is Values.DROP:
        user, visitor = 0, visitor or user
    elif user:
        kept_user = user_ids.user_hash(kept_key(user_lasts), text)
    who, kind = config, VisitorKind.CONFIG_ID
    if privacy.visitor_ids is VisitorIds.SITE:
        if user and user_lasts:
            who, kind = kept_user, VisitorKind.USER_ID
        elif visitor:
            who = visitor if number is None else visitor_ids.visitor_hash(kept_key(True), number)
            kind = VisitorKind.VISITOR_ID
        elif user:
            who, kind = user, VisitorKind.USER_ID
    elif user or visitor:
        who, kind = user or visitor, VisitorKind.USER_ID if user else VisitorKind.VISITOR_ID
    row |= {"visitor_id": who, "visitor_kind": kind, "config_id": config, "user_id": kept_user}
    row["user_name"] = user_ids.clean(text) if privacy.user_ids is Values.KEEP else ""
    return user, visitor


def _custom(row: Row, given: Mapping[str, str], rules: Rules, kept_key: Callable[[bool], bytes]) -> None:
    def keys(rule: Values) -> bytes:
        return kept_key(rule is Values.SITE)

    slots = {int(match[1]): text for name, text in given.items() if (match := custom.dimension_name(name))}
    dimensions = custom.dimensions(slots, rules, keys)
    variables = custom.variables(given, rules, keys)
    row["dimension_slot"] = [slot for slot, _ in dimensions]
    row["dimension_value"] = [value for _, value in dimensions]
    for field in custom.Variable._fields:
        row[f"variable_{field}"] = [getattr(variable, field) for variable in variables]


def _content(
    row: Row,
    given: Mapping[str, str],
    rules: Rules,
    key: bytes,
    kept_key: Callable[[bool], bytes],
    timings: Mapping[str, int],
) -> tuple[int, str]:
    """Page, action, referrer and order; how many parameters the rules removed, and the campaign's name."""
    removed = 0

    def text(name: str) -> str:
        nonlocal removed
        cleaned, lost = urls.clean_text(given.get(name, ""), rules)
        removed += lost
        return cleaned

    def number(name: str, default: int = 0) -> int:
        return parameters.integer(given.get(name), default)

    url = searched = host = path = own = ""
    campaign, search = campaigns.NONE, searches.NONE
    page = urls.split(given.get("url", ""))
    if page is not None:
        url, lost = urls.clean(page, rules, rules.campaign_parameters, own=True)
        removed += lost
        searched, _ = urls.clean(page, rules, rules.column_parameters, own=True)
        own, host = page.host, portless(page.host)
        path, _ = urls.clean_path(page, rules)
        inside = page.parameters + page.fragment_parameters
        search = searches.of_parameters(inside, rules)
        searched = searched if search.keyword else url
        campaign = campaigns.of_parameters(inside, rules)
    direct = campaigns.of_request(given, rules)
    campaign = direct if direct.name else campaign
    row |= {"url_host": host, "url_path": path}
    shown = campaign if rules.privacy.campaigns else campaigns.NONE
    row |= {f"campaign_{name}": value for name, value in shown._asdict().items()}

    referrer = referrers.classify(urls.split(given.get("urlref", "")), rules)
    if referrer.host and referrer.host == own:
        referrer = referrers.DIRECT
    removed += referrer.removed
    row |= {"referrer_type": referrer.type, "referrer_name": referrer.name, "referrer_keyword": referrer.keyword}
    row["referrer_url"] = referrer.url
    if campaign.name:
        row |= {"referrer_type": ReferrerType.CAMPAIGN, "referrer_name": shown.name or campaigns.UNNAMED}
        row["referrer_keyword"] = (shown.term or referrer.keyword) if rules.privacy.campaigns else ""

    texts = {
        name: text(name)
        for name in ("action_name", "search", "search_cat", "e_c", "e_a", "e_n", "c_n", "c_p", "c_t", "c_i")
    }
    goal = number("idgoal", fields.NO_GOAL)

    def address(text: str) -> str:
        nonlocal removed
        parts = urls.split(text)
        found, lost = urls.clean(parts, rules) if parts is not None else ("", 0)
        removed += lost
        return found

    def cleaned(text: str) -> str:
        nonlocal removed
        found, lost = urls.clean_text(text, rules)
        removed += lost
        return found

    playing = media.of_request(given, cleaned, address)
    row |= {f"media_{name}": value for name, value in playing._asdict().items()}
    row["media_id"] = page_view_ids.playing(key, playing.id, rules.privacy.page_view_ids)
    crash = crashes.of_request(given, cleaned, address)
    row |= {f"crash_{name}": value for name, value in crash._asdict().items()}
    action = actions.classify(
        ping=number("ping") == 1,
        goal=goal,
        media=bool(playing.id),
        crash=crash != crashes.NONE,
        download=bool(urls.tidy(given.get("download", ""))),
        link=bool(urls.tidy(given.get("link", ""))),
        event=bool(texts["e_c"] and texts["e_a"]),
        content=bool(texts["c_n"]),
        search=bool(texts["search"] or search.keyword),
        custom=number("ca") == 1,
    )
    linked = {ActionType.OUTLINK: "link", ActionType.DOWNLOAD: "download"}.get(action)
    target = urls.split(given[linked]) if linked else None
    link_url = ""
    if target is not None:
        link_url, lost = urls.clean(target, rules)
        removed += lost

    def only(kind: ActionType, value: Any, otherwise: Any = "") -> Any:
        return value if action == kind else otherwise

    local = fields.local_seconds(number("h", -1), number("m"), number("s"))
    if rules.privacy.local_time is LocalTime.HOUR and local >= 0:
        local -= local % 3600
    local = -1 if rules.privacy.local_time is LocalTime.DROP else local
    event, content, looked = ActionType.EVENT, ActionType.CONTENT, ActionType.SITE_SEARCH
    order, viewed = ActionType.ECOMMERCE, ActionType.PAGE_VIEW
    order_id, keeps = 0, rules.privacy.order_ids
    if action == order and keeps is not Orders.DROP:
        order_id = order_ids.order_hash(kept_key(keeps is Orders.SITE), given.get("ec_id", ""))
    row |= {
        "action_type": action,
        "url": only(looked, searched, url),
        "title": "" if linked else texts["action_name"],
        "link_url": link_url,
        "page_view_id": page_view_ids.page_view(
            key, fields.page_view_id(given.get("pv_id", "")), rules.privacy.page_view_ids
        ),
        "search_keyword": only(looked, texts["search"] or search.keyword),
        "search_category": only(looked, texts["search_cat"] or search.category),
        "search_count": only(looked, max(0, number("search_count")), 0),
        "event_category": only(event, texts["e_c"]),
        "event_action": only(event, texts["e_a"]),
        "event_name": only(event, texts["e_n"]),
        "event_value": only(event, parameters.decimal(given.get("e_v")), 0.0),
        "content_name": only(content, texts["c_n"]),
        "content_piece": only(content, texts["c_p"]),
        "content_target": only(content, texts["c_t"]),
        "content_interaction": only(content, texts["c_i"]),
        "plugins": _plugins(given) if rules.privacy.plugins else 0,
        "local_seconds": local,
        "goal_id": goal if action in (order, ActionType.GOAL) else fields.NO_GOAL,
        "revenue": parameters.decimal(given.get("revenue")) if action in (order, ActionType.GOAL) else 0.0,
        "order_id": only(order, order_id, 0),
    }
    row["is_order"] = int(action == order and bool(given.get("ec_id")))
    for name, parameter in (("sku", "_pks"), ("name", "_pkn")):
        row[f"product_{name}"] = cleaned(given.get(parameter, "")) if action == viewed else ""
    row["product_category"] = only(viewed, fields.categories(given.get("_pkc", ""), rules))
    row["product_price"] = only(viewed, parameters.decimal(given.get("_pkp")), 0.0)
    converted = conversions.of_event(row, rules.goals, row["revenue"] if given.get("revenue") else None)
    for name in conversions.Conversion._fields:
        row[f"conversion_{name}"] = [getattr(one, name) for one in converted]
    for parameter, name in fields.MONEY.items():
        row[name] = only(order, parameters.decimal(given.get(parameter)), 0.0)
    items = fields.items(given.get("ec_items", "") if action == order else "", rules)
    row |= {f"item_{name}": values for name, values in items._asdict().items()}
    for parameter, name in fields.TIMINGS.items():
        value = timings[parameter]
        row[name] = only(viewed, value if value <= fields.TIMING_LIMIT else 0, 0)
    return removed, campaign.name if rules.campaign_splits else ""
