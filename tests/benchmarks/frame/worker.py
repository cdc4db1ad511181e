"""The stream worker under test: packets go in as a burst, and the time until all their rows stand is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from infra.load.sql import Sql
from infra.service.settings import Settings
from schemas.topics import EVENTS_RAW
from tests.benchmarks.frame import BenchmarkError
from tests.benchmarks.frame.events import Events, Tracked
from tests.benchmarks.frame.kafka import Producer
from tests.benchmarks.frame.laboratory import Laboratory, Process, publish_policies
from tests.benchmarks.frame.packing import RATE, Collectors
from tests.benchmarks.frame.processes import Usage
from tests.benchmarks.frame.rounds import Sample

POLL = 0.1  # seconds
STUCK = 60.0  # seconds without any progress


def sql_of(settings: Settings) -> Sql:
    """The installation's tables, as the service's user sees them."""
    password = settings.clickhouse_password.get_secret_value()
    return Sql(settings.clickhouse, settings.clickhouse_user, password, settings.clickhouse_database)


def reached(process: Process, count: Callable[[], int], target: int) -> None:
    """Returns when `count` has come to `target`; raises BenchmarkError when the process ends or is stuck."""
    last, since = -1, time.monotonic()
    while (now := count()) < target:
        process.must_run()
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > STUCK:
            raise BenchmarkError(f"{process.name} stands at {now:,} of {target:,} events.{process.last_words()}")
        time.sleep(POLL)
    if now > target:
        raise BenchmarkError(f"{process.name} has processed {now:,} events, {target:,} were sent")


class Burst:
    """Sends records to a topic and measures the process that consumes them until its count says that all are done."""

    def __init__(self, lab: Laboratory, settings: Settings, process: Process, count: Callable[[], int]) -> None:
        self._process = process
        self._count = count
        self._producer = Producer(settings, settings.topic(EVENTS_RAW))
        self._broker, self._engine = lab.tree("kafka"), lab.tree("front")
        self.sent = 0

    def run(self, records: Sequence[tuple[int, bytes]], events: int) -> Sample:
        """One burst; value: events per CPU second of the process."""
        self.sent += events
        before = self._used()
        began, own = time.monotonic(), time.process_time()
        self._producer.send(records)
        sending = time.process_time() - own
        reached(self._process, self._count, self.sent)
        seconds = time.monotonic() - began
        worker, broker, engine = (b.cpu - a.cpu for a, b in zip(before, self._used(), strict=True))
        usage = self._process.tree.usage()
        details = {
            "per_second": events / seconds,
            "events_per_record": events / len(records),
            "broker_cpu_us_per_item": broker / events * 1e6,
            "engine_cpu_us_per_item": engine / events * 1e6,
            "load_cpu_us_per_item": sending / events * 1e6,
            "core_used": worker / seconds,
        }
        return Sample(events / worker, events, worker, usage.peak, details)

    def _used(self) -> tuple[Usage, Usage, Usage]:
        return self._process.tree.usage(), self._broker.usage(), self._engine.usage()

    def close(self) -> None:
        """Leaves the broker."""
        self._producer.close()


class WorkerBench:
    """A running worker of one installation, fed with packets of these collectors."""

    def __init__(
        self, lab: Laboratory, settings: Settings, process: Process, events: Iterator[Tracked], collectors: int
    ) -> None:
        self._sql = sql_of(settings)
        self.process = process
        self._burst = Burst(lab, settings, process, self.received)
        policies = publish_policies(settings)
        self._events = events
        self._collectors = Collectors(collectors, settings, policies.version, seed=3)

    def received(self) -> int:
        """Events of the packets that are stored."""
        return self._sql.numbers("SELECT sum(received) FROM packets")[0]

    def make(self, events: int) -> list[tuple[int, bytes]]:
        """The packets of the next events, received in the seconds before now."""
        start_ms = int((time.time() - events / RATE) * 1000)
        return list(self._collectors.packets(_some(self._events, events), start_ms))

    def run(self, events: int) -> Sample:
        """Makes packets of so many events and measures them as one burst."""
        return self.send(self.make(events), events)

    def send(self, packets: Sequence[tuple[int, bytes]], events: int) -> Sample:
        """Measures packets of so many events as one burst."""
        return self._burst.run(packets, events)

    def close(self) -> None:
        """Leaves broker and engine."""
        self._burst.close()
        self._sql.close()


@contextmanager
def worker(lab: Laboratory, settings: Settings, events: Events, collectors: int = 1) -> Iterator[WorkerBench]:
    """A worker of this installation for the length of the block."""
    with lab.part("worker", settings) as process:
        bench = WorkerBench(lab, settings, process, events, collectors)
        try:
            yield bench
        finally:
            bench.close()


def _some(events: Iterator[Tracked], count: int) -> Iterable[Tracked]:
    for _ in range(count):
        yield next(events)
