"""The age of the oldest record that is not stored, from the ends of the log and from what was fetched."""

from __future__ import annotations

from streams.lag import MOMENTS, Ages


def test_the_age_is_that_of_the_first_end_beyond_what_is_stored() -> None:
    ages = Ages()
    for now, end in ((100.0, 5), (102.0, 9), (104.0, 9), (106.0, 12)):
        ages.seen({0: end}, now)
    assert ages.age(0, 4, None, 110.0) == 10.0
    assert ages.age(0, 5, None, 110.0) == 8.0
    assert ages.age(0, 8, None, 110.0) == 8.0
    assert ages.age(0, 9, None, 110.0) == 4.0
    assert ages.age(0, 12, None, 110.0) == 0.0
    assert ages.age(1, 0, None, 110.0) == 0.0, "nothing is known of it"


def test_what_was_there_before_is_as_old_as_its_record_says() -> None:
    ages = Ages()
    ages.seen({0: 5}, 100.0)
    assert ages.age(0, 2, 40.0, 101.0) == 61.0
    assert ages.age(0, 2, 140.0, 101.0) == 1.0, "a broker's clock that is ahead makes nothing younger"


def test_a_long_time_behind_is_bounded_and_keeps_the_oldest() -> None:
    ages = Ages()
    for n in range(20 * MOMENTS):
        ages.seen({0: n + 1}, float(n))
    assert ages.age(0, 0, None, 20.0 * MOMENTS) == 20.0 * MOMENTS
    ages.seen({}, 1.0)
    assert ages.age(0, 0, None, 2.0) == 0.0, "another worker has the partition"
