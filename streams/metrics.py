"""The worker's metrics; partitions are labels, sites and visitors never."""

from __future__ import annotations

from infra.service.metrics import counter, gauge, histogram

EVENTS = (1, 10, 100, 1_000, 2_500, 5_000, 10_000, 20_000, 40_000)

events = counter("worker", "events", "Events by what became of them", ["outcome"])
batches = counter("worker", "batches", "Batches stored")
batch_events = histogram("worker_batch", "events", "Events in a batch", buckets=EVENTS)
batch_seconds = histogram("worker_batch", "seconds", "From taking a batch to its last count")
process_seconds = histogram("worker_process", "seconds", "Turning a batch of packets into rows")
insert_seconds = histogram("worker_insert", "seconds", "One insert into ClickHouse", ["table"])
fenced = counter("worker_fenced", "inserts", "Inserts that wrote fewer rows than were sent")
unknown = counter("worker_unknown", "inserts", "Errors of ClickHouse after which rows were read back")
repeated = counter("worker_repeated", "events", "Events dropped because they were stored before", ["reason"])
repeat_lookups = counter("worker_repeat", "lookups", "Look-ups of the identities of late events, one per batch")
visit_lookups = counter("worker_visit", "lookups", "Look-ups of the visits of late events, one per partition and batch")
identities = gauge("worker_held", "identities", "Identities of the last minutes' events in memory")
masked = counter("worker_masked", "values", "Values that detectors masked", ["kind", "field"])
copies = counter("worker_copies", "packets", "Packets whose name was seen before")
bad = counter("worker_bad", "packets", "Records that are no packet")
lost = gauge("worker_lost", "offsets", "Offsets that left the log before they were stored", ["partition"])
trimmed = counter("worker_trimmed", "offsets", "Offsets deleted from the log after they were stored")
lag = gauge("worker_lag", "packets", "Packets in the log that are not stored yet", ["partition"])
lag_seconds = gauge("worker_lag", "seconds", "Age of the oldest packet that is not stored yet", ["partition"])
owned = gauge("worker_owned", "partitions", "Partitions that this worker owns")
stopped = gauge("worker_stopped", "partitions", "Partitions stopped by an alarm", ["reason"])
waiting = gauge("worker_waiting", "packets", "Packets fetched and not yet processed")
sought = counter("worker_sought", "partitions", "Partitions set back to the offset that is wanted", ["why"])

# Of the last hours, from the owner of partition 0; see `streams.ledger`.
ledger_wrong = gauge("ledger_wrong", "packets", "Packets for which the books do not balance (an alarm)", ["fault"])
ledger_reported = gauge("ledger_reported", "packets", "Packets that collectors report as acknowledged")
ledger_waiting = gauge("ledger_waiting", "packets", "Packets of these that no worker has come to")
ledger_unreported = gauge("ledger_unreported", "packets", "Packets stored that no collector reports, as after a kill")
ledger_open = gauge("ledger_open", "packets", "Packets absent below a stored one, reported by nobody")
ledger_looked = gauge("ledger_looked", "timestamp_seconds", "When the books were last looked at")
ledger_look_seconds = histogram("ledger_look", "seconds", "One look at the books")
