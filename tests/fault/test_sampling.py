"""A leak is found, flat is flat, and neither a restart nor a warm-up is taken for growth."""

from __future__ import annotations

import math
import os
import time

import pytest

from tests.fault.sampling import HOUR, Sample, Sampling, trend

WARM, STRETCH = 60.0, 30.0


def life(start: float, seconds: int, memory: float, per_hour: float, *, warm_mib: float = 0.0) -> list[Sample]:
    """A sample a second; memory goes up by warm_mib in its first half minute, and waves a little."""
    return [
        Sample(start + t, memory + per_hour * t / HOUR + warm_mib * min(t / 30, 1) + 5 * math.sin(t), 40, 9)
        for t in range(seconds)
    ]


def test_a_leak_is_found_within_one_life_and_over_many() -> None:
    found = trend([life(0, 3600, 200, 300)], "memory_mib", WARM, STRETCH)
    assert found.slope_per_hour == pytest.approx(300, abs=10)
    assert not found.flat
    lives = [life(900 * n, 900, 200, 1200) for n in range(4)]
    found = trend(lives, "memory_mib", WARM, STRETCH)
    assert (found.lives, found.flat) == (4, False)
    assert found.slope_per_hour == pytest.approx(1200, abs=40)


def test_what_is_flat_is_flat() -> None:
    found = trend([life(0, 3600, 200, 5)], "memory_mib", WARM, STRETCH)
    assert found.flat
    # Each new process is larger than the one before, as the work is; none of them grows.
    assert trend([life(400 * n, 400, 200 + 50 * n, 0) for n in range(6)], "memory_mib", WARM, STRETCH).flat
    assert trend([life(0, 600, 200, 0, warm_mib=400)], "memory_mib", WARM, STRETCH).flat, "caches fill"
    outage = [Sample(s.at, s.memory_mib, 600 if 900 < s.at < 1500 else 40, 9) for s in life(0, 3600, 200, 0)]
    assert trend([outage], "handles", WARM, STRETCH).flat, "what queues in an outage is gone afterwards"
    assert trend([life(0, 600, 200, 0)], "threads", WARM, STRETCH).slope_per_hour == 0


def test_what_was_not_watched_long_enough_is_not_called_flat() -> None:
    assert not trend([life(0, 100, 200, 0)], "memory_mib", WARM, STRETCH).flat
    assert not trend([], "handles", WARM, STRETCH).flat


def test_a_process_that_opens_files_is_seen() -> None:
    sampling = Sampling(lambda: {os.getpid(): "worker"})
    held = []
    sampling.start()
    try:
        while len(sampling.lives["worker", os.getpid()]) < 3:
            held.append(os.open(os.devnull, os.O_RDONLY))
            time.sleep(0.05)
    finally:
        sampling.stop()
        for one in held:
            os.close(one)
    samples = sampling.lives["worker", os.getpid()]
    assert samples[-1].handles > samples[0].handles
    assert samples[0].memory_mib > 10
