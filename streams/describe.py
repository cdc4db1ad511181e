"""The stages that look at an event alone, over columns: parse, exclude, mask, and everything else.

Each kind of value (agent, address, page, referrer, text) is dictionary-encoded, and its rule, a plain function
in `anonymize` or `enrich`, runs on values not seen before (`streams.distinct`). Nothing is gathered for events
that are not kept. An exception is the fault of an event: the rows are halved until it stands alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from schemas import moments
from schemas.packets import Flag, Role
from schemas.privacy import Consent, Privacy
from streams import consent, excluding, fields, repeats
from streams.anonymize import custom, visitor_ids
from streams.columns import Query
from streams.description import Codes, Description, Flags
from streams.enrich import campaigns, crashes, media
from streams.gather import Rows, valid_times
from streams.repeats import Earlier
from streams.stages import TEXT_PARAMETERS, Stages
from streams.surroundings import Lookups, Surroundings
from streams.verdicts import (
    BAD_CDT,
    BAD_CID,
    BAD_TIME,
    BAD_TIMINGS,
    DO_NOT_TRACK,
    EARLIEST_MS,
    GLOBAL_PRIVACY_CONTROL,
    INTERNAL_ERROR,
    NO_CONSENT,
    NUMBER,
    RECORDING,
    UNKNOWN_SITE,
)

PARAMETERS = (
    *("rec", "url", "urlref", "cid", "_id", "uid", "pv_id", "ua", "lang", "uadata", "res", "link", "download"),
    *("h", "m", "s", "ping", "new_visit", "idgoal", "revenue", "search_count", "e_v", "consent"),
    *("_pks", "_pkn", "_pkc", "_pkp", *media.PARAMETERS, *crashes.PARAMETERS),
    *("r", "rand", "bots", "cdt", "cdo", "country", "region", "city", *custom.SCOPES),
    *("ec_id", "ec_items", *fields.MONEY, *fields.PLUGINS, *fields.TIMINGS, *TEXT_PARAMETERS),
    *sorted(campaigns.PARAMETERS),
)
NAMES = {name: number for number, name in enumerate(PARAMETERS, 1)}


def describe(rows: Rows, earlier: Earlier, lookups: Lookups) -> list[Description]:
    """Describe all rows, in order; one description where nothing fails. Raises Surroundings."""
    return _halving(rows, np.arange(len(rows)), earlier, lookups)


def _halving(rows: Rows, at: Codes, earlier: Earlier, lookups: Lookups) -> list[Description]:
    part = rows if len(at) == len(rows) else rows.take(at)
    try:
        return [_describe(part, at, earlier, lookups)]
    except (Surroundings, MemoryError):
        raise
    except Exception:
        if len(at) == 1:
            return [Description(at, np.array([NUMBER[INTERNAL_ERROR]], np.uint8), at[:0])]
        middle = len(at) // 2
        return _halving(rows, at[:middle], earlier, lookups) + _halving(rows, at[middle:], earlier, lookups)


def _describe(rows: Rows, at: Codes, earlier: Earlier, lookups: Lookups) -> Description:
    verdict = _before_parsing(rows)
    first = np.flatnonzero(verdict == 0)
    if len(first) < len(rows):
        rows = rows.take(first)
    sites = [rules.exclusions if rules else None for _, rules in rows.scopes]
    query = Query(rows.query, excluding.names_of(sites, NAMES))
    timings = {name: query.integers(name, 0, -1, fields.TIMING_LIMIT + 1) for name in fields.TIMINGS}
    later, networks = excluding.verdicts(rows, query, rows.agent.override(*query.texts("ua")), sites)
    consents = _consents(rows, query)
    rows, bad_time = _moments(rows, query)
    parsed = _after_parsing(rows, query, consents, bad_time, timings)
    later = np.where(later == 0, parsed, later).astype(np.uint8)
    ids = repeats.identify(rows, query, np.flatnonzero(later == 0), lookups)
    later = np.where(earlier.repeated(rows, ids), repeats.VERDICT[ids.how], later)
    verdict[first] = later
    second = np.flatnonzero(later == 0)
    if len(second) < len(rows):
        rows = rows.take(second, query=False)
        query.keep(second)
        consents, networks = consents[second], networks[second]
        timings = {name: values[second] for name, values in timings.items()}
    out = Description(at, verdict, at[first[second]], repeats=ids.take(second))
    if len(rows):
        Stages(_granted(rows, consents), query, lookups, out).run(consents, timings, networks)
    return out


def _consents(rows: Rows, query: Query) -> Codes:
    """The consent of each row (`consent.of_action`)."""
    said = query.each("consent", consent.said, consent.UNKNOWN, np.int64)
    by_cookie = (said == consent.UNKNOWN) & ((rows.flags & Flag.CONSENT) != 0)
    return np.where(by_cookie, consent.GIVEN, said)


def _granted(rows: Rows, consents: Codes) -> Rows:
    """The rows, those with consent under the rules that their site has for these."""
    own = [rules.consented if rules is not None else None for _, rules in rows.scopes]
    if not any(own):
        return rows
    here = (consents == consent.GIVEN) & np.array([rules is not None for rules in own], np.bool_)[rows.scope]
    scopes = [*rows.scopes, *((version, rules) for (version, _), rules in zip(rows.scopes, own, strict=True))]
    return replace(rows, scope=np.where(here, rows.scope + len(own), rows.scope), scopes=scopes)


def _of_scope(rows: Rows, rule: Callable[[Privacy], bool]) -> Flags:
    """Where a rule of the row's site holds; False where the site is unknown."""
    return np.array([rules is not None and rule(rules.privacy) for _, rules in rows.scopes], np.bool_)[rows.scope]


