from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.attempts import ATTEMPTS, Attempts, carried, carrying, delay, read
from schemas.videos import Engine, Reason

attempts = st.builds(
    Attempts,
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.none() | st.sampled_from(Engine),
    st.none() | st.sampled_from(Reason),
    st.integers(0, 1 << 43),
)


@given(attempts)
def test_a_text_tells_what_was_written(found: Attempts) -> None:
    assert read(found.text) == found
    headers = [("site", b"7"), (ATTEMPTS, b"attempt=9")]
    assert carried(carrying(headers, found)) == found
    assert carrying(headers, found)[0] == ("site", b"7")


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    read(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Attempts()),
        ("attempt=2", Attempts(2)),  # as the version before wrote it
        ("attempt=-1 failed=x engine=abacus reason=mood due=1e9", Attempts()),
        ("attempt=2 failed=1 more=3", Attempts(2, 1)),
    ],
)
def test_what_is_not_understood_is_left_out(text: str, found: Attempts) -> None:
    assert read(text) == found


def test_delays_grow_and_the_last_one_stays() -> None:
    assert [delay(failed, [10, 60, 600]) for failed in (1, 2, 3, 4, 9)] == [10, 60, 600, 600, 600]
