"""The laboratory: a real stack under steady traffic, faults dealt to it by seed, and the books at the end.

A fault is a small class (`Fault`): it names what it can strike and strikes once. The laboratory does the rest: the same
seed deals the same strikes in the same order with the same pauses between them; the part that was struck is back and
ready before the next strike; at the end traffic stops, the pipeline settles, and every number is accounted for.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Protocol

from infra.books import Books, settle
from infra.demo import SITES, database, prepare
from infra.load.lag import Lag
from infra.load.process import LoadProcess
from infra.local.stack import Stack
from schemas.topics import EVENTS_RAW
from tests.fault.history import History

WARM_SECONDS = 3.0  # of traffic before the first strike
PAUSE_SECONDS = (0.2, 3.0)  # between the part being back and the next strike
PATIENCE = 240.0  # for the pipeline to settle


class Fault(Protocol):
    """name: as on the command line. kinds: the parts that strikes are dealt over, in equal shares."""

    @property
    def name(self) -> str: ...
    @property
    def kinds(self) -> Sequence[str]: ...

    def strike(self, stack: Stack, kind: str, random: Random) -> None:
        """Do it to this part, and return when the part is back and ready. `random` serves this strike alone."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault that will be done: after `pause` seconds, to a part of this kind."""

    kind: str
    pause: float
    seed: int


def deal(kinds: Sequence[str], count: int, seed: int) -> list[Strike]:
    """`count` strikes over the kinds in equal shares (a remainder goes to the first ones), in an order by seed."""
    random = Random(seed)
    order = [kinds[n % len(kinds)] for n in range(count)]
    random.shuffle(order)
    return [Strike(kind, random.uniform(*PAUSE_SECONDS), random.getrandbits(32)) for kind in order]


@dataclass(slots=True)
class Findings:
    """What a run showed. back_seconds: per kind, from each strike until the part was ready again."""

    name: str
    seed: int
    strikes: int
    books: Books
    odd_answers: int
    seconds: float
    settle_seconds: float
    back_seconds: dict[str, list[float]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Every strike was done and survived, and the books are right."""
        return self.books.right and not self.odd_answers and not self.failed

    def as_dict(self) -> dict[str, object]:
        """What `veilstream fault --json` prints."""
        books = self.books
        names = ("sent", "acknowledged", "refused", "stored", "excluded", "rejected", "lost", "doubled", "unknown")
        kinds = {
            kind: {"kills": len(times), "back_seconds_mean": round(sum(times) / len(times), 2), "most": max(times)}
            for kind, times in sorted(self.back_seconds.items())
        }
        return {
            "name": self.name,
            "seed": self.seed,
            "kills": self.strikes,
            **{name: getattr(books, name) for name in names},
            "unknown_stored": books.unknown_stored,
            "unexplained": books.unexplained,
            "odd_answers": self.odd_answers,
            "kinds": kinds,
            "findings": list(books.findings),
            "failed": self.failed,
            "settle_seconds": round(self.settle_seconds, 1),
            "seconds": round(self.seconds, 1),
        }


def run(fault: Fault, folder: Path, *, kills: int, seed: int, rate: float, say: Callable[[str], None]) -> Findings:
    """Do one run in an empty folder; the stack and the load are gone when this returns, however it returns."""
    began = time.monotonic()
    history = History(folder / "history.jsonl")
    stack = prepare(folder / "state", owned=True, say=say)
    journal = folder / "load.journal"
    back: dict[str, list[float]] = defaultdict(list)
    failed: list[str] = []
    struck = 0
    try:
        stack.start()
        history.note("start the stack")
        url = f"http://{stack.settings.host}:{stack.settings.collector_port}"
        load = LoadProcess(url, journal, sites=f"{SITES[0]}-{SITES[-1]}", rate=rate, seed=seed)
        try:
            time.sleep(WARM_SECONDS)
            for number, strike in enumerate(deal(fault.kinds, kills, seed), 1):
                time.sleep(strike.pause)
                history.note(fault.name, "begun", number=number, kind=strike.kind)
                at = time.monotonic()
                try:
                    fault.strike(stack, strike.kind, Random(strike.seed))
                except Exception as error:
                    failed.append(f"{fault.name} {number} ({strike.kind}): {error}")
                    history.note(fault.name, "failed", number=number, kind=strike.kind, why=str(error))
                    break
                took = round(time.monotonic() - at, 2)
                struck += 1
                back[strike.kind].append(took)
                history.note(fault.name, number=number, kind=strike.kind, seconds=took)
                seen = load.watch.look()
                say(
                    f"{fault.name} {number} of {kills}: {strike.kind} back after {took:.1f} s;"
                    f" acknowledged {seen.acknowledged:,}, unknown {seen.unknown:,}"
                )
                if not load.running():
                    failed.append("the load ended by itself")
                    break
            time.sleep(WARM_SECONDS)
        finally:
            load.stop()
        report = load.result()
        history.note("stop the load", **{name: report[name] for name in ("sent", "acknowledged", "unknown")})
        say("waiting until the tables stand still")
        at = time.monotonic()
        sql = database(stack)
        lag = Lag(stack.settings.kafka, stack.settings.topic(EVENTS_RAW), sql)
        books = settle([journal], sql, lag=lag, patience=PATIENCE)
        history.note("balance the books", "ok" if books.right else "failed", **books.as_dict())
        settled = time.monotonic() - at
    finally:
        stack.stop()
        history.close()
    return Findings(
        name=fault.name,
        seed=seed,
        strikes=struck,
        books=books,
        odd_answers=int(report["odd_answers"]),
        seconds=time.monotonic() - began,
        settle_seconds=settled,
        back_seconds=dict(back),
        failed=failed,
    )
