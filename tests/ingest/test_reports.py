"""What the process says it has had acknowledged."""

from __future__ import annotations

from ingest.reports import Books
from schemas.reports import PartitionReport, Report, decode, encode


def test_books_are_cumulative() -> None:
    books = Books(5, 1000)
    assert (books.changed, books.events, books.packets) == (False, 0, 0)
    books.acknowledged(3, 0, 0, 10)
    books.acknowledged(3, 1, 10, 5)
    books.acknowledged(0, 0, 0, 1)
    assert books.changed
    expected = {0: PartitionReport(1, [], 1), 3: PartitionReport(2, [], 15)}
    assert books.report(2000) == Report(5, 1000, 2000, False, expected)
    assert (books.changed, books.events, books.packets) == (False, 16, 3)
    assert decode(encode(books.report(3000, True))) == Report(5, 1000, 3000, True, expected)
