"""What this process has had acknowledged, told to everybody on `ingest.reports`."""

from __future__ import annotations

from ingest.spool.log import Log
from schemas.reports import PartitionReport, Report


class Books:
    """Counts per partition since the start of the process. `changed` says that a report is due.

    A partition has one packet outstanding at a time, so what is acknowledged is always everything below one `seq`.
    """

    def __init__(self, writer: int, started_ms: int) -> None:
        self.changed = False
        self.events = 0
        self.packets = 0
        self._writer = writer
        self._started_ms = started_ms
        self._partitions: dict[int, list[int]] = {}

    def acknowledged(self, partition: int, events: int) -> None:
        """Notes the next packet of a partition."""
        counts = self._partitions.setdefault(partition, [0, 0])
        counts[0] += 1
        counts[1] += events
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


class Estate:
    """What is acknowledged of packets that processes which are gone left in their spools, by process.

    A partition's packets lie in a spool from some `seq` on, and all before it were acknowledged; so what a process can
    no longer report follows from the packet itself. `changed` holds the logs for which a report is due.
    """

    def __init__(self) -> None:
        self.changed: set[Log] = set()
        self._partitions: dict[Log, dict[int, PartitionReport]] = {}

    def acknowledged(self, of: Log, partition: int, seq: int, events: int) -> None:
        """Notes a packet; `events`: of this and all earlier packets of the partition."""
        self._partitions.setdefault(of, {})[partition] = PartitionReport(seq + 1, [], events)
        self.changed.add(of)

    def reports(self, at_ms: int) -> list[Report]:
        """The reports that are due, as of now."""
        due, self.changed = self.changed, set()
        return [
            Report(of.writer, of.started_ms, at_ms, False, dict(sorted(self._partitions[of].items()))) for of in due
        ]
