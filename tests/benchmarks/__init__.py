"""Benchmarks, one module each: `run(frame)` measures and returns a Result. `./run bench NAME` runs one.

Every benchmark measures what it is compared with in the same run, in interleaved rounds. `frame/` holds what they
share, `peers/` the programs they are compared with.
"""

from __future__ import annotations

import importlib
import keyword
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.frame import Frame
from tests.benchmarks.frame.result import Result

ROUNDS = 5


def names() -> list[str]:
    """The benchmarks there are."""
    return sorted(path.stem.rstrip("_") for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark, and how many rounds it takes unless told otherwise."""

    run: Callable[[Frame], Result]
    rounds: int


def load(name: str) -> Benchmark:
    """The benchmark of this name; raises KeyError where there is none."""
    if name not in names():
        raise KeyError(name)
    module = importlib.import_module(f"tests.benchmarks.{name}{'_' if keyword.iskeyword(name) else ''}")
    return Benchmark(module.run, getattr(module, "ROUNDS", ROUNDS))
