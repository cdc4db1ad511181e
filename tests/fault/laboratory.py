"""The laboratory: a real stack under steady traffic, faults dealt to it by seed, and the books at the end.

A fault is a small class (`faults.Fault`): it names what it can strike and strikes once. The laboratory does the rest:
the same seed deals the same strikes in the same order with the same pauses between them; the part that was struck is
back and ready before the next strike, though not always what depends on it; at the end traffic stops, the pipeline
settles, and every number is accounted for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from infra.books import settle
from infra.demo import SITES, database
from infra.load.journal import read
from infra.load.lag import Lag
from infra.load.process import LoadProcess
from infra.load.sites import write_sites
from infra.local.kafka import HOST, TOP, Listener
from infra.local.parts import Part, parts
from infra.local.ports import free, taken
from infra.local.stack import Stack, isolated
from infra.service.settings import PREFIX, Settings
from schemas.topics import EVENTS_RAW
from tests.fault.clock import Clock, faked, set_clock
from tests.fault.decoder import KillDecoder
from tests.fault.disk import FullDisk, spool_disk
from tests.fault.faults import Fault, Strike, deal
from tests.fault.field import Field
from tests.fault.figures import Done, Findings
from tests.fault.history import History
from tests.fault.link import Cut, Link
from tests.fault.sampling import Sampling
from tests.fault.unknown import unexplained
from tests.fault.videos import VideoBooks, VideoLoad

WARM_SECONDS = 3.0  # of traffic before the first strike, and after the last one
REPEATS = 0.02  # of the requests are sent again
PATIENCE = 240.0  # seconds for the pipeline to settle
EVENT_ROLES = ("kafka", "front", "collector", "worker")
VIDEO_ROLES = ("videos", "media")
SPARED = "worker"  # by a soak, so that one of two stream workers is watched from the beginning to the end


@dataclass(frozen=True, slots=True)
class Plan:
    """kills: strikes in all that are no outages. outages: how often each outage happens. away: seconds of an outage.

    rate: events per second. seconds: where there is a number, strikes are dealt anew until they are over, with the
    kills and outages told here in each round, and the first stream worker is spared.
    """

    kills: int
    seed: int = 1
    rate: float = 500.0
    outages: int = 1
    away: float = 60.0
    seconds: float | None = None

    def strikes(self, faults: Sequence[Fault]) -> Iterator[Strike]:
        """What is dealt, in order."""
        if self.seconds is None:
            yield from deal(faults, self.kills, self.seed, outages=self.outages)
            return
        end = time.monotonic() + self.seconds
        for round_ in count():
            for strike in deal(faults, self.kills, self.seed + 1_000 * round_, outages=self.outages):
                if time.monotonic() + strike.pause > end:
                    time.sleep(max(end - time.monotonic(), 0))
                    return
                yield strike


def run(name: str, faults: Sequence[Fault], folder: Path, plan: Plan, say: Callable[[str], None]) -> Findings:
    """Do one run in an empty folder; the stack and the load are gone when this returns, however it returns."""
    began = time.monotonic()
    with_videos = any(kind in VIDEO_ROLES for fault in faults for kind in fault.kinds)
    own = {name: value for fault in faults for name, value in getattr(fault, "settings", {}).items()}
    settings = _settings(folder / "state", workers=max(fault.workers for fault in faults), **own)
    write_sites(settings.sites, SITES)
    roles = (*EVENT_ROLES, *(VIDEO_ROLES if with_videos else ()))
    with ExitStack() as cleanup:
        history = History(folder / "history.jsonl")
        cleanup.callback(history.close)
        if any(isinstance(fault, FullDisk) for fault in faults):
            cleanup.enter_context(spool_disk(settings.spool))
        listeners, link = [], None
        if any(isinstance(fault, Cut) for fault in faults):
            proxy, behind = free(2)
            link = Link(proxy, behind)
            cleanup.callback(link.close)
            listeners = [Listener("LINK", behind, proxy)]
        stack = Stack(settings, roles, owned=True, listeners=listeners, say=say)
        if link is not None:
            stack.parts = [_through(part, f"{HOST}:{proxy}") for part in stack.parts]
        clock = folder / "clock" if any(isinstance(fault, Clock) for fault in faults) else None
        if clock is not None:
            set_clock(clock, 0)
            stack.parts = [
                replace(part, environment={**part.environment, **faked(clock)}) if part.role == "worker" else part
                for part in stack.parts
            ]
        cleanup.callback(stack.stop)
        stack.start()
        history.note("start the stack", parts=stack.names())
        journal = folder / "load.journal"
        url = f"http://{stack.settings.host}:{stack.settings.collector_port}"
        load = LoadProcess(
            url, journal, sites=f"{SITES[0]}-{SITES[-1]}", rate=plan.rate, seed=plan.seed, repeats=REPEATS
        )
        cleanup.callback(load.stop)
        many = any(isinstance(fault, KillDecoder) for fault in faults)
        videos = VideoLoad(stack.settings, many=many) if with_videos else None
        if videos:
            cleanup.callback(videos.stop)
            videos.start()
        spared = [SPARED] if plan.seconds is not None else []
        field = Field(stack, lambda: load.watch.look().acknowledged, plan.away, link, spared, clock)
        struck = _Run(field, load, history, say)
        sampling = Sampling(partial(_pids, stack)) if plan.seconds is not None else None
        if sampling:
            cleanup.callback(sampling.stop)
            sampling.start()
        time.sleep(WARM_SECONDS)
        struck.all(plan.strikes(faults))
        time.sleep(WARM_SECONDS)
        load.stop()
        report = load.result()
        history.note("stop the load", **{key: report[key] for key in ("sent", "acknowledged", "unknown")})
        say("waiting until the tables stand still")
        at = time.monotonic()
        sql = database(stack)
        lag = Lag(stack.settings.kafka, stack.settings.topic(EVENTS_RAW), sql)
        books = settle([journal], sql, lag=lag, patience=PATIENCE)
        history.note("balance the books", "ok" if books.right else "failed", **books.as_dict())
        ledger = _ledger(stack.settings)
        history.note("look at the ledger", "ok" if ledger["balanced"] else "failed", **ledger)
        of_videos: VideoBooks | None = None
        if videos:
            videos.stop()
            of_videos = videos.settle(PATIENCE)
            history.note("balance the video jobs", "ok" if of_videos.right else "failed", **of_videos.as_dict())
        settled = time.monotonic() - at
        if sampling:
            sampling.stop()  # now that all is calm again
        open_ = unexplained(read([journal]), [done.span for done in struck.done])
        if len(open_):
            history.note("explain the unknown", "failed", numbers=open_[:100].tolist())
    return Findings(
        name=name,
        seed=plan.seed,
        done=struck.done,
        books=books,
        videos=of_videos,
        unexplained_unknown=len(open_),
        odd_answers=int(report["odd_answers"]),
        seconds=time.monotonic() - began,
        settle_seconds=settled,
        failed=struck.failed,
        ledger=ledger,
        trends=sampling.trends() if sampling else {},
    )


def _pids(stack: Stack) -> dict[int, str]:
    """The role of each process that runs."""
    roles = {part.name: part.role for part in stack.parts}
    return {pid: roles[name] for name, pid in stack.pids().items()}


def _ledger(settings: Settings) -> dict[str, Any]:
    """What `veilstream ledger` says of this installation."""
    command = (sys.executable, "-m", "infra.cli", "ledger", "--json")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    done = subprocess.run(
        command, env=environment | settings.environment(), cwd=TOP, capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    if not lines:
        return {"balanced": False, "error": done.stderr.strip()[-500:]}
    told: dict[str, Any] = json.loads(lines[-1])
    return told


class _Run:
    def __init__(self, field: Field, load: LoadProcess, history: History, say: Callable[[str], None]) -> None:
        self.field, self.load, self.history, self.say = field, load, history, say
        self.done: list[Done] = []
        self.failed: list[str] = []

    def all(self, strikes: Iterable[Strike]) -> None:
        """Do them one after the other; the first that fails is the last."""
        for number, strike in enumerate(strikes, 1):
            time.sleep(strike.pause)
            name = strike.fault.name
            self.history.note(name, "begun", number=number, kind=strike.kind)
            began = time.time() * 1000
            try:
                details = dict(strike.fault.strike(self.field, strike.kind, Random(strike.seed)))
            except Exception as error:
                self.failed.append(f"{name} {number} ({strike.kind}): {error}")
                self.history.note(name, "failed", number=number, kind=strike.kind, why=str(error))
                return
            back = time.time() * 1000
            self.done.append(Done(name, strike.kind, strike.fault.outage, began, back, details))
            took = round((back - began) / 1000, 2)
            self.history.note(name, number=number, kind=strike.kind, seconds=took, details=details)
            seen = self.load.watch.look()
            self.say(
                f"{number}: {name}, {strike.kind} back after {took:.1f} s;"
                f" acknowledged {seen.acknowledged:,}, unknown {seen.unknown:,}"
            )
            if not self.load.running():
                self.failed.append("the load ended by itself")
                return


def _through(part: Part, servers: str) -> Part:
    """A collector reaches Kafka through these servers only."""
    if part.role != "collector":
        return part
    return replace(part, environment={**part.environment, PREFIX + "KAFKA": servers})


def _settings(state: Path, workers: int, **own: Any) -> Settings:
    """Free ports for every part; those of a second worker follow from the first one's and may be taken."""
    while True:
        settings = isolated(state, worker_processes=workers, **own)
        if not taken(port for part in parts(settings) for port in part.ports):
            return settings
