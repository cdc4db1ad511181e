"""Rounds: what is compared is measured in turns, there and back, so that what changes slowly hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from tests.benchmarks.frame.machine import Listening, Noise


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. value: in the benchmark's unit. items, cpu: what was done, and its CPU seconds (0: not counted).

    memory: peak bytes of the processes under test. details: figures beside, by name.
    """

    value: float
    items: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Series:
    """The samples of one thing, a round each."""

    samples: tuple[Sample, ...]
    noise: tuple[Noise, ...]

    @property
    def values(self) -> list[float]:
        """The value of each round."""
        return [sample.value for sample in self.samples]

    def details(self) -> dict[str, float]:
        """The median of each figure beside."""
        names = dict.fromkeys(name for sample in self.samples for name in sample.details)
        return {name: median(s.details[name] for s in self.samples if name in s.details) for name in names}

    def cpu_us_per_item(self) -> float | None:
        """Microseconds of CPU time per item, the median; None where they weren't counted."""
        found = [sample.cpu / sample.items * 1e6 for sample in self.samples if sample.items and sample.cpu]
        return median(found) if found else None

    def peak(self) -> int:
        """The largest peak, in bytes."""
        return max(sample.memory for sample in self.samples)


def order(names: list[str], rounds: int) -> list[list[str]]:
    """Who is measured when: forwards and backwards in turns."""
    return [names if number % 2 == 0 else names[::-1] for number in range(rounds)]


def interleaved(
    measure: Mapping[str, Callable[[], Sample]], rounds: int, say: Callable[[str], None]
) -> dict[str, Series]:
    """Measures each of these once per round."""
    samples: dict[str, list[Sample]] = {name: [] for name in measure}
    noises: dict[str, list[Noise]] = {name: [] for name in measure}
    for number, names in enumerate(order(list(measure), rounds), start=1):
        for name in names:
            listening = Listening()
            sample = measure[name]()
            noise = listening.noise()
            samples[name].append(sample)
            noises[name].append(noise)
            warning = "" if noise.quiet else f"  (others used {noise.foreign + noise.steal:.1f} cores)"
            figures = "".join(f"  {key} {value:,.4g}" for key, value in sample.details.items())
            say(f"round {number} of {rounds}  {name}: {sample.value:,.4g}{figures}{warning}")
    return {name: Series(tuple(samples[name]), tuple(noises[name])) for name in measure}
