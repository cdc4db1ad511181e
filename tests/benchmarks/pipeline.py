"""`pipeline`: from packets in Kafka to rows in ClickHouse, against a plain Faust agent with an event per record.

Both run as real processes on a core of their own, and get the same kind of events; speeds are events per CPU second of
the process. The second setting has packets as 8 collectors make them for 32 partitions: some 28 events each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import ip_address
from statistics import median
from time import time

from infra.service.settings import Settings
from schemas.routing import partition_of
from tests.benchmarks.frame import Frame
from tests.benchmarks.frame.events import Events, Tracked, model_sites
from tests.benchmarks.frame.laboratory import Laboratory, laboratory, python
from tests.benchmarks.frame.result import Result, Setting, digits
from tests.benchmarks.frame.rounds import Sample, Series, interleaved
from tests.benchmarks.frame.stages import stages
from tests.benchmarks.frame.worker import Burst, worker

SITES = 200
LARGE, SMALL = "1 collector, 8 partitions", "8 collectors, 32 partitions"
PLAIN = "plain Faust agent, an event per record, rows inserted as lists"


def run(frame: Frame) -> Result:
    """Large packets, small packets, and the plain agent, in turns; then where the worker's time goes."""
    sites = model_sites(SITES)
    warm, burst = frame.pick(150_000, 30_000), frame.pick(240_000, 30_000)
    plain_warm, plain_burst = frame.pick(20_000, 3_000), frame.pick(30_000, 4_000)
    with laboratory(frame, ["kafka", "front"], events_partitions=8) as lab, ExitStack() as opened:
        lab.install(SITES)
        small_settings = lab.beside("small", events_partitions=32)
        plain_settings = lab.beside("plain")
        large = opened.enter_context(worker(lab, lab.settings, Events(1, sites)))
        small = opened.enter_context(worker(lab, small_settings, Events(1, sites), 8))
        plain = opened.enter_context(plain_agent(lab, plain_settings, Events(1, sites)))
        for name, lane, events in ((LARGE, large, warm), (SMALL, small, warm), ("plain agent", plain, plain_warm)):
            frame.say(f"warming up, {name}")
            lane.run(events)
        series = interleaved(
            {
                "plain agent": partial(plain.run, plain_burst),
                LARGE: partial(large.run, burst),
                SMALL: partial(small.run, burst),
            },
            frame.rounds,
            frame.say,
        )
        frame.say("measuring the stages")
        table = stages(lab, large, frame.pick(120_000, 30_000))
    settings = [Setting(name, series[name], series["plain agent"]) for name in (LARGE, SMALL)]
    shares = [b / a for a, b in zip(series[LARGE].values, series[SMALL].values, strict=True)]
    details = {
        "small_to_large": digits(median(shares)),
        "stages_us_per_event": shown(table, series[LARGE]),
    }
    return Result("pipeline", "events per CPU second", "event", PLAIN, settings, details)


def shown(table: dict[str, float], series: Series) -> dict[str, float]:
    """The stages, and what the whole process uses beside them: Faust, Kafka's client, HTTP, collecting garbage."""
    whole = series.cpu_us_per_item() or 0.0
    out = {name: digits(value) for name, value in table.items()}
    out["rest: Faust, Kafka's client, HTTP"] = digits(whole - sum(table.values()))
    out["whole process"] = digits(whole)
    return out


class PlainBench:
    """The plain agent, fed with JSON records."""

    def __init__(self, burst: Burst, events: Iterator[Tracked], partitions: int) -> None:
        self._burst = burst
        self._events = events
        self._partitions = partitions

    def run(self, events: int) -> Sample:
        """Sends so many events and measures them as one burst."""
        records = [self._record(next(self._events)) for _ in range(events)]
        return self._burst.run(records, events)

    def _record(self, event: Tracked) -> tuple[int, bytes]:
        body = {
            "received_ms": int(time() * 1000),
            "site": event.site.id,
            "address": str(ip_address(event.address[12:])),
            "agent": event.visitor.agent.header,
            "language": event.visitor.language,
            "query": event.query.replace("&send_image=0", "", 1),
        }
        return partition_of(event.site.id, 0, self._partitions), json.dumps(body).encode()


@contextmanager
def plain_agent(lab: Laboratory, settings: Settings, events: Events) -> Iterator[PlainBench]:
    """The plain agent's process for the length of the block."""
    progress = lab.frame.folder / "plain.progress"
    progress.write_text("0")
    command = python("-m", "tests.benchmarks.peers.plain_agent", "worker", "--without-web")
    command += ["--datadir", str(settings.state / "faust")]
    environment = settings.environment() | {"PROGRESS": str(progress)}
    with lab.running("plain-agent", command, lambda: "", environment=environment) as process:
        burst = Burst(lab, settings, process, lambda: int(progress.read_text() or 0))
        try:
            yield PlainBench(burst, events, settings.events_partitions)
        finally:
            burst.close()
