"""What /metrics tells of the front. Labels are closed lists: the kind of query, and ClickHouse's names of errors."""

from __future__ import annotations

from infra.service.metrics import counter, gauge, histogram

CONNECTIONS = gauge("front_open", "connections", "Connections of clients")
REFUSED_CONNECTIONS = counter("front_refused", "connections", "Connections refused because all places were taken")
RUNNING = gauge("front_running", "queries", "Queries from their head to their answer")
RECEIVED = counter("front_received", "bytes", "Bodies received, decompressed")
_SENT = counter("front_sent", "bytes", "Answers to queries, compressed")
_WRITTEN = counter("front_written", "rows", "Rows written by inserts")
_QUERIES = counter("front_finished", "queries", "Queries by kind and outcome", ("kind", "outcome"))
_SECONDS = histogram("front_query", "seconds", "Time from a query's head to the end of its answer", ("kind",))


def finished(kind: str, outcome: str, seconds: float, written_rows: int, sent: int) -> None:
    """Counts one query; ``outcome`` is "ok" or an error's name."""
    _QUERIES.labels(kind, outcome).inc()
    _SECONDS.labels(kind).observe(seconds)
    _WRITTEN.inc(written_rows)
    _SENT.inc(sent)
