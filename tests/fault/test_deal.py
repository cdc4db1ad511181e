"""What a seed deals, and which unknown fates a strike explains."""

from __future__ import annotations

from collections import Counter

import numpy as np

from infra.load.journal import NEVER, Entries, Outcome
from tests.fault import FAULTS
from tests.fault.faults import deal
from tests.fault.unknown import RECOVERY_MS, Span, unexplained


def test_the_same_seed_deals_the_same() -> None:
    faults = FAULTS["all"]
    assert deal(faults, 40, 3) == deal(faults, 40, 3)
    assert deal(faults, 40, 3) != deal(faults, 40, 4)


def test_kills_are_dealt_in_equal_shares_and_outages_happen_once() -> None:
    faults = FAULTS["all"]
    kinds = sum(len(fault.kinds) for fault in faults if not fault.outage)
    strikes = deal(faults, 5 * kinds, 1)
    dealt = Counter((strike.fault.name, strike.kind) for strike in strikes)
    for fault in faults:
        for kind, shares in Counter(fault.kinds).items():
            assert dealt[fault.name, kind] == (1 if fault.outage else 5 * shares)
    assert len(deal(faults, 7, 1)) == 7 + sum(fault.outage for fault in faults)


def test_every_fault_is_in_the_one_that_is_all() -> None:
    """But for the clock, which needs a library that not every machine has."""
    assert {fault.name for fault in FAULTS["all"]} == FAULTS.keys() - {"all", "clock", "collector", "media", "privacy"}


def test_an_unknown_fate_needs_a_strike_between_client_and_answer() -> None:
    """Number 0 is acknowledged; 1 was under way during a strike, 2 soon after it, 3 before, 4 long after it."""
    sent = np.array([0, 9_000, 12_000 + RECOVERY_MS - 1, 1_000, 12_001 + RECOVERY_MS], np.int64)
    ended = np.array([1, NEVER, NEVER, 9_999, NEVER], np.int64)
    outcome = np.array([Outcome.ACKNOWLEDGED, *[Outcome.UNKNOWN] * 4], np.uint8)
    number = np.arange(5)
    entries = Entries(number, np.ones(5, np.uint8), outcome, number, sent, ended)
    for kind in ("collector", "kafka"):
        assert unexplained(entries, [Span(kind, 10_000, 12_000)]).tolist() == [3, 4]
    assert unexplained(entries, [Span("worker", 10_000, 12_000), Span("front", 0, 99_000)]).tolist() == [1, 2, 3, 4]
