"""Metrics in Prometheus' text format, all in one registry per process, named by one rule.

A counter is veilstream_<name>_<unit>_total, everything else veilstream_<name>_<unit>; units are base units (seconds,
bytes, events, packets). Labels have few values, from a closed list: never a site, an address or anything of a visitor.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

NAMESPACE = "veilstream"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# From the latency of a cached answer to a long outage.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_WORD = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def metric_name(name: str, unit: str) -> str:
    """The metric's full name without `_total`; raises ValueError for a name or unit that is not snake_case."""
    for part in (name, unit):
        if not _WORD.fullmatch(part):
            raise ValueError(f"metric {name!r} in {unit!r}: {part!r} is not lower-case words joined by underscores")
    return f"{NAMESPACE}_{name}_{unit}"


def counter(name: str, unit: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
    """A number that only rises, shown as veilstream_<name>_<unit>_total."""
    return Counter(metric_name(name, unit), meaning, labels, registry=REGISTRY)


def gauge(name: str, unit: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
    """A number that rises and falls."""
    return Gauge(metric_name(name, unit), meaning, labels, registry=REGISTRY)


def histogram(
    name: str, unit: str, meaning: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS
) -> Histogram:
    """How values are spread; the default buckets suit times in seconds."""
    return Histogram(metric_name(name, unit), meaning, labels, registry=REGISTRY, buckets=buckets)


def exposition() -> bytes:
    """All metrics of this process, as /metrics shows them."""
    return generate_latest(REGISTRY)
