"""The collector's process: `python -m ingest.collector`.

Starts with the sites' files, listens, and reaches Kafka in the background; what is taken until then goes into the
spool. Stops on SIGTERM: unready, no new connection, everything in hand is sent or spooled, and answered, a last report,
exit 0. A process that is killed loses nothing that it has acknowledged, because it answers after Kafka or the disk has
it, and the next process drains what it left on the disk.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import secrets
import sys
import time
from collections.abc import Callable

import uvloop

from infra.service import logs
from infra.service.health import AdminServer, Health, Progress
from infra.service.plain_sql import PlainSql
from infra.service.settings import Settings, SettingsError, load_settings
from infra.service.signals import on_stop
from ingest import metrics, recordings
from ingest.answers import Answers
from ingest.delivery import Delivery, Record
from ingest.directory import Directory
from ingest.guard import Rates, Turned
from ingest.hours import Hours
from ingest.line import Packet
from ingest.pace import Pace
from ingest.packing import Packing
from ingest.policies import Policies
from ingest.producer import KafkaDelivery
from ingest.proxies import Proxies, ProxiesError
from ingest.reporting import Reporting
from ingest.reports import Books
from ingest.script import Script
from ingest.server import Limits, Server
from ingest.spool.log import SpoolError
from ingest.spool.spool import Spool
from ingest.tracking import Tracking, adopt
from schemas import reports, topics
from schemas.sites import SitesError, limit_of

log = logs.logger("ingest.collector")

TICK_SECONDS = 0.25
REPORT_SECONDS = 0.5  # twice as often as is promised
SITES_SECONDS = 3.0  # between looks at the sites' files
STUCK_SECONDS = 10.0  # without a tick the process counts as dead
GRACE_SECONDS = 5.0  # after the start, before a collector that has not reached Kafka is ready on its spool alone
SPARE_FILES = 100  # for Kafka, the admin port, the sites' files
GARBAGE = (50_000, 20, 50)  # thresholds of the garbage collector
STOP_MARGIN = 5.0  # beyond the deadline, before the process is ended hard

BAD_START = 2  # exit status: a setting or a site is wrong, or a port is taken


class Collector:
    """Everything of one process, put together."""

    def __init__(self, settings: Settings, delivery: Callable[[Callable[[], None]], Delivery]) -> None:
        """`delivery(resume)` makes the way to Kafka. Raises SitesError, ProxiesError, SpoolError."""
        self.settings = settings
        self.writer = secrets.randbits(64)
        started_ms = now_ms()
        self._started = time.monotonic()
        self.books = Books(self.writer, started_ms)
        self.progress = Progress("the event loop", STUCK_SECONDS)
        self.delivery = delivery(self._acknowledged)
        self.policies = Policies(
            settings.sites,
            settings.events_partitions,
            settings.topic(topics.SITE_POLICIES),
            self.delivery,
            self._published,
        )
        directory = self.policies.load()
        self.spool: Spool[Packet] | None = None
        if settings.collector_spool_bytes:
            self.spool = Spool(
                settings.spool,
                self.writer,
                started_ms,
                limit_bytes=settings.collector_spool_bytes,
                limit_seconds=settings.collector_spool_seconds,
            )
        self.hours: Hours | None = None
        if settings.collector_seal:
            topic = settings.topic(topics.EVENTS_RAW)
            try:
                self.hours = Hours(settings.spool, self.writer, topic, PlainSql(settings))
            except OSError as error:
                raise SpoolError(f"the spool's folder {settings.spool} cannot be used: {error.strerror}") from None
        self.packing = Packing(
            writer=self.writer,
            topic=settings.topic(topics.EVENTS_RAW),
            partitions=settings.events_partitions,
            policy=directory.version,
            policies=directory.dump,
            delivery=self.delivery,
            books=self.books,
            pace=Pace(settings.packets_per_second, settings.flush_min_ms / 1000, settings.flush_max_ms / 1000),
            packet_bytes=settings.packet_bytes,
            memory_bytes=settings.collector_memory_bytes,
            stored=self._stored,
            spool=self.spool,
            spool_after=settings.collector_spool_after_seconds,
            announce=self._announce,
            hours=self.hours,
        )
        recorded = recordings.packing(settings, directory, self.delivery, seals=self.hours is not None)
        self.packings, self.recording_hours = (self.packing, recorded.packing), recorded.hours
        rates = Rates(limit_of(settings.collector_address_rate, settings.collector_address_burst))
        self.tracking = Tracking(directory, self.packing, rates, settings.collector_bulk_items)
        self.server = Server(self.tracking, limits_of(settings), Answers(), proxies_of(settings))
        self.server.rates = rates
        self.tracking.server = self.server
        self.tracking.recordings = recorded.packing
        self.tracking.api = Reporting(
            settings.sites, settings.users, self.tracking, self.policies, settings.collector_processes
        ).serve
        self.tracking.script = Script(settings.collector_matomo_js).serve
        adopt(self.tracking, directory)
        self.bytes = 0  # of acknowledged packets
        self._policies_ready = False
        self._reporting = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """Listens; returns the port. Raises OSError when it is taken."""
        port = await self.server.start(self.settings.host, self.settings.collector_port)
        self.policies.publish(self.tracking.directory)
        self._tasks = [
            asyncio.create_task(self._tick()),
            asyncio.create_task(self.policies.watch(SITES_SECONDS)),
        ]
        if self.spool is not None:
            self._tasks.append(asyncio.create_task(self.spool.search()))
        if self.hours is not None:
            self._look_at_keys()
            self._tasks.append(asyncio.create_task(self._fetch_keys(self.hours)))
        return port

    async def stop(self, seconds: float) -> int:
        """Drains within about `seconds`. Returns the number of packets that are neither acknowledged nor spooled."""
        deadline = time.monotonic() + seconds
        self.server.drain()
        # Requests that are half here get a part of the time, what is packed the rest.
        half = time.monotonic() + seconds / 2
        while not self.server.idle() and time.monotonic() < half:
            self._flush()
            await asyncio.sleep(0.01)
        while not all(packing.empty() for packing in self.packings) and time.monotonic() < deadline - 1.0:
            self._flush()
            await asyncio.sleep(0.01)
        abandoned = sum(packing.give_up() for packing in self.packings if not packing.empty())
        for task in self._tasks:
            task.cancel()
        await asyncio.sleep(0)
        await self._last_report(deadline)
        self.server.stop()
        if self.spool is not None:
            await self.spool.close()
        for hours in (self.hours, self.recording_hours):
            if hours is not None:
                hours.close()
        return abandoned

    def _flush(self) -> None:
        for packing in self.packings:
            packing.flush()

    def ready(self) -> str:
        """Why the collector should get no requests now; "" when it should."""
        if self.hours is not None and (reason := self.hours.refusal()):
            return reason
        spooling = self.spool is not None and self.spool.takes()
        if not self._policies_ready and not (spooling and time.monotonic() > self._started + GRACE_SECONDS):
            return getattr(self.delivery, "problem", "") or "the policies are not published yet"
        if self.packing.oldest_age() > self.settings.collector_wait_seconds:
            return "Kafka does not acknowledge"
        if self.packing.full(self.server.receiving):
            return "too many events wait for Kafka"
        return ""

    # Called by the parts

    def _acknowledged(self) -> None:
        for packing in self.packings:
            packing.acknowledged()

    def _published(self, directory: Directory) -> None:
        self._policies_ready = True
        for packing in self.packings:
            packing.publish(directory.version)
            if directory.version != packing.policy:
                packing.adopt(directory.version, directory.dump)
        adopt(self.tracking, directory)

    def _announce(self, version: bytes, policies: bytes) -> None:
        self.policies.send(version, policies, lambda: self.packing.publish(version))

    def _stored(self, size: int, seconds: float | None) -> None:
        self.bytes += size
        if seconds is not None:
            metrics.flush_seconds.observe(seconds)

    def _look_at_keys(self) -> None:
        for packing, hours in zip(self.packings, (self.hours, self.recording_hours), strict=True):
            if hours is not None:
                packing.sealed_off = bool(hours.refusal())

    async def _fetch_keys(self, hours: Hours) -> None:
        while True:
            try:
                pause = await asyncio.to_thread(hours.look)
                self._look_at_keys()
            except Exception as error:
                log.error("keys_look_failed", **logs.describe(error))
                pause = SITES_SECONDS
            await asyncio.sleep(pause)

    async def _tick(self) -> None:
        due = time.monotonic()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.progress.mark()
            self._look_at_keys()
            for packing in self.packings:
                packing.tick(self.settings.collector_wait_seconds)
            watch = getattr(self.delivery, "watch", None)
            if watch is not None:
                watch()
            if self.spool is not None:
                self.spool.tick()
            if time.monotonic() >= due and not self._reporting and any(books.changed for books in self._all_books()):
                due = time.monotonic() + REPORT_SECONDS
                self._report(final=False)

    def _all_books(self) -> list[Books]:
        return [self.books, *self.packing.inheritance.values()]

    def _report(self, *, final: bool) -> None:
        """Tells what is acknowledged, of this process and of those whose spools it drains."""
        changed = [books for books in self._all_books() if books.changed or (final and books is self.books)]
        told = [books.report(now_ms(), final and books is self.books) for books in changed]
        left = len(told)

        def done() -> None:
            nonlocal left
            left -= 1
            self._reporting = left > 0

        self._reporting = True
        topic = self.settings.topic(topics.INGEST_REPORTS)
        for report in told:
            key = b"%016x" % report.writer
            self.delivery.send(Record(topic, reports.encode(report), done, key=key, partition=0))

    async def _last_report(self, deadline: float) -> None:
        # An earlier report that is still on its way must not come after the last one.
        while self._reporting and time.monotonic() < deadline:
            await asyncio.sleep(0.005)
        if not self._reporting:
            self._report(final=True)
        while self._reporting and time.monotonic() < deadline:
            await asyncio.sleep(0.005)


def limits_of(settings: Settings) -> Limits:
    """What one client may use."""
    return Limits(
        body_bytes=settings.collector_body_bytes,
        head_seconds=settings.collector_head_seconds,
        body_seconds=settings.collector_body_seconds,
        idle_seconds=settings.collector_idle_seconds,
        connections=min(settings.collector_connections, open_files() - SPARE_FILES),
        address_connections=settings.collector_address_connections,
    )


def proxies_of(settings: Settings) -> Proxies:
    """The trusted proxies; raises ProxiesError."""
    headers = [name.lower() for name in _listed(settings.collector_proxy_headers)]
    return Proxies(_listed(settings.collector_proxies), headers, first=settings.collector_proxy_order == "first")


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def open_files() -> int:
    """How many files the process may have open, after raising the soft limit to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def show_metrics(collector: Collector) -> None:
    """Puts the collector's numbers on /metrics."""
    tracking, packing, books, server = collector.tracking, collector.packing, collector.books, collector.server
    numbers = metrics.Numbers()
    numbers.counter(
        "collector_answers",
        "requests",
        "Requests answered, by HTTP status",
        "status",
        lambda: {str(status): count for status, count in server.answered.items()},
    )
    numbers.counter(
        "collector_refused",
        "events",
        "Events and items that were refused, by reason",
        "reason",
        lambda: {str(reason): count for reason, count in tracking.invalid.items()},
    )
    numbers.counter(
        "collector_turned_away",
        "requests",
        "Requests and connections refused for their size, time or number, by reason",
        "reason",
        lambda: {str(reason): server.rates.turned[reason] for reason in Turned},
    )
    numbers.plain("collector_accepted", "events", "Events put into packets", lambda: tracking.accepted)
    numbers.plain("collector_recorded", "chunks", "Chunks of recordings put into packets", lambda: tracking.recorded)
    numbers.plain("collector_acknowledged", "events", "Events acknowledged by Kafka", lambda: books.events)
    numbers.plain("collector_acknowledged", "packets", "Packets acknowledged by Kafka", lambda: books.packets)
    numbers.plain("collector_acknowledged", "bytes", "Bytes of acknowledged packets", lambda: collector.bytes)
    numbers.plain(
        "collector_unknown", "events", "Events answered 503 whose packet is still tried", lambda: packing.unknown
    )
    numbers.plain("collector_gone", "clients", "Answers whose client had left", lambda: server.gone)
    numbers.plain(
        "collector_replaced",
        "producers",
        "Kafka producers that gave up and were replaced",
        lambda: getattr(collector.delivery, "replaced", 0),
    )
    numbers.plain(
        "collector_direct",
        "records",
        "Records sent straight to the partitions' leaders",
        lambda: getattr(collector.delivery, "direct_records", 0),
    )
    numbers.plain(
        "collector_direct",
        "failures",
        "Times that this way was left for the producer's",
        lambda: getattr(collector.delivery, "direct_failures", 0),
    )
    numbers.gauge("collector_waiting", "bytes", "Events that wait in memory for Kafka", lambda: packing.waiting)
    if (spool := collector.spool) is not None:
        numbers.plain("collector_spooled", "packets", "Packets written into the spool", lambda: spool.written)
        numbers.plain("collector_drained", "packets", "Packets from the spool that Kafka has", lambda: spool.drained)
        numbers.plain(
            "collector_unreadable", "packets", "Packets of the spool that the disk lost", lambda: spool.unreadable
        )
        numbers.gauge("collector_spool", "packets", "Packets in the spool", lambda: spool.packets)
        numbers.gauge("collector_spool", "bytes", "Size of the spool's files", lambda: spool.bytes)
        numbers.gauge(
            "collector_spool_oldest", "seconds", "Age of the oldest packet in the spool", spool.oldest_seconds
        )
        numbers.gauge(
            "collector_spool_takes", "ratio", "1 while the spool takes packets, 0 while not", lambda: spool.takes()
        )
    numbers.gauge("collector_receiving", "bytes", "Bodies that are not whole yet", lambda: server.receiving)
    numbers.gauge("collector_open", "connections", "Open connections", lambda: len(server.connections))
    numbers.gauge("collector_in_force", "sites", "Sites in force", lambda: len(tracking.directory.places))
    numbers.gauge(
        "collector_broken",
        "files",
        "Site files that are wrong, for which older ones stay in force",
        lambda: collector.policies.broken,
    )
    numbers.register()