def _before_parsing(rows: Rows) -> npt.NDArray[np.uint8]:
    known = np.array([rules is not None for _, rules in rows.scopes], np.bool_)[rows.scope]
    time_ok = valid_times(rows.received_ms) & (rows.time_ms >= EARLIEST_MS)
    conditions = [~known, ~time_ok]
    conditions.append(((rows.flags & Flag.DNT) != 0) & _of_scope(rows, lambda p: p.do_not_track))
    conditions.append(((rows.flags & Flag.GPC) != 0) & _of_scope(rows, lambda p: p.global_privacy_control))
    numbers = [NUMBER[v] for v in (UNKNOWN_SITE, BAD_TIME, DO_NOT_TRACK, GLOBAL_PRIVACY_CONTROL)]
    return np.select(conditions, numbers, 0).astype(np.uint8)


def _moments(rows: Rows, query: Query) -> tuple[Rows, Flags]:
    """The rows with the times that `cdt` and `cdo` ask for, and where they may not."""
    bad = np.zeros(query.n, np.bool_)
    if not query.given("cdt") and not query.given("cdo"):
        return rows, bad
    asked: dict[int, list[str]] = {}
    for position, name in enumerate(("cdt", "cdo")):
        for text, row in zip(*query.texts(name), strict=True):
            asked.setdefault(row, ["", ""])[position] = text
    times = rows.time_ms.copy()
    for row, (cdt, cdo) in asked.items():
        now = int(rows.received_ms[row])
        time = moments.said(cdt, cdo, now)
        bad[row] = moments.age(time, now) >= moments.DAY_SECONDS and rows.role[row] < Role.WRITE
        times[row] = min(moments.granted(time, now), int(times[row]))
    return replace(rows, time_ms=times), bad


def _after_parsing(
    rows: Rows, query: Query, consents: Codes, bad_time: Flags, timings: dict[str, Codes]
) -> npt.NDArray[np.uint8]:
    required = _of_scope(rows, lambda p: p.consent is Consent.REQUIRED)
    conditions = [query.tells(), required & (consents != consent.GIVEN), bad_time, np.zeros(query.n, np.bool_)]
    values, at = query.texts("cid")
    for row, text in zip(at, values, strict=True):
        conditions[-1][row] = bool(text) and visitor_ids.forced(text) is None
    conditions += [values < 0 for values in timings.values()]
    numbers = [NUMBER[v] for v in (RECORDING, NO_CONSENT, BAD_CDT, BAD_CID, *(BAD_TIMINGS[name] for name in timings))]
    return np.select(conditions, numbers, 0).astype(np.uint8)
