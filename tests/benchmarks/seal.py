"""`seal`: a collector that seals its packets, against the same collector that only compresses them.

By CPU time of the whole process per request, acknowledged by Kafka: what sealing costs of a collector. A ratio of 0.95
is the limit.
"""

from __future__ import annotations

from itertools import islice

from tests.benchmarks.frame import Frame
from tests.benchmarks.frame.events import Events, model_sites
from tests.benchmarks.frame.http import SITES, Comparison, compare, get, unsealed
from tests.benchmarks.frame.result import Result

CONNECTIONS = (512,)
ROUNDS = 9


def run(frame: Frame) -> Result:
    """512 connections."""
    events = Events(1, model_sites(SITES))
    return compare(
        frame,
        Comparison(
            name="seal",
            unit="requests per CPU second",
            item="request",
            reference_name="the same collector, not sealing",
            requests=[get(event) for event in islice(events, frame.pick(50_000, 10_000))],
            connections=CONNECTIONS,
            peer=unsealed,
        ),
    )
