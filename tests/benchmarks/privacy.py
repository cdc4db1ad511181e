"""`privacy`: what the privacy rules cost, in microseconds of CPU time per event of the worker's core.

The core makes rows of the same packets under each preset and, in the same rounds, with every rule off; the difference
is what the rules cost. One core in this process, no broker and no engine, batches as the worker's under load.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import msgspec

from infra.service.settings import Settings
from schemas.packets import header
from schemas.privacy import (
    Consent,
    Detector,
    LocalTime,
    Orders,
    Privacy,
    Referrers,
    UrlParameters,
    VisitorIds,
    of_preset,
)
from schemas.sites import PolicySet
from streams.batch import PartitionState, Record, process
from streams.caches import caches
from tests.benchmarks.frame import Frame
from tests.benchmarks.frame.events import Events, Tracked, model_sites
from tests.benchmarks.frame.packing import RATE, Collectors
from tests.benchmarks.frame.result import Result, Setting, digits
from tests.benchmarks.frame.rounds import Sample, interleaved
from tests.benchmarks.frame.rows import Lookups, policies_of

SITES = 200
BATCH_EVENTS = 30_000
GOAL_US = 5.0
CUSTOM = "&dimension1=member&dimension2=blue&cvar=%7B%221%22%3A%5B%22group%22%2C%22a%22%5D%7D&consent=1"
OFF = msgspec.structs.replace(
    of_preset("matomo-default"),
    mask_bytes=0,
    visitor_ids=VisitorIds.DROP,
    user_ids=Privacy().user_ids,
    order_ids=Orders.DROP,
    custom_variables=Privacy().custom_variables,
    custom_dimensions=Privacy().custom_dimensions,
    url_parameters=UrlParameters.ALL,
    excluded_lists=(),
    referrer=Referrers.KEEP,
    local_time=LocalTime.SECOND,
    consent=Consent.IGNORED,
)
PRESETS = ("no-personal-data", "cnil-exempt", "matomo-default")


def detectors(rules: Privacy, on: bool) -> Privacy:
    """The rules with every detector, or with none."""
    return msgspec.structs.replace(rules, detectors=tuple(Detector) if on else ())


OFF_NAME = "every privacy rule off"


class Lane:
    """The packets of one policy, through the core again and again from empty states.

    `new`: events that are measured after the others, in whose caches they find only what a site repeats.
    """

    def __init__(self, rules: Privacy, events: Sequence[Tracked], new: Sequence[Tracked] = ()) -> None:
        sites = model_sites(SITES)
        policies = policies_of(sites).sites
        made = PolicySet({n: msgspec.structs.replace(policy, privacy=rules) for n, policy in policies.items()})
        self._lookups = Lookups(made)
        self._first = self._batches(events, made.version)
        self._measured = self._batches(new, made.version) if new else self._first
        self._count = len(new or events)

    def _batches(self, events: Sequence[Tracked], version: bytes) -> list[list[Record]]:
        now = time.time_ns() // 1_000_000
        collectors = Collectors(1, Settings(), version, seed=3)
        batches: list[list[Record]] = [[]]
        offsets: dict[int, int] = {}
        held = 0
        for partition, value in collectors.packets(events, now - int(len(events) / RATE * 1000)):
            if held >= BATCH_EVENTS:
                batches.append([])
                held = 0
            held += header(value).count
            offset = offsets[partition] = offsets.get(partition, -1) + 1
            batches[-1].append(Record(partition, offset, 1, now, value))
        return batches

    def run(self) -> Sample:
        """Microseconds per event, all batches once, with caches that know this policy's rules and no other's."""
        caches.cache_clear()
        self._once(self._first)
        gc.collect()
        began = time.process_time()
        self._once(self._measured)
        took = time.process_time() - began
        return Sample(took / self._count * 1e6, self._count, took)

    def _once(self, batches: Sequence[Sequence[Record]]) -> None:
        states = {record.partition: PartitionState() for records in batches for record in records}
        for records in batches:
            process(records, states, self._lookups).apply()


def with_custom(events: Sequence[Tracked]) -> Iterator[Tracked]:
    """The events, one in ten with custom fields and consent."""
    for number, event in enumerate(events):
        yield event._replace(query=event.query + CUSTOM) if number % 10 == 0 else event


def run(frame: Frame) -> Result:
    """Each preset with detectors on and off, and everything kept with custom fields, against no rule at all."""
    sites = model_sites(SITES)
    events = list(islice(Events(1, sites), frame.pick(120_000, 20_000)))
    custom = list(with_custom(events))
    lanes = {OFF_NAME: Lane(OFF, events), f"{OFF_NAME}, custom fields": Lane(OFF, custom)}
    for name in PRESETS:
        rules = of_preset(name)
        lanes[name] = Lane(rules, events)
        other = f"{name}, detectors {'off' if rules.detectors else 'on'}"
        lanes[other] = Lane(detectors(rules, not rules.detectors), events)
    lanes["matomo-default, custom fields in one of ten"] = Lane(of_preset("matomo-default"), custom)
    half = len(events) // 2
    for name, rules in ((OFF_NAME, OFF), (PRESETS[0], of_preset(PRESETS[0]))):
        lanes[f"{name}, new events"] = Lane(rules, events[:half], events[half:])
    series = interleaved({name: partial(lane.run) for name, lane in lanes.items()}, frame.rounds, frame.say)
    settings, stage = [], {}
    for name in (name for name in lanes if not name.startswith(OFF_NAME)):
        kind = next((kind for kind in (", custom fields", ", new events") if kind in name), "")
        reference = series[OFF_NAME + kind]
        pairs = zip(series[name].values, reference.values, strict=True)
        stage[name] = digits(median(ours - without for ours, without in pairs))
        more: dict[str, Any] = {"stage_us_per_event": stage[name]}
        settings.append(Setting(name, series[name], reference, "less", more))
    new = stage.pop(f"{PRESETS[0]}, new events")
    details = {"stage_us_per_event": max(stage.values()), "goal_us_per_event": GOAL_US, "new_us_per_event": new}
    return Result("privacy", "microseconds of CPU time per event", "event", OFF_NAME, settings, details)
