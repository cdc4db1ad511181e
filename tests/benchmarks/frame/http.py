"""The collector against an HTTP server that does nothing with its requests: same load, same core, in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial

from infra import topics
from infra.load.sites import write_sites
from infra.local.parts import http_ready
from infra.local.ports import free
from tests.benchmarks.frame import BenchmarkError, Frame
from tests.benchmarks.frame.events import Tracked
from tests.benchmarks.frame.kafka import Topic
from tests.benchmarks.frame.keys import write_keys
from tests.benchmarks.frame.laboratory import Laboratory, Process, laboratory, python
from tests.benchmarks.frame.result import Result, Setting
from tests.benchmarks.frame.rounds import Sample, interleaved
from tests.benchmarks.frame.wrk import Load, send, write_requests

SITES = 40
PEER_BACKLOG = 8192  # connections; the default of 1024 is less than one setting opens
WARM_UP = 2  # seconds before the first round, for each server and setting
PEER = "tests.benchmarks.peers.granian_empty:app"


@dataclass(frozen=True, slots=True)
class Comparison:
    """events: in each request. discard: the peer reads the body. connections: their numbers. peer: if not Granian."""

    name: str
    unit: str
    item: str
    reference_name: str
    requests: Sequence[bytes]
    connections: Sequence[int]
    events: int = 1
    discard: bool = False
    peer: Callable[[Laboratory], AbstractContextManager[tuple[Process, int]]] | None = None


@dataclass(slots=True)
class Books:
    """What wrk had acknowledged against what is in the topic; `settle` raises BenchmarkError for a deficit.

    wrk cuts the requests in flight at its end, so the topic may hold up to one request per connection more.
    """

    topic: Topic
    acknowledged: int = 0
    stored: int = 0
    packets: int = 0
    cut: int = 0

    def settle(self, events: int, connections: int, per_request: int) -> float:
        """Notes a run; returns the events per packet of it."""
        packets, stored = self.topic.new()
        self.acknowledged += events
        self.stored += stored
        self.packets += packets
        self.cut += connections * per_request
        surplus = self.stored - self.acknowledged
        if surplus < 0:
            raise BenchmarkError(f"{-surplus} acknowledged events are not in the topic")
        if surplus > self.cut:
            raise BenchmarkError(
                f"{surplus} events in the topic were not acknowledged, at most {self.cut} were cut off"
            )
        return stored / max(packets, 1)


def compare(frame: Frame, wanted: Comparison) -> Result:
    """Runs the comparison."""
    requests = write_requests(frame.folder / "requests", wanted.requests)
    seconds = frame.pick(5, 2)
    with laboratory(frame, ["kafka"], collector_memory_bytes=1 << 30) as lab:
        write_sites(lab.settings.sites, range(1, SITES + 1))
        topics.ensure(lab.settings)
        write_keys(lab.settings)
        with (
            lab.part("collector") as collector,
            wanted.peer(lab) if wanted.peer else peer(lab, wanted.discard) as (reference, reference_port),
            closing(Topic(lab.settings)) as topic,
        ):
            books = Books(topic)
            broker = lab.tree("kafka")

            def run(process: Process, port: int, connections: int, length: int) -> tuple[Load, Sample]:
                before, broker_before = process.tree.usage(), broker.usage()
                load = send(port, requests, connections=connections, seconds=length, on=lab.others)
                after, broker_after = process.tree.usage(), broker.usage()
                process.must_run()
                items = load.answered * wanted.events
                cpu = after.cpu - before.cpu
                details = {
                    "per_second": items / load.seconds,
                    "cpu_ms_per_1000": cpu / items * 1e6,
                    "p50_ms": load.p50_ms,
                    "p99_ms": load.p99_ms,
                    "core_used": cpu / load.seconds,
                }
                if process is collector:
                    details["broker_cpu_ms_per_1000"] = (broker_after.cpu - broker_before.cpu) / items * 1e6
                return load, Sample(items / cpu, items, cpu, after.peak, details)

            def ours(connections: int, length: int) -> Sample:
                load, sample = run(collector, lab.settings.collector_port, connections, length)
                per_packet = books.settle(load.answered * wanted.events, connections, wanted.events)
                return Sample(
                    sample.value,
                    sample.items,
                    sample.cpu,
                    sample.memory,
                    {**sample.details, "events_per_packet": per_packet},
                )

            def theirs(connections: int, length: int) -> Sample:
                return run(reference, reference_port, connections, length)[1]

            settings = []
            for connections in wanted.connections:
                name = f"{connections} connections"
                frame.say(f"{name}, warming up")
                theirs(connections, 1 if frame.quick else WARM_UP)
                ours(connections, 1 if frame.quick else WARM_UP)
                series = interleaved(
                    {
                        wanted.reference_name: partial(theirs, connections, seconds),
                        "collector": partial(ours, connections, seconds),
                    },
                    frame.rounds,
                    frame.say,
                )
                settings.append(Setting(name, series["collector"], series[wanted.reference_name]))
            checked = {
                "acknowledged": books.acknowledged,
                "in_topic": books.stored,
                "surplus": books.stored - books.acknowledged,
                "cut_at_most": books.cut,
            }
    return Result(wanted.name, wanted.unit, wanted.item, wanted.reference_name, settings, {"books": checked})


@contextmanager
def peer(lab: Laboratory, discard: bool) -> Iterator[tuple[Process, int]]:
    """Granian with an empty handler, one worker with one thread, as the collector has; and its port."""
    (port,) = free(1)
    command = python("-m", "granian", "--interface", "rsgi", "--port", str(port), "--workers", "1", "--http", "1")
    command += ["--no-ws", "--loop", "uvloop", "--runtime-threads", "1", "--log-level", "warning"]
    command += ["--backlog", str(PEER_BACKLOG), "--backpressure", str(PEER_BACKLOG), PEER]
    environment = {"DISCARD": "1" if discard else "0"}
    with lab.running("granian", command, partial(answers, port), environment=environment) as process:
        yield process, port


@contextmanager
def unsealed(lab: Laboratory) -> Iterator[tuple[Process, int]]:
    """A second collector on the same broker, which does not seal; and its port."""
    state = lab.settings.state / "unsealed"
    state.mkdir()
    ports = dict(zip(("collector_port", "collector_admin_port"), free(2), strict=True))
    apart = {"state": state, "sites_dir": lab.settings.sites, "topic_prefix": "unsealed.", "collector_seal": False}
    settings = lab.settings.model_copy(update={**apart, **ports})
    topics.ensure(settings)
    with lab.part("collector", settings) as process:
        yield process, settings.collector_port


def answers(port: int) -> str:
    """A probe: the server answers 204."""
    reason = http_ready("127.0.0.1", port, "/")
    return "" if "answers 204" in reason else reason


HEADERS = (
    "Host: collector.example\r\nUser-Agent: {agent}\r\nAccept: image/avif,image/webp,*/*\r\n"
    "Accept-Language: {language}\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n"
    "Referer: https://{domain}/\r\n"
)


def headers(event: Tracked) -> str:
    """The headers of the event's browser."""
    return HEADERS.format(agent=event.visitor.agent.header, language=event.visitor.language, domain=event.site.domain)


def get(event: Tracked) -> bytes:
    """The event as a GET, answered with 204."""
    return f"GET /matomo.php?{event.query} HTTP/1.1\r\n{headers(event)}\r\n".encode("ascii")


def bulk(events: Iterable[Tracked]) -> bytes:
    """The events as one bulk, as the log importer sends it."""
    events = list(events)
    items = '","?'.join(event.query.replace("&send_image=0", "", 1) for event in events)
    body = f'{{"requests":["?{items}"]}}'
    head = (
        "POST /matomo.php HTTP/1.1\r\nHost: collector.example\r\nUser-Agent: Matomo/LogImport\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return (head + body).encode("ascii")
