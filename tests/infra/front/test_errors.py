from __future__ import annotations

import pytest

from infra.local.front.errors import FrontError, from_engine


@pytest.mark.parametrize(
    ("told", "code", "name", "reason"),
    [
        (
            "Code: 60. DB::Exception: Table v.t does not exist. (UNKNOWN_TABLE)",
            60,
            "UNKNOWN_TABLE",
            "Table v.t does not exist",
        ),
        (
            "Code: 73. DB::Exception: Code: 73. DB::Exception: Unknown format Nope. Maybe you meant: ['One']. "
            "(UNKNOWN_FORMAT) (version 26.9.2.1). (UNKNOWN_FORMAT) (version 26.9.2.1)",
            73,
            "UNKNOWN_FORMAT",
            "Unknown format Nope. Maybe you meant: ['One']",
        ),
        (
            "Streaming failed: Code: 33. DB::Exception: Cannot read (in file). (CANNOT_READ_ALL_DATA)",
            33,
            "CANNOT_READ_ALL_DATA",
            "Cannot read (in file)",
        ),
        ("something else", 1001, "STD_EXCEPTION", "std::exception: something else"),
    ],
)
def test_the_engines_errors(told: str, code: int, name: str, reason: str) -> None:
    found = from_engine(RuntimeError(told))
    assert (found.code, found.name, found.reason) == (code, name, reason)
    assert found.text("26.9") == f"Code: {code}. DB::Exception: {reason}. ({name}) (version 26.9)"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (60, 404),
        (62, 400),
        (115, 404),
        (159, 408),
        (164, 500),
        (202, 500),
        (194, 401),
        (516, 403),
        (497, 403),
        (241, 500),
    ],
)
def test_statuses_are_those_of_clickhouse(code: int, status: int) -> None:
    assert FrontError(code, "x").status == status
