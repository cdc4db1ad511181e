"""Two of each fault on real processes, with the books at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault import FAULTS
from tests.fault.clock import Clock, library
from tests.fault.field import FaultError
from tests.fault.figures import Findings
from tests.fault.laboratory import Plan, run

AWAY = 15.0  # seconds of an outage here; `veilstream fault` has a minute


def held(found: Findings, least: int) -> None:
    """The books are right, and there was something to keep in them."""
    assert found.right, found.lines()
    assert (found.books.lost, found.books.doubled, found.unexplained) == (0, 0, 0)
    assert found.books.acknowledged > least


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [name for name, faults in FAULTS.items() if len(faults) == 1])
def test_two_of_each_fault(name: str, tmp_path: Path) -> None:
    (fault,) = FAULTS[name]
    if isinstance(fault, Clock):
        try:
            library()
        except FaultError as error:
            pytest.skip(str(error))
    kills = 0 if fault.outage else 2 * len(fault.kinds)
    found = run(name, [fault], tmp_path, Plan(kills=kills, seed=2, rate=300, outages=2, away=AWAY), print)
    held(found, 1_000)
    assert len(found.done) == 2 * len(fault.kinds)
    if name == "engine":
        assert sum(done.details["amid_inserts"] for done in found.done) > 0, "no insert was under way"
    if name == "zombie":
        assert sum(done.details["fenced_inserts"] for done in found.done) > 0, "no zombie tried to write"
    if found.videos is not None:
        assert found.videos.done == found.videos.jobs > 0
