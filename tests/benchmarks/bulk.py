"""`bulk`: bodies of 100 events acknowledged by Kafka, against an HTTP server that reads and discards them."""

from __future__ import annotations

from itertools import islice

from tests.benchmarks.frame import Frame
from tests.benchmarks.frame.events import Events, model_sites
from tests.benchmarks.frame.http import SITES, Comparison, bulk, compare
from tests.benchmarks.frame.result import Result

EVENTS = 100  # in a body
CONNECTIONS = 32


def run(frame: Frame) -> Result:
    """As an importer sends, from a few connections."""
    events = Events(2, model_sites(SITES))
    requests = [bulk(islice(events, EVENTS)) for _ in range(frame.pick(1_000, 200))]
    return compare(
        frame,
        Comparison(
            name="bulk",
            unit="events per CPU second",
            item="event",
            reference_name="Granian RSGI handler that reads and discards the body",
            requests=requests,
            connections=(CONNECTIONS,),
            events=EVENTS,
            discard=True,
        ),
    )