def kafka_delivery(settings: Settings, resume: Callable[[], None]) -> KafkaDelivery:
    """The way to the installation's Kafka."""
    return KafkaDelivery(
        settings.kafka,
        {
            settings.topic(topics.SITE_POLICIES): 1,
            settings.topic(topics.EVENTS_RAW): settings.events_partitions,
            settings.topic(topics.RECORDINGS_RAW): settings.events_partitions,
            settings.topic(topics.INGEST_REPORTS): 1,
        },
        client="veilstream-collector",
        request_timeout=settings.collector_request_seconds,
        delivery_timeout=settings.collector_delivery_seconds,
        resume=resume,
    )


async def serve(settings: Settings) -> int:
    """Runs until told to stop; returns the exit status."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    delivery: KafkaDelivery | None = None

    def make(resume: Callable[[], None]) -> Delivery:
        nonlocal delivery
        delivery = kafka_delivery(settings, resume)
        return delivery

    try:
        collector = Collector(settings, make)
    except SitesError as error:
        log.error("sites_refused", problem=str(error))
        return BAD_START
    except SpoolError as error:
        log.error("spool_refused", setting="spool_dir", problem=str(error))
        return BAD_START
    except ProxiesError as error:
        log.error("proxies_refused", setting="collector_proxies, collector_proxy_headers", problem=str(error))
        return BAD_START
    assert delivery is not None
    if collector.hours is not None and collector.hours.refusal():
        await asyncio.to_thread(collector.hours.look)  # the first start of a spool; later ones find the keys there
    health = Health(live=collector.progress.check, ready=collector.ready)
    try:
        admin = AdminServer(settings.host, settings.collector_admin_port, health).start()
        port = await collector.start()
    except OSError as error:
        log.error("port_taken", port=settings.collector_port, problem=error.strerror or str(error))
        return BAD_START
    show_metrics(collector)

    def stop() -> None:
        health.stopping()
        stopping.set()

    on_stop(stop, deadline=settings.collector_stop_seconds + STOP_MARGIN, loop=loop)
    delivery.start()
    # What lives as long as the process is not looked at again, and what a request makes is mostly gone before a look.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)
    log.info(
        "listening",
        host=settings.host,
        port=port,
        admin_port=admin.port,
        process=settings.collector_process,
        writer=f"{collector.writer:016x}",
    )
    await stopping.wait()
    abandoned = await collector.stop(settings.collector_stop_seconds)
    await delivery.close(1.0)
    admin.stop()
    books = collector.books
    log.info("stopped", packets=books.packets, events=books.events, abandoned_packets=abandoned)
    return 0


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000


def main() -> int:
    """The process; returns the exit status."""
    try:
        settings = load_settings()
    except SettingsError as error:
        print(f"collector: {error}", file=sys.stderr)
        return BAD_START
    logs.configure("collector", settings.log_level)
    return uvloop.run(serve(settings))


if __name__ == "__main__":
    sys.exit(main())
