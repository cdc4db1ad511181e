"""The record on `ingest.reports`: what one collector process has had acknowledged, in total since its start.

A later report of a writer replaces the earlier ones, partition by partition: whoever drains the spool of a process that
is gone reports on in its name, on the partitions that it drains. So the books have two sides: what a collector says was
acknowledged, and what the workers' `packets` rows say was stored.
"""

from __future__ import annotations

import msgspec


class PartitionReport(msgspec.Struct, frozen=True, array_like=True):
    """Packets of one partition: all `seq` < below are acknowledged, and those in the ranges [first, last]."""

    below: int
    ranges: list[tuple[int, int]]
    events: int


class Report(msgspec.Struct, frozen=True):
    """Times are milliseconds since 1970 UTC; `final` says that the process stopped in order."""

    writer: int
    started_ms: int
    at_ms: int
    final: bool
    partitions: dict[int, PartitionReport]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Report)


def encode(report: Report) -> bytes:
    """The record's value."""
    return _encoder.encode(report)


def decode(value: bytes) -> Report:
    """The report; raises msgspec.DecodeError on anything else."""
    return _decoder.decode(value)
