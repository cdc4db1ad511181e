"""What this process has had acknowledged, told to everybody on `ingest.reports`."""

from __future__ import annotations

from schemas.reports import PartitionReport, Report


class Books:
    """Counts per partition since the start of a process. `changed` says that a report is due.

    A partition has one packet outstanding at a time, and one that goes into the spool takes along those before it. So
    what is acknowledged is always everything below one `seq`, and a packet tells how many events that is: a process
    reports on for one that is gone from the packets that it left. events, packets: those noted here.
    """

    def __init__(self, writer: int, started_ms: int) -> None:
        self.changed = False
        self.events = 0
        self.packets = 0
        self._writer = writer
        self._started_ms = started_ms
        self._partitions: dict[int, tuple[int, int]] = {}

    def acknowledged(self, partition: int, seq: int, before: int, events: int) -> None:
        """Notes the next packet of a partition; `before`: events in all packets of lower `seq`."""
        self._partitions[partition] = (seq + 1, before + events)
        self.events += events
        self.packets += 1
        self.changed = True

    def report(self, at_ms: int, final: bool = False) -> Report:
        """The report as of now."""
        self.changed = False
        partitions = {
            partition: PartitionReport(below, [], events)
            for partition, (below, events) in sorted(self._partitions.items())
        }
        return Report(self._writer, self._started_ms, at_ms, final, partitions)
