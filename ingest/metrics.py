"""The collector's metrics. The hot path counts in plain numbers; they are read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from infra.service.metrics import REGISTRY, histogram, metric_name

flush_seconds = histogram("collector_packet", "seconds", "From a packet's first event to its acknowledgement")


class Numbers(Collector):
    """Shows numbers that live elsewhere. Each entry: name, unit, meaning, label ("" for none), reader."""

    def __init__(self) -> None:
        self._counters: list[tuple[str, str, str, Callable[[], dict[str, float]]]] = []
        self._gauges: list[tuple[str, str, Callable[[], float]]] = []

    def counter(self, name: str, unit: str, meaning: str, label: str, read: Callable[[], dict[str, float]]) -> None:
        """A counter with one label; `read` gives value by label."""
        self._counters.append((metric_name(name, unit), meaning, label, read))

    def plain(self, name: str, unit: str, meaning: str, read: Callable[[], float]) -> None:
        """A counter without labels."""
        self._counters.append((metric_name(name, unit), meaning, "", lambda: {"": read()}))

    def gauge(self, name: str, unit: str, meaning: str, read: Callable[[], float]) -> None:
        """A gauge."""
        self._gauges.append((metric_name(name, unit), meaning, read))

    def register(self) -> None:
        """Shows the numbers on /metrics."""
        REGISTRY.register(self)

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        for name, meaning, label, read in self._counters:
            family = CounterMetricFamily(name, meaning, labels=[label] if label else [])
            for value_label, value in sorted(read().items()):
                family.add_metric([value_label] if label else [], value)
            yield family
        for name, meaning, read_gauge in self._gauges:
            yield GaugeMetricFamily(name, meaning, value=read_gauge())
