"""The topics: names, partitions, how long they keep records.

Topics that hold personal data use the broker's time (LogAppendTime), so that no client's clock can keep a
record alive, and segments far shorter than the retention: a record leaves only when its *closed* segment
expires.
"""

from __future__ import annotations

from dataclasses import dataclass, field

EVENTS_RAW = "events.raw"
RECORDINGS_RAW = "recordings.raw"
INGEST_REPORTS = "ingest.reports"
SITE_POLICIES = "site.policies"
VIDEO_JOBS = "video.jobs"
BATCH = ".batch"  # what the name of the second lane's topic ends with
VIDEO_JOBS_BATCH = VIDEO_JOBS + BATCH
VIDEO_RETRIES = ("video.retry.1", "video.retry.2", "video.retry.3")  # after the first failure, the second, later ones
VIDEO_GROUP = "veilstream.videos"  # the consumer group of the media workers
VIDEO_RETRIES_GROUP = "veilstream.video-retries"  # of those among them that hand waiting jobs on
VIDEO_RESULTS = "video.results"
VIDEO_DEAD = "video.dead"
WORKER_STATUS = "worker.status"

HOUR_MS = 3_600_000
RECORD_LIMIT = 8 << 20  # largest record the topics take; a packet is closed at 256 KiB of events


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is to be; `personal` says that its records hold personal data."""

    name: str
    partitions: int
    replication: int
    personal: bool
    config: dict[str, str] = field(default_factory=dict)


def definitions(
    *,
    prefix: str = "",
    events_partitions: int = 8,
    replication: int = 1,
    min_insync: int = 1,
    raw_retention_hours: int = 168,
    video_partitions: int = 4,
) -> list[Topic]:
    """All topics of an installation."""
    common = {"min.insync.replicas": str(min_insync), "max.message.bytes": str(RECORD_LIMIT)}
    personal = {
        **common,
        "message.timestamp.type": "LogAppendTime",
        "compression.type": "producer",
        "cleanup.policy": "delete",
        "retention.ms": str(raw_retention_hours * HOUR_MS),
        "segment.ms": str(max(raw_retention_hours * HOUR_MS // 28, 60_000)),
    }
    # A job names a file by its path, and paths may name people: they leave after a week.
    jobs = {
        **common,
        "message.timestamp.type": "LogAppendTime",
        "cleanup.policy": "delete",
        "retention.ms": str(7 * 24 * HOUR_MS),
        "segment.ms": str(6 * HOUR_MS),
    }
    return [
        Topic(prefix + EVENTS_RAW, events_partitions, replication, True, personal),
        Topic(prefix + RECORDINGS_RAW, events_partitions, replication, True, personal),
        Topic(
            prefix + INGEST_REPORTS,
            1,
            replication,
            False,
            {
                **common,
                "message.timestamp.type": "LogAppendTime",
                "retention.ms": str(14 * 24 * HOUR_MS),
                "segment.ms": str(24 * HOUR_MS),
            },
        ),
        Topic(
            prefix + SITE_POLICIES,
            1,
            replication,
            False,
            {**common, "cleanup.policy": "compact", "segment.ms": str(24 * HOUR_MS)},
        ),
        Topic(prefix + VIDEO_JOBS, video_partitions, replication, True, jobs),
        Topic(prefix + VIDEO_JOBS_BATCH, video_partitions, replication, True, jobs),
        # One partition each: they are handed on, not worked on, and what fell due first stands first.
        *(Topic(prefix + name, 1, replication, True, jobs) for name in VIDEO_RETRIES),
        # Jobs that failed, as they were, so with their paths.
        Topic(prefix + VIDEO_DEAD, 1, replication, True, jobs),
        Topic(prefix + VIDEO_RESULTS, 1, replication, False, {**common, "retention.ms": str(30 * 24 * HOUR_MS)}),
        Topic(
            prefix + WORKER_STATUS,
            1,
            replication,
            False,
            {**common, "retention.ms": str(24 * HOUR_MS), "segment.ms": str(6 * HOUR_MS)},
        ),
    ]
