"""`collector`: tracking requests acknowledged by Kafka, against an HTTP server whose handler does nothing.

Compared by CPU time per request, since the wall clock is that of the load generator. Acknowledged requests are
checked against the events in the topic after every run.
"""

from __future__ import annotations

from itertools import islice

from tests.benchmarks.frame import Frame
from tests.benchmarks.frame.events import Events, model_sites
from tests.benchmarks.frame.http import SITES, Comparison, compare, get
from tests.benchmarks.frame.result import Result

CONNECTIONS = (512, 2048)


def run(frame: Frame) -> Result:
    """512 and 2,048 connections."""
    events = Events(1, model_sites(SITES))
    requests = [get(event) for event in islice(events, frame.pick(50_000, 10_000))]
    return compare(
        frame,
        Comparison(
            name="collector",
            unit="requests per CPU second",
            item="request",
            reference_name="empty Granian RSGI handler",
            requests=requests,
            connections=CONNECTIONS,
        ),
    )
