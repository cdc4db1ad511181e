"""`cdt` and `cdo`: the forms that clients send, and what is ignored."""

from __future__ import annotations

import pytest

from schemas import moments

NOW = 1_700_000_000_000  # 2023-11-14 22:13:20 UTC
DAY = 86_400_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1699999999", NOW - 1000),
        (" 1699999999.25 ", NOW - 750),
        ("@1699999999", NOW - 1000),
        ("1.699999999e9", NOW - 1000),
        ("2023-11-14 22:13:19", NOW - 1000),
        ("2023-11-14 22:13:19.815561", NOW - 185),
        ("2023-11-14T22:13:19Z", NOW - 1000),
        ("2023-11-14T22:13:19.5+00:00", NOW - 500),
        ("2023-11-15 00:13:19 +0200", NOW - 1000),
        ("2023-11-14 17:13:19-05", NOW - 1000),
        ("2023/11/14 22:13", NOW - 20_000),
        ("2023-11-14", 1_699_920_000_000),
        ("20231114T221319", NOW - 1000),
        ("Tue, 14 Nov 2023 22:13:19 GMT", NOW - 1000),
        ("2023-13-14", None),
        ("2023-11-14 25:00:00", None),
        ("yes", None),
        ("", None),
        ("9" * 40, None),
        ("1e999", None),
    ],
)
def test_forms(text: str, expected: int | None) -> None:
    assert moments.parse(text) == expected


@pytest.mark.parametrize(
    ("cdt", "cdo", "expected"),
    [
        ("", "", NOW),
        ("0", "", NOW),
        ("1699999990", "", NOW - 10_000),
        ("1700000001", "", NOW),
        ("5", "", NOW),
        (str(NOW // 1000 - 20 * 365 * 86_400), "", NOW),
        (str(NOW // 1000 - 20 * 365 * 86_400 + 1), "", NOW - 20 * 365 * DAY + 1000),
        ("1699999990", "-10", NOW - 20_000),
        ("", "10", NOW - 10_000),
        ("", "x", NOW),
        ("", "99999999999", NOW),  # too far back
    ],
)
def test_what_is_used(cdt: str, cdo: str, expected: int) -> None:
    assert moments.granted(moments.said(cdt, cdo, NOW), NOW) == expected


def test_a_day_is_the_age_that_needs_a_token() -> None:
    assert moments.age(NOW - DAY + 1, NOW) < moments.DAY_SECONDS <= moments.age(NOW - DAY, NOW)
