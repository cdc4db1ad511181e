"""The media worker's metrics."""

from __future__ import annotations

from infra.service.metrics import counter, gauge, histogram

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

jobs = counter("video", "jobs", "Jobs that this worker ended", ["state", "reason"])
attempts = counter("video_attempts", "attempts", "Attempts at jobs that were begun")
returned = counter("video_returned", "jobs", "Jobs that were given back to the group before their end", ["why"])
job_seconds = histogram("video_job", "seconds", "One attempt, from its begin to its outcome", buckets=SECONDS)
decoder_starts = gauge("video_decoder", "starts", "How often the decoder's process was started")
gpus = gauge("video_gpus", "devices", "GPUs that NVML sees")
