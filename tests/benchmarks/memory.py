"""`memory`: what a worker holds after 2 million events of a fixed population, against what it held after 1 million.

Nearly all visitors have been seen by half-time, so what grows after that grows for ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from tests.benchmarks.frame import Frame
from tests.benchmarks.frame.events import Events, model_sites
from tests.benchmarks.frame.laboratory import laboratory
from tests.benchmarks.frame.machine import Listening
from tests.benchmarks.frame.processes import Tree
from tests.benchmarks.frame.result import Result, Setting, digits
from tests.benchmarks.frame.rounds import Sample, Series
from tests.benchmarks.frame.worker import worker

ROUNDS = 1  # a run takes minutes, and what it measures varies little
SITES = 200
POPULATION = 50_000
LOOK = 0.1  # seconds between two looks at the memory
STEPS = 20  # bursts


class Memory:
    """Looks at a tree's resident memory all the time; `seen` are the bytes since the last `forget`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.seen: list[int] = []

    def forget(self) -> None:
        """Begins anew."""
        self.seen = []

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Looks within the block."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(LOOK):
                self.seen.append(self._tree.usage().memory)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def run(frame: Frame) -> Result:
    """A fresh worker per round; the memory of a step is the median while its events are processed."""
    total, population = frame.pick(2_000_000, 200_000), frame.pick(POPULATION, 5_000)
    step = total // STEPS
    samples = []
    halves = []
    noises = []
    curve: dict[str, float] = {}
    with laboratory(frame, ["kafka", "front"]) as lab:
        lab.install(SITES)
        for number in range(frame.rounds):
            settings = lab.beside(f"round{number}")
            listening = Listening()
            events = Events(number, model_sites(SITES), population=population)
            with worker(lab, settings, events) as bench:
                memory = Memory(Tree([bench.process.pid]))
                resident = []
                cpu = 0.0
                for done in range(1, STEPS + 1):
                    packets = bench.make(step)
                    memory.forget()
                    with memory.looking():
                        cpu += bench.send(packets, step).cpu
                    resident.append(int(median(memory.seen)))
                    curve[f"{done * step:,} events"] = digits(resident[-1] / 1e6)
                    frame.say(f"round {number + 1}  {done * step:,} events: {resident[-1] / 1e6:,.0f} MB")
                peak = bench.process.tree.usage().peak
            samples.append(Sample(resident[-1] / 1e6, total, cpu, peak))
            halves.append(Sample(resident[STEPS // 2 - 1] / 1e6))
            noises.append(listening.noise())
    series, half = Series(tuple(samples), tuple(noises)), Series(tuple(halves), tuple(noises))
    setting = Setting(f"{population:,} visitors", series, half, "less")
    growth = median(a / b for a, b in zip(series.values, half.values, strict=True))
    details = {"growth": digits(growth), "resident_mb": curve}
    name = f"the same worker after {total // 2:,} events"
    return Result("memory", f"MB resident after {total:,} events", "event", name, [setting], details)
