"""`python -m gpu_workers.worker`: takes jobs from the topics of the lanes, makes posters and storyboards and tells
how it went.

Start as many as there are partitions of `video.jobs`; each does one job at a time. SIGTERM lets the job under way come
to its end for `video_drain_seconds`, then returns it to the group. SIGUSR1 writes to stderr where each thread is.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence

from gpu_workers import admission, metrics, router
from gpu_workers.leases import Leases
from gpu_workers.nvml import Nvml
from gpu_workers.reports import Reporter
from gpu_workers.retries import Retries
from gpu_workers.xid import Fault, Watch, Xid
from infra.service.health import AdminServer, Health, Progress
from infra.service.logs import configure, describe, logger
from infra.service.outbound import Outbound
from infra.service.settings import Settings, SettingsError, load_settings
from infra.service.signals import on_stop
from infra.service.storage import storage, sweep
from schemas.videos import NvmlState, WorkerState, WorkerStatus

log = logger(__name__)

BEAT = 3.0  # seconds between heartbeats
STILL = 15.0  # seconds without progress that are worth a line
SAID_AGAIN = 60.0  # seconds
MARGIN = 8.0  # seconds after the drain in which the process must be gone


class Heartbeat(threading.Thread):
    """Tells every few seconds how the worker is."""

    def __init__(
        self, worker: str, leases: Leases, reporter: Reporter, stop: threading.Event, watched: Sequence[Progress]
    ) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._watched = dict.fromkeys(watched, -SAID_AGAIN)  # with when it was last said to stand still
        self._worker = worker
        self._leases = leases
        self._reporter = reporter
        self._stop_asked = stop
        self._ended = threading.Event()
        self._started_ms = int(time.time() * 1000)
        self._nvml = Nvml()

    def run(self) -> None:
        """Until `end`."""
        while not self._ended.is_set():
            self._beat(self._state())
            self._look()
            self._ended.wait(BEAT)

    def end(self) -> None:
        """The last heartbeat."""
        self._ended.set()
        self.join(BEAT)
        self._beat(WorkerState.STOPPED)

    def _look(self) -> None:
        """Says where a thread is that makes no progress, long before it counts as stuck."""
        now = time.monotonic()
        for progress, said in self._watched.items():
            if progress.age > STILL and now - said > SAID_AGAIN:
                self._watched[progress] = now
                log.warning("no_progress", what=progress.name, seconds=round(progress.age), at=progress.where())

    def _state(self) -> WorkerState:
        if self._stop_asked.is_set():
            return WorkerState.DRAINING
        if self._leases.working_since:
            return WorkerState.WORKING
        return WorkerState.STARTING if self._leases.problem else WorkerState.IDLE

    def _beat(self, state: WorkerState) -> None:
        seen = self._nvml.snapshot()
        metrics.show_gpus(seen.gpus)
        if seen.state is NvmlState.LOST and self._leases.device not in {None, *(gpu.index for gpu in seen.gpus)}:
            log.error("gpu_lost", device=self._leases.device)
            self._leases.device = None  # from the next job on; the one under way fails on it and goes to the CPU
        since = self._leases.working_since
        self._reporter.beat(
            WorkerStatus(
                worker=self._worker,
                at_ms=int(time.time() * 1000),
                started_ms=self._started_ms,
                state=state,
                done=self._leases.done,
                failed=self._leases.failed,
                job_seconds=round(time.monotonic() - since, 1) if since else 0.0,
                nvml=seen.state,
                driver=seen.driver,
                gpus=seen.gpus,
            )
        )


class Gpus:
    """The GPU that this worker may use: admitted at the start, and given up when the driver says that it is bad."""

    def __init__(self, settings: Settings) -> None:
        self._nvml = Nvml()
        self.device = admission.device(settings.state, self._nvml.snapshot(), only=settings.video_gpu)
        self._watch: Watch | None = None

    def watch(self, leases: Leases) -> None:
        """Tells of Xid events from now on; after one that is the GPU's fault, jobs go to the CPU."""
        if self.device is None:
            return

        def tell(event: Xid) -> None:
            log.error("xid", gpu=event.uuid, number=event.number, fault=event.fault, working=leases.working_since > 0)
            if event.fault is Fault.GPU:
                leases.device = None

        self._watch = Watch(tell)
        self._watch.start()

    def end(self) -> None:
        """Lets go of NVML."""
        if self._watch is not None:
            self._watch.end()
        self._nvml.close()


def table(settings: Settings) -> router.Table:
    """What the router decides by: the table that was measured, where there is one. Raises TableError."""
    path = settings.video_router_table or settings.router_table
    try:
        found = router.load(path)
    except FileNotFoundError:
        if settings.video_router_table is not None:
            raise router.TableError(
                f"{path}: there is no such table of the router; `veilstream bench crossover --table {path}` makes it"
            ) from None
        found = router.DEFAULT
    log.info("router_table", device=found.device, measured=found.measured, costs=len(found.costs))
    return found


def work(settings: Settings, costs: router.Table) -> None:
    """Runs until told to stop."""
    stop = threading.Event()
    sweep(settings.video_scratch)
    worker = f"{socket.gethostname()}-{secrets.token_hex(4)}"
    reporter = Reporter(settings, worker)
    gpus = Gpus(settings)
    leases = Leases(settings, worker, reporter, stop, Outbound(settings), gpus.device, costs)
    gpus.watch(leases)
    retries = Retries(settings, reporter)
    health = Health(live=lambda: leases.progress.check() or retries.progress.check(), ready=lambda: leases.problem)
    with AdminServer(settings.host, settings.video_worker_admin_port, health):

        def begin() -> None:
            health.stopping()
            stop.set()

        on_stop(begin, deadline=settings.video_drain_seconds + MARGIN)
        heartbeat = Heartbeat(worker, leases, reporter, stop, (leases.progress, retries.progress))
        heartbeat.start()
        retries.start()
        log.info("started", worker=worker)
        try:
            leases.run()
        finally:
            retries.end(3.0)
            heartbeat.end()
            gpus.end()
            reporter.close(2.0)


def main() -> int:
    """The process; returns its exit status."""
    try:
        settings = load_settings()
        configure("media-worker", settings.log_level)
        faulthandler.register(signal.SIGUSR1)
        for folder in (settings.videos, settings.thumbnails):
            folder.mkdir(parents=True, exist_ok=True)
        storage(settings).private.check()
        costs = table(settings)
    except (SettingsError, router.TableError) as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # an error with every try while the broker is away
    try:
        work(settings, costs)
    except Exception as error:
        log.error("leaving", **describe(error))
        sys.stderr.flush()
        os._exit(1)
    log.info("stopped")
    sys.stderr.flush()
    os._exit(0)  # threads of the clients may still wait for what is away


if __name__ == "__main__":
    sys.exit(main())
